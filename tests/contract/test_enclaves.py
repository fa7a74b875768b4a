"""What every backend keeps to: enclave/interface.py; over the simulated one and over a TPM."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from enclave.attestation_errors import (
    AttestationError,
    EnclaveNotAllowed,
    NonceExpired,
    QuoteRefused,
    WrongReportData,
)
from enclave.domains import OUTSIDE
from enclave.errors import (
    EnclaveError,
    InvalidIsvSvn,
    InvalidParameter,
    MacMismatch,
    UnknownCounter,
    UnknownFunction,
)
from enclave.interface import MAX_ASSOCIATED_DATA, MAX_SEALED, Freshness, Policy, SealedInput
from enclave.nonces import Challenge
from enclave.quotes import challenge_binding
from tests.attestation import DAY, NOW
from tests.enclave_platforms import EnclavePlatform, SimulatedPlatform, measurement
from tests.swtpm import MISSING, WHY_NOT

BACKENDS = [
    "sgx-simulated",
    pytest.param("tpm2", marks=pytest.mark.skipif(bool(MISSING), reason=WHY_NOT)),
]
AAD = b"tenant and name"


def new_platform(backend: str, directory: Path) -> EnclavePlatform:
    if backend == "tpm2":
        from tests.tpm_platform import TpmPlatform  # noqa: PLC0415  imports what is not everywhere

        return TpmPlatform()
    return SimulatedPlatform(directory)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def platform(backend: str, tmp_path: Path) -> Iterator[EnclavePlatform]:
    made = new_platform(backend, tmp_path)
    yield made
    made.close()


def challenge() -> Challenge:
    return Challenge(os.urandom(32), NOW, b"channel", b"claims")


def binding(asked: Challenge) -> bytes:
    return challenge_binding(asked.nonce, asked.channel_key, asked.claims)


# Who it is.


def test_an_enclave_says_who_it_is_and_that_it_is_simulated(platform, backend):
    said = platform.start("E1", product=7, svn=3).describe()
    assert (said.backend, said.simulated) == (backend, True)
    assert said.identity.mrenclave == measurement("E1")
    assert (said.identity.isv_prod_id, said.identity.isv_svn) == (7, 3)
    assert said.identity.initialised
    assert not said.identity.debug


def test_the_counters_of_what_keeps_them_in_a_file_are_worth_nothing_against_its_owner(platform):
    # A software TPM is a file, too: an older copy of its directory takes all counters back.
    assert platform.start().describe().freshness is Freshness.NONE


def test_a_signer_is_known_again_and_another_is_another(platform):
    first = platform.start(signer="S1").describe().identity.mrsigner
    assert platform.start("E2", "S1").describe().identity.mrsigner == first
    assert platform.start(signer="S2").describe().identity.mrsigner != first


# Seals.


@pytest.mark.parametrize("policy", Policy)
def test_what_is_sealed_is_opened_again_after_a_restart(platform, policy):
    enclave = platform.start()
    blobs = [(data, enclave.seal(data, policy, AAD)) for data in (b"x", os.urandom(32), os.urandom(MAX_SEALED))]
    again = platform.start()
    for data, blob in blobs:
        assert again.unseal(blob, AAD) == data
        assert len(blob) < len(data) + 1024


def test_associated_data_can_be_empty_and_of_the_greatest_length(platform):
    enclave = platform.start()
    for aad in (b"", os.urandom(MAX_ASSOCIATED_DATA)):
        assert enclave.unseal(enclave.seal(b"data", Policy.MRENCLAVE, aad), aad) == b"data"


@pytest.mark.parametrize("policy", Policy)
def test_other_associated_data_do_not_open_it(platform, policy):
    enclave = platform.start()
    blob = enclave.seal(b"data", policy, AAD)
    for other in (b"", AAD[:-1], AAD + b"\0", bytes([AAD[0] ^ 1]) + AAD[1:]):
        with pytest.raises(MacMismatch):
            enclave.unseal(blob, other)


@pytest.mark.parametrize("policy", Policy)
def test_no_byte_of_a_blob_can_be_changed(platform, policy):
    enclave = platform.start()
    blob = enclave.seal(b"thirty-two bytes that are a secret", policy, AAD)
    # All of the first and the last bytes, and some between.
    for at in sorted({*range(40), *range(40, len(blob), 11), *range(len(blob) - 17, len(blob))}):
        changed = bytearray(blob)
        changed[at] ^= 1 << at % 8
        # A newer version, or a newer platform, is said where the header names one.
        with pytest.raises(EnclaveError) as raised:
            enclave.unseal(bytes(changed), AAD)
        assert raised.value.code in {"MAC_MISMATCH", "INVALID_ISVSVN", "INVALID_CPUSVN"}, at
    assert enclave.unseal(blob, AAD)


def test_a_blob_with_less_or_more_bytes_does_not_open(platform):
    enclave = platform.start()
    blob = enclave.seal(b"data", Policy.MRSIGNER, AAD)
    for other in (b"", blob[:1], blob[:40], blob[:-1], blob[:-16], blob + b"\0", blob + blob):
        with pytest.raises(MacMismatch):
            enclave.unseal(other, AAD)


def test_two_seals_of_the_same_are_two_blobs(platform):
    enclave = platform.start()
    first, second = (enclave.seal(bytes(32), Policy.MRENCLAVE, AAD) for _ in range(2))
    assert first[-48:] != second[-48:]
    assert bytes(32) not in first[-48:]


def test_what_cannot_be_sealed_is_refused_by_name(platform):
    enclave = platform.start()
    for data, aad, name in (
        (b"", b"", "data"),
        (bytes(MAX_SEALED + 1), b"", "data"),
        (b"x", bytes(MAX_ASSOCIATED_DATA + 1), "associated data"),
    ):
        with pytest.raises(InvalidParameter, match=f"^{name}: "):
            enclave.seal(data, Policy.MRENCLAVE, aad)


E, S, H = Policy.MRENCLAVE, Policy.MRSIGNER, Policy.HYBRID
SEALER = ("E1", "S1", 1, 5)
# Of the table of docs/enclave.md all that both backends can have; the numbers are those of the simulated one's table.
ROWS = [
    (2, E, ("E2", "S1", 1, 5), MacMismatch),
    (3, E, ("E2", "S1", 1, 6), MacMismatch),
    (4, E, ("E1", "S2", 1, 5), None),
    (5, E, ("E1", "S1", 2, 5), MacMismatch),
    (6, E, ("E1", "S1", 1, 6), None),
    (7, E, ("E1", "S1", 1, 4), InvalidIsvSvn),
    (11, S, ("E2", "S1", 1, 5), None),
    (12, S, ("E2", "S1", 1, 6), None),
    (13, S, ("E2", "S1", 1, 4), InvalidIsvSvn),
    (14, S, ("E1", "S2", 1, 5), MacMismatch),
    (15, S, ("E1", "S1", 2, 5), MacMismatch),
    (30, H, ("E2", "S1", 1, 5), MacMismatch),
    (31, H, ("E1", "S2", 1, 5), MacMismatch),
    (32, H, ("E1", "S1", 1, 6), None),
    (33, H, ("E1", "S1", 1, 4), InvalidIsvSvn),
]


def test_who_unseals_what_is_the_same_for_every_backend(platform):
    enclave = platform.start(*SEALER)
    blobs = {policy: enclave.seal(b"data", policy, AAD) for policy in Policy}
    found = {}
    for number, policy, unsealer, _ in ROWS:
        opener = platform.start(*unsealer)
        try:
            found[number] = None if opener.unseal(blobs[policy], AAD) == b"data" else "other data"
        except EnclaveError as error:
            found[number] = type(error)
    assert found == {number: expected for number, _, _, expected in ROWS}


def test_another_machine_opens_nothing(platform, backend, tmp_path_factory):
    enclave = platform.start()
    blobs = [enclave.seal(b"data", policy, AAD) for policy in Policy]
    other = new_platform(backend, tmp_path_factory.mktemp("other"))
    try:
        elsewhere = other.start()
        for blob in blobs:
            with pytest.raises(MacMismatch):
                elsewhere.unseal(blob, AAD)
    finally:
        other.close()


# Counters.


def test_a_counter_counts_by_one_and_each_for_itself(platform):
    enclave = platform.start()
    first = enclave.create_counter("audit.anchor")
    assert enclave.read_counter("audit.anchor") == first
    assert [enclave.increment_counter("audit.anchor") for _ in range(3)] == [first + 1, first + 2, first + 3]
    other = enclave.create_counter("blobs")
    assert enclave.read_counter("audit.anchor") == first + 3
    assert enclave.increment_counter("blobs") == other + 1


def test_a_counter_outlives_a_kill_and_goes_on_under_a_later_release(platform):
    enclave = platform.start()
    enclave.create_counter("anchor")
    value = enclave.increment_counter("anchor")
    platform.crash()
    enclave = platform.start("E2", "S1", 1, 6)
    assert enclave.read_counter("anchor") == value
    assert enclave.increment_counter("anchor") == value + 1
    with pytest.raises(InvalidParameter, match="there is one of this name"):
        enclave.create_counter("anchor")


def test_a_counter_that_was_never_made_is_unknown(platform):
    enclave = platform.start()
    enclave.create_counter("one")
    for name in ("two", "on", "one.", "", "One"):
        with pytest.raises(UnknownCounter):
            enclave.read_counter(name)
        with pytest.raises(UnknownCounter):
            enclave.increment_counter(name)


def test_the_names_of_counters_have_bounds(platform):
    enclave = platform.start()
    enclave.create_counter("a" * 63)
    for name in ("", "a" * 64, "A", "1a", "a b", "ä"):
        with pytest.raises(InvalidParameter, match=r"^counter: 1 to 63 characters"):
            enclave.create_counter(name)
    with pytest.raises(InvalidParameter, match="there is one of this name"):
        enclave.create_counter("a" * 63)


# Quotes.


def test_a_quote_shows_who_answers_a_challenge(platform):
    enclave = platform.start("E1", "S1", 7, 3)
    asked = challenge()
    attested = platform.verify(enclave.attest(binding(asked)), asked)
    assert attested.identity == enclave.describe().identity
    assert "SIMULATED" in attested.backend
    assert NOW < attested.expires <= NOW + DAY


def test_a_quote_answers_one_challenge_only(platform):
    quote = platform.start().attest(binding(challenge()))
    with pytest.raises(WrongReportData):
        platform.verify(quote, challenge())


def test_an_answer_that_is_too_late_is_refused(platform):
    asked = Challenge(os.urandom(32), NOW - DAY, b"channel", b"claims")
    quote = platform.start().attest(binding(asked))
    with pytest.raises(NonceExpired):
        platform.verify(quote, asked)


def test_other_code_is_not_attested(platform):
    asked = challenge()
    quote = platform.start("E2").attest(binding(asked))
    with pytest.raises(EnclaveNotAllowed):
        platform.verify(quote, asked)
    assert platform.verify(quote, asked, "E2").identity.mrenclave == measurement("E2")


def test_no_byte_of_a_quote_can_be_changed(platform):
    asked = challenge()
    quote = platform.start().attest(binding(asked))
    platform.verify(quote, asked)
    for at in range(0, len(quote), 1 + len(quote) // 500):  # some 500 of them
        changed = bytearray(quote)
        changed[at] ^= 1 << at % 8
        with pytest.raises(AttestationError):
            platform.verify(bytes(changed), asked)
    for other in (b"", quote[:-1], quote + b"\0"):
        with pytest.raises(QuoteRefused):
            platform.verify(other, asked)


def test_another_machines_quote_is_refused(platform, backend, tmp_path_factory):
    asked = challenge()
    other = new_platform(backend, tmp_path_factory.mktemp("other"))
    try:
        quote = other.start().attest(binding(asked))
        with pytest.raises(QuoteRefused):
            platform.verify(quote, asked)
    finally:
        other.close()


def test_report_data_have_64_bytes(platform):
    enclave = platform.start()
    for length in (0, 63, 65):
        with pytest.raises(InvalidParameter, match=r"^report data: 64 bytes"):
            enclave.attest(bytes(length))


# Functions.


def call(enclave, function, inputs, argument):
    return msgpack.unpackb(enclave.execute(function, inputs, msgpack.packb(argument)))


def new_key(enclave, policy=Policy.MRSIGNER, suite=1) -> SealedInput:
    return SealedInput(call(enclave, "new_key", [], [str(policy), AAD, suite]), AAD)


def raw_key(enclave, key: SealedInput) -> bytes:
    """The key itself, by the backend's own hand: no call of the interface gives it."""
    opened: bytes = enclave._unseal(key.blob, key.associated_data)
    return opened[-32:]


