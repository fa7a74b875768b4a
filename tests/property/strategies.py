"""What the property tests draw: places, contexts, keys and ciphertexts as they may come."""

from __future__ import annotations

from hypothesis import strategies as st

from kms.core.ciphertext import MAX_VERSION, Header
from kms.core.context import Context
from kms.core.names import KeyUid, TenantUid
from kms.core.suites import CIPHERS, RULES, Suite
from kms.crypto.dek import Dek

tenants = st.uuids(version=4).map(TenantUid)
keys = st.from_regex(r"[a-z][a-z0-9_.-]{0,20}", fullmatch=True).filter(lambda key: not key.startswith("kms."))
values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30).map(str.encode)
pairs = st.dictionaries(keys, values, max_size=6).map(lambda found: list(found.items()))
contexts = st.builds(Context.of, tenants, pairs)
suites = st.sampled_from(CIPHERS)
headers = st.builds(Header, suites, st.uuids(version=4).map(KeyUid), st.integers(1, MAX_VERSION))
plaintexts = st.binary(max_size=200)


def deks(suite: Suite) -> st.SearchStrategy[Dek]:
    """Draw a DEK of the length that the suite asks for."""
    length = RULES[suite].dek_length
    return st.binary(min_size=length, max_size=length).map(Dek)


# Bytes that come far into a parser: a good header with some of it overwritten, and anything behind it.
nearly_ciphertexts = st.builds(
    lambda header, at, overwritten, rest: (header[:at] + overwritten + header[at + len(overwritten) :])[:22] + rest,
    headers.map(Header.encode),
    st.integers(0, 22),
    st.binary(max_size=3),
    st.binary(max_size=80),
)
