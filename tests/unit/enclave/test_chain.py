from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding

from enclave import attestation_errors as e
from enclave.chain import MAX_LIST, Collateral, verify_chain
from enclave.issuing import Issuer, extensions, new_platform, new_root, platform_name, quoting_name, root_name
from enclave.quotes import parse_quote
from enclave.signatures import has_low_s
from tests.attestation import DAY, END, NOW, START, identity, new_scene, platform_under
from tests.unit.enclave.test_signatures import ORDER

PLATFORM_ID = b"P" * 16
ROOT = new_root(START, END)
PLATFORM = new_platform(ROOT, PLATFORM_ID, START, END)
KEY = ec.generate_private_key(ec.SECP256R1())
CA, PLATFORM_CA = extensions(ca=True, path_length=1), extensions(ca=True, path_length=0)
NO_CA = extensions(ca=False, path_length=None)


def lists(root=ROOT, platform=PLATFORM, of_root=(), of_platform=(), start=START, end=NOW + DAY, numbers=(7, 7)):
    return Collateral(
        root.revocation_list(numbers[0], of_root, start, end),
        platform.revocation_list(numbers[1], of_platform, start, end),
    )


@dataclass
class Made:
    """A certificate as an attacker, or a careless authority, might make it."""

    subject: x509.Name
    issuer: Issuer
    extensions: tuple
    key: object = KEY
    start: datetime = START
    end: datetime = END
    critical: bool = True
    issuer_name: x509.Name | None = None
    hash: object = field(default_factory=SHA256)
    low_s: bool = True

    def issue(self) -> Issuer:
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(self.issuer_name or self.issuer.certificate.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.start)
            .not_valid_after(self.end)
        )
        for one in self.extensions:
            builder = builder.add_extension(one, critical=self.critical)
        while True:
            certificate = builder.sign(self.issuer.key, self.hash)
            if self.hash.name != "sha256" or has_low_s(certificate.signature) is self.low_s:
                return Issuer(certificate, self.key)


def platform(**changes) -> Issuer:
    made = Made(platform_name(PLATFORM_ID), ROOT, PLATFORM_CA, ec.generate_private_key(ec.SECP256R1()))
    return replace(made, **changes).issue()


def leaf(issuer=PLATFORM, **changes) -> Issuer:
    return replace(Made(quoting_name(PLATFORM_ID), issuer, NO_CA), **changes).issue()


LEAF = leaf()


def judge(end=LEAF, middle=PLATFORM, root=ROOT, pinned=ROOT, collateral=None, now=NOW, least=(7, 7)):
    chain = (end.der, middle.der, root.der)
    return verify_chain(chain, PLATFORM_ID, pinned.der, lists() if collateral is None else collateral, least, now)


def test_a_chain_leads_to_the_certified_key_and_tells_when_the_first_of_all_expires():
    assert judge() == (KEY.public_key(), NOW + DAY)
    assert judge(collateral=lists(end=END + DAY))[1] == END
    assert judge(leaf(end=NOW + timedelta(hours=1)))[1] == NOW + timedelta(hours=1)


class TestRoots:
    def test_one_that_bears_the_same_name_is_not_the_pinned_one(self):
        own = new_root(START, END)
        own_platform = new_platform(own, PLATFORM_ID, START, END)
        assert own.certificate.subject == ROOT.certificate.subject
        judge(leaf(own_platform), own_platform, own, own, lists(own, own_platform))  # the control: its chain is whole
        with pytest.raises(e.UntrustedRoot):
            judge(leaf(own_platform), own_platform, own, ROOT, lists(own, own_platform))

    def test_the_pinned_one_does_not_cover_another_ones_platform(self):
        own_platform = new_platform(new_root(START, END), PLATFORM_ID, START, END)
        with pytest.raises(e.BrokenChain, match=r"^platform: is not signed by its issuer$"):
            judge(leaf(own_platform), own_platform, collateral=lists(platform=own_platform))

    def test_the_same_key_in_a_new_certificate_is_pinned_anew(self):
        again = Made(root_name(), ROOT, CA, ROOT.key).issue()
        judge(root=again, pinned=again)
        with pytest.raises(e.UntrustedRoot):
            judge(root=again)

    @pytest.mark.parametrize(
        "changes",
        [
            {"subject": platform_name(PLATFORM_ID), "issuer_name": platform_name(PLATFORM_ID)},
            {"extensions": PLATFORM_CA},
            {"extensions": NO_CA},
            {"extensions": ()},
        ],
    )
    def test_a_pinned_one_of_another_form_is_refused_too(self, changes):
        wrong = replace(Made(root_name(), ROOT, CA, ROOT.key), **changes).issue()
        with pytest.raises(e.BrokenChain, match=r"^root: "):
            judge(root=wrong, pinned=wrong)


