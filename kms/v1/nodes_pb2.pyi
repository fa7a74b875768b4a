import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListNodesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListNodesResponse(_message.Message):
    __slots__ = ("nodes", "revocation_epoch")
    NODES_FIELD_NUMBER: _ClassVar[int]
    REVOCATION_EPOCH_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    revocation_epoch: int
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., revocation_epoch: _Optional[int] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("uid", "name", "start_time", "seen_time", "acknowledged_epoch", "self")
    UID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    SEEN_TIME_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_EPOCH_FIELD_NUMBER: _ClassVar[int]
    SELF_FIELD_NUMBER: _ClassVar[int]
    uid: str
    name: str
    start_time: _timestamp_pb2.Timestamp
    seen_time: _timestamp_pb2.Timestamp
    acknowledged_epoch: int
    self: bool
    def __init__(self_, uid: _Optional[str] = ..., name: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., seen_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., acknowledged_epoch: _Optional[int] = ..., self: _Optional[bool] = ...) -> None: ...

class GetHealthRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Health(_message.Message):
    __slots__ = ("parts",)
    PARTS_FIELD_NUMBER: _ClassVar[int]
    parts: _containers.RepeatedCompositeFieldContainer[PartHealth]
    def __init__(self, parts: _Optional[_Iterable[_Union[PartHealth, _Mapping]]] = ...) -> None: ...

class PartHealth(_message.Message):
    __slots__ = ("name", "status", "reason", "response_time", "since_time", "looks", "availability", "error_rate")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS_UNSPECIFIED: _ClassVar[PartHealth.Status]
        HEALTHY: _ClassVar[PartHealth.Status]
        DEGRADED: _ClassVar[PartHealth.Status]
        UNHEALTHY: _ClassVar[PartHealth.Status]
        UNKNOWN: _ClassVar[PartHealth.Status]
    STATUS_UNSPECIFIED: PartHealth.Status
    HEALTHY: PartHealth.Status
    DEGRADED: PartHealth.Status
    UNHEALTHY: PartHealth.Status
    UNKNOWN: PartHealth.Status
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_TIME_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    LOOKS_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    ERROR_RATE_FIELD_NUMBER: _ClassVar[int]
    name: str
    status: PartHealth.Status
    reason: str
    response_time: _duration_pb2.Duration
    since_time: _timestamp_pb2.Timestamp
    looks: int
    availability: float
    error_rate: float
    def __init__(self, name: _Optional[str] = ..., status: _Optional[_Union[PartHealth.Status, str]] = ..., reason: _Optional[str] = ..., response_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., since_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., looks: _Optional[int] = ..., availability: _Optional[float] = ..., error_rate: _Optional[float] = ...) -> None: ...
