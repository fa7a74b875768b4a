from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from datetime import UTC, timedelta, timezone

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from enclave import attestation_errors as e
from enclave.attestation_policy import SignerRule
from enclave.identity import DEBUG, INIT, KSS, MODE64BIT
from enclave.nonces import Challenge
from enclave.quotes import SIMULATED, key_binding, parse_quote
from enclave.report import ReportBody
from enclave.signatures import raw_key, sign_raw
from tests.attestation import CHANNEL_KEY, CLAIMS, DAY, NOW, QUOTING, binding, identity, new_quoting, new_scene

SECOND = timedelta(seconds=1)
S1 = SignerRule(mrsigner=identity().mrsigner, isv_prod_id=1, least_isv_svn=5)
BY_SIGNER = {"measurements": frozenset(), "signers": (S1,)}
OLDER_CPU = bytes([4] * 15 + [3])


@pytest.fixture(scope="module")
def scene():
    return new_scene()


def resigned(scene, quote, **changes):
    """Return a quote with other fields, signed by the platform's real attestation key."""
    changed = replace(parse_quote(quote), **changes)
    return replace(changed, signature=sign_raw(scene.platform.quoting._key, changed.signed)).encode()


class TestAccepted:
    def test_a_quote_shows_who_the_enclave_is_on_which_platform_and_that_it_is_simulated(self, scene):
        challenge = scene.challenge()
        attested = scene.judge(scene.answer(identity(), challenge), challenge)
        assert attested.identity == identity()
        assert attested.platform_id == scene.platform.platform_id
        assert attested.backend == "SIMULATED"

    def test_it_holds_until_the_policys_time_is_over(self, scene):
        challenge = scene.challenge()
        policy = replace(scene.policy, validity=timedelta(hours=2))
        attested = scene.judge(scene.answer(identity(), challenge), challenge, policy=policy, now=NOW + SECOND)
        assert attested.expires == NOW + timedelta(hours=2)

    def test_it_holds_no_longer_than_the_first_of_certificates_and_lists(self, scene):
        challenge = scene.challenge()
        policy = replace(scene.policy, validity=timedelta(days=30))
        attested = scene.judge(scene.answer(identity(), challenge), challenge, policy=policy)
        assert attested.expires == NOW + DAY

    @pytest.mark.parametrize(
        ("enclave", "policy"),
        [
            pytest.param(identity(), BY_SIGNER, id="signer, product and least version"),
            pytest.param(identity(b"E2", isv_svn=6), BY_SIGNER, id="a newer version of the signer's product"),
            pytest.param(identity(b"E1", b"S2", isv_svn=0), {}, id="a measurement, whoever signed it"),
            pytest.param(identity(cpu_svn=bytes([5] * 16)), {}, id="a newer platform"),
            pytest.param(
                identity(b"E2", isv_svn=4),
                {"signers": (S1, replace(S1, least_isv_svn=4))},
                id="the lower of two rules for one product",
            ),
            pytest.param(
                identity(config_id=b"c" * 64, config_svn=3, flags=INIT | MODE64BIT | KSS),
                {"config_ids": frozenset({b"c" * 64}), "least_config_svn": 3},
                id="a configuration that the policy names",
            ),
            pytest.param(
                identity(b"E2", isv_family_id=b"f" * 16, isv_ext_prod_id=b"x" * 16),
                {"signers": (replace(S1, isv_family_id=b"f" * 16, isv_ext_prod_id=b"x" * 16),)},
                id="a family and extended product that the rule names",
            ),
            pytest.param(identity(misc_select=1), {"misc_select": 1}, id="features that the policy names"),
        ],
    )
    def test_what_the_policy_allows(self, scene, enclave, policy):
        challenge = scene.challenge()
        attested = scene.judge(scene.answer(enclave, challenge), challenge, policy=replace(scene.policy, **policy))
        assert attested.identity == enclave

    def test_an_answer_counts_up_to_its_last_moment(self, scene):
        challenge = scene.challenge()
        quote = scene.answer(identity(), challenge)
        scene.judge(quote, challenge, now=NOW + scene.policy.max_age)
        with pytest.raises(e.NonceExpired, match="0:01:00"):
            scene.judge(quote, challenge, now=NOW + scene.policy.max_age + timedelta(microseconds=1))

    def test_the_clock_may_be_of_any_zone(self, scene):
        challenge = scene.challenge(NOW.astimezone(timezone(timedelta(hours=5))))
        assert scene.judge(scene.answer(identity(), challenge), challenge).expires.astimezone(UTC) > NOW


