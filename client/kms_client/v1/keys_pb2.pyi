import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from kms_client.v1 import operations_pb2 as _operations_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Purpose(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PURPOSE_UNSPECIFIED: _ClassVar[Purpose]
    ENCRYPT: _ClassVar[Purpose]
    DETERMINISTIC: _ClassVar[Purpose]
    DATA_KEY: _ClassVar[Purpose]
    INDEX: _ClassVar[Purpose]
    PSEUDONYM: _ClassVar[Purpose]
    FORMAT_PRESERVING: _ClassVar[Purpose]

class Suite(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SUITE_UNSPECIFIED: _ClassVar[Suite]
    AES_256_GCM: _ClassVar[Suite]
    XAES_256_GCM: _ClassVar[Suite]
    AES_SIV: _ClassVar[Suite]
    HMAC_SHA_256: _ClassVar[Suite]
    AES_256_FF1: _ClassVar[Suite]

class ProtectionLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROTECTION_LEVEL_UNSPECIFIED: _ClassVar[ProtectionLevel]
    SOFTWARE: _ClassVar[ProtectionLevel]
    ENCLAVE: _ClassVar[ProtectionLevel]
    HSM: _ClassVar[ProtectionLevel]

class Classification(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLASSIFICATION_UNSPECIFIED: _ClassVar[Classification]
    PUBLIC: _ClassVar[Classification]
    INTERNAL: _ClassVar[Classification]
    CONFIDENTIAL: _ClassVar[Classification]
    SECRET: _ClassVar[Classification]

class AuditContext(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUDIT_CONTEXT_UNSPECIFIED: _ClassVar[AuditContext]
    AUDIT_CONTEXT_HASHED: _ClassVar[AuditContext]
    AUDIT_CONTEXT_PLAIN: _ClassVar[AuditContext]
    AUDIT_CONTEXT_NONE: _ClassVar[AuditContext]

class KeyState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KEY_STATE_UNSPECIFIED: _ClassVar[KeyState]
    PENDING: _ClassVar[KeyState]
    ACTIVE: _ClassVar[KeyState]
    ROTATING: _ClassVar[KeyState]
    SUSPENDED: _ClassVar[KeyState]
    ARCHIVED: _ClassVar[KeyState]
    REVOKED: _ClassVar[KeyState]
    DESTRUCTION_SCHEDULED: _ClassVar[KeyState]
    DESTROYED: _ClassVar[KeyState]

class KekState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KEK_STATE_UNSPECIFIED: _ClassVar[KekState]
    KEK_ACTIVE: _ClassVar[KekState]
    KEK_DESTRUCTION_SCHEDULED: _ClassVar[KekState]
    KEK_DESTROYED: _ClassVar[KekState]
PURPOSE_UNSPECIFIED: Purpose
ENCRYPT: Purpose
DETERMINISTIC: Purpose
DATA_KEY: Purpose
INDEX: Purpose
PSEUDONYM: Purpose
FORMAT_PRESERVING: Purpose
SUITE_UNSPECIFIED: Suite
AES_256_GCM: Suite
XAES_256_GCM: Suite
AES_SIV: Suite
HMAC_SHA_256: Suite
AES_256_FF1: Suite
PROTECTION_LEVEL_UNSPECIFIED: ProtectionLevel
SOFTWARE: ProtectionLevel
ENCLAVE: ProtectionLevel
HSM: ProtectionLevel
CLASSIFICATION_UNSPECIFIED: Classification
PUBLIC: Classification
INTERNAL: Classification
CONFIDENTIAL: Classification
SECRET: Classification
AUDIT_CONTEXT_UNSPECIFIED: AuditContext
AUDIT_CONTEXT_HASHED: AuditContext
AUDIT_CONTEXT_PLAIN: AuditContext
AUDIT_CONTEXT_NONE: AuditContext
KEY_STATE_UNSPECIFIED: KeyState
PENDING: KeyState
ACTIVE: KeyState
ROTATING: KeyState
SUSPENDED: KeyState
ARCHIVED: KeyState
REVOKED: KeyState
DESTRUCTION_SCHEDULED: KeyState
DESTROYED: KeyState
KEK_STATE_UNSPECIFIED: KekState
KEK_ACTIVE: KekState
KEK_DESTRUCTION_SCHEDULED: KekState
KEK_DESTROYED: KekState

class EffectivePolicy(_message.Message):
    __slots__ = ("rotation_period", "encryption_limit", "cache_lifetime", "quarantine_period", "grace_period", "automatic_retirement", "policy_version", "required_context", "log_data_access", "approvals", "audit_context")
    ROTATION_PERIOD_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTION_LIMIT_FIELD_NUMBER: _ClassVar[int]
    CACHE_LIFETIME_FIELD_NUMBER: _ClassVar[int]
    QUARANTINE_PERIOD_FIELD_NUMBER: _ClassVar[int]
    GRACE_PERIOD_FIELD_NUMBER: _ClassVar[int]
    AUTOMATIC_RETIREMENT_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    LOG_DATA_ACCESS_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    AUDIT_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    rotation_period: _duration_pb2.Duration
    encryption_limit: int
    cache_lifetime: _duration_pb2.Duration
    quarantine_period: _duration_pb2.Duration
    grace_period: _duration_pb2.Duration
    automatic_retirement: bool
    policy_version: int
    required_context: _containers.RepeatedScalarFieldContainer[str]
    log_data_access: bool
    approvals: int
    audit_context: AuditContext
    def __init__(self, rotation_period: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., encryption_limit: _Optional[int] = ..., cache_lifetime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., quarantine_period: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., grace_period: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., automatic_retirement: _Optional[bool] = ..., policy_version: _Optional[int] = ..., required_context: _Optional[_Iterable[str]] = ..., log_data_access: _Optional[bool] = ..., approvals: _Optional[int] = ..., audit_context: _Optional[_Union[AuditContext, str]] = ...) -> None: ...

class Key(_message.Message):
    __slots__ = ("name", "uid", "display_name", "purpose", "suite", "protection_level", "labels", "rotation_period", "primary_version", "create_time", "rotate_time", "creator", "etag", "state", "state_reason", "state_time", "policy", "encryption_limit", "cache_lifetime", "quarantine_period", "grace_period", "automatic_retirement", "effective_policy", "destroy_time", "next_rotation_time", "places_complete_time", "classification", "leasable")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    PROTECTION_LEVEL_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ROTATION_PERIOD_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ROTATE_TIME_FIELD_NUMBER: _ClassVar[int]
    CREATOR_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_REASON_FIELD_NUMBER: _ClassVar[int]
    STATE_TIME_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTION_LIMIT_FIELD_NUMBER: _ClassVar[int]
    CACHE_LIFETIME_FIELD_NUMBER: _ClassVar[int]
    QUARANTINE_PERIOD_FIELD_NUMBER: _ClassVar[int]
    GRACE_PERIOD_FIELD_NUMBER: _ClassVar[int]
    AUTOMATIC_RETIREMENT_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_POLICY_FIELD_NUMBER: _ClassVar[int]
    DESTROY_TIME_FIELD_NUMBER: _ClassVar[int]
    NEXT_ROTATION_TIME_FIELD_NUMBER: _ClassVar[int]
    PLACES_COMPLETE_TIME_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    LEASABLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    uid: str
    display_name: str
    purpose: Purpose
    suite: Suite
    protection_level: ProtectionLevel
    labels: _containers.ScalarMap[str, str]
    rotation_period: _duration_pb2.Duration
    primary_version: int
    create_time: _timestamp_pb2.Timestamp
    rotate_time: _timestamp_pb2.Timestamp
    creator: str
    etag: str
    state: KeyState
    state_reason: str
    state_time: _timestamp_pb2.Timestamp
    policy: str
    encryption_limit: int
    cache_lifetime: _duration_pb2.Duration
    quarantine_period: _duration_pb2.Duration
    grace_period: _duration_pb2.Duration
    automatic_retirement: bool
    effective_policy: EffectivePolicy
    destroy_time: _timestamp_pb2.Timestamp
    next_rotation_time: _timestamp_pb2.Timestamp
    places_complete_time: _timestamp_pb2.Timestamp
    classification: Classification
    leasable: bool
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[str] = ..., display_name: _Optional[str] = ..., purpose: _Optional[_Union[Purpose, str]] = ..., suite: _Optional[_Union[Suite, str]] = ..., protection_level: _Optional[_Union[ProtectionLevel, str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., rotation_period: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., primary_version: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., rotate_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., creator: _Optional[str] = ..., etag: _Optional[str] = ..., state: _Optional[_Union[KeyState, str]] = ..., state_reason: _Optional[str] = ..., state_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., policy: _Optional[str] = ..., encryption_limit: _Optional[int] = ..., cache_lifetime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., quarantine_period: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., grace_period: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., automatic_retirement: _Optional[bool] = ..., effective_policy: _Optional[_Union[EffectivePolicy, _Mapping]] = ..., destroy_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., next_rotation_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., places_complete_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., classification: _Optional[_Union[Classification, str]] = ..., leasable: _Optional[bool] = ...) -> None: ...

class VersionCensus(_message.Message):
    __slots__ = ("known", "count", "places", "unknown_reasons", "estimated_end_time", "next_step")
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    PLACES_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_REASONS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_END_TIME_FIELD_NUMBER: _ClassVar[int]
    NEXT_STEP_FIELD_NUMBER: _ClassVar[int]
    known: bool
    count: int
    places: _containers.RepeatedCompositeFieldContainer[PlaceTally]
    unknown_reasons: _containers.RepeatedScalarFieldContainer[str]
    estimated_end_time: _timestamp_pb2.Timestamp
    next_step: str
    def __init__(self, known: _Optional[bool] = ..., count: _Optional[int] = ..., places: _Optional[_Iterable[_Union[PlaceTally, _Mapping]]] = ..., unknown_reasons: _Optional[_Iterable[str]] = ..., estimated_end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., next_step: _Optional[str] = ...) -> None: ...

class PlaceTally(_message.Message):
    __slots__ = ("place", "count")
    PLACE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    place: str
    count: int
    def __init__(self, place: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class KeyVersion(_message.Message):
    __slots__ = ("name", "primary", "kek", "create_time", "encryptions_reserved", "encryptions_limit", "encryptions_rotate_at", "state", "state_reason", "state_time", "stop_time", "destroy_time", "last_use_time", "refused_uses", "last_refused_time", "census", "expose_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_FIELD_NUMBER: _ClassVar[int]
    KEK_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTIONS_RESERVED_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTIONS_LIMIT_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTIONS_ROTATE_AT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_REASON_FIELD_NUMBER: _ClassVar[int]
    STATE_TIME_FIELD_NUMBER: _ClassVar[int]
    STOP_TIME_FIELD_NUMBER: _ClassVar[int]
    DESTROY_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_USE_TIME_FIELD_NUMBER: _ClassVar[int]
    REFUSED_USES_FIELD_NUMBER: _ClassVar[int]
    LAST_REFUSED_TIME_FIELD_NUMBER: _ClassVar[int]
    CENSUS_FIELD_NUMBER: _ClassVar[int]
    EXPOSE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    primary: bool
    kek: str
    create_time: _timestamp_pb2.Timestamp
    encryptions_reserved: int
    encryptions_limit: int
    encryptions_rotate_at: int
    state: KeyState
    state_reason: str
    state_time: _timestamp_pb2.Timestamp
    stop_time: _timestamp_pb2.Timestamp
    destroy_time: _timestamp_pb2.Timestamp
    last_use_time: _timestamp_pb2.Timestamp
    refused_uses: int
    last_refused_time: _timestamp_pb2.Timestamp
    census: VersionCensus
    expose_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., primary: _Optional[bool] = ..., kek: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., encryptions_reserved: _Optional[int] = ..., encryptions_limit: _Optional[int] = ..., encryptions_rotate_at: _Optional[int] = ..., state: _Optional[_Union[KeyState, str]] = ..., state_reason: _Optional[str] = ..., state_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., stop_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., destroy_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_use_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., refused_uses: _Optional[int] = ..., last_refused_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., census: _Optional[_Union[VersionCensus, _Mapping]] = ..., expose_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Kek(_message.Message):
    __slots__ = ("name", "uid", "primary", "hsm_key_id", "create_time", "wrapped_key_versions", "wraps_reserved", "state", "destroy_time", "next_rotation_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_FIELD_NUMBER: _ClassVar[int]
    HSM_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    WRAPPED_KEY_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    WRAPS_RESERVED_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DESTROY_TIME_FIELD_NUMBER: _ClassVar[int]
    NEXT_ROTATION_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    uid: str
    primary: bool
    hsm_key_id: str
    create_time: _timestamp_pb2.Timestamp
    wrapped_key_versions: int
    wraps_reserved: int
    state: KekState
    destroy_time: _timestamp_pb2.Timestamp
    next_rotation_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[str] = ..., primary: _Optional[bool] = ..., hsm_key_id: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., wrapped_key_versions: _Optional[int] = ..., wraps_reserved: _Optional[int] = ..., state: _Optional[_Union[KekState, str]] = ..., destroy_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., next_rotation_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CreateKeyRequest(_message.Message):
    __slots__ = ("parent", "key_id", "key", "pending")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    parent: str
    key_id: str
    key: Key
    pending: bool
    def __init__(self, parent: _Optional[str] = ..., key_id: _Optional[str] = ..., key: _Optional[_Union[Key, _Mapping]] = ..., pending: _Optional[bool] = ...) -> None: ...

class GetKeyRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListKeysRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListKeysResponse(_message.Message):
    __slots__ = ("keys", "next_page_token")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[Key]
    next_page_token: str
    def __init__(self, keys: _Optional[_Iterable[_Union[Key, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateKeyRequest(_message.Message):
    __slots__ = ("key", "update_mask")
    KEY_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    key: Key
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class RotateKeyRequest(_message.Message):
    __slots__ = ("name", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class ListKeyVersionsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListKeyVersionsResponse(_message.Message):
    __slots__ = ("key_versions", "next_page_token")
    KEY_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    key_versions: _containers.RepeatedCompositeFieldContainer[KeyVersion]
    next_page_token: str
    def __init__(self, key_versions: _Optional[_Iterable[_Union[KeyVersion, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListKeksRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListKeksResponse(_message.Message):
    __slots__ = ("keks", "next_page_token")
    KEKS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    keks: _containers.RepeatedCompositeFieldContainer[Kek]
    next_page_token: str
    def __init__(self, keks: _Optional[_Iterable[_Union[Kek, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RotateKekRequest(_message.Message):
    __slots__ = ("parent", "primary_version")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_VERSION_FIELD_NUMBER: _ClassVar[int]
    parent: str
    primary_version: int
    def __init__(self, parent: _Optional[str] = ..., primary_version: _Optional[int] = ...) -> None: ...

class RotateKeysRequest(_message.Message):
    __slots__ = ("parent",)
    PARENT_FIELD_NUMBER: _ClassVar[int]
    parent: str
    def __init__(self, parent: _Optional[str] = ...) -> None: ...

class ActivateKeyRequest(_message.Message):
    __slots__ = ("name", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class Propagation(_message.Message):
    __slots__ = ("commit_time", "complete", "last_stop", "nodes")
    COMMIT_TIME_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    LAST_STOP_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    commit_time: _timestamp_pb2.Timestamp
    complete: bool
    last_stop: _duration_pb2.Duration
    nodes: _containers.RepeatedCompositeFieldContainer[NodeStop]
    def __init__(self, commit_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., complete: _Optional[bool] = ..., last_stop: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., nodes: _Optional[_Iterable[_Union[NodeStop, _Mapping]]] = ...) -> None: ...

class NodeStop(_message.Message):
    __slots__ = ("node", "state", "after")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[NodeStop.State]
        WAITING: _ClassVar[NodeStop.State]
        ACKNOWLEDGED: _ClassVar[NodeStop.State]
        EXPIRED: _ClassVar[NodeStop.State]
    STATE_UNSPECIFIED: NodeStop.State
    WAITING: NodeStop.State
    ACKNOWLEDGED: NodeStop.State
    EXPIRED: NodeStop.State
    NODE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    node: str
    state: NodeStop.State
    after: _duration_pb2.Duration
    def __init__(self, node: _Optional[str] = ..., state: _Optional[_Union[NodeStop.State, str]] = ..., after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class SuspendKeyRequest(_message.Message):
    __slots__ = ("name", "reason", "etag", "wait")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    etag: str
    wait: bool
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ..., etag: _Optional[str] = ..., wait: _Optional[bool] = ...) -> None: ...

class SuspendKeyResponse(_message.Message):
    __slots__ = ("key", "propagation")
    KEY_FIELD_NUMBER: _ClassVar[int]
    PROPAGATION_FIELD_NUMBER: _ClassVar[int]
    key: Key
    propagation: Propagation
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., propagation: _Optional[_Union[Propagation, _Mapping]] = ...) -> None: ...

class ResumeKeyRequest(_message.Message):
    __slots__ = ("name", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class ArchiveKeyRequest(_message.Message):
    __slots__ = ("name", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class RevokeKeyRequest(_message.Message):
    __slots__ = ("name", "reason", "etag", "wait")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    etag: str
    wait: bool
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ..., etag: _Optional[str] = ..., wait: _Optional[bool] = ...) -> None: ...

class RevokeKeyResponse(_message.Message):
    __slots__ = ("key", "propagation")
    KEY_FIELD_NUMBER: _ClassVar[int]
    PROPAGATION_FIELD_NUMBER: _ClassVar[int]
    key: Key
    propagation: Propagation
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., propagation: _Optional[_Union[Propagation, _Mapping]] = ...) -> None: ...

class RevokeKeyVersionRequest(_message.Message):
    __slots__ = ("name", "reason", "etag", "wait")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    etag: str
    wait: bool
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ..., etag: _Optional[str] = ..., wait: _Optional[bool] = ...) -> None: ...

class RevokeKeyVersionResponse(_message.Message):
    __slots__ = ("key_version", "key", "propagation")
    KEY_VERSION_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PROPAGATION_FIELD_NUMBER: _ClassVar[int]
    key_version: KeyVersion
    key: Key
    propagation: Propagation
    def __init__(self, key_version: _Optional[_Union[KeyVersion, _Mapping]] = ..., key: _Optional[_Union[Key, _Mapping]] = ..., propagation: _Optional[_Union[Propagation, _Mapping]] = ...) -> None: ...

class ScheduleKeyDestructionRequest(_message.Message):
    __slots__ = ("name", "waiting_period", "reason", "etag", "force")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WAITING_PERIOD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    waiting_period: _duration_pb2.Duration
    reason: str
    etag: str
    force: bool
    def __init__(self, name: _Optional[str] = ..., waiting_period: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., reason: _Optional[str] = ..., etag: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class CancelKeyDestructionRequest(_message.Message):
    __slots__ = ("name", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class RetireKeyVersionRequest(_message.Message):
    __slots__ = ("name", "force")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    force: bool
    def __init__(self, name: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class CancelKeyVersionRetirementRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListDestructionReceiptsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDestructionReceiptsResponse(_message.Message):
    __slots__ = ("receipts", "next_page_token")
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    receipts: _containers.RepeatedCompositeFieldContainer[DestructionReceipt]
    next_page_token: str
    def __init__(self, receipts: _Optional[_Iterable[_Union[DestructionReceipt, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DestructionReceipt(_message.Message):
    __slots__ = ("subject", "body", "signature", "create_time")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    subject: str
    body: str
    signature: bytes
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, subject: _Optional[str] = ..., body: _Optional[str] = ..., signature: _Optional[bytes] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetSigningKeyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SigningKey(_message.Message):
    __slots__ = ("public_key_pem",)
    PUBLIC_KEY_PEM_FIELD_NUMBER: _ClassVar[int]
    public_key_pem: str
    def __init__(self, public_key_pem: _Optional[str] = ...) -> None: ...
