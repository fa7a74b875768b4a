"""What every Storage promises of API tokens, their uses and pinned certificates."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.core.errors import AlreadyExists, Conflict
from kms.core.names import INSTALLATION_UID, Principal
from kms.core.tokens import CertificatePin, TokenUid, TokenUse, revoked
from tests.contract.storage import EVERY_FIELD, with_kek
from tests.keyrings import NOW
from tests.tokens import api_tokens, new_token

SECOND = timedelta(seconds=1)


def pin(tenant, name="app", fingerprint=bytes(32)):
    return CertificatePin(tenant.uid, Principal(tenant.slug, name), fingerprint, NOW, "operators/root")


class TokensContract:
    """Subclasses give `storage`."""

    @EVERY_FIELD
    @given(data=st.data())
    async def test_tokens_are_read_again_exactly_and_found_by_prefix_without_their_tenant(self, storage, data):
        tenant, _ = await with_kek(storage)
        first = data.draw(api_tokens(tenant))
        changed = replace(data.draw(api_tokens(tenant)), uid=first.uid, prefix=first.prefix, revision=1)
        async with storage.transaction(tenant.uid, write=True) as work:
            stored = await work.tokens.add(first)
        assert stored == replace(first, revision=1)
        async with storage.transaction(tenant.uid, write=True) as work:
            again = await work.tokens.replace(changed)
        assert again == replace(changed, revision=2)
        async with storage.transaction() as work:
            assert await work.tokens.by_prefix(first.prefix) == again
        async with storage.transaction(tenant.uid) as work:
            assert await work.tokens.get(tenant.uid, first.prefix) == again

    async def test_a_prefix_belongs_to_one_token_of_the_whole_installation(self, storage):
        tenant, _ = await with_kek(storage)
        other, _ = await with_kek(storage)
        token = new_token(tenant)
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.tokens.add(token)
        async with storage.transaction(other.uid, write=True) as work:
            with pytest.raises(AlreadyExists):
                await work.tokens.add(replace(new_token(other), prefix=token.prefix))
        async with storage.transaction(other.uid) as work:
            assert await work.tokens.get(other.uid, token.prefix) is None
            assert await work.tokens.list_by_prefix(other.uid, "", 10) == []
        async with storage.transaction() as work:
            assert await work.tokens.by_prefix(token.prefix) == replace(token, revision=1)
            assert await work.tokens.by_prefix("z" * 12) is None

    async def test_a_token_that_somebody_else_changed_is_not_overwritten(self, storage):
        tenant, _ = await with_kek(storage)
        async with storage.transaction(tenant.uid, write=True) as work:
            token = await work.tokens.add(new_token(tenant))
            await work.tokens.replace(token)
            with pytest.raises(Conflict):
                await work.tokens.replace(token)

    async def test_tokens_are_paged_by_prefix_and_counted_while_they_may_be_used(self, storage):
        tenant, _ = await with_kek(storage)
        tokens = [new_token(tenant, prefix) for prefix in ("0a0000000000", "a00000000000", "z00000000000")]
        tokens[0] = revoked(tokens[0], NOW, "", "")
        tokens[1] = replace(tokens[1], expires_at=NOW)
        async with storage.transaction(tenant.uid, write=True) as work:
            for token in reversed(tokens):
                await work.tokens.add(token)
        async with storage.transaction(tenant.uid) as work:
            pages = [await work.tokens.list_by_prefix(tenant.uid, after, 2) for after in ("", "a00000000000")]
            assert [[token.prefix[:2] for token in page] for page in pages] == [["0a", "a0"], ["z0"]]
            assert await work.tokens.count_usable(tenant.uid, NOW) == 1
            assert await work.tokens.count_usable(tenant.uid, NOW - SECOND) == 2

    async def test_uses_add_up_and_leave_the_tokens_revision(self, storage):
        tenant, _ = await with_kek(storage)
        async with storage.transaction(tenant.uid, write=True) as work:
            token, idle = await work.tokens.add(new_token(tenant)), await work.tokens.add(new_token(tenant))
        place = (tenant.uid, token.uid)
        await storage.add_token_uses({})
        await storage.add_token_uses({place: TokenUse(3, NOW)})
        await storage.add_token_uses({place: TokenUse(2, NOW - SECOND)})
        await storage.add_token_uses({place: TokenUse(1, NOW + SECOND)})
        async with storage.transaction(tenant.uid) as work:
            uses = await work.tokens.uses(tenant.uid, [token.uid, idle.uid])
            assert await work.tokens.get(tenant.uid, token.prefix) == token
        assert uses == {token.uid: TokenUse(6, NOW + SECOND)}
        with pytest.raises(ValueError):
            await storage.add_token_uses({(tenant.uid, TokenUid(uuid4())): TokenUse(1, NOW) for _ in range(1001)})

    async def test_pins_are_of_one_principal(self, storage):
        tenant, _ = await with_kek(storage)
        other, _ = await with_kek(storage)
        app = pin(tenant).principal
        second = b"\1" * 32
        async with storage.transaction(tenant.uid, write=True) as work:
            kept = [
                await work.certificate_pins.add(pin(tenant, fingerprint=second)),
                await work.certificate_pins.add(pin(tenant)),
            ]
            await work.certificate_pins.add(pin(tenant, "other"))
            with pytest.raises(AlreadyExists):
                await work.certificate_pins.add(pin(tenant))
        async with storage.transaction(tenant.uid) as work:
            assert await work.certificate_pins.list_of(tenant.uid, app) == list(reversed(kept))
        async with storage.transaction(other.uid) as work:
            assert await work.certificate_pins.list_of(other.uid, app) == []
        async with storage.transaction(tenant.uid, write=True) as work:
            assert await work.certificate_pins.remove(tenant.uid, app, second)
            assert not await work.certificate_pins.remove(tenant.uid, app, second)
        async with storage.transaction(tenant.uid) as work:
            assert await work.certificate_pins.list_of(tenant.uid, app) == [kept[1]]
            assert len(await work.certificate_pins.list_of(tenant.uid, Principal(tenant.slug, "other"))) == 1

    async def test_an_operators_pins_are_the_installations(self, storage):
        operator = Principal(None, f"root-{uuid4().hex[:8]}")
        kept = CertificatePin(INSTALLATION_UID, operator, bytes(32), NOW, str(operator))
        async with storage.transaction(INSTALLATION_UID, write=True) as work:
            await work.certificate_pins.add(kept)
            await work.epochs.revoked(INSTALLATION_UID)
        async with storage.transaction(INSTALLATION_UID) as work:
            assert await work.certificate_pins.list_of(INSTALLATION_UID, operator) == [replace(kept, revision=1)]
