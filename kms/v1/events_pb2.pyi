import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SecurityEvent(_message.Message):
    __slots__ = ("name", "type", "severity", "category", "risk", "first_time", "last_time", "count", "create_time", "description", "indicators", "blocked", "address", "principal", "credential_kind", "credential_id", "method", "resource", "request_id", "answer", "outcome", "notes", "false_alarm", "incident", "resolved", "resolve_time", "resolver", "etag")
    class Severity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SEVERITY_UNSPECIFIED: _ClassVar[SecurityEvent.Severity]
        INFO: _ClassVar[SecurityEvent.Severity]
        LOW: _ClassVar[SecurityEvent.Severity]
        MEDIUM: _ClassVar[SecurityEvent.Severity]
        HIGH: _ClassVar[SecurityEvent.Severity]
        CRITICAL: _ClassVar[SecurityEvent.Severity]
    SEVERITY_UNSPECIFIED: SecurityEvent.Severity
    INFO: SecurityEvent.Severity
    LOW: SecurityEvent.Severity
    MEDIUM: SecurityEvent.Severity
    HIGH: SecurityEvent.Severity
    CRITICAL: SecurityEvent.Severity
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    RISK_FIELD_NUMBER: _ClassVar[int]
    FIRST_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_TIME_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    INDICATORS_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_KIND_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_ID_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    FALSE_ALARM_FIELD_NUMBER: _ClassVar[int]
    INCIDENT_FIELD_NUMBER: _ClassVar[int]
    RESOLVED_FIELD_NUMBER: _ClassVar[int]
    RESOLVE_TIME_FIELD_NUMBER: _ClassVar[int]
    RESOLVER_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    severity: SecurityEvent.Severity
    category: str
    risk: int
    first_time: _timestamp_pb2.Timestamp
    last_time: _timestamp_pb2.Timestamp
    count: int
    create_time: _timestamp_pb2.Timestamp
    description: str
    indicators: _containers.RepeatedScalarFieldContainer[str]
    blocked: bool
    address: str
    principal: str
    credential_kind: str
    credential_id: str
    method: str
    resource: str
    request_id: str
    answer: str
    outcome: str
    notes: str
    false_alarm: bool
    incident: str
    resolved: bool
    resolve_time: _timestamp_pb2.Timestamp
    resolver: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., severity: _Optional[_Union[SecurityEvent.Severity, str]] = ..., category: _Optional[str] = ..., risk: _Optional[int] = ..., first_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., count: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., description: _Optional[str] = ..., indicators: _Optional[_Iterable[str]] = ..., blocked: _Optional[bool] = ..., address: _Optional[str] = ..., principal: _Optional[str] = ..., credential_kind: _Optional[str] = ..., credential_id: _Optional[str] = ..., method: _Optional[str] = ..., resource: _Optional[str] = ..., request_id: _Optional[str] = ..., answer: _Optional[str] = ..., outcome: _Optional[str] = ..., notes: _Optional[str] = ..., false_alarm: _Optional[bool] = ..., incident: _Optional[str] = ..., resolved: _Optional[bool] = ..., resolve_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., resolver: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class ListSecurityEventsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "since", "severity", "type", "unresolved")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    UNRESOLVED_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    since: _timestamp_pb2.Timestamp
    severity: SecurityEvent.Severity
    type: str
    unresolved: bool
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., severity: _Optional[_Union[SecurityEvent.Severity, str]] = ..., type: _Optional[str] = ..., unresolved: _Optional[bool] = ...) -> None: ...

class ListSecurityEventsResponse(_message.Message):
    __slots__ = ("security_events", "next_page_token")
    SECURITY_EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    security_events: _containers.RepeatedCompositeFieldContainer[SecurityEvent]
    next_page_token: str
    def __init__(self, security_events: _Optional[_Iterable[_Union[SecurityEvent, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetSecurityEventRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class UpdateSecurityEventRequest(_message.Message):
    __slots__ = ("security_event", "update_mask")
    SECURITY_EVENT_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    security_event: SecurityEvent
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, security_event: _Optional[_Union[SecurityEvent, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class SummarizeSecurityEventsRequest(_message.Message):
    __slots__ = ("parent", "days")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    DAYS_FIELD_NUMBER: _ClassVar[int]
    parent: str
    days: int
    def __init__(self, parent: _Optional[str] = ..., days: _Optional[int] = ...) -> None: ...

class SummarizeSecurityEventsResponse(_message.Message):
    __slots__ = ("sums",)
    class Sum(_message.Message):
        __slots__ = ("day", "type", "severity", "events", "occurrences", "resolved")
        DAY_FIELD_NUMBER: _ClassVar[int]
        TYPE_FIELD_NUMBER: _ClassVar[int]
        SEVERITY_FIELD_NUMBER: _ClassVar[int]
        EVENTS_FIELD_NUMBER: _ClassVar[int]
        OCCURRENCES_FIELD_NUMBER: _ClassVar[int]
        RESOLVED_FIELD_NUMBER: _ClassVar[int]
        day: str
        type: str
        severity: SecurityEvent.Severity
        events: int
        occurrences: int
        resolved: int
        def __init__(self, day: _Optional[str] = ..., type: _Optional[str] = ..., severity: _Optional[_Union[SecurityEvent.Severity, str]] = ..., events: _Optional[int] = ..., occurrences: _Optional[int] = ..., resolved: _Optional[int] = ...) -> None: ...
    SUMS_FIELD_NUMBER: _ClassVar[int]
    sums: _containers.RepeatedCompositeFieldContainer[SummarizeSecurityEventsResponse.Sum]
    def __init__(self, sums: _Optional[_Iterable[_Union[SummarizeSecurityEventsResponse.Sum, _Mapping]]] = ...) -> None: ...
