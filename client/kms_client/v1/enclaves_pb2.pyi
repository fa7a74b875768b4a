import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetEnclaveRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Enclave(_message.Message):
    __slots__ = ("backend", "simulated", "in_use", "state", "reason", "restarts", "mrenclave", "mrsigner", "isv_prod_id", "isv_svn", "cpu_svn", "debug", "freshness", "measures", "platform_id", "attest_time", "attest_expire_time")
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_FIELD_NUMBER: _ClassVar[int]
    IN_USE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    MRENCLAVE_FIELD_NUMBER: _ClassVar[int]
    MRSIGNER_FIELD_NUMBER: _ClassVar[int]
    ISV_PROD_ID_FIELD_NUMBER: _ClassVar[int]
    ISV_SVN_FIELD_NUMBER: _ClassVar[int]
    CPU_SVN_FIELD_NUMBER: _ClassVar[int]
    DEBUG_FIELD_NUMBER: _ClassVar[int]
    FRESHNESS_FIELD_NUMBER: _ClassVar[int]
    MEASURES_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEST_TIME_FIELD_NUMBER: _ClassVar[int]
    ATTEST_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    backend: str
    simulated: bool
    in_use: bool
    state: str
    reason: str
    restarts: int
    mrenclave: bytes
    mrsigner: bytes
    isv_prod_id: int
    isv_svn: int
    cpu_svn: bytes
    debug: bool
    freshness: str
    measures: _containers.RepeatedCompositeFieldContainer[EnclaveMeasure]
    platform_id: bytes
    attest_time: _timestamp_pb2.Timestamp
    attest_expire_time: _timestamp_pb2.Timestamp
    def __init__(self, backend: _Optional[str] = ..., simulated: _Optional[bool] = ..., in_use: _Optional[bool] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., restarts: _Optional[int] = ..., mrenclave: _Optional[bytes] = ..., mrsigner: _Optional[bytes] = ..., isv_prod_id: _Optional[int] = ..., isv_svn: _Optional[int] = ..., cpu_svn: _Optional[bytes] = ..., debug: _Optional[bool] = ..., freshness: _Optional[str] = ..., measures: _Optional[_Iterable[_Union[EnclaveMeasure, _Mapping]]] = ..., platform_id: _Optional[bytes] = ..., attest_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., attest_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class EnclaveMeasure(_message.Message):
    __slots__ = ("name", "done", "detail")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    name: str
    done: bool
    detail: str
    def __init__(self, name: _Optional[str] = ..., done: _Optional[bool] = ..., detail: _Optional[str] = ...) -> None: ...

class AttestEnclaveRequest(_message.Message):
    __slots__ = ("nonce", "channel_key", "claims")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_KEY_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    channel_key: bytes
    claims: bytes
    def __init__(self, nonce: _Optional[bytes] = ..., channel_key: _Optional[bytes] = ..., claims: _Optional[bytes] = ...) -> None: ...

class AttestEnclaveResponse(_message.Message):
    __slots__ = ("quote", "root_list", "platform_list")
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    ROOT_LIST_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_LIST_FIELD_NUMBER: _ClassVar[int]
    quote: bytes
    root_list: bytes
    platform_list: bytes
    def __init__(self, quote: _Optional[bytes] = ..., root_list: _Optional[bytes] = ..., platform_list: _Optional[bytes] = ...) -> None: ...
