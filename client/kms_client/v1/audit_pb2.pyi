import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AuditEvent(_message.Message):
    __slots__ = ("name", "stream", "sequence", "time", "action", "category", "phase", "outcome", "code", "error", "error_message", "severity", "risk", "tenant", "principal", "roles", "credential_kind", "credential_id", "address", "user_agent", "request_id", "correlation_id", "approval", "reason", "intent_stream", "intent_sequence", "node", "release", "region", "resource_type", "resource", "key", "key_version", "context", "context_digest", "classification", "sensitivity", "items", "failures", "items_digest", "bytes_in", "bytes_out", "duration_us", "details", "changes", "has_changes", "retention", "keep_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    RISK_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_KIND_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    USER_AGENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_ID_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    INTENT_STREAM_FIELD_NUMBER: _ClassVar[int]
    INTENT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_TYPE_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    KEY_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    SENSITIVITY_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    ITEMS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    BYTES_IN_FIELD_NUMBER: _ClassVar[int]
    BYTES_OUT_FIELD_NUMBER: _ClassVar[int]
    DURATION_US_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    HAS_CHANGES_FIELD_NUMBER: _ClassVar[int]
    RETENTION_FIELD_NUMBER: _ClassVar[int]
    KEEP_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    stream: str
    sequence: int
    time: _timestamp_pb2.Timestamp
    action: str
    category: str
    phase: str
    outcome: str
    code: str
    error: str
    error_message: str
    severity: str
    risk: int
    tenant: str
    principal: str
    roles: str
    credential_kind: str
    credential_id: str
    address: str
    user_agent: str
    request_id: str
    correlation_id: str
    approval: str
    reason: str
    intent_stream: str
    intent_sequence: int
    node: str
    release: str
    region: str
    resource_type: str
    resource: str
    key: str
    key_version: int
    context: str
    context_digest: bytes
    classification: str
    sensitivity: str
    items: int
    failures: int
    items_digest: bytes
    bytes_in: int
    bytes_out: int
    duration_us: int
    details: str
    changes: str
    has_changes: bool
    retention: str
    keep_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., stream: _Optional[str] = ..., sequence: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., action: _Optional[str] = ..., category: _Optional[str] = ..., phase: _Optional[str] = ..., outcome: _Optional[str] = ..., code: _Optional[str] = ..., error: _Optional[str] = ..., error_message: _Optional[str] = ..., severity: _Optional[str] = ..., risk: _Optional[int] = ..., tenant: _Optional[str] = ..., principal: _Optional[str] = ..., roles: _Optional[str] = ..., credential_kind: _Optional[str] = ..., credential_id: _Optional[str] = ..., address: _Optional[str] = ..., user_agent: _Optional[str] = ..., request_id: _Optional[str] = ..., correlation_id: _Optional[str] = ..., approval: _Optional[str] = ..., reason: _Optional[str] = ..., intent_stream: _Optional[str] = ..., intent_sequence: _Optional[int] = ..., node: _Optional[str] = ..., release: _Optional[str] = ..., region: _Optional[str] = ..., resource_type: _Optional[str] = ..., resource: _Optional[str] = ..., key: _Optional[str] = ..., key_version: _Optional[int] = ..., context: _Optional[str] = ..., context_digest: _Optional[bytes] = ..., classification: _Optional[str] = ..., sensitivity: _Optional[str] = ..., items: _Optional[int] = ..., failures: _Optional[int] = ..., items_digest: _Optional[bytes] = ..., bytes_in: _Optional[int] = ..., bytes_out: _Optional[int] = ..., duration_us: _Optional[int] = ..., details: _Optional[str] = ..., changes: _Optional[str] = ..., has_changes: _Optional[bool] = ..., retention: _Optional[str] = ..., keep_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class AuditEventFilter(_message.Message):
    __slots__ = ("since", "until", "equal", "begins", "least", "context", "beyond")
    class Values(_message.Message):
        __slots__ = ("field", "values")
        FIELD_FIELD_NUMBER: _ClassVar[int]
        VALUES_FIELD_NUMBER: _ClassVar[int]
        field: str
        values: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, field: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ...) -> None: ...
    class Least(_message.Message):
        __slots__ = ("field", "value")
        FIELD_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        field: str
        value: int
        def __init__(self, field: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class Pair(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class Position(_message.Message):
        __slots__ = ("stream", "sequence")
        STREAM_FIELD_NUMBER: _ClassVar[int]
        SEQUENCE_FIELD_NUMBER: _ClassVar[int]
        stream: str
        sequence: int
        def __init__(self, stream: _Optional[str] = ..., sequence: _Optional[int] = ...) -> None: ...
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    EQUAL_FIELD_NUMBER: _ClassVar[int]
    BEGINS_FIELD_NUMBER: _ClassVar[int]
    LEAST_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    BEYOND_FIELD_NUMBER: _ClassVar[int]
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    equal: _containers.RepeatedCompositeFieldContainer[AuditEventFilter.Values]
    begins: _containers.RepeatedCompositeFieldContainer[AuditEventFilter.Values]
    least: _containers.RepeatedCompositeFieldContainer[AuditEventFilter.Least]
    context: AuditEventFilter.Pair
    beyond: _containers.RepeatedCompositeFieldContainer[AuditEventFilter.Position]
    def __init__(self, since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., equal: _Optional[_Iterable[_Union[AuditEventFilter.Values, _Mapping]]] = ..., begins: _Optional[_Iterable[_Union[AuditEventFilter.Values, _Mapping]]] = ..., least: _Optional[_Iterable[_Union[AuditEventFilter.Least, _Mapping]]] = ..., context: _Optional[_Union[AuditEventFilter.Pair, _Mapping]] = ..., beyond: _Optional[_Iterable[_Union[AuditEventFilter.Position, _Mapping]]] = ...) -> None: ...

class ListAuditEventsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "filter", "oldest_first", "all_tenants")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    OLDEST_FIRST_FIELD_NUMBER: _ClassVar[int]
    ALL_TENANTS_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    filter: AuditEventFilter
    oldest_first: bool
    all_tenants: bool
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[_Union[AuditEventFilter, _Mapping]] = ..., oldest_first: _Optional[bool] = ..., all_tenants: _Optional[bool] = ...) -> None: ...

