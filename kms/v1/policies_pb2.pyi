import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from kms.v1 import keys_pb2 as _keys_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Policy(_message.Message):
    __slots__ = ("name", "version", "rotation_period", "encryption_limit", "cache_lifetime", "quarantine_period", "grace_period", "automatic_retirement", "create_time", "creator", "classification", "required_context", "log_data_access", "approvals", "audit_context")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ROTATION_PERIOD_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTION_LIMIT_FIELD_NUMBER: _ClassVar[int]
    CACHE_LIFETIME_FIELD_NUMBER: _ClassVar[int]
    QUARANTINE_PERIOD_FIELD_NUMBER: _ClassVar[int]
    GRACE_PERIOD_FIELD_NUMBER: _ClassVar[int]
    AUTOMATIC_RETIREMENT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    CREATOR_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    LOG_DATA_ACCESS_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    AUDIT_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    rotation_period: _duration_pb2.Duration
    encryption_limit: int
    cache_lifetime: _duration_pb2.Duration
    quarantine_period: _duration_pb2.Duration
    grace_period: _duration_pb2.Duration
    automatic_retirement: bool
    create_time: _timestamp_pb2.Timestamp
    creator: str
    classification: _keys_pb2.Classification
    required_context: _containers.RepeatedScalarFieldContainer[str]
    log_data_access: bool
    approvals: int
    audit_context: _keys_pb2.AuditContext
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., rotation_period: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., encryption_limit: _Optional[int] = ..., cache_lifetime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., quarantine_period: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., grace_period: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., automatic_retirement: _Optional[bool] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., creator: _Optional[str] = ..., classification: _Optional[_Union[_keys_pb2.Classification, str]] = ..., required_context: _Optional[_Iterable[str]] = ..., log_data_access: _Optional[bool] = ..., approvals: _Optional[int] = ..., audit_context: _Optional[_Union[_keys_pb2.AuditContext, str]] = ...) -> None: ...

class ClassRules(_message.Message):
    __slots__ = ("classification", "available", "encryption_required", "protection_levels", "purposes", "suites", "required_context", "longest_rotation_period", "longest_cache_lifetime", "log_data_access", "approvals")
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTION_REQUIRED_FIELD_NUMBER: _ClassVar[int]
    PROTECTION_LEVELS_FIELD_NUMBER: _ClassVar[int]
    PURPOSES_FIELD_NUMBER: _ClassVar[int]
    SUITES_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    LONGEST_ROTATION_PERIOD_FIELD_NUMBER: _ClassVar[int]
    LONGEST_CACHE_LIFETIME_FIELD_NUMBER: _ClassVar[int]
    LOG_DATA_ACCESS_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    classification: _keys_pb2.Classification
    available: bool
    encryption_required: bool
    protection_levels: _containers.RepeatedScalarFieldContainer[_keys_pb2.ProtectionLevel]
    purposes: _containers.RepeatedScalarFieldContainer[_keys_pb2.Purpose]
    suites: _containers.RepeatedScalarFieldContainer[_keys_pb2.Suite]
    required_context: _containers.RepeatedScalarFieldContainer[str]
    longest_rotation_period: _duration_pb2.Duration
    longest_cache_lifetime: _duration_pb2.Duration
    log_data_access: bool
    approvals: int
    def __init__(self, classification: _Optional[_Union[_keys_pb2.Classification, str]] = ..., available: _Optional[bool] = ..., encryption_required: _Optional[bool] = ..., protection_levels: _Optional[_Iterable[_Union[_keys_pb2.ProtectionLevel, str]]] = ..., purposes: _Optional[_Iterable[_Union[_keys_pb2.Purpose, str]]] = ..., suites: _Optional[_Iterable[_Union[_keys_pb2.Suite, str]]] = ..., required_context: _Optional[_Iterable[str]] = ..., longest_rotation_period: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., longest_cache_lifetime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., log_data_access: _Optional[bool] = ..., approvals: _Optional[int] = ...) -> None: ...

class ListClassesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListClassesResponse(_message.Message):
    __slots__ = ("classes",)
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    classes: _containers.RepeatedCompositeFieldContainer[ClassRules]
    def __init__(self, classes: _Optional[_Iterable[_Union[ClassRules, _Mapping]]] = ...) -> None: ...

class CreatePolicyRequest(_message.Message):
    __slots__ = ("parent", "policy_id", "policy")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    parent: str
    policy_id: str
    policy: Policy
    def __init__(self, parent: _Optional[str] = ..., policy_id: _Optional[str] = ..., policy: _Optional[_Union[Policy, _Mapping]] = ...) -> None: ...

class GetPolicyRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListPoliciesRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPoliciesResponse(_message.Message):
    __slots__ = ("policies", "next_page_token")
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    policies: _containers.RepeatedCompositeFieldContainer[Policy]
    next_page_token: str
    def __init__(self, policies: _Optional[_Iterable[_Union[Policy, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListPolicyVersionsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPolicyVersionsResponse(_message.Message):
    __slots__ = ("policies", "next_page_token")
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    policies: _containers.RepeatedCompositeFieldContainer[Policy]
    next_page_token: str
    def __init__(self, policies: _Optional[_Iterable[_Union[Policy, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdatePolicyRequest(_message.Message):
    __slots__ = ("policy", "update_mask")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    policy: Policy
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, policy: _Optional[_Union[Policy, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...
