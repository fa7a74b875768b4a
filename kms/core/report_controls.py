"""The parts of a compliance report, and the controls of each framework that a part gives evidence for.

Sources: AICPA Trust Services Criteria 2017 (points of focus of 2022); PCI DSS v4.0; 45 CFR Part 164, Subpart C (HIPAA
Security Rule); Regulation (EU) 2016/679 (GDPR); ISO/IEC 27001:2022, Annex A. Only identifiers stand here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from .reports import Framework


class Part(StrEnum):
    """One part of a report, in its order."""

    FINDINGS = "findings"
    INVENTORY = "inventory"
    ROTATIONS = "rotations"
    LIMITS = "limits"
    ACCESS = "access"
    CREDENTIALS = "credentials"
    DANGEROUS = "dangerous"
    QUORUM = "quorum"
    FAILURES = "failures"
    EVENTS = "events"
    DESTRUCTIONS = "destructions"
    VOLUME = "volume"
    RETENTION = "retention"
    TRAIL = "trail"
    INTEGRITY = "integrity"


TITLES: Final[Mapping[Part, str]] = MappingProxyType(
    {
        Part.FINDINGS: "Findings and recommendations",
        Part.INVENTORY: "Key inventory and ages",
        Part.ROTATIONS: "Rotations on time and late",
        Part.LIMITS: "Versions near their limits",
        Part.ACCESS: "Access by role",
        Part.CREDENTIALS: "API tokens",
        Part.DANGEROUS: "Dangerous acts and their approvals",
        Part.QUORUM: "Quorum rules",
        Part.FAILURES: "Refused and failed attempts",
        Part.EVENTS: "Security events",
        Part.DESTRUCTIONS: "Destroyed keys and their receipts",
        Part.VOLUME: "Volume of data",
        Part.RETENTION: "Retention and legal holds",
        Part.TRAIL: "Verification of the audit trail",
        Part.INTEGRITY: "Integrity of the records",
    }
)

_S: Final = Framework.SOC2
_P: Final = Framework.PCI_DSS
_H: Final = Framework.HIPAA
_G: Final = Framework.GDPR
_I: Final = Framework.ISO27001

CONTROLS: Final[Mapping[Part, Mapping[Framework, tuple[str, ...]]]] = MappingProxyType(
    {
        Part.FINDINGS: {
            _S: ("CC4.1", "CC4.2"),
            _P: ("10.4.3",),
            _H: ("164.308(a)(8)", "164.308(a)(1)(ii)(D)"),
            _G: ("Art. 5(2)", "Art. 32(1)(d)"),
            _I: ("A.5.35", "A.5.36"),
        },
        Part.INVENTORY: {
            _S: ("CC6.1",),
            _P: ("3.6.1.1", "3.7.1"),
            _H: ("164.312(a)(2)(iv)",),
            _G: ("Art. 30", "Art. 32(1)(a)"),
            _I: ("A.5.9", "A.8.24"),
        },
        Part.ROTATIONS: {
            _S: ("CC6.1",),
            _P: ("3.7.4", "3.7.5"),
            _H: ("164.312(a)(2)(iv)",),
            _G: ("Art. 32(1)(a)",),
            _I: ("A.8.24",),
        },
        Part.LIMITS: {
            _S: ("CC6.1",),
            _P: ("3.7.4",),
            _H: ("164.312(a)(2)(iv)",),
            _G: ("Art. 32(1)(a)",),
            _I: ("A.8.24",),
        },
        Part.ACCESS: {
            _S: ("CC6.1", "CC6.2", "CC6.3"),
            _P: ("7.2.1", "7.2.4", "7.2.5.1"),
            _H: ("164.312(a)(1)", "164.308(a)(4)(ii)(C)"),
            _G: ("Art. 32(1)(b)", "Art. 32(4)"),
            _I: ("A.5.3", "A.5.15", "A.5.18", "A.8.2"),
        },
        Part.CREDENTIALS: {
            _S: ("CC6.1", "CC6.2"),
            _P: ("8.2.6", "8.6.3"),
            _H: ("164.312(d)", "164.308(a)(3)(ii)(C)"),
            _G: ("Art. 32(1)(b)",),
            _I: ("A.5.16", "A.5.17"),
        },
        Part.DANGEROUS: {
            _S: ("CC6.3", "CC8.1"),
            _P: ("3.7.7", "10.2.1.2"),
            _H: ("164.312(b)", "164.308(a)(1)(ii)(D)"),
            _G: ("Art. 5(2)", "Art. 32(1)(b)"),
            _I: ("A.8.2", "A.8.32"),
        },
        Part.QUORUM: {
            _S: ("CC6.3", "CC8.1"),
            _P: ("3.7.7", "6.5.1"),
            _H: ("164.308(a)(4)(ii)(B)",),
            _G: ("Art. 32(1)(b)",),
            _I: ("A.5.3", "A.8.32"),
        },
        Part.FAILURES: {
            _S: ("CC6.6", "CC7.2"),
            _P: ("10.2.1.4", "10.4.1"),
            _H: ("164.308(a)(5)(ii)(C)", "164.308(a)(1)(ii)(D)"),
            _G: ("Art. 32(1)(b)",),
            _I: ("A.8.15", "A.8.16"),
        },
        Part.EVENTS: {
            _S: ("CC7.2", "CC7.3", "CC7.4"),
            _P: ("10.7.2", "12.10.5"),
            _H: ("164.308(a)(6)(ii)",),
            _G: ("Art. 33", "Art. 33(5)"),
            _I: ("A.5.25", "A.5.26", "A.8.16"),
        },
        Part.DESTRUCTIONS: {
            _S: ("C1.2", "CC6.5"),
            _P: ("3.2.1", "3.7.5"),
            _H: ("164.310(d)(2)(i)",),
            _G: ("Art. 5(1)(e)", "Art. 17"),
            _I: ("A.8.10", "A.8.24"),
        },
        Part.VOLUME: {
            _S: ("CC7.2",),
            _P: ("10.2.1.1", "10.4.1"),
            _H: ("164.312(b)", "164.308(a)(1)(ii)(D)"),
            _G: ("Art. 30", "Art. 32(1)(b)"),
            _I: ("A.8.15", "A.8.16"),
        },
        Part.RETENTION: {
            _S: ("C1.1", "CC7.2"),
            _P: ("10.5.1",),
            _H: ("164.316(b)(2)(i)",),
            _G: ("Art. 5(1)(e)", "Art. 5(2)"),
            _I: ("A.5.28", "A.5.33"),
        },
        Part.TRAIL: {
            _S: ("CC7.1", "CC7.2"),
            _P: ("10.3.2", "10.3.4"),
            _H: ("164.312(b)", "164.312(c)(1)"),
            _G: ("Art. 5(2)", "Art. 32(1)(b)"),
            _I: ("A.5.33", "A.8.15"),
        },
        Part.INTEGRITY: {
            _S: ("CC7.1",),
            _P: ("3.7.7", "11.5.2"),
            _H: ("164.312(c)(1)", "164.312(c)(2)"),
            _G: ("Art. 5(1)(f)", "Art. 32(1)(b)"),
            _I: ("A.5.33", "A.8.24"),
        },
    }
)


def controls_of(part: Part, framework: Framework) -> dict[str, list[str]]:
    """Return the controls of a part: those of one framework, or of each for ALL."""
    wanted = CONTROLS[part]
    return {one.value: list(controls) for one, controls in wanted.items() if framework in (one, Framework.ALL)}
