import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
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

class Suite(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SUITE_UNSPECIFIED: _ClassVar[Suite]
    AES_256_GCM: _ClassVar[Suite]
    XAES_256_GCM: _ClassVar[Suite]
    AES_SIV: _ClassVar[Suite]

class ProtectionLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROTECTION_LEVEL_UNSPECIFIED: _ClassVar[ProtectionLevel]
    SOFTWARE: _ClassVar[ProtectionLevel]
    ENCLAVE: _ClassVar[ProtectionLevel]
    HSM: _ClassVar[ProtectionLevel]
PURPOSE_UNSPECIFIED: Purpose
ENCRYPT: Purpose
DETERMINISTIC: Purpose
DATA_KEY: Purpose
SUITE_UNSPECIFIED: Suite
AES_256_GCM: Suite
XAES_256_GCM: Suite
AES_SIV: Suite
PROTECTION_LEVEL_UNSPECIFIED: ProtectionLevel
SOFTWARE: ProtectionLevel
ENCLAVE: ProtectionLevel
HSM: ProtectionLevel

class Key(_message.Message):
    __slots__ = ("name", "uid", "display_name", "purpose", "suite", "protection_level", "labels", "rotation_period", "primary_version", "create_time", "rotate_time", "creator", "etag")
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
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[str] = ..., display_name: _Optional[str] = ..., purpose: _Optional[_Union[Purpose, str]] = ..., suite: _Optional[_Union[Suite, str]] = ..., protection_level: _Optional[_Union[ProtectionLevel, str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., rotation_period: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., primary_version: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., rotate_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., creator: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class KeyVersion(_message.Message):
    __slots__ = ("name", "primary", "kek", "create_time", "encryptions_reserved", "encryptions_limit")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_FIELD_NUMBER: _ClassVar[int]
    KEK_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTIONS_RESERVED_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTIONS_LIMIT_FIELD_NUMBER: _ClassVar[int]
    name: str
    primary: bool
    kek: str
    create_time: _timestamp_pb2.Timestamp
    encryptions_reserved: int
    encryptions_limit: int
    def __init__(self, name: _Optional[str] = ..., primary: _Optional[bool] = ..., kek: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., encryptions_reserved: _Optional[int] = ..., encryptions_limit: _Optional[int] = ...) -> None: ...

class Kek(_message.Message):
    __slots__ = ("name", "uid", "primary", "hsm_key_id", "create_time", "wrapped_key_versions", "wraps_reserved")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_FIELD_NUMBER: _ClassVar[int]
    HSM_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    WRAPPED_KEY_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    WRAPS_RESERVED_FIELD_NUMBER: _ClassVar[int]
    name: str
    uid: str
    primary: bool
    hsm_key_id: str
    create_time: _timestamp_pb2.Timestamp
    wrapped_key_versions: int
    wraps_reserved: int
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[str] = ..., primary: _Optional[bool] = ..., hsm_key_id: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., wrapped_key_versions: _Optional[int] = ..., wraps_reserved: _Optional[int] = ...) -> None: ...

class CreateKeyRequest(_message.Message):
    __slots__ = ("parent", "key_id", "key")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    parent: str
    key_id: str
    key: Key
    def __init__(self, parent: _Optional[str] = ..., key_id: _Optional[str] = ..., key: _Optional[_Union[Key, _Mapping]] = ...) -> None: ...

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