@pytest.mark.parametrize("policy", Policy)
def test_a_key_is_born_inside_and_encrypts_and_decrypts_there(platform, policy):
    enclave = platform.start()
    key = new_key(enclave, policy)
    nonce = os.urandom(12)
    items = msgpack.packb([[nonce, b"header", b"value"]])
    [ciphertext] = msgpack.unpackb(enclave.execute("encrypt", [key], items))
    assert AESGCM(raw_key(enclave, key)).decrypt(nonce, ciphertext, b"header") == b"value"
    again = platform.start()
    items = msgpack.packb([[nonce, b"header", ciphertext], [nonce, b"other", ciphertext]])
    assert msgpack.unpackb(again.execute("decrypt", [key], items)) == [b"value", None]


def test_a_function_gets_nothing_from_a_seal_that_does_not_open(platform):
    enclave = platform.start()
    key = new_key(enclave, Policy.MRENCLAVE)
    with pytest.raises(MacMismatch):
        enclave.execute("encrypt", [SealedInput(key.blob, b"other")], msgpack.packb([]))
    with pytest.raises(MacMismatch):
        platform.start("E2").execute("encrypt", [key], msgpack.packb([]))


@pytest.mark.parametrize("policy", Policy)
def test_no_call_opens_what_a_function_has_sealed(platform, policy):
    enclave = platform.start()
    key = new_key(enclave, policy)
    # The control: the blob is whole and opens with these very associated data, in a function and by the backend's hand.
    assert len(raw_key(enclave, key)) == 32
    assert call(enclave, "decrypt", [key], []) == []
    assert enclave.unseal(enclave.seal(raw_key(enclave, key), policy, AAD), AAD) == raw_key(enclave, key)
    again = SealedInput(call(enclave, "reseal", [key], [str(policy)]), AAD)
    for made in (key, again):
        for aad in (AAD, b"", AAD.removeprefix(OUTSIDE), OUTSIDE + AAD):
            with pytest.raises(MacMismatch):
                enclave.unseal(made.blob, aad)


