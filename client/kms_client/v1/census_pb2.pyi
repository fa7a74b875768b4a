import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Place(_message.Message):
    __slots__ = ("name", "kind", "description", "create_time", "creator", "count_time", "reporter", "counts")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Place.Kind]
        COLUMN: _ClassVar[Place.Kind]
        BLOBS: _ClassVar[Place.Kind]
        DATA_KEYS: _ClassVar[Place.Kind]
        OTHER: _ClassVar[Place.Kind]
    KIND_UNSPECIFIED: Place.Kind
    COLUMN: Place.Kind
    BLOBS: Place.Kind
    DATA_KEYS: Place.Kind
    OTHER: Place.Kind
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    CREATOR_FIELD_NUMBER: _ClassVar[int]
    COUNT_TIME_FIELD_NUMBER: _ClassVar[int]
    REPORTER_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: Place.Kind
    description: str
    create_time: _timestamp_pb2.Timestamp
    creator: str
    count_time: _timestamp_pb2.Timestamp
    reporter: str
    counts: _containers.RepeatedCompositeFieldContainer[VersionCount]
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[Place.Kind, str]] = ..., description: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., creator: _Optional[str] = ..., count_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reporter: _Optional[str] = ..., counts: _Optional[_Iterable[_Union[VersionCount, _Mapping]]] = ...) -> None: ...

class VersionCount(_message.Message):
    __slots__ = ("version", "count")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    version: int
    count: int
    def __init__(self, version: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class CreatePlaceRequest(_message.Message):
    __slots__ = ("parent", "place_id", "place")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PLACE_ID_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    parent: str
    place_id: str
    place: Place
    def __init__(self, parent: _Optional[str] = ..., place_id: _Optional[str] = ..., place: _Optional[_Union[Place, _Mapping]] = ...) -> None: ...

class ListPlacesRequest(_message.Message):
    __slots__ = ("parent",)
    PARENT_FIELD_NUMBER: _ClassVar[int]
    parent: str
    def __init__(self, parent: _Optional[str] = ...) -> None: ...

class ListPlacesResponse(_message.Message):
    __slots__ = ("places", "complete_time", "declarer")
    PLACES_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_TIME_FIELD_NUMBER: _ClassVar[int]
    DECLARER_FIELD_NUMBER: _ClassVar[int]
    places: _containers.RepeatedCompositeFieldContainer[Place]
    complete_time: _timestamp_pb2.Timestamp
    declarer: str
    def __init__(self, places: _Optional[_Iterable[_Union[Place, _Mapping]]] = ..., complete_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., declarer: _Optional[str] = ...) -> None: ...

class DeletePlaceRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeclarePlacesRequest(_message.Message):
    __slots__ = ("name", "complete")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    name: str
    complete: bool
    def __init__(self, name: _Optional[str] = ..., complete: _Optional[bool] = ...) -> None: ...

class ReportCensusRequest(_message.Message):
    __slots__ = ("name", "count_time", "counts")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COUNT_TIME_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    count_time: _timestamp_pb2.Timestamp
    counts: _containers.RepeatedCompositeFieldContainer[VersionCount]
    def __init__(self, name: _Optional[str] = ..., count_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., counts: _Optional[_Iterable[_Union[VersionCount, _Mapping]]] = ...) -> None: ...
