import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from kms_client.v1 import crypto_pb2 as _crypto_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SealingPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEALING_POLICY_UNSPECIFIED: _ClassVar[SealingPolicy]
    SEALING_POLICY_MRENCLAVE: _ClassVar[SealingPolicy]
    SEALING_POLICY_MRSIGNER: _ClassVar[SealingPolicy]
    SEALING_POLICY_HYBRID: _ClassVar[SealingPolicy]

class Compression(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPRESSION_UNSPECIFIED: _ClassVar[Compression]
    COMPRESSION_NONE: _ClassVar[Compression]
    COMPRESSION_ZSTD: _ClassVar[Compression]
SEALING_POLICY_UNSPECIFIED: SealingPolicy
SEALING_POLICY_MRENCLAVE: SealingPolicy
SEALING_POLICY_MRSIGNER: SealingPolicy
SEALING_POLICY_HYBRID: SealingPolicy
COMPRESSION_UNSPECIFIED: Compression
COMPRESSION_NONE: Compression
COMPRESSION_ZSTD: Compression

class AccessPolicy(_message.Message):
    __slots__ = ("principals", "roles", "purposes", "start_time", "end_time")
    PRINCIPALS_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    PURPOSES_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    principals: _containers.RepeatedScalarFieldContainer[str]
    roles: _containers.RepeatedScalarFieldContainer[str]
    purposes: _containers.RepeatedScalarFieldContainer[str]
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    def __init__(self, principals: _Optional[_Iterable[str]] = ..., roles: _Optional[_Iterable[str]] = ..., purposes: _Optional[_Iterable[str]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Blob(_message.Message):
    __slots__ = ("name", "uid", "generation", "content_type", "description", "labels", "access_policy", "expire_time", "legal_hold", "sealing_policy", "mrenclave", "mrsigner", "isv_svn", "simulated", "store", "compression", "size", "sealed_size", "sha256", "sealed_sha256", "create_time", "creator", "access_count", "last_access_time", "etag")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ACCESS_POLICY_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    LEGAL_HOLD_FIELD_NUMBER: _ClassVar[int]
    SEALING_POLICY_FIELD_NUMBER: _ClassVar[int]
    MRENCLAVE_FIELD_NUMBER: _ClassVar[int]
    MRSIGNER_FIELD_NUMBER: _ClassVar[int]
    ISV_SVN_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SEALED_SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SEALED_SHA256_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    CREATOR_FIELD_NUMBER: _ClassVar[int]
    ACCESS_COUNT_FIELD_NUMBER: _ClassVar[int]
    LAST_ACCESS_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    uid: str
    generation: int
    content_type: str
    description: str
    labels: _containers.ScalarMap[str, str]
    access_policy: AccessPolicy
    expire_time: _timestamp_pb2.Timestamp
    legal_hold: bool
    sealing_policy: SealingPolicy
    mrenclave: str
    mrsigner: str
    isv_svn: int
    simulated: bool
    store: str
    compression: Compression
    size: int
    sealed_size: int
    sha256: str
    sealed_sha256: str
    create_time: _timestamp_pb2.Timestamp
    creator: str
    access_count: int
    last_access_time: _timestamp_pb2.Timestamp
    etag: str
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[str] = ..., generation: _Optional[int] = ..., content_type: _Optional[str] = ..., description: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., access_policy: _Optional[_Union[AccessPolicy, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., legal_hold: _Optional[bool] = ..., sealing_policy: _Optional[_Union[SealingPolicy, str]] = ..., mrenclave: _Optional[str] = ..., mrsigner: _Optional[str] = ..., isv_svn: _Optional[int] = ..., simulated: _Optional[bool] = ..., store: _Optional[str] = ..., compression: _Optional[_Union[Compression, str]] = ..., size: _Optional[int] = ..., sealed_size: _Optional[int] = ..., sha256: _Optional[str] = ..., sealed_sha256: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., creator: _Optional[str] = ..., access_count: _Optional[int] = ..., last_access_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class SealBlobRequest(_message.Message):
    __slots__ = ("parent", "blob_id", "content_type", "description", "labels", "sealing_policy", "context", "access_policy", "expire_time", "compression", "store", "upload_id", "expected_sha256", "chunk")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PARENT_FIELD_NUMBER: _ClassVar[int]
    BLOB_ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SEALING_POLICY_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    ACCESS_POLICY_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_SHA256_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    parent: str
    blob_id: str
    content_type: str
    description: str
    labels: _containers.ScalarMap[str, str]
    sealing_policy: SealingPolicy
    context: _containers.RepeatedCompositeFieldContainer[_crypto_pb2.ContextPair]
    access_policy: AccessPolicy
    expire_time: _timestamp_pb2.Timestamp
    compression: Compression
    store: str
    upload_id: str
    expected_sha256: str
    chunk: bytes
    def __init__(self, parent: _Optional[str] = ..., blob_id: _Optional[str] = ..., content_type: _Optional[str] = ..., description: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., sealing_policy: _Optional[_Union[SealingPolicy, str]] = ..., context: _Optional[_Iterable[_Union[_crypto_pb2.ContextPair, _Mapping]]] = ..., access_policy: _Optional[_Union[AccessPolicy, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., compression: _Optional[_Union[Compression, str]] = ..., store: _Optional[str] = ..., upload_id: _Optional[str] = ..., expected_sha256: _Optional[str] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class UnsealBlobRequest(_message.Message):
    __slots__ = ("name", "context", "start", "length", "purpose")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    name: str
    context: _containers.RepeatedCompositeFieldContainer[_crypto_pb2.ContextPair]
    start: int
    length: int
    purpose: str
    def __init__(self, name: _Optional[str] = ..., context: _Optional[_Iterable[_Union[_crypto_pb2.ContextPair, _Mapping]]] = ..., start: _Optional[int] = ..., length: _Optional[int] = ..., purpose: _Optional[str] = ...) -> None: ...

class UnsealBlobResponse(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...

class GetBlobRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListBlobsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListBlobsResponse(_message.Message):
    __slots__ = ("blobs", "next_page_token")
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    blobs: _containers.RepeatedCompositeFieldContainer[Blob]
    next_page_token: str
    def __init__(self, blobs: _Optional[_Iterable[_Union[Blob, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateBlobRequest(_message.Message):
    __slots__ = ("blob",)
    BLOB_FIELD_NUMBER: _ClassVar[int]
    blob: Blob
    def __init__(self, blob: _Optional[_Union[Blob, _Mapping]] = ...) -> None: ...

class ResealBlobRequest(_message.Message):
    __slots__ = ("name", "context", "sealing_policy", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    SEALING_POLICY_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    context: _containers.RepeatedCompositeFieldContainer[_crypto_pb2.ContextPair]
    sealing_policy: SealingPolicy
    etag: str
    def __init__(self, name: _Optional[str] = ..., context: _Optional[_Iterable[_Union[_crypto_pb2.ContextPair, _Mapping]]] = ..., sealing_policy: _Optional[_Union[SealingPolicy, str]] = ..., etag: _Optional[str] = ...) -> None: ...

class MoveBlobRequest(_message.Message):
    __slots__ = ("name", "store")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    name: str
    store: str
    def __init__(self, name: _Optional[str] = ..., store: _Optional[str] = ...) -> None: ...

class DeleteBlobRequest(_message.Message):
    __slots__ = ("name", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class DeleteBlobResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetUploadRequest(_message.Message):
    __slots__ = ("name", "upload_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    upload_id: str
    def __init__(self, name: _Optional[str] = ..., upload_id: _Optional[str] = ...) -> None: ...

class Upload(_message.Message):
    __slots__ = ("committed_size", "create_time")
    COMMITTED_SIZE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    committed_size: int
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, committed_size: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
