import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Approval(_message.Message):
    __slots__ = ("name", "state", "method", "permission", "resources", "requester", "reason", "request_json", "digest", "needed", "votes", "create_time", "expire_time", "state_time")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Approval.State]
        OPEN: _ClassVar[Approval.State]
        APPROVED: _ClassVar[Approval.State]
        EXECUTING: _ClassVar[Approval.State]
        EXECUTED: _ClassVar[Approval.State]
        OUTCOME_UNKNOWN: _ClassVar[Approval.State]
        REJECTED: _ClassVar[Approval.State]
        WITHDRAWN: _ClassVar[Approval.State]
        EXPIRED: _ClassVar[Approval.State]
    STATE_UNSPECIFIED: Approval.State
    OPEN: Approval.State
    APPROVED: Approval.State
    EXECUTING: Approval.State
    EXECUTED: Approval.State
    OUTCOME_UNKNOWN: Approval.State
    REJECTED: Approval.State
    WITHDRAWN: Approval.State
    EXPIRED: Approval.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PERMISSION_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_JSON_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    STATE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: Approval.State
    method: str
    permission: str
    resources: _containers.RepeatedScalarFieldContainer[str]
    requester: str
    reason: str
    request_json: str
    digest: str
    needed: int
    votes: _containers.RepeatedCompositeFieldContainer[ApprovalVote]
    create_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    state_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., state: _Optional[_Union[Approval.State, str]] = ..., method: _Optional[str] = ..., permission: _Optional[str] = ..., resources: _Optional[_Iterable[str]] = ..., requester: _Optional[str] = ..., reason: _Optional[str] = ..., request_json: _Optional[str] = ..., digest: _Optional[str] = ..., needed: _Optional[int] = ..., votes: _Optional[_Iterable[_Union[ApprovalVote, _Mapping]]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., state_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ApprovalVote(_message.Message):
    __slots__ = ("principal", "approved", "comment", "vote_time", "credential")
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    APPROVED_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    VOTE_TIME_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    principal: str
    approved: bool
    comment: str
    vote_time: _timestamp_pb2.Timestamp
    credential: str
    def __init__(self, principal: _Optional[str] = ..., approved: _Optional[bool] = ..., comment: _Optional[str] = ..., vote_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., credential: _Optional[str] = ...) -> None: ...

class GetApprovalRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListApprovalsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "waiting_only")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    WAITING_ONLY_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    waiting_only: bool
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., waiting_only: _Optional[bool] = ...) -> None: ...

class ListApprovalsResponse(_message.Message):
    __slots__ = ("approvals", "next_page_token")
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    approvals: _containers.RepeatedCompositeFieldContainer[Approval]
    next_page_token: str
    def __init__(self, approvals: _Optional[_Iterable[_Union[Approval, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ApproveApprovalRequest(_message.Message):
    __slots__ = ("name", "digest", "comment")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: str
    comment: str
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ..., comment: _Optional[str] = ...) -> None: ...

class RejectApprovalRequest(_message.Message):
    __slots__ = ("name", "comment")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    comment: str
    def __init__(self, name: _Optional[str] = ..., comment: _Optional[str] = ...) -> None: ...

class WithdrawApprovalRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class QuorumRule(_message.Message):
    __slots__ = ("name", "approvals", "is_default", "update_time", "updater")
    NAME_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATER_FIELD_NUMBER: _ClassVar[int]
    name: str
    approvals: int
    is_default: bool
    update_time: _timestamp_pb2.Timestamp
    updater: str
    def __init__(self, name: _Optional[str] = ..., approvals: _Optional[int] = ..., is_default: _Optional[bool] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updater: _Optional[str] = ...) -> None: ...

class ListQuorumRulesRequest(_message.Message):
    __slots__ = ("parent",)
    PARENT_FIELD_NUMBER: _ClassVar[int]
    parent: str
    def __init__(self, parent: _Optional[str] = ...) -> None: ...

class ListQuorumRulesResponse(_message.Message):
    __slots__ = ("quorum_rules",)
    QUORUM_RULES_FIELD_NUMBER: _ClassVar[int]
    quorum_rules: _containers.RepeatedCompositeFieldContainer[QuorumRule]
    def __init__(self, quorum_rules: _Optional[_Iterable[_Union[QuorumRule, _Mapping]]] = ...) -> None: ...

class UpdateQuorumRuleRequest(_message.Message):
    __slots__ = ("quorum_rule", "present_approvals")
    QUORUM_RULE_FIELD_NUMBER: _ClassVar[int]
    PRESENT_APPROVALS_FIELD_NUMBER: _ClassVar[int]
    quorum_rule: QuorumRule
    present_approvals: int
    def __init__(self, quorum_rule: _Optional[_Union[QuorumRule, _Mapping]] = ..., present_approvals: _Optional[int] = ...) -> None: ...