@pytest.mark.parametrize("policy", Policy)
def test_no_function_takes_for_a_key_what_was_sealed_from_outside(platform, policy):
    enclave = platform.start()
    planted = enclave.seal(bytes(32), policy, AAD)
    assert enclave.unseal(planted, AAD) == bytes(32)
    with pytest.raises(MacMismatch):
        call(enclave, "encrypt", [SealedInput(planted, AAD)], [])
    for function in ("encrypt", "reseal"):
        with pytest.raises(InvalidParameter, match="begin as those of what is sealed from outside"):
            call(enclave, function, [SealedInput(planted, OUTSIDE + AAD)], [])
    # Nor does a function seal what unseal() would open.
    with pytest.raises(InvalidParameter, match="begin as those of what is sealed from outside"):
        call(enclave, "new_key", [], [str(policy), OUTSIDE + AAD])


@pytest.mark.parametrize("suite", [1, 2, 16])
def test_a_key_that_is_sealed_anew_is_the_same_key_in_the_same_place_under_the_other_policy(platform, suite):
    enclave = platform.start(*SEALER)
    key = new_key(enclave, Policy.MRENCLAVE, suite)
    by_signer = SealedInput(call(enclave, "reseal", [key], ["mrsigner"]), AAD)
    assert by_signer.blob != key.blob
    assert enclave._unseal(by_signer.blob, AAD) == enclave._unseal(key.blob, AAD)  # and the mark of its suite
    for other in (b"", b"another place", AAD + b"\0"):  # it cannot be brought to another place
        with pytest.raises(MacMismatch):
            call(enclave, "reseal", [SealedInput(by_signer.blob, other)], ["mrsigner"])
    successor = platform.start("E2", "S1", 1, 6)
    with pytest.raises(MacMismatch):
        successor._unseal(key.blob, AAD)
    for policy in ("mrenclave", "hybrid", "mrsigner"):
        own = SealedInput(call(successor, "reseal", [by_signer], [policy]), AAD)
        assert len(raw_key(successor, own)) == 32
    older = platform.start(*SEALER)
    assert raw_key(older, by_signer) == raw_key(older, key)
    with pytest.raises(InvalidIsvSvn):  # the last of them was sealed to the signer at the newer version
        older._unseal(own.blob, AAD)


