"""What a vault promises of the record key and of anchors; needs the fixture `vault`, started over a token of its own."""

import os
from uuid import UUID, uuid4

import pytest

from kms.core.errors import HsmUnavailable
from kms.hsm.bounds import DERIVED

LABEL = "ab" * 16


class RecordKeysContract:
    async def test_there_is_no_record_key_until_it_is_made_and_a_look_makes_none(self, vault):
        for _ in range(2):
            assert await vault.record_key_exists() is False
            with pytest.raises(HsmUnavailable, match="does not show its record key"):
                await vault.derive("records", uuid4())
        await vault.make_record_key()
        assert await vault.record_key_exists() is True

    async def test_a_record_key_is_never_replaced(self, vault):
        installation = uuid4()
        await vault.make_record_key()
        before = await vault.derive("records", installation)
        with pytest.raises(HsmUnavailable, match="already"):
            await vault.make_record_key()
        assert await vault.derive("records", installation) == before

    async def test_no_record_key_is_made_where_there_are_anchors(self, vault):
        await vault.write_anchor(f"{LABEL}-0", b"an anchor")
        with pytest.raises(HsmUnavailable, match="not made again"):
            await vault.make_record_key()
        assert await vault.record_key_exists() is False

    async def test_each_label_and_installation_has_its_own_key_for_ever(self, vault):
        await vault.make_record_key()
        installations = [uuid4(), uuid4(), UUID(int=0)]
        keys = {(label, each): await vault.derive(label, each) for label in DERIVED for each in installations}
        assert {len(key) for key in keys.values()} == {32}
        assert len(set(keys.values())) == len(DERIVED) * 3
        await vault.stop()
        await vault.start()
        assert {(label, each): await vault.derive(label, each) for label, each in keys} == keys

    async def test_nothing_else_is_derived(self, vault):
        await vault.make_record_key()
        for label in ("", "record", "records\0"):
            with pytest.raises(ValueError, match="nothing is derived"):
                await vault.derive(label, uuid4())


class AnchorObjectsContract:
    async def test_what_was_written_is_read_also_after_a_restart(self, vault):
        assert await vault.read_anchors() == []
        values = {f"{LABEL}-{slot}": os.urandom(150) for slot in range(2)}
        for label, value in values.items():
            await vault.write_anchor(label, value)
        assert dict(await vault.read_anchors()) == values
        await vault.stop()
        await vault.start()
        found = await vault.read_anchors()
        assert dict(found) == values
        assert len(found) == 2

    async def test_a_slot_has_one_value_however_often_it_is_written(self, vault):
        for number in range(10):
            await vault.write_anchor(f"{LABEL}-0", b"%d" % number)
        assert await vault.read_anchors() == [(f"{LABEL}-0", b"9")]

    async def test_the_same_value_may_be_written_again(self, vault):
        for _ in range(2):
            await vault.write_anchor(f"{LABEL}-0", b"same")
        assert await vault.read_anchors() == [(f"{LABEL}-0", b"same")]

    async def test_a_longer_value_is_refused(self, vault):
        await vault.write_anchor(f"{LABEL}-0", bytes(1024))
        with pytest.raises(ValueError, match="at most 1024"):
            await vault.write_anchor(f"{LABEL}-0", bytes(1025))
        assert await vault.read_anchors() == [(f"{LABEL}-0", bytes(1024))]

    async def test_the_token_shows_anchors_to_its_user_alone(self, vault, fresh_token):
        await vault.write_anchor(f"{LABEL}-0", b"seen")
        seen = fresh_token.run("""
wanted = {Attribute.CLASS: ObjectClass.DATA, Attribute.TOKEN: True}
result = [[entry[Attribute.PRIVATE], entry[Attribute.APPLICATION]] for entry in session.get_objects(wanted)]
""")
        assert seen == [[True, "kms-anchor"]]

    async def test_writes_and_derivations_are_counted(self, vault):
        before = dict(vault.operations)
        await vault.make_record_key()
        await vault.derive("anchor", uuid4())
        await vault.write_anchor(f"{LABEL}-0", b"one")
        await vault.read_anchors()
        counted = {kind: vault.operations[kind] - before[kind] for kind in before}
        wanted = {"make_record_key": 1, "derive": 1, "write_anchor": 1, "anchors": 1}
        assert {kind: count for kind, count in counted.items() if count} == wanted
