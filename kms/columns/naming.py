"""What a column's name, type and table tell of it: an ordered table of rules, the first that fits decides.

Pure. A rule proposes to a person and decides nothing: docs/columns.md says what share it finds, and of what.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .catalogue import Attribute, Relation
from .plan import Level, Normaliser


class Treatment(StrEnum):
    """What is proposed for a column."""

    ENCRYPT = "encrypt"  # with a blind index where rows are searched by it
    CONCEAL = "conceal"  # randomized in any case: nobody looks such values up
    HASH = "hash"  # a keyed hash, where rows are searched by it
    HASH_ALWAYS = "hash always"  # a keyed hash stands for it in any case
    LEAVE = "leave"  # as it is, for the reason given


class Form(StrEnum):
    """What kind of value a column holds, as far as its type says."""

    TEXT = "text"
    JSON = "json"
    BYTES = "bytes"
    ADDRESS = "address"
    NUMBER = "number"
    DAY = "day"
    OTHER = "other"


_FORMS: Final = {
    **dict.fromkeys(("text", "varchar", "bpchar", "citext", "xml"), Form.TEXT),
    **dict.fromkeys(("json", "jsonb", "hstore"), Form.JSON),
    "bytea": Form.BYTES,
    **dict.fromkeys(("inet", "cidr", "macaddr", "macaddr8"), Form.ADDRESS),
    **dict.fromkeys(("int2", "int4", "int8", "numeric", "float4", "float8", "money", "point"), Form.NUMBER),
    "date": Form.DAY,
}
_WORDY: Final = frozenset({Form.TEXT, Form.JSON, Form.BYTES})
_TEXT: Final = frozenset({Form.TEXT})
_ANY: Final = frozenset({Form.TEXT, Form.JSON, Form.BYTES, Form.NUMBER, Form.DAY, Form.ADDRESS})

_PERSONS: Final = (
    r"_(users?|people|persons?|customers?|contacts?|patients?|employees?|members?|clients?|subscribers?)_$"
)
_RECORDS: Final = r"_(audit|security|threats?|events?|incidents?|access|injection|fraud|rate_limit)_"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; its pattern sees `_first_name_` for first_name and for FirstName."""

    pattern: re.Pattern[str]
    why: str
    treatment: Treatment = Treatment.ENCRYPT
    level: Level = Level.CONFIDENTIAL
    forms: frozenset[Form] = _WORDY
    table: re.Pattern[str] | None = None
    normaliser: Normaliser = Normaliser.NONE


def _rule(
    pattern: str,
    why: str,
    treatment: Treatment = Treatment.ENCRYPT,
    level: Level = Level.CONFIDENTIAL,
    forms: frozenset[Form] = _WORDY,
    table: str = "",
    normaliser: Normaliser = Normaliser.NONE,
) -> Rule:
    where = re.compile(table) if table else None
    return Rule(re.compile(pattern), why, treatment, level, forms, where, normaliser)


