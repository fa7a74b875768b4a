from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from enclave.attestation_errors import ForgedReport, MalformedReport
from enclave.identity import INIT, KSS, Identity
from enclave.report import ReportBody, make_report, parse_body, report_key_id, verify_report
from tests.attestation import identity, report_key

EVERY_FIELD = Identity(
    cpu_svn=b"\x01" * 16,
    misc_select=0x02020202,
    isv_ext_prod_id=b"\x03" * 16,
    flags=0x04040404_04040404,
    xfrm=0x05050505_05050505,
    mrenclave=b"\x06" * 32,
    mrsigner=b"\x07" * 32,
    config_id=b"\x08" * 64,
    isv_prod_id=0x0909,
    isv_svn=0x0A0A,
    config_svn=0x0B0B,
    isv_family_id=b"\x0c" * 16,
)
BODY = ReportBody(EVERY_FIELD, b"\x0d" * 64)
# Offset, length, value. Source: intel/linux-sgx common/inc/sgx_report.h.
LAYOUT = [
    (0, 16, 1),
    (16, 4, 2),
    (20, 12, 0),
    (32, 16, 3),
    (48, 8, 4),
    (56, 8, 5),
    (64, 32, 6),
    (96, 32, 0),
    (128, 32, 7),
    (160, 32, 0),
    (192, 64, 8),
    (256, 2, 9),
    (258, 2, 10),
    (260, 2, 11),
    (262, 42, 0),
    (304, 16, 12),
    (320, 64, 13),
]
RESERVED = [(offset, length) for offset, length, value in LAYOUT if value == 0]


def test_a_body_has_the_layout_of_sgx():
    assert BODY.encode() == b"".join(bytes([value]) * length for _, length, value in LAYOUT)
    assert [offset for offset, _, _ in LAYOUT] == [
        sum(length for _, length, _ in LAYOUT[:index]) for index in range(len(LAYOUT))
    ]


def test_numbers_are_little_endian():
    encoded = ReportBody(
        identity(isv_prod_id=0x0102, isv_svn=0x0304, flags=INIT | KSS, misc_select=5), bytes(64)
    ).encode()
    assert encoded[256:260] == b"\x02\x01\x04\x03"
    assert encoded[48:56] == b"\x81" + bytes(7)
    assert encoded[16:20] == b"\x05\0\0\0"


def test_every_reserved_byte_must_be_zero():
    count = 0
    for offset, length in RESERVED:
        for at in range(offset, offset + length):
            changed = bytearray(BODY.encode())
            changed[at] = 1
            with pytest.raises(MalformedReport, match=r"^body: reserved bytes must be zero$"):
                parse_body(bytes(changed))
            count += 1
    assert count == 12 + 32 + 32 + 42


@pytest.mark.parametrize("length", [0, 383, 385])
def test_a_body_of_another_length_is_refused(length):
    with pytest.raises(MalformedReport, match="384"):
        parse_body(bytes(length))


@pytest.mark.parametrize("length", [0, 63, 65])
def test_report_data_of_another_length_is_refused(length):
    with pytest.raises(MalformedReport, match=r"^report_data: must be 64 bytes$"):
        ReportBody(identity(), bytes(length))


class TestLocalAttestation:
    fuse = os.urandom(32)
    key_id = os.urandom(32)
    target = identity(b"target")
    key = report_key(fuse, target, key_id)

    def test_the_target_on_the_same_platform_believes_a_report(self):
        report = make_report(BODY, self.key_id, self.key)
        assert len(report) == 432
        assert report[:384] == BODY.encode()
        assert report_key_id(report) == report[384:416] == self.key_id
        assert verify_report(report, self.key) == BODY

    def test_every_bit_of_a_report_counts(self):
        report = make_report(BODY, self.key_id, self.key)
        for bit in range(len(report) * 8):
            changed = bytearray(report)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(ForgedReport):
                verify_report(bytes(changed), report_key(self.fuse, self.target, report_key_id(bytes(changed))))

    @pytest.mark.parametrize(
        ("fuse", "target"),
        [
            (os.urandom(32), target),
            (fuse, identity(b"another")),
            (fuse, identity(b"target", flags=target.flags | 2)),
        ],
        ids=["another platform", "another target", "the target in debug mode"],
    )
    def test_nobody_else_believes_it(self, fuse, target):
        report = make_report(BODY, self.key_id, self.key)
        with pytest.raises(ForgedReport):
            verify_report(report, report_key(fuse, target, self.key_id))

    @pytest.mark.parametrize("length", [0, 384, 431, 433])
    def test_a_report_of_another_length_is_refused(self, length):
        with pytest.raises(MalformedReport, match="432"):
            verify_report(bytes(length), self.key)
        with pytest.raises(MalformedReport, match="432"):
            report_key_id(bytes(length))

    def test_keys_and_key_ids_of_another_length_are_refused(self):
        with pytest.raises(MalformedReport, match=r"^report_key: must be 32 bytes$"):
            make_report(BODY, self.key_id, self.key[:16])
        with pytest.raises(MalformedReport, match=r"^key_id: must be 32 bytes$"):
            make_report(BODY, self.key_id[:31], self.key)

    def test_a_report_with_a_good_mac_over_reserved_bytes_is_refused(self):
        encoded = bytearray(BODY.encode())
        encoded[20] = 1
        mac = CMAC(AES(self.key))
        mac.update(bytes(encoded))
        with pytest.raises(MalformedReport, match="reserved"):
            verify_report(bytes(encoded) + self.key_id + mac.finalize(), self.key)
