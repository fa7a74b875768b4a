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

class EnclaveUpgrade(_message.Message):
    __slots__ = ("name", "mrenclave", "isv_svn", "from_mrenclave", "from_isv_svn", "state", "state_time", "create_time", "creator", "operation", "forced_by")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MRENCLAVE_FIELD_NUMBER: _ClassVar[int]
    ISV_SVN_FIELD_NUMBER: _ClassVar[int]
    FROM_MRENCLAVE_FIELD_NUMBER: _ClassVar[int]
    FROM_ISV_SVN_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_TIME_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    CREATOR_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    FORCED_BY_FIELD_NUMBER: _ClassVar[int]
    name: str
    mrenclave: bytes
    isv_svn: int
    from_mrenclave: bytes
    from_isv_svn: int
    state: str
    state_time: _timestamp_pb2.Timestamp
    create_time: _timestamp_pb2.Timestamp
    creator: str
    operation: str
    forced_by: str
    def __init__(self, name: _Optional[str] = ..., mrenclave: _Optional[bytes] = ..., isv_svn: _Optional[int] = ..., from_mrenclave: _Optional[bytes] = ..., from_isv_svn: _Optional[int] = ..., state: _Optional[str] = ..., state_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., creator: _Optional[str] = ..., operation: _Optional[str] = ..., forced_by: _Optional[str] = ...) -> None: ...

class GetSealCensusRequest(_message.Message):
    __slots__ = ("parent",)
    PARENT_FIELD_NUMBER: _ClassVar[int]
    parent: str
    def __init__(self, parent: _Optional[str] = ...) -> None: ...

class SealCensus(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[SealCount]
    def __init__(self, rows: _Optional[_Iterable[_Union[SealCount, _Mapping]]] = ...) -> None: ...

class SealCount(_message.Message):
    __slots__ = ("kind", "wanted_policy", "policy", "mrenclave", "mrsigner", "isv_svn", "simulated", "count", "recorded", "this_enclave")
    KIND_FIELD_NUMBER: _ClassVar[int]
    WANTED_POLICY_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    MRENCLAVE_FIELD_NUMBER: _ClassVar[int]
    MRSIGNER_FIELD_NUMBER: _ClassVar[int]
    ISV_SVN_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    THIS_ENCLAVE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    wanted_policy: str
    policy: str
    mrenclave: bytes
    mrsigner: bytes
    isv_svn: int
    simulated: bool
    count: int
    recorded: bool
    this_enclave: bool
    def __init__(self, kind: _Optional[str] = ..., wanted_policy: _Optional[str] = ..., policy: _Optional[str] = ..., mrenclave: _Optional[bytes] = ..., mrsigner: _Optional[bytes] = ..., isv_svn: _Optional[int] = ..., simulated: _Optional[bool] = ..., count: _Optional[int] = ..., recorded: _Optional[bool] = ..., this_enclave: _Optional[bool] = ...) -> None: ...

class CreateEnclaveUpgradeRequest(_message.Message):
    __slots__ = ("parent", "mrenclave", "isv_svn")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    MRENCLAVE_FIELD_NUMBER: _ClassVar[int]
    ISV_SVN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    mrenclave: bytes
    isv_svn: int
    def __init__(self, parent: _Optional[str] = ..., mrenclave: _Optional[bytes] = ..., isv_svn: _Optional[int] = ...) -> None: ...

class GetEnclaveUpgradeRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListEnclaveUpgradesRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListEnclaveUpgradesResponse(_message.Message):
    __slots__ = ("enclave_upgrades", "next_page_token")
    ENCLAVE_UPGRADES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    enclave_upgrades: _containers.RepeatedCompositeFieldContainer[EnclaveUpgrade]
    next_page_token: str
    def __init__(self, enclave_upgrades: _Optional[_Iterable[_Union[EnclaveUpgrade, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class FinishEnclaveUpgradeRequest(_message.Message):
    __slots__ = ("name", "force")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    force: bool
    def __init__(self, name: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class CancelEnclaveUpgradeRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

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

class ListEnclavesRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "active_only")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_ONLY_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    active_only: bool
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., active_only: _Optional[bool] = ...) -> None: ...

class ListEnclavesResponse(_message.Message):
    __slots__ = ("enclaves", "next_page_token")
    ENCLAVES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    enclaves: _containers.RepeatedCompositeFieldContainer[NodeEnclave]
    next_page_token: str
    def __init__(self, enclaves: _Optional[_Iterable[_Union[NodeEnclave, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class NodeEnclave(_message.Message):
    __slots__ = ("name", "node", "node_uid", "backend", "simulated", "mrenclave", "mrsigner", "isv_prod_id", "isv_svn", "cpu_svn", "debug", "freshness", "platform_id", "measures", "attestation_status", "attestation_reason", "quote", "signature", "attest_time", "attest_expire_time", "state", "restarts", "active", "health", "health_reason", "create_time", "update_time", "revision")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    NODE_UID_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_FIELD_NUMBER: _ClassVar[int]
    MRENCLAVE_FIELD_NUMBER: _ClassVar[int]
    MRSIGNER_FIELD_NUMBER: _ClassVar[int]
    ISV_PROD_ID_FIELD_NUMBER: _ClassVar[int]
    ISV_SVN_FIELD_NUMBER: _ClassVar[int]
    CPU_SVN_FIELD_NUMBER: _ClassVar[int]
    DEBUG_FIELD_NUMBER: _ClassVar[int]
    FRESHNESS_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_ID_FIELD_NUMBER: _ClassVar[int]
    MEASURES_FIELD_NUMBER: _ClassVar[int]
    ATTESTATION_STATUS_FIELD_NUMBER: _ClassVar[int]
    ATTESTATION_REASON_FIELD_NUMBER: _ClassVar[int]
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    ATTEST_TIME_FIELD_NUMBER: _ClassVar[int]
    ATTEST_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    HEALTH_REASON_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    name: str
    node: str
    node_uid: str
    backend: str
    simulated: bool
    mrenclave: bytes
    mrsigner: bytes
    isv_prod_id: int
    isv_svn: int
    cpu_svn: bytes
    debug: bool
    freshness: str
    platform_id: bytes
    measures: _containers.RepeatedCompositeFieldContainer[EnclaveMeasure]
    attestation_status: str
    attestation_reason: str
    quote: bytes
    signature: bytes
    attest_time: _timestamp_pb2.Timestamp
    attest_expire_time: _timestamp_pb2.Timestamp
    state: str
    restarts: int
    active: bool
    health: str
    health_reason: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    revision: int
    def __init__(self, name: _Optional[str] = ..., node: _Optional[str] = ..., node_uid: _Optional[str] = ..., backend: _Optional[str] = ..., simulated: _Optional[bool] = ..., mrenclave: _Optional[bytes] = ..., mrsigner: _Optional[bytes] = ..., isv_prod_id: _Optional[int] = ..., isv_svn: _Optional[int] = ..., cpu_svn: _Optional[bytes] = ..., debug: _Optional[bool] = ..., freshness: _Optional[str] = ..., platform_id: _Optional[bytes] = ..., measures: _Optional[_Iterable[_Union[EnclaveMeasure, _Mapping]]] = ..., attestation_status: _Optional[str] = ..., attestation_reason: _Optional[str] = ..., quote: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., attest_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., attest_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., state: _Optional[str] = ..., restarts: _Optional[int] = ..., active: _Optional[bool] = ..., health: _Optional[str] = ..., health_reason: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

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