class TestCertificates:
    ROWS = (
        ("another key signed it", {"issuer": Issuer(PLATFORM.certificate, ROOT.key)}, "is not signed by its issuer"),
        ("another issuer's name", {"issuer_name": root_name()}, "is not issued by its issuer"),
        ("no extensions", {"extensions": ()}, "extensions"),
        ("an extension more", {"extensions": (*NO_CA, x509.OCSPNoCheck())}, "extensions"),
        ("extensions in another order", {"extensions": NO_CA[::-1]}, "extensions"),
        ("extensions that may be overlooked", {"critical": False}, "extensions"),
        ("an authority", {"extensions": PLATFORM_CA}, "extensions"),
        ("another name", {"subject": platform_name(PLATFORM_ID)}, "must have the name of its place"),
        ("no name", {"subject": x509.Name([])}, "must have the name of its place"),
        ("another curve", {"key": ec.generate_private_key(ec.SECP384R1())}, "must have a key on P-256"),
        ("another hash", {"hash": SHA384()}, "ECDSA with SHA-256"),
        ("the higher s", {"low_s": False}, "the lower s"),
    )

    @pytest.mark.parametrize(("changes", "message"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
    def test_a_quoting_one_of_another_form(self, changes, message):
        with pytest.raises(e.BrokenChain, match=rf"^quoting: .*{message}"):
            judge(leaf(**changes))

    @pytest.mark.parametrize(
        "changes",
        [
            {"extensions": NO_CA},
            {"extensions": CA},
            {"extensions": extensions(ca=True, path_length=None)},
            {"subject": quoting_name(PLATFORM_ID)},
            {"key": ec.generate_private_key(ec.SECP384R1())},
            {"issuer": Issuer(ROOT.certificate, KEY)},
        ],
        ids=["no authority", "longer path", "path without an end", "name", "curve", "signer"],
    )
    def test_a_platforms_of_another_form(self, changes):
        middle = platform(**changes)
        with pytest.raises(e.BrokenChain, match=r"^platform: "):
            judge(LEAF, middle, collateral=lists(platform=middle))

    def test_the_control_of_those(self):
        middle = platform()
        judge(leaf(middle), middle, collateral=lists(platform=middle))

    def test_a_quoting_key_is_no_authority(self):
        """What a platform has certified for quoting cannot certify others."""
        with pytest.raises(e.BrokenChain):
            judge(leaf(LEAF, issuer_name=LEAF.certificate.subject), LEAF)

    def test_certificates_of_another_platform_under_the_same_root(self):
        other = new_platform(ROOT, b"Q" * 16, START, END)
        end = replace(Made(quoting_name(b"Q" * 16), other, NO_CA)).issue()
        with pytest.raises(e.WrongPlatform, match=r"^platform: "):
            judge(end, other, collateral=lists(platform=other))
        with pytest.raises(e.WrongPlatform, match=r"^quoting: "):
            judge(leaf(subject=quoting_name(b"Q" * 16)))

    def test_a_quote_under_the_name_of_another_platform_of_the_root(self):
        scene = new_scene()
        other, challenge = platform_under(scene.platform.root), scene.challenge()
        quote = parse_quote(scene.answer(identity(), challenge))
        with pytest.raises(e.WrongPlatform):
            scene.judge(replace(quote, platform_id=other.platform_id).encode(), challenge)

    @pytest.mark.parametrize("place", ["root", "platform", "quoting"])
    @pytest.mark.parametrize(("start", "end"), [(START, NOW - DAY / 2), (NOW + DAY / 2, END)], ids=["expired", "early"])
    def test_one_that_is_not_valid_now(self, place, start, end):
        root = new_root(start, end) if place == "root" else ROOT
        middle = (
            new_platform(root, PLATFORM_ID, start, end)
            if place == "platform"
            else new_platform(root, PLATFORM_ID, START, END)
        )
        last = leaf(middle, start=start, end=end) if place == "quoting" else leaf(middle)
        collateral = lists(root, middle, start=START - 9 * DAY, end=END + 9 * DAY)
        judge(last, middle, root, root, collateral, now=start + timedelta(hours=1))  # the control
        with pytest.raises(e.CertificateNotCurrent, match=rf"^{place}: "):
            judge(last, middle, root, root, collateral)

    def test_the_first_and_the_last_second_count(self):
        whole = lists(end=END + DAY, start=START - DAY)
        judge(collateral=whole, now=START)
        judge(collateral=whole, now=END)
        for outside in (START - timedelta(seconds=1), END + timedelta(seconds=1)):
            with pytest.raises(e.CertificateNotCurrent):
                judge(collateral=whole, now=outside)


def tlv(tag, content, *, long=False):
    """Encode in DER, or with a longer length than needed, as BER allows."""
    length = len(content)
    octets = length.to_bytes(max(1, (length.bit_length() + 7) // 8), "big")
    if long:
        octets = b"\0" + octets
    return (
        bytes([tag])
        + (bytes([length]) if length < 128 and not long else bytes([0x80 + len(octets)]) + octets)
        + content
    )


ALGORITHM = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256, RFC 5758
WITH_NULL = bytes.fromhex("300c06082a8648ce3d0403020500")  # the same with parameters, which RFC 5758 excludes


def with_signature(certificate, signature, *, algorithm=ALGORITHM, unused=b"\0", long=False):
    return tlv(0x30, certificate.tbs_certificate_bytes + algorithm + tlv(0x03, unused + signature), long=long)


class TestOtherEncodings:
    """What says the same in other bytes is refused, so that nobody makes a second quote out of one."""

    def test_the_control_of_these_tests_is_the_certificate_itself(self):
        assert with_signature(LEAF.certificate, LEAF.certificate.signature) == LEAF.der

    def chain(self, der):
        return verify_chain((der, PLATFORM.der, ROOT.der), PLATFORM_ID, ROOT.der, lists(), (7, 7), NOW)

    def test_the_other_of_both_signatures(self):
        r, s = decode_dss_signature(LEAF.certificate.signature)
        other = with_signature(LEAF.certificate, encode_dss_signature(r, ORDER - s))
        x509.load_der_x509_certificate(other).verify_directly_issued_by(
            PLATFORM.certificate
        )  # the control: it verifies
        with pytest.raises(e.BrokenChain, match="the lower s"):
            self.chain(other)

    @pytest.mark.parametrize(
        "changes",
        [{"long": True}, {"algorithm": WITH_NULL}, {"algorithm": ALGORITHM[:-1] + b"\3"}],
        ids=["a longer length", "parameters of the algorithm", "another algorithm than is signed"],
    )
    def test_another_form_of_what_is_not_signed(self, changes):
        with pytest.raises(e.BrokenChain):
            self.chain(with_signature(LEAF.certificate, LEAF.certificate.signature, **changes))

    def test_unused_bits_where_the_signature_ends_in_some(self):
        even = next(one for one in iter(leaf, None) if one.certificate.signature[-1] % 2 == 0)
        other = with_signature(even.certificate, even.certificate.signature, unused=b"\1")
        x509.load_der_x509_certificate(other).verify_directly_issued_by(
            PLATFORM.certificate
        )  # the control: it verifies
        self.chain(even.der)
        with pytest.raises(e.BrokenChain, match="unused bits"):
            self.chain(other)

    def test_a_signature_with_a_zero_before_it(self):
        r, s = decode_dss_signature(LEAF.certificate.signature)
        padded = tlv(0x30, tlv(0x02, b"\0" * 2 + r.to_bytes(32, "big")) + tlv(0x02, s.to_bytes(32, "big")))
        with pytest.raises(e.BrokenChain):
            self.chain(with_signature(LEAF.certificate, padded))

    def test_text(self):
        with pytest.raises(e.BrokenChain, match=r"^quoting: is no certificate$"):
            self.chain(LEAF.certificate.public_bytes(Encoding.PEM))

    @pytest.mark.parametrize("more", [b"\0", LEAF.der], ids=["a byte", "a certificate"])
    def test_bytes_that_trail(self, more):
        with pytest.raises(e.BrokenChain, match=r"^quoting: is no certificate$"):
            self.chain(LEAF.der + more)


def signed_list(key=ROOT.key, issuer=None, numbered=(x509.CRLNumber(7),), hash_algorithm=SHA256(), end=NOW + DAY):  # noqa: B008
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(root_name() if issuer is None else issuer)
        .last_update(START)
        .next_update(end)
    )
    for one in numbered:
        builder = builder.add_extension(one, critical=isinstance(one, x509.DeltaCRLIndicator))
    return builder.sign(key, hash_algorithm).public_bytes(Encoding.DER)


class TestRevocationLists:
    def test_a_revoked_platform_or_quoting_certificate(self):
        with pytest.raises(e.CertificateRevoked, match=r"^root's list: "):
            judge(collateral=lists(of_root=[PLATFORM.certificate.serial_number]))
        with pytest.raises(e.CertificateRevoked, match=r"^platform's list: "):
            judge(collateral=lists(of_platform=[LEAF.certificate.serial_number]))

    def test_others_being_revoked_is_no_harm(self):
        judge(collateral=lists(of_root=[1, 2, 3], of_platform=[PLATFORM.certificate.serial_number]))

    def test_lists_in_each_others_place(self):
        right = lists()
        with pytest.raises(e.BadRevocationList, match=r"^root's list: must be issued by"):
            judge(collateral=Collateral(right.platform_list, right.root_list))

    def test_a_list_of_another_platform_of_the_name(self):
        with pytest.raises(e.BadRevocationList, match=r"^platform's list: is not signed by its issuer$"):
            judge(collateral=lists(platform=platform()))

    @pytest.mark.parametrize("which", ["root", "platform"])
    def test_an_older_list_than_one_seen_before(self, which):
        number = (7, 8) if which == "root" else (8, 7)
        with pytest.raises(e.BadRevocationList, match=rf"^{which}'s list: must have number 8"):
            judge(collateral=lists(numbers=number), least=(8, 8))
        judge(collateral=lists(numbers=(8, 9)), least=(8, 8))

    @pytest.mark.parametrize(("start", "end"), [(START, NOW), (NOW + timedelta(seconds=1), END)], ids=["over", "early"])
    def test_a_list_that_is_not_valid_now(self, start, end):
        with pytest.raises(e.RevocationListExpired, match=r"^root's list: "):
            judge(collateral=lists(start=start, end=end))
        late = Collateral(lists().root_list, lists(start=start, end=end).platform_list)
        with pytest.raises(e.RevocationListExpired, match=r"^platform's list: "):
            judge(collateral=late)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"x",
            lists().root_list[:-1],
            lists().root_list + b"\0",
            ROOT.der,
            bytes(MAX_LIST + 1),
            signed_list(key=KEY),
            signed_list(issuer=platform_name(PLATFORM_ID)),
            signed_list(numbered=()),
            signed_list(numbered=(x509.CRLNumber(7), x509.DeltaCRLIndicator(6))),
            signed_list(numbered=(x509.AuthorityKeyIdentifier(b"key", None, None),)),
            signed_list(hash_algorithm=SHA384()),
        ],
        ids=[
            "nothing",
            "no list",
            "cut short",
            "trailing",
            "a certificate",
            "too long",
            "signed by another",
            "another issuer",
            "no number",
            "a delta",
            "another extension",
            "another hash",
        ],
    )
    def test_what_is_no_whole_list_of_the_issuer(self, data):
        judge(collateral=Collateral(signed_list(), lists().platform_list))  # the control
        with pytest.raises(e.BadRevocationList, match=r"^root's list: "):
            judge(collateral=Collateral(data, lists().platform_list))
