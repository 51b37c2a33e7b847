"""
The public names of ``penstock`` for type checkers, from the table in ``__init__.py``: ``make docs`` writes this file.
"""

import pluggy

from penstock._plan.plan import PlannedPartition as PlannedPartition
from penstock._project.plan import PlanResult as PlanResult
from penstock._project.project import Project as Project
from penstock._project.read import (
    Encoder as Encoder,
    Records as Records,
)
from penstock._project.run_result import RunResult as RunResult
from penstock.actions import (
    Action as Action,
    ActionJudge as ActionJudge,
    Field as Field,
    FieldType as FieldType,
    MostValues as MostValues,
    Place as Place,
    Values as Values,
)
from penstock.commands.declaration import Command as Command
from penstock.connector import (
    Connector as Connector,
    ConnectorPlugin as ConnectorPlugin,
    Derived as Derived,
    Limits as Limits,
    Parent as Parent,
    Registration as Registration,
    Sandbox as Sandbox,
    Stream as Stream,
)
from penstock.envelope import (
    Envelope as Envelope,
    graphql_judge as graphql_judge,
)
from penstock.errors import (
    AuthenticationError as AuthenticationError,
    BoundExceededError as BoundExceededError,
    BrokenBodyError as BrokenBodyError,
    BrokenPageError as BrokenPageError,
    ConfigError as ConfigError,
    CountMismatchError as CountMismatchError,
    DeadlineReachedError as DeadlineReachedError,
    ForbiddenError as ForbiddenError,
    ForeignOriginError as ForeignOriginError,
    InconsistentReadError as InconsistentReadError,
    LockHeldError as LockHeldError,
    NotReadyError as NotReadyError,
    OutputClosedError as OutputClosedError,
    PagingError as PagingError,
    ParkedError as ParkedError,
    PenstockError as PenstockError,
    PluginError as PluginError,
    ProviderError as ProviderError,
    RefusedError as RefusedError,
    RejectedRecordsError as RejectedRecordsError,
    ReportError as ReportError,
    ServerError as ServerError,
    SinkError as SinkError,
    StoppedError as StoppedError,
    TargetError as TargetError,
    ThrottledError as ThrottledError,
    TransportError as TransportError,
    UntrustedError as UntrustedError,
    UsageError as UsageError,
    WorkerLostError as WorkerLostError,
    WrongFormatError as WrongFormatError,
)
from penstock.events import (
    Event as Event,
    OnEvent as OnEvent,
)
from penstock.fault_points import fault_point as fault_point
from penstock.filters import known_filters as known_filters
from penstock.handover import HandoverSink as HandoverSink
from penstock.ledger_interface import (
    AccountCounts as AccountCounts,
    FinalDay as FinalDay,
    Ledger as Ledger,
    LedgerEntry as LedgerEntry,
    LedgerFile as LedgerFile,
    PendingReport as PendingReport,
    Restatement as Restatement,
    RunRecord as RunRecord,
    State as State,
)
from penstock.model import (
    EXACT_JSON as EXACT_JSON,
    Answer as Answer,
    Batch as Batch,
    Items as Items,
    Kind as Kind,
    Page as Page,
    Pairs as Pairs,
    Partition as Partition,
    Receipt as Receipt,
    ReceiptStatus as ReceiptStatus,
    Rejected as Rejected,
    Request as Request,
    Response as Response,
    Slice as Slice,
    encode_query as encode_query,
    flag as flag,
    origin_of as origin_of,
)
from penstock.names import did_you_mean as did_you_mean
from penstock.protocols import (
    Authenticator as Authenticator,
    BodyDecoder as BodyDecoder,
    Empty as Empty,
    Exchange as Exchange,
    Gone as Gone,
    Grant as Grant,
    Judge as Judge,
    LoginSigning as LoginSigning,
    Named as Named,
    Paginator as Paginator,
    Poller as Poller,
    Ready as Ready,
    Renewing as Renewing,
    ReportState as ReportState,
    SinglePage as SinglePage,
    Unsigned as Unsigned,
    Waiting as Waiting,
    named as named,
)
from penstock.records import (
    NUMBER_FORMATS as NUMBER_FORMATS,
    Column as Column,
    ColumnType as ColumnType,
    Json as Json,
    Zone as Zone,
    added as added,
    camel as camel,
    column as column,
    columns_of as columns_of,
    derived as derived,
    money as money,
    personal as personal,
    record as record,
    row_key as row_key,
    secret as secret,
    snake as snake,
)
from penstock.redact import (
    MASK as MASK,
    Secret as Secret,
    clip as clip,
    mask as mask,
    mask_always as mask_always,
)
from penstock.report_files import ReportFile as ReportFile
from penstock.results import (
    AccountStatus as AccountStatus,
    ActResult as ActResult,
    Adopted as Adopted,
    AdoptResult as AdoptResult,
    Change as Change,
    ChangesResult as ChangesResult,
    Checked as Checked,
    CheckResult as CheckResult,
    Deleted as Deleted,
    DifferenceInfo as DifferenceInfo,
    ForgetResult as ForgetResult,
    Forgotten as Forgotten,
    PartitionsResult as PartitionsResult,
    PartitionStatus as PartitionStatus,
    Problem as Problem,
    RejectedRecord as RejectedRecord,
    RejectedResult as RejectedResult,
    RunInfo as RunInfo,
    RunsResult as RunsResult,
    SourceStatus as SourceStatus,
    StatusResult as StatusResult,
    TargetStatus as TargetStatus,
    Total as Total,
    TotalsResult as TotalsResult,
    VerifyResult as VerifyResult,
)
from penstock.sandbox.app import (
    SandboxApp as SandboxApp,
    SandboxRequest as SandboxRequest,
    SandboxResponse as SandboxResponse,
)
from penstock.sandbox.base import (
    SandboxBase as SandboxBase,
    SandboxError as SandboxError,
    json_response as json_response,
)
from penstock.settings import (
    OpenFor as OpenFor,
    SourceSettings as SourceSettings,
    setting as setting,
)
from penstock.sinks import (
    EXTRA as EXTRA,
    MOST_REJECTED as MOST_REJECTED,
    Adopting as Adopting,
    Adoption as Adoption,
    BaseSink as BaseSink,
    BaseTarget as BaseTarget,
    CommittingWriter as CommittingWriter,
    Coordinating as Coordinating,
    Difference as Difference,
    Divisible as Divisible,
    Erased as Erased,
    Erasing as Erasing,
    Erasure as Erasure,
    Layout as Layout,
    LockShare as LockShare,
    Sink as Sink,
    SinkKind as SinkKind,
    Staging as Staging,
    Target as Target,
    Verifiable as Verifiable,
    Writer as Writer,
)
from penstock.templates import (
    fill as fill,
    fill_json as fill_json,
    fill_path as fill_path,
    json_placeholders as json_placeholders,
    placeholder_formats as placeholder_formats,
    placeholders as placeholders,
)
from penstock.verdicts import (
    Accept as Accept,
    Refusal as Refusal,
    Refuse as Refuse,
    Retry as Retry,
    Skip as Skip,
    StatusRule as StatusRule,
    Throttle as Throttle,
    Unavailable as Unavailable,
    Verdict as Verdict,
)

__version__: str
hookspec: pluggy.HookspecMarker
hookimpl: pluggy.HookimplMarker

def public_names() -> dict[str, str]: ...