def test_what_reseal_does_not_take_is_refused(platform):
    enclave = platform.start()
    key = new_key(enclave)
    for inputs, argument in (
        ([], ["mrsigner"]),
        ([key, key], ["mrsigner"]),
        ([key], []),
        ([key], ["anybody"]),
        ([key], [1]),
        ([key], ["mrsigner", AAD]),
        ([key], "mrsigner"),
    ):
        with pytest.raises(InvalidParameter):
            call(enclave, "reseal", inputs, argument)
    no_key = SealedInput(enclave._seal(b"no key", Policy.MRSIGNER, AAD), AAD)
    with pytest.raises(InvalidParameter, match="as new_key makes it"):
        call(enclave, "reseal", [no_key], ["mrsigner"])
    by_code = new_key(enclave, Policy.MRENCLAVE)
    with pytest.raises(MacMismatch):
        call(platform.start("E2"), "reseal", [by_code], ["mrsigner"])


def test_what_functions_take_has_bounds(platform):
    enclave = platform.start()
    key = new_key(enclave)
    with pytest.raises(UnknownFunction):
        enclave.execute("export", [key], b"\xc0")
    with pytest.raises(InvalidParameter, match=r"^inputs: at most 8"):
        enclave.execute("encrypt", [key] * 9, msgpack.packb([]))
    with pytest.raises(InvalidParameter, match=r"^argument: at most"):
        enclave.execute("encrypt", [key], bytes((3 << 19) + 1))
