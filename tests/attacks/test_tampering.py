from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from storage.postgresql import open_postgresql
from storage.sqlite import open_sqlite
from tests.tampering.attacks import Attacks
from tests.tampering.detectors import Loading, found_by
from tests.tampering.reading import reader_of


@pytest.mark.parametrize("e", ["sqlite", "postgresql"])
async def test_x(request, e):
    t = time.monotonic()
    f = request.getfixturevalue("filled_" + e)
    s = f.surface
    print("fill", time.monotonic() - t)
    t = time.monotonic()
    storage = await (open_sqlite(Path(f.place)) if e == "sqlite" else open_postgresql(f.place))
    r = await reader_of(storage)
    d = [Loading(r)]
    print("open", time.monotonic() - t)
    t = time.monotonic()
    before = await r.read()
    assert len(before) > 30
    print("once", time.monotonic() - t)
    c = Counter()
    t = time.monotonic()
    for name in ("tenants", "keks", "key_versions"):
        for a in Attacks(s.tables[name], e, f.content.pristine, f.content.earlier):
            with s.changing():
                a.do(s)
            c[(await found_by(d, name))[0]] += 1
            s.restore(f.content.pristine, [name])
    print(c, time.monotonic() - t)
    assert await r.read() == before
    await storage.close()
