import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IndexNormaliser(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NORMALISER_UNSPECIFIED: _ClassVar[IndexNormaliser]
    NORMALISER_NONE: _ClassVar[IndexNormaliser]
    NORMALISER_TEXT: _ClassVar[IndexNormaliser]
    NORMALISER_CASELESS: _ClassVar[IndexNormaliser]
    NORMALISER_EMAIL: _ClassVar[IndexNormaliser]
    NORMALISER_PHONE: _ClassVar[IndexNormaliser]

class Alphabet(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ALPHABET_UNSPECIFIED: _ClassVar[Alphabet]
    ALPHABET_DIGITS: _ClassVar[Alphabet]
    ALPHABET_LOWER: _ClassVar[Alphabet]
    ALPHABET_UPPER: _ClassVar[Alphabet]
    ALPHABET_ALPHANUMERIC: _ClassVar[Alphabet]
    ALPHABET_UPPER_ALPHANUMERIC: _ClassVar[Alphabet]
NORMALISER_UNSPECIFIED: IndexNormaliser
NORMALISER_NONE: IndexNormaliser
NORMALISER_TEXT: IndexNormaliser
NORMALISER_CASELESS: IndexNormaliser
NORMALISER_EMAIL: IndexNormaliser
NORMALISER_PHONE: IndexNormaliser
ALPHABET_UNSPECIFIED: Alphabet
ALPHABET_DIGITS: Alphabet
ALPHABET_LOWER: Alphabet
ALPHABET_UPPER: Alphabet
ALPHABET_ALPHANUMERIC: Alphabet
ALPHABET_UPPER_ALPHANUMERIC: Alphabet

class ContextPair(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: bytes
    def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class VaryingContext(_message.Message):
    __slots__ = ("key", "values")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    key: str
    values: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, key: _Optional[str] = ..., values: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ItemFailure(_message.Message):
    __slots__ = ("index", "status")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    index: int
    status: _status_pb2.Status
    def __init__(self, index: _Optional[int] = ..., status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class EncryptRequest(_message.Message):
    __slots__ = ("name", "plaintext", "context")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PLAINTEXT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    plaintext: bytes
    context: _containers.RepeatedCompositeFieldContainer[ContextPair]
    def __init__(self, name: _Optional[str] = ..., plaintext: _Optional[bytes] = ..., context: _Optional[_Iterable[_Union[ContextPair, _Mapping]]] = ...) -> None: ...

class EncryptResponse(_message.Message):
    __slots__ = ("ciphertext", "version")
    CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ciphertext: bytes
    version: int
    def __init__(self, ciphertext: _Optional[bytes] = ..., version: _Optional[int] = ...) -> None: ...

class DecryptRequest(_message.Message):
    __slots__ = ("name", "ciphertext", "context")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    ciphertext: bytes
    context: _containers.RepeatedCompositeFieldContainer[ContextPair]
    def __init__(self, name: _Optional[str] = ..., ciphertext: _Optional[bytes] = ..., context: _Optional[_Iterable[_Union[ContextPair, _Mapping]]] = ...) -> None: ...

class DecryptResponse(_message.Message):
    __slots__ = ("plaintext", "version", "primary")
    PLAINTEXT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_FIELD_NUMBER: _ClassVar[int]
    plaintext: bytes
    version: int
    primary: bool
    def __init__(self, plaintext: _Optional[bytes] = ..., version: _Optional[int] = ..., primary: _Optional[bool] = ...) -> None: ...

class ReEncryptRequest(_message.Message):
    __slots__ = ("name", "ciphertext", "context", "destination")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    ciphertext: bytes
    context: _containers.RepeatedCompositeFieldContainer[ContextPair]
    destination: str
    def __init__(self, name: _Optional[str] = ..., ciphertext: _Optional[bytes] = ..., context: _Optional[_Iterable[_Union[ContextPair, _Mapping]]] = ..., destination: _Optional[str] = ...) -> None: ...

class ReEncryptResponse(_message.Message):
    __slots__ = ("ciphertext", "version", "changed")
    CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    ciphertext: bytes
    version: int
    changed: bool
    def __init__(self, ciphertext: _Optional[bytes] = ..., version: _Optional[int] = ..., changed: _Optional[bool] = ...) -> None: ...

class EncryptBatchRequest(_message.Message):
    __slots__ = ("name", "plaintexts", "context", "varying")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PLAINTEXTS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    VARYING_FIELD_NUMBER: _ClassVar[int]
    name: str
    plaintexts: _containers.RepeatedScalarFieldContainer[bytes]
    context: _containers.RepeatedCompositeFieldContainer[ContextPair]
    varying: VaryingContext
    def __init__(self, name: _Optional[str] = ..., plaintexts: _Optional[_Iterable[bytes]] = ..., context: _Optional[_Iterable[_Union[ContextPair, _Mapping]]] = ..., varying: _Optional[_Union[VaryingContext, _Mapping]] = ...) -> None: ...

class EncryptBatchResponse(_message.Message):
    __slots__ = ("ciphertexts", "failures", "version")
    CIPHERTEXTS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ciphertexts: _containers.RepeatedScalarFieldContainer[bytes]
    failures: _containers.RepeatedCompositeFieldContainer[ItemFailure]
    version: int
    def __init__(self, ciphertexts: _Optional[_Iterable[bytes]] = ..., failures: _Optional[_Iterable[_Union[ItemFailure, _Mapping]]] = ..., version: _Optional[int] = ...) -> None: ...

class DecryptBatchRequest(_message.Message):
    __slots__ = ("name", "ciphertexts", "context", "varying")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXTS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    VARYING_FIELD_NUMBER: _ClassVar[int]
    name: str
    ciphertexts: _containers.RepeatedScalarFieldContainer[bytes]
    context: _containers.RepeatedCompositeFieldContainer[ContextPair]
    varying: VaryingContext
    def __init__(self, name: _Optional[str] = ..., ciphertexts: _Optional[_Iterable[bytes]] = ..., context: _Optional[_Iterable[_Union[ContextPair, _Mapping]]] = ..., varying: _Optional[_Union[VaryingContext, _Mapping]] = ...) -> None: ...

class DecryptBatchResponse(_message.Message):
    __slots__ = ("plaintexts", "failures", "primary_version")
    PLAINTEXTS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_VERSION_FIELD_NUMBER: _ClassVar[int]
    plaintexts: _containers.RepeatedScalarFieldContainer[bytes]
    failures: _containers.RepeatedCompositeFieldContainer[ItemFailure]
    primary_version: int
    def __init__(self, plaintexts: _Optional[_Iterable[bytes]] = ..., failures: _Optional[_Iterable[_Union[ItemFailure, _Mapping]]] = ..., primary_version: _Optional[int] = ...) -> None: ...

class DecryptMaskedBatchRequest(_message.Message):
    __slots__ = ("name", "ciphertexts", "context", "varying", "keep_last")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXTS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    VARYING_FIELD_NUMBER: _ClassVar[int]
    KEEP_LAST_FIELD_NUMBER: _ClassVar[int]
    name: str
    ciphertexts: _containers.RepeatedScalarFieldContainer[bytes]
    context: _containers.RepeatedCompositeFieldContainer[ContextPair]
    varying: VaryingContext
    keep_last: int
    def __init__(self, name: _Optional[str] = ..., ciphertexts: _Optional[_Iterable[bytes]] = ..., context: _Optional[_Iterable[_Union[ContextPair, _Mapping]]] = ..., varying: _Optional[_Union[VaryingContext, _Mapping]] = ..., keep_last: _Optional[int] = ...) -> None: ...

class DecryptMaskedBatchResponse(_message.Message):
    __slots__ = ("values", "failures")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    failures: _containers.RepeatedCompositeFieldContainer[ItemFailure]
    def __init__(self, values: _Optional[_Iterable[str]] = ..., failures: _Optional[_Iterable[_Union[ItemFailure, _Mapping]]] = ...) -> None: ...

class ReEncryptBatchRequest(_message.Message):
    __slots__ = ("name", "ciphertexts", "context", "varying", "destination")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXTS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    VARYING_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    ciphertexts: _containers.RepeatedScalarFieldContainer[bytes]
    context: _containers.RepeatedCompositeFieldContainer[ContextPair]
    varying: VaryingContext
    destination: str
    def __init__(self, name: _Optional[str] = ..., ciphertexts: _Optional[_Iterable[bytes]] = ..., context: _Optional[_Iterable[_Union[ContextPair, _Mapping]]] = ..., varying: _Optional[_Union[VaryingContext, _Mapping]] = ..., destination: _Optional[str] = ...) -> None: ...

class ReEncryptBatchResponse(_message.Message):
    __slots__ = ("ciphertexts", "failures", "version", "changed")
    CIPHERTEXTS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    ciphertexts: _containers.RepeatedScalarFieldContainer[bytes]
    failures: _containers.RepeatedCompositeFieldContainer[ItemFailure]
    version: int
    changed: int
    def __init__(self, ciphertexts: _Optional[_Iterable[bytes]] = ..., failures: _Optional[_Iterable[_Union[ItemFailure, _Mapping]]] = ..., version: _Optional[int] = ..., changed: _Optional[int] = ...) -> None: ...

class ComputeIndexBatchRequest(_message.Message):
    __slots__ = ("name", "values", "scope", "normaliser", "length", "all_versions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    NORMALISER_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    ALL_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: _containers.RepeatedScalarFieldContainer[bytes]
    scope: str
    normaliser: IndexNormaliser
    length: int
    all_versions: bool
    def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[bytes]] = ..., scope: _Optional[str] = ..., normaliser: _Optional[_Union[IndexNormaliser, str]] = ..., length: _Optional[int] = ..., all_versions: _Optional[bool] = ...) -> None: ...

class ComputeIndexBatchResponse(_message.Message):
    __slots__ = ("indexes", "versions", "failures")
    INDEXES_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    indexes: _containers.RepeatedScalarFieldContainer[bytes]
    versions: _containers.RepeatedScalarFieldContainer[int]
    failures: _containers.RepeatedCompositeFieldContainer[ItemFailure]
    def __init__(self, indexes: _Optional[_Iterable[bytes]] = ..., versions: _Optional[_Iterable[int]] = ..., failures: _Optional[_Iterable[_Union[ItemFailure, _Mapping]]] = ...) -> None: ...

class ReIndexBatchRequest(_message.Message):
    __slots__ = ("name", "source", "ciphertexts", "context", "varying", "scope", "normaliser", "length")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXTS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    VARYING_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    NORMALISER_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    name: str
    source: str
    ciphertexts: _containers.RepeatedScalarFieldContainer[bytes]
    context: _containers.RepeatedCompositeFieldContainer[ContextPair]
    varying: VaryingContext
    scope: str
    normaliser: IndexNormaliser
    length: int
    def __init__(self, name: _Optional[str] = ..., source: _Optional[str] = ..., ciphertexts: _Optional[_Iterable[bytes]] = ..., context: _Optional[_Iterable[_Union[ContextPair, _Mapping]]] = ..., varying: _Optional[_Union[VaryingContext, _Mapping]] = ..., scope: _Optional[str] = ..., normaliser: _Optional[_Union[IndexNormaliser, str]] = ..., length: _Optional[int] = ...) -> None: ...

class ReIndexBatchResponse(_message.Message):
    __slots__ = ("indexes", "failures", "version")
    INDEXES_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    indexes: _containers.RepeatedScalarFieldContainer[bytes]
    failures: _containers.RepeatedCompositeFieldContainer[ItemFailure]
    version: int
    def __init__(self, indexes: _Optional[_Iterable[bytes]] = ..., failures: _Optional[_Iterable[_Union[ItemFailure, _Mapping]]] = ..., version: _Optional[int] = ...) -> None: ...

class PseudonymizeBatchRequest(_message.Message):
    __slots__ = ("name", "values", "scope", "normaliser", "length", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    NORMALISER_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: _containers.RepeatedScalarFieldContainer[bytes]
    scope: str
    normaliser: IndexNormaliser
    length: int
    version: int
    def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[bytes]] = ..., scope: _Optional[str] = ..., normaliser: _Optional[_Union[IndexNormaliser, str]] = ..., length: _Optional[int] = ..., version: _Optional[int] = ...) -> None: ...

class PseudonymizeBatchResponse(_message.Message):
    __slots__ = ("pseudonyms", "failures", "version")
    PSEUDONYMS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    pseudonyms: _containers.RepeatedScalarFieldContainer[str]
    failures: _containers.RepeatedCompositeFieldContainer[ItemFailure]
    version: int
    def __init__(self, pseudonyms: _Optional[_Iterable[str]] = ..., failures: _Optional[_Iterable[_Union[ItemFailure, _Mapping]]] = ..., version: _Optional[int] = ...) -> None: ...

class FormatRule(_message.Message):
    __slots__ = ("scope", "alphabet", "keep_first", "keep_last", "tweak")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    ALPHABET_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIRST_FIELD_NUMBER: _ClassVar[int]
    KEEP_LAST_FIELD_NUMBER: _ClassVar[int]
    TWEAK_FIELD_NUMBER: _ClassVar[int]
    scope: str
    alphabet: Alphabet
    keep_first: int
    keep_last: int
    tweak: bytes
    def __init__(self, scope: _Optional[str] = ..., alphabet: _Optional[_Union[Alphabet, str]] = ..., keep_first: _Optional[int] = ..., keep_last: _Optional[int] = ..., tweak: _Optional[bytes] = ...) -> None: ...

class EncryptFormatBatchRequest(_message.Message):
    __slots__ = ("name", "values", "rule")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: _containers.RepeatedScalarFieldContainer[str]
    rule: FormatRule
    def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ..., rule: _Optional[_Union[FormatRule, _Mapping]] = ...) -> None: ...

class EncryptFormatBatchResponse(_message.Message):
    __slots__ = ("values", "failures", "version")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    failures: _containers.RepeatedCompositeFieldContainer[ItemFailure]
    version: int
    def __init__(self, values: _Optional[_Iterable[str]] = ..., failures: _Optional[_Iterable[_Union[ItemFailure, _Mapping]]] = ..., version: _Optional[int] = ...) -> None: ...

class DecryptFormatBatchRequest(_message.Message):
    __slots__ = ("name", "values", "rule", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: _containers.RepeatedScalarFieldContainer[str]
    rule: FormatRule
    version: int
    def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ..., rule: _Optional[_Union[FormatRule, _Mapping]] = ..., version: _Optional[int] = ...) -> None: ...

class DecryptFormatBatchResponse(_message.Message):
    __slots__ = ("values", "failures", "version")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    failures: _containers.RepeatedCompositeFieldContainer[ItemFailure]
    version: int
    def __init__(self, values: _Optional[_Iterable[str]] = ..., failures: _Optional[_Iterable[_Union[ItemFailure, _Mapping]]] = ..., version: _Optional[int] = ...) -> None: ...

class GenerateDataKeyRequest(_message.Message):
    __slots__ = ("name", "length", "context")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    length: int
    context: _containers.RepeatedCompositeFieldContainer[ContextPair]
    def __init__(self, name: _Optional[str] = ..., length: _Optional[int] = ..., context: _Optional[_Iterable[_Union[ContextPair, _Mapping]]] = ...) -> None: ...

class GenerateDataKeyResponse(_message.Message):
    __slots__ = ("plaintext", "ciphertext", "version")
    PLAINTEXT_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    plaintext: bytes
    ciphertext: bytes
    version: int
    def __init__(self, plaintext: _Optional[bytes] = ..., ciphertext: _Optional[bytes] = ..., version: _Optional[int] = ...) -> None: ...

class DecryptDataKeyRequest(_message.Message):
    __slots__ = ("name", "ciphertext", "context")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    ciphertext: bytes
    context: _containers.RepeatedCompositeFieldContainer[ContextPair]
    def __init__(self, name: _Optional[str] = ..., ciphertext: _Optional[bytes] = ..., context: _Optional[_Iterable[_Union[ContextPair, _Mapping]]] = ...) -> None: ...

class DecryptDataKeyResponse(_message.Message):
    __slots__ = ("plaintext", "version")
    PLAINTEXT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    plaintext: bytes
    version: int
    def __init__(self, plaintext: _Optional[bytes] = ..., version: _Optional[int] = ...) -> None: ...

class LeaseKeyVersionRequest(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class LeaseKeyVersionResponse(_message.Message):
    __slots__ = ("key", "version", "encrypts", "key_uid", "tenant_uid", "lease")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTS_FIELD_NUMBER: _ClassVar[int]
    KEY_UID_FIELD_NUMBER: _ClassVar[int]
    TENANT_UID_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    version: int
    encrypts: bool
    key_uid: str
    tenant_uid: str
    lease: _duration_pb2.Duration
    def __init__(self, key: _Optional[bytes] = ..., version: _Optional[int] = ..., encrypts: _Optional[bool] = ..., key_uid: _Optional[str] = ..., tenant_uid: _Optional[str] = ..., lease: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class GenerateRandomBytesRequest(_message.Message):
    __slots__ = ("length",)
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    length: int
    def __init__(self, length: _Optional[int] = ...) -> None: ...

class GenerateRandomBytesResponse(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...