class TestRefusedEnclaves:
    ROWS = (
        ("debug", identity(flags=INIT | MODE64BIT | DEBUG), {}, e.DebugEnclave),
        ("debug, by its signer", identity(flags=INIT | MODE64BIT | DEBUG), BY_SIGNER, e.DebugEnclave),
        ("not initialised", identity(flags=MODE64BIT), {}, e.NotInitialised),
        ("other code", identity(b"E2"), {}, e.EnclaveNotAllowed),
        ("other signer", identity(b"E1", b"S2"), BY_SIGNER, e.EnclaveNotAllowed),
        ("other product", identity(isv_prod_id=2), BY_SIGNER, e.EnclaveNotAllowed),
        ("other family", identity(isv_family_id=b"f" * 16), BY_SIGNER, e.EnclaveNotAllowed),
        ("other extended product", identity(isv_ext_prod_id=b"x" * 16), BY_SIGNER, e.EnclaveNotAllowed),
        ("low SVN", identity(isv_svn=4), BY_SIGNER, e.SecurityVersionTooLow),
        ("revoked code", identity(), {"revoked_measurements": frozenset({identity().mrenclave})}, e.EnclaveRevoked),
        (
            "revoked code of an allowed signer",
            identity(),
            BY_SIGNER | {"revoked_measurements": frozenset({identity().mrenclave})},
            e.EnclaveRevoked,
        ),
        ("features", identity(misc_select=1), {}, e.UnexpectedFeatures),
        ("configuration", identity(config_id=b"c" * 64), {}, e.UnexpectedFeatures),
        (
            "old configuration",
            identity(config_id=b"c" * 64, config_svn=2),
            {"config_ids": frozenset({b"c" * 64}), "least_config_svn": 3},
            e.UnexpectedFeatures,
        ),
        ("old platform", identity(cpu_svn=OLDER_CPU), {}, e.PlatformTooOld),
        ("neither newer nor older platform", identity(cpu_svn=bytes([9] * 15 + [3])), {}, e.PlatformTooOld),
    )

    @pytest.mark.parametrize(("enclave", "policy", "error"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
    def test_each_by_its_own_error(self, scene, enclave, policy, error):
        challenge = scene.challenge()
        quote = scene.answer(enclave, challenge)
        with pytest.raises(e.QuoteRefused) as raised:
            scene.judge(quote, challenge, policy=replace(scene.policy, **policy))
        assert type(raised.value) is error

    def test_a_revoked_platform(self, scene):
        challenge = scene.challenge()
        policy = replace(scene.policy, revoked_platforms=frozenset({scene.platform.platform_id}))
        with pytest.raises(e.PlatformRevoked):
            scene.judge(scene.answer(identity(), challenge), challenge, policy=policy)

    def test_simulated_where_the_policy_does_not_name_it(self, scene):
        challenge = scene.challenge()
        with pytest.raises(e.SimulatedNotAllowed, match=SIMULATED):
            scene.judge(
                scene.answer(identity(), challenge), challenge, policy=replace(scene.policy, backends=frozenset())
            )


class TestRefusedAnswers:
    def test_a_quote_replayed_under_its_own_nonce(self, scene):
        nonce = scene.nonces.issue(NOW)
        challenge = scene.nonces.redeem(nonce, CHANNEL_KEY, CLAIMS)
        quote = scene.answer(identity(), challenge)
        scene.judge(quote, challenge)
        with pytest.raises(e.UnknownNonce):
            scene.judge(quote, scene.nonces.redeem(nonce, CHANNEL_KEY, CLAIMS))

    def test_a_nonce_is_used_even_if_its_answer_was_refused(self, scene):
        nonce = scene.nonces.issue(NOW)
        challenge = scene.nonces.redeem(nonce, CHANNEL_KEY, CLAIMS)
        with pytest.raises(e.EnclaveNotAllowed):
            scene.judge(scene.answer(identity(b"E2"), challenge), challenge)
        with pytest.raises(e.UnknownNonce):
            scene.nonces.redeem(nonce, CHANNEL_KEY, CLAIMS)

    @pytest.mark.parametrize(
        "changes",
        [{"nonce": bytes(32)}, {"channel_key": b"another"}, {"claims": b"others"}, {"channel_key": b"", "claims": b""}],
        ids=["nonce", "channel", "claims", "neither channel nor claims"],
    )
    def test_an_answer_to_something_else(self, scene, changes):
        challenge = scene.challenge()
        quote = scene.answer(identity(), replace(challenge, **changes))
        with pytest.raises(e.WrongReportData):
            scene.judge(quote, challenge)

    def test_a_quote_replayed_to_a_new_nonce(self, scene):
        quote = scene.answer(identity(), scene.challenge())
        with pytest.raises(e.WrongReportData):
            scene.judge(quote, scene.challenge())

    def test_report_data_with_something_behind_the_hash(self, scene):
        challenge = scene.challenge()
        quote = scene.platform.quote(identity(), binding(challenge)[:32] + b"\1" + bytes(31))
        with pytest.raises(e.WrongReportData):
            scene.judge(quote, challenge)

    def test_an_answer_from_before_the_question(self, scene):
        challenge = scene.challenge(NOW + SECOND)
        with pytest.raises(e.ClockWentBack):
            scene.judge(scene.answer(identity(), challenge), challenge)


class TestRefusedQuotingEnclaves:
    ROWS = (
        ("other signer", identity(b"QE", b"other", isv_prod_id=2, isv_svn=9)),
        ("other product", replace(QUOTING, isv_prod_id=3)),
        ("low SVN", replace(QUOTING, isv_svn=8)),
        ("debug", replace(QUOTING, flags=QUOTING.flags | DEBUG)),
        ("not initialised", replace(QUOTING, flags=MODE64BIT)),
        ("old platform", replace(QUOTING, cpu_svn=OLDER_CPU)),
    )

    @pytest.mark.parametrize("quoting", [row[1] for row in ROWS], ids=[row[0] for row in ROWS])
    def test_another_quoting_enclave_though_its_key_is_certified(self, scene, quoting):
        here, challenge = scene.platform, scene.challenge()
        other = new_quoting(here.platform_id, (here.root, here.platform), here.fuse, quoting)
        quote = other.quote(here.report(identity(), binding(challenge), target=quoting))
        with pytest.raises(e.WrongQuotingEnclave):
            scene.judge(quote, challenge)

    def test_a_newer_one_of_the_same_product_is_taken(self, scene):
        here, challenge, newer = scene.platform, scene.challenge(), replace(QUOTING, isv_svn=10)
        other = new_quoting(here.platform_id, (here.root, here.platform), here.fuse, newer)
        scene.judge(other.quote(here.report(identity(), binding(challenge), target=newer)), challenge)

    def test_a_header_with_another_version_than_the_quoting_enclaves(self, scene):
        challenge = scene.challenge()
        quote = scene.answer(identity(), challenge)
        scene.judge(resigned(scene, quote), challenge)
        with pytest.raises(e.WrongQuotingEnclave, match="QE SVN"):
            scene.judge(resigned(scene, quote, qe_svn=10), challenge)

    def test_it_quotes_nothing_but_reports_of_its_platform_that_are_meant_for_it(self, scene):
        here, other = scene.platform, new_scene().platform
        here.quoting.quote(here.report(identity(), bytes(64), target=here.quoting.identity))  # the control
        with pytest.raises(e.ForgedReport):
            here.quoting.quote(other.report(identity(), bytes(64)))
        with pytest.raises(e.ForgedReport):
            here.quoting.quote(here.report(identity(), bytes(64), target=identity()))
        with pytest.raises(e.MalformedReport):
            here.quoting.quote(here.report(identity(), bytes(64))[:-1])

    def test_an_issuer_does_not_show_its_key(self, scene):
        assert "PrivateKey" in repr(scene.platform.root.key)  # the control
        assert "PrivateKey" not in repr(scene.platform.root)


class TestForgedKeys:
    def test_a_key_that_the_quoting_enclave_does_not_name(self, scene):
        challenge, own = scene.challenge(), ec.generate_private_key(ec.SECP256R1())
        forged = replace(parse_quote(scene.answer(identity(), challenge)), attestation_key=raw_key(own.public_key()))
        with pytest.raises(e.UnboundKey):
            scene.judge(replace(forged, signature=sign_raw(own, forged.signed)).encode(), challenge)

    def test_a_quoting_report_of_ones_own(self, scene):
        challenge, own = scene.challenge(), ec.generate_private_key(ec.SECP256R1())
        quote = parse_quote(scene.answer(identity(), challenge))
        key = raw_key(own.public_key())
        body = ReportBody(QUOTING, key_binding(key, quote.auth_data))
        forged = replace(quote, attestation_key=key, qe_body=body, qe_signature=sign_raw(own, body.encode()))
        with pytest.raises(e.BadQuotingReport):
            scene.judge(replace(forged, signature=sign_raw(own, forged.signed)).encode(), challenge)

    @pytest.mark.parametrize("upper", [b"\1" + bytes(31), bytes(31) + b"\1"])
    def test_a_quoting_report_with_something_behind_the_hash(self, scene, upper, monkeypatch):
        """The library of SGX compares the hash alone; here the whole 64 bytes count."""
        here, challenge = scene.platform, scene.challenge()
        monkeypatch.setattr(
            "enclave.quoting.key_binding", lambda key, data: hashlib.sha256(key + data).digest() + upper
        )
        quoting = new_quoting(here.platform_id, (here.root, here.platform), here.fuse)
        with pytest.raises(e.UnboundKey):
            scene.judge(quoting.quote(here.report(identity(), binding(challenge))), challenge)

    def test_a_quote_of_another_key_of_the_same_platform(self, scene):
        here, challenge = scene.platform, scene.challenge()
        other = new_quoting(here.platform_id, (here.root, here.platform), here.fuse)
        quote = parse_quote(scene.answer(identity(), challenge))
        theirs = parse_quote(other.quote(here.report(identity(), binding(challenge))))
        scene.judge(theirs.encode(), challenge)
        with pytest.raises(e.BadSignature):
            scene.judge(replace(quote, signature=theirs.signature).encode(), challenge)
        with pytest.raises(e.BadQuotingReport):
            scene.judge(replace(quote, chain=theirs.chain).encode(), challenge)

    def test_an_attestation_key_that_is_no_point_though_it_is_named(self, scene, monkeypatch):
        here, challenge = scene.platform, scene.challenge()
        monkeypatch.setattr("enclave.quoting.raw_key", lambda _: bytes(64))
        quoting = new_quoting(here.platform_id, (here.root, here.platform), here.fuse)
        with pytest.raises(e.BadSignature, match="point"):
            scene.judge(quoting.quote(here.report(identity(), binding(challenge))), challenge)


class TestFlips:
    """Field, offset, length, and the error that each flipped bit of it has."""

    FIELDS = (
        ("version", 0, 2, e.MalformedQuote),
        ("attestation key type", 2, 2, e.MalformedQuote),
        ("reserved 1", 4, 4, e.MalformedQuote),
        ("QE SVN", 8, 2, e.WrongQuotingEnclave),
        ("PCE SVN", 10, 2, e.MalformedQuote),
        ("vendor id", 12, 16, e.UnknownVendor),
        ("platform id", 28, 16, e.WrongPlatform),
        ("reserved 2", 44, 4, e.MalformedQuote),
        ("CPUSVN", 48, 16, e.BadSignature),
        ("MISCSELECT", 64, 4, e.BadSignature),
        ("body reserved 1", 68, 12, e.MalformedQuote),
        ("ISVEXTPRODID", 80, 16, e.BadSignature),
        ("attribute flags", 96, 8, e.BadSignature),
        ("XFRM", 104, 8, e.BadSignature),
        ("MRENCLAVE", 112, 32, e.BadSignature),
        ("body reserved 2", 144, 32, e.MalformedQuote),
        ("MRSIGNER", 176, 32, e.BadSignature),
        ("body reserved 3", 208, 32, e.MalformedQuote),
        ("CONFIGID", 240, 64, e.BadSignature),
        ("ISVPRODID", 304, 2, e.BadSignature),
        ("ISVSVN", 306, 2, e.BadSignature),
        ("CONFIGSVN", 308, 2, e.BadSignature),
        ("body reserved 4", 310, 42, e.MalformedQuote),
        ("ISVFAMILYID", 352, 16, e.BadSignature),
        ("REPORTDATA", 368, 64, e.BadSignature),
        ("signature data length", 432, 4, e.MalformedQuote),
        ("signature", 436, 64, e.BadSignature),
        ("attestation key", 500, 64, e.UnboundKey),
        ("QE CPUSVN", 564, 16, e.BadQuotingReport),
        ("QE MRSIGNER", 564 + 128, 32, e.BadQuotingReport),
        ("QE ISVPRODID, ISVSVN", 564 + 256, 4, e.BadQuotingReport),
        ("QE REPORTDATA", 564 + 320, 64, e.BadQuotingReport),
        ("QE report signature", 948, 64, e.BadQuotingReport),
        ("auth data length", 1012, 2, e.MalformedQuote),
        ("auth data", 1014, 32, e.UnboundKey),
        ("certification type", 1046, 2, e.MalformedQuote),
        ("certification data size", 1048, 4, e.MalformedQuote),
        ("length of a certificate", 1052, 2, e.MalformedQuote),
    )

    @pytest.mark.parametrize(("offset", "length", "error"), [row[1:] for row in FIELDS], ids=[row[0] for row in FIELDS])
    def test_each_bit_of_a_field_is_refused_by_the_error_of_its_check(self, scene, offset, length, error):
        challenge = scene.challenge()
        quote = scene.answer(identity(), challenge)
        refused = 0
        for bit in range(offset * 8, (offset + length) * 8):
            assert refusal(scene, flipped(quote, bit), challenge) is error, bit - offset * 8
            refused += 1
        assert refused == length * 8

    def test_the_fields_are_those_of_the_layout(self):
        assert len(self.FIELDS) == len({row[0] for row in self.FIELDS}) >= 20
        before_quoting_report = [row for row in self.FIELDS if row[1] < 564]
        ends = [offset + length for _, offset, length, _ in before_quoting_report]
        assert [row[1] for row in before_quoting_report] == [0, *ends[:-1]]

    def test_each_byte_of_the_certificates_counts(self, scene):
        challenge = scene.challenge()
        quote = scene.answer(identity(), challenge)
        leaf, platform, root = (len(one) for one in parse_quote(quote).chain)
        starts = {"leaf": 1054, "platform": 1056 + leaf, "root": 1058 + leaf + platform}
        assert starts["root"] + root == len(quote)
        for offset in range(starts["leaf"], starts["leaf"] + leaf):
            assert refusal(scene, flipped(quote, offset * 8 + offset % 8), challenge) is e.BrokenChain, offset
        for offset in range(starts["platform"], starts["platform"] + platform):
            assert refusal(scene, flipped(quote, offset * 8 + offset % 8), challenge) is e.BrokenChain, offset
        for offset in range(starts["root"], len(quote)):
            assert refusal(scene, flipped(quote, offset * 8 + offset % 8), challenge) is e.UntrustedRoot, offset

    def test_600_flips_anywhere(self, scene):
        challenge = scene.challenge()
        quote = scene.answer(identity(), challenge)
        for _ in range(600):
            bit = int.from_bytes(os.urandom(4), "big") % (len(quote) * 8)
            assert refusal(scene, flipped(quote, bit), challenge) is not None, bit

    @pytest.mark.soak
    def test_every_bit_of_a_quote_counts(self, scene):
        challenge = scene.challenge()
        quote = scene.answer(identity(), challenge)
        assert refusal(scene, quote, challenge) is None
        for bit in range(len(quote) * 8):
            assert refusal(scene, flipped(quote, bit), challenge) is not None, bit


def flipped(quote, bit):
    changed = bytearray(quote)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def refusal(scene, quote, challenge: Challenge):
    """Return the kind of the refusal, or None where a quote is taken."""
    try:
        scene.judge(quote, challenge)
    except e.QuoteRefused as error:
        return type(error)
    return None