class ListAuditEventsResponse(_message.Message):
    __slots__ = ("audit_events", "next_page_token")
    AUDIT_EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    audit_events: _containers.RepeatedCompositeFieldContainer[AuditEvent]
    next_page_token: str
    def __init__(self, audit_events: _Optional[_Iterable[_Union[AuditEvent, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetAuditEventRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class AuditQuery(_message.Message):
    __slots__ = ("name", "description", "parameters", "columns", "groups")
    class Parameter(_message.Message):
        __slots__ = ("name", "description", "required", "default")
        NAME_FIELD_NUMBER: _ClassVar[int]
        DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
        REQUIRED_FIELD_NUMBER: _ClassVar[int]
        DEFAULT_FIELD_NUMBER: _ClassVar[int]
        name: str
        description: str
        required: bool
        default: str
        def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., required: _Optional[bool] = ..., default: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    parameters: _containers.RepeatedCompositeFieldContainer[AuditQuery.Parameter]
    columns: _containers.RepeatedScalarFieldContainer[str]
    groups: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., parameters: _Optional[_Iterable[_Union[AuditQuery.Parameter, _Mapping]]] = ..., columns: _Optional[_Iterable[str]] = ..., groups: _Optional[_Iterable[str]] = ...) -> None: ...

class ListAuditQueriesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListAuditQueriesResponse(_message.Message):
    __slots__ = ("queries",)
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    queries: _containers.RepeatedCompositeFieldContainer[AuditQuery]
    def __init__(self, queries: _Optional[_Iterable[_Union[AuditQuery, _Mapping]]] = ...) -> None: ...

class QueryAuditRequest(_message.Message):
    __slots__ = ("parent", "query", "parameters", "since", "until", "page_size", "page_token", "all_tenants")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PARENT_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ALL_TENANTS_FIELD_NUMBER: _ClassVar[int]
    parent: str
    query: str
    parameters: _containers.ScalarMap[str, str]
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    all_tenants: bool
    def __init__(self, parent: _Optional[str] = ..., query: _Optional[str] = ..., parameters: _Optional[_Mapping[str, str]] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., all_tenants: _Optional[bool] = ...) -> None: ...

class QueryAuditResponse(_message.Message):
    __slots__ = ("columns", "rows", "next_page_token", "since", "until")
    class Column(_message.Message):
        __slots__ = ("name", "number")
        NAME_FIELD_NUMBER: _ClassVar[int]
        NUMBER_FIELD_NUMBER: _ClassVar[int]
        name: str
        number: bool
        def __init__(self, name: _Optional[str] = ..., number: _Optional[bool] = ...) -> None: ...
    class Row(_message.Message):
        __slots__ = ("cells",)
        CELLS_FIELD_NUMBER: _ClassVar[int]
        cells: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, cells: _Optional[_Iterable[str]] = ...) -> None: ...
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.RepeatedCompositeFieldContainer[QueryAuditResponse.Column]
    rows: _containers.RepeatedCompositeFieldContainer[QueryAuditResponse.Row]
    next_page_token: str
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    def __init__(self, columns: _Optional[_Iterable[_Union[QueryAuditResponse.Column, _Mapping]]] = ..., rows: _Optional[_Iterable[_Union[QueryAuditResponse.Row, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ReportDataAccessRequest(_message.Message):
    __slots__ = ("parent", "context", "since", "until")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    parent: str
    context: AuditEventFilter.Pair
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    def __init__(self, parent: _Optional[str] = ..., context: _Optional[_Union[AuditEventFilter.Pair, _Mapping]] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ReportDataAccessResponse(_message.Message):
    __slots__ = ("accesses", "since", "until")
    class Access(_message.Message):
        __slots__ = ("principal", "action", "resource", "key", "outcome", "events", "items", "bytes_in", "bytes_out", "first_time", "last_time")
        PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
        ACTION_FIELD_NUMBER: _ClassVar[int]
        RESOURCE_FIELD_NUMBER: _ClassVar[int]
        KEY_FIELD_NUMBER: _ClassVar[int]
        OUTCOME_FIELD_NUMBER: _ClassVar[int]
        EVENTS_FIELD_NUMBER: _ClassVar[int]
        ITEMS_FIELD_NUMBER: _ClassVar[int]
        BYTES_IN_FIELD_NUMBER: _ClassVar[int]
        BYTES_OUT_FIELD_NUMBER: _ClassVar[int]
        FIRST_TIME_FIELD_NUMBER: _ClassVar[int]
        LAST_TIME_FIELD_NUMBER: _ClassVar[int]
        principal: str
        action: str
        resource: str
        key: str
        outcome: str
        events: int
        items: int
        bytes_in: int
        bytes_out: int
        first_time: _timestamp_pb2.Timestamp
        last_time: _timestamp_pb2.Timestamp
        def __init__(self, principal: _Optional[str] = ..., action: _Optional[str] = ..., resource: _Optional[str] = ..., key: _Optional[str] = ..., outcome: _Optional[str] = ..., events: _Optional[int] = ..., items: _Optional[int] = ..., bytes_in: _Optional[int] = ..., bytes_out: _Optional[int] = ..., first_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
    ACCESSES_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    accesses: _containers.RepeatedCompositeFieldContainer[ReportDataAccessResponse.Access]
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    def __init__(self, accesses: _Optional[_Iterable[_Union[ReportDataAccessResponse.Access, _Mapping]]] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ExportAuditRequest(_message.Message):
    __slots__ = ("page_token",)
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_token: str
    def __init__(self, page_token: _Optional[str] = ...) -> None: ...

class ExportAuditResponse(_message.Message):
    __slots__ = ("data", "next_page_token")
    DATA_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    next_page_token: str
    def __init__(self, data: _Optional[bytes] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class VerifyAuditRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AuditFinding(_message.Message):
    __slots__ = ("fault", "stream", "first", "last", "checkpoint", "text", "notice")
    FAULT_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    fault: str
    stream: str
    first: int
    last: int
    checkpoint: int
    text: str
    notice: bool
    def __init__(self, fault: _Optional[str] = ..., stream: _Optional[str] = ..., first: _Optional[int] = ..., last: _Optional[int] = ..., checkpoint: _Optional[int] = ..., text: _Optional[str] = ..., notice: _Optional[bool] = ...) -> None: ...

class AuditVerification(_message.Message):
    __slots__ = ("begin_time", "events", "known_events", "last", "failure")
    class Result(_message.Message):
        __slots__ = ("begin_time", "end_time", "cover_time", "requester", "events", "columns", "streams", "checkpoints", "last_checkpoint", "last_hash", "findings", "problems")
        BEGIN_TIME_FIELD_NUMBER: _ClassVar[int]
        END_TIME_FIELD_NUMBER: _ClassVar[int]
        COVER_TIME_FIELD_NUMBER: _ClassVar[int]
        REQUESTER_FIELD_NUMBER: _ClassVar[int]
        EVENTS_FIELD_NUMBER: _ClassVar[int]
        COLUMNS_FIELD_NUMBER: _ClassVar[int]
        STREAMS_FIELD_NUMBER: _ClassVar[int]
        CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
        LAST_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
        LAST_HASH_FIELD_NUMBER: _ClassVar[int]
        FINDINGS_FIELD_NUMBER: _ClassVar[int]
        PROBLEMS_FIELD_NUMBER: _ClassVar[int]
        begin_time: _timestamp_pb2.Timestamp
        end_time: _timestamp_pb2.Timestamp
        cover_time: _timestamp_pb2.Timestamp
        requester: str
        events: int
        columns: int
        streams: int
        checkpoints: int
        last_checkpoint: int
        last_hash: bytes
        findings: _containers.RepeatedCompositeFieldContainer[AuditFinding]
        problems: int
        def __init__(self, begin_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., cover_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., requester: _Optional[str] = ..., events: _Optional[int] = ..., columns: _Optional[int] = ..., streams: _Optional[int] = ..., checkpoints: _Optional[int] = ..., last_checkpoint: _Optional[int] = ..., last_hash: _Optional[bytes] = ..., findings: _Optional[_Iterable[_Union[AuditFinding, _Mapping]]] = ..., problems: _Optional[int] = ...) -> None: ...
    BEGIN_TIME_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    KNOWN_EVENTS_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    begin_time: _timestamp_pb2.Timestamp
    events: int
    known_events: int
    last: AuditVerification.Result
    failure: str
    def __init__(self, begin_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., events: _Optional[int] = ..., known_events: _Optional[int] = ..., last: _Optional[_Union[AuditVerification.Result, _Mapping]] = ..., failure: _Optional[str] = ...) -> None: ...

class GetAuditStatusRequest(_message.Message):
    __slots__ = ("without_streams",)
    WITHOUT_STREAMS_FIELD_NUMBER: _ClassVar[int]
    without_streams: bool
    def __init__(self, without_streams: _Optional[bool] = ...) -> None: ...

class AuditStatus(_message.Message):
    __slots__ = ("streams", "verification", "checkpoint", "anchored_checkpoint", "problem")
    class Stream(_message.Message):
        __slots__ = ("stream", "node", "begin_time", "sequence", "last_time", "hash")
        STREAM_FIELD_NUMBER: _ClassVar[int]
        NODE_FIELD_NUMBER: _ClassVar[int]
        BEGIN_TIME_FIELD_NUMBER: _ClassVar[int]
        SEQUENCE_FIELD_NUMBER: _ClassVar[int]
        LAST_TIME_FIELD_NUMBER: _ClassVar[int]
        HASH_FIELD_NUMBER: _ClassVar[int]
        stream: str
        node: str
        begin_time: _timestamp_pb2.Timestamp
        sequence: int
        last_time: _timestamp_pb2.Timestamp
        hash: bytes
        def __init__(self, stream: _Optional[str] = ..., node: _Optional[str] = ..., begin_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., sequence: _Optional[int] = ..., last_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., hash: _Optional[bytes] = ...) -> None: ...
    class Checkpoint(_message.Message):
        __slots__ = ("serial", "hash", "time")
        SERIAL_FIELD_NUMBER: _ClassVar[int]
        HASH_FIELD_NUMBER: _ClassVar[int]
        TIME_FIELD_NUMBER: _ClassVar[int]
        serial: int
        hash: bytes
        time: _timestamp_pb2.Timestamp
        def __init__(self, serial: _Optional[int] = ..., hash: _Optional[bytes] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    ANCHORED_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    streams: _containers.RepeatedCompositeFieldContainer[AuditStatus.Stream]
    verification: AuditVerification
    checkpoint: AuditStatus.Checkpoint
    anchored_checkpoint: int
    problem: str
    def __init__(self, streams: _Optional[_Iterable[_Union[AuditStatus.Stream, _Mapping]]] = ..., verification: _Optional[_Union[AuditVerification, _Mapping]] = ..., checkpoint: _Optional[_Union[AuditStatus.Checkpoint, _Mapping]] = ..., anchored_checkpoint: _Optional[int] = ..., problem: _Optional[str] = ...) -> None: ...
