"""The benchmark of re-wrapping runs, and its check of results can fail; how fast anything is is never tested."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import deks
from kms.core.names import TenantName
from kms.parts import Parts
from tests.node import OPERATOR, Node

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.softhsm


def test_rewrapping_is_measured_beside_the_token_alone():
    done = subprocess.run(
        [sys.executable, "-m", "bench.rewrap", "300", "--database", "sqlite"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    row = re.search(r"^  SQLite +300 +([\d.]+) +([\d,]+) +([\d,]+) +([\d.]+) ", done.stdout, re.MULTILINE)
    assert row, done.stdout
    rate, alone = (float(cell.replace(",", "")) for cell in row.groups()[1:3])
    assert 0 < rate < alone


async def test_a_dek_that_changed_or_is_gone_is_noticed(node: Node):
    await node.tenant("acme")
    tenant = await node.tenants.get(OPERATOR, TenantName("acme"))
    parts = Parts(node.storage, node.vault, node.usage, node.wrapping, *(None,) * 5)  # what it needs of them
    made = await deks.make(parts, tenant, 5)
    assert await deks.differing(parts, tenant, made) == 0
    first, second, third = sorted(made)[:3]
    assert await deks.differing(parts, tenant, made | {first: b"another"}) == 1
    assert await deks.differing(parts, tenant, made | {(first[0], 99): made[first]}) == 1
    async with node.storage.transaction(tenant.uid, write=True) as work:
        versions = [await work.key_versions.get(tenant.uid, *identity) for identity in (second, third)]
        await work.key_versions.replace(replace(versions[0], wrapped=versions[1].wrapped))
    with pytest.raises(Exception, match="does not unwrap"):
        await deks.differing(parts, tenant, made)