RULES: Final = (
    # What is enforced, recognised or verified by those who read it.
    _rule(
        r"_(ip_access_control_list|\w*_?(white|black|allow|deny|block)_?list|allowed_\w+|denied_\w+)_$",
        "it is enforced by what reads it, and must be guarded against change rather than against reading",
        Treatment.LEAVE,
        forms=_ANY,
    ),
    _rule(r"_prefix_$", "a prefix by which something is recognised", Treatment.LEAVE),
    _rule(r"_(checksum|etag|signature|sha(1|256|512)|md5)_$", "it must stay verifiable", Treatment.LEAVE),
    _rule(r"^_salt_$", "a salt is no secret; it is read to check a password", Treatment.LEAVE),
    # Secrets.
    _rule(
        r"_(mfa|totp|otp|two_factor|2fa|second_factor)_(\w*_)?(secret|seed|key)_|_(backup|recovery|scratch)_codes?_",
        "a second-factor secret",
        Treatment.CONCEAL,
        Level.SECRET,
    ),
    _rule(
        r"_(password|passwd|pwd|passphrase|pin)_",
        "a password or its verifier, which a login must be able to read",
        Treatment.CONCEAL,
        Level.SECRET,
    ),
    _rule(
        r"_(session_|refresh_|access_|auth_|bearer_|reset_|api_|id_)?(token|api_key|access_key)_((hash|digest)_)?$|_key_hash_$",
        "a token or key that is looked up by value, or its hash",
        Treatment.HASH,
        Level.SECRET,
        _TEXT,
    ),
    _rule(
        r"_(credentials?|secrets?|secret_key|private_key|api_keys?|auth_config|connection_string|dsn|cookie)_",
        "credentials",
        Treatment.CONCEAL,
        Level.SECRET,
    ),
    _rule(
        r"_(card_number|credit_card|pan|cvv|cvc|card_no)_",
        "a payment card's number",
        level=Level.SECRET,
        forms=_ANY,
    ),
    # People.
    _rule(r"_(e_?mails?|mail_address)_", "e-mail addresses", forms=_WORDY, normaliser=Normaliser.EMAIL),
    _rule(
        r"_(phone|mobile|telephone|cell|fax|msisdn)_((number|no)_)?(encrypted_)?$|_(from|to|caller|callee)_number_$",
        "phone numbers",
        normaliser=Normaliser.PHONE,
    ),
    _rule(
        r"_(first|last|full|given|family|middle|maiden|legal|birth|device|cardholder|beneficiary)_?names?_|_surname_",
        "names of people, or names that they gave",
    ),
    _rule(r"^_(display_)?name_$", "names of people", table=_PERSONS),
    _rule(r"^_(provider|external|oauth|saml|subject)_(id|subject)_$", "identities elsewhere", table=_PERSONS),
    _rule(
        r"_(ssn|social_security|tax_(id|number)|tin|vat_(id|number)|passport|national_id|identity_card|id_card"
        r"|driver_?s?_licen[cs]e|registration_number|iban|account_number|routing_number|sort_code)_",
        "numbers of identity, tax or accounts",
        forms=_ANY,
    ),
    _rule(
        r"_(home|postal|street|mailing|service|billing|shipping|delivery)_address_|_address_?(line)?_?\d_|_address_line_"
        r"|^_address_$|_(street|postal_code|post_?code|zip(_?code)?|house_number)_$",
        "postal addresses",
    ),
    _rule(
        r"_(birth_?da(te|y)|date_of_birth|dob|place_of_birth|gender|ethnicity|religion|nationality|marital_status)_",
        "facts about people",
        forms=_ANY,
    ),
    _rule(
        r"_(diagnos[ei]s|medical|medication|prescription|allergy|allergies|blood_type|icd_?10)_", "health", forms=_ANY
    ),
    _rule(r"_(salary|income|credit_score|net_worth)_", "financial facts about people", forms=_ANY),
    _rule(
        r"_device_(id|info|fingerprint|token)_|_fingerprint_|_(geo_?)?location_(info|data)_|_geo_?location_"
        r"|_(latitude|longitude|coordinates)_",
        "devices or whereabouts of people",
        forms=_ANY,
    ),
    _rule(r"_pseudonym_", "pseudonyms that lead back to people"),
    _rule(r"_(pii|personal_data)_", "personal data by its name"),
    # What the name itself says.
    _rule(r"_encrypted_", "its name says that it is encrypted"),
    # Copies and descriptions.
    _rule(r"^_(old|new|before|after|previous)_(values?|data|row|state)_$", "copies of other rows' values"),
    _rule(r"_(analyst|resolution|medical|private|internal|investigation)_notes?_", "notes on people or incidents"),
    _rule(
        r"^_(details|additional_context|threat_indicators|\w*payload|request_uri|request_body|input_text|prompt_text"
        r"|row_identifier|identifier|session_id|resource_id|user_id)_$",
        "part of a security record, with who did or tried what",
        table=_RECORDS,
    ),
    _rule(
        r"_(transcripts?|full_text|turns|utterances?)_$|_(recording|audio|voice|sample|report_file)_(\w+_)?(url|uri|path)_$",
        "what people said, or where it is kept",
    ),
    _rule(r"^_summary_$", "what people said", table=r"_(transcripts?|conversations?|calls?)_"),
    _rule(
        r"_(evidence|remediation_plan|report_data|(compliance|supporting|identity)_documents|authorized_contact)_"
        r"|^_recipients_$",
        "documents of compliance, and who is named in them",
    ),
    _rule(r"^_(findings|recommendations)_$", "what an assessment found", table=r"_(compliance|assessments?|audits?)_"),
    _rule(r"^_(result|response)_$", "the outcome of a privacy request", table=r"_(privacy|gdpr|dsar)_"),
    _rule(r"^_data_$", "free data of a tenant or person", table=r"_(tenant|user|customer|patient|client)s?_data_"),
    _rule(
        r"_(input|output|query|request_body|body|script)_((data|text)_)?hash_$",
        "a hash without a key, from which data of few possible values is guessed",
        Treatment.HASH_ALWAYS,
        Level.INTERNAL,
        _TEXT,
    ),
)

# A flag of each row that says whether the value beside it is sensitive.
FLAGS: Final = re.compile(r"^_(is_)?(sensitive|secret|confidential|private)_$")
FLAGGED: Final = re.compile(r"_(value|setting|content|config)_$")

# Schemas that are named for the level of what is in them.
SCHEMAS: Final = (
    (re.compile(r"_(secret|restricted)_"), Level.SECRET),
    (re.compile(r"_(confidential|sensitive|pii|private)_"), Level.CONFIDENTIAL),
)
# What describes rather than holds: identifiers, kinds, states, digests.
DESCRIBES: Final = re.compile(
    r"_(id|sid|type|status|state|level|version|algorithm|method|mode|policy|hash|kind|category|classification|name|address"
    r"|signature|key|unit|currency|mr_\w+)_$|^_mr_"
)


def form(attribute: Attribute) -> Form:
    """Return what kind of value a column holds."""
    return _FORMS.get(attribute.base, Form.OTHER)


def words(name: str) -> str:
    """Return a name as rules see it: lower case, words between underscores."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return f"_{re.sub(r'[^a-z0-9]+', '_', spaced.lower()).strip('_')}_"


def rule_of(relation: Relation, attribute: Attribute) -> Rule | None:
    """Return the first rule that fits a column, or None."""
    table, column, kind = words(relation.name.partition(".")[2]), words(attribute.name), form(attribute)
    for rule in RULES:
        if kind in rule.forms and rule.pattern.search(column) and (rule.table is None or rule.table.search(table)):
            return rule
    if kind is Form.ADDRESS:
        return Rule(re.compile(""), "network addresses of people or machines", forms=_ANY)
    return None


def level_of_schema(relation: Relation, attribute: Attribute) -> Level | None:
    """Return the level that a schema is named for, for a column that holds content; else None."""
    if form(attribute) not in _WORDY or DESCRIBES.search(words(attribute.name)):
        return None
    schema = words(relation.name.partition(".")[0])
    return next((level for pattern, level in SCHEMAS if pattern.search(schema)), None)


def flag_of(relation: Relation, attribute: Attribute) -> Attribute | None:
    """Return the boolean column beside it that says of each row whether its value is sensitive, or None."""
    if form(attribute) not in _WORDY or not FLAGGED.search(words(attribute.name)):
        return None
    return next((one for one in relation.attributes if one.base == "bool" and FLAGS.search(words(one.name))), None)
