"""
penstock: carry records from reporting APIs to files or Postgres, and events back to their providers.

The names below are the public API: what connectors, sinks and Python programs may import. Each is imported from its
module on first use, so that ``import penstock`` stays quick for the command line and for the scan of plugins.
"""

import importlib
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from penstock.actions import (
        Action as Action,
        ActionJudge as ActionJudge,
        Field as Field,
        FieldType as FieldType,
        MostValues as MostValues,
        Place as Place,
        Values as Values,
    )
    from penstock.commands import Command as Command
    from penstock.connector import (
        Connector as Connector,
        ConnectorPlugin as ConnectorPlugin,
        Derived as Derived,
        Limits as Limits,
        OpenFor as OpenFor,
        Parent as Parent,
        Registration as Registration,
        Sandbox as Sandbox,
        SourceSettings as SourceSettings,
        Stream as Stream,
        setting as setting,
    )
    from penstock.envelope import Envelope as Envelope
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
        WrongFormatError as WrongFormatError,
    )
    from penstock.fault_points import fault_point as fault_point
    from penstock.filters import known_filters as known_filters
    from penstock.model import (
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
        fill as fill,
        fill_json as fill_json,
        fill_path as fill_path,
        flag as flag,
        origin_of as origin_of,
        placeholders as placeholders,
    )
    from penstock.project.api import Project as Project
    from penstock.project.records import Records as Records
    from penstock.protocols import (
        Accept as Accept,
        Authenticator as Authenticator,
        BodyDecoder as BodyDecoder,
        Empty as Empty,
        Exchange as Exchange,
        Gone as Gone,
        Grant as Grant,
        Judge as Judge,
        Named as Named,
        Paginator as Paginator,
        Poller as Poller,
        Ready as Ready,
        Refusal as Refusal,
        Refuse as Refuse,
        Renewing as Renewing,
        ReportState as ReportState,
        Retry as Retry,
        SinglePage as SinglePage,
        Skip as Skip,
        StatusRule as StatusRule,
        Throttle as Throttle,
        Unavailable as Unavailable,
        Unsigned as Unsigned,
        Verdict as Verdict,
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
    from penstock.redact import MASK as MASK, Secret as Secret, clip as clip, mask as mask
    from penstock.report_files import ReportFile as ReportFile
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
    from penstock.sinks import (
        EXTRA as EXTRA,
        MOST_REJECTED as MOST_REJECTED,
        AccountCounts as AccountCounts,
        Adopting as Adopting,
        Adoption as Adoption,
        Checks as Checks,
        Discrepancy as Discrepancy,
        Divisible as Divisible,
        Encoder as Encoder,
        Grouping as Grouping,
        Interruptible as Interruptible,
        Layout as Layout,
        Ledger as Ledger,
        LedgerEntry as LedgerEntry,
        LedgerFile as LedgerFile,
        Part as Part,
        PendingReport as PendingReport,
        Restatement as Restatement,
        RunRecord as RunRecord,
        Sink as Sink,
        SinkKind as SinkKind,
        State as State,
        Target as Target,
        Verifiable as Verifiable,
        WholeStream as WholeStream,
        Writer as Writer,
    )

__version__ = "0.1.0"

hookspec = pluggy.HookspecMarker("penstock")
hookimpl = pluggy.HookimplMarker("penstock")

PUBLIC = {
    "penstock.actions": ("Action", "ActionJudge", "Field", "FieldType", "MostValues", "Place", "Values"),
    "penstock.commands": ("Command",),
    "penstock.connector": (
        "Connector",
        "ConnectorPlugin",
        "Derived",
        "Limits",
        "OpenFor",
        "Parent",
        "Registration",
        "Sandbox",
        "SourceSettings",
        "Stream",
        "setting",
    ),
    "penstock.envelope": ("Envelope",),
    "penstock.errors": (
        "AuthenticationError",
        "BoundExceededError",
        "BrokenBodyError",
        "BrokenPageError",
        "ConfigError",
        "CountMismatchError",
        "DeadlineReachedError",
        "ForbiddenError",
        "ForeignOriginError",
        "InconsistentReadError",
        "LockHeldError",
        "NotReadyError",
        "OutputClosedError",
        "PagingError",
        "ParkedError",
        "PenstockError",
        "PluginError",
        "ProviderError",
        "RefusedError",
        "RejectedRecordsError",
        "ReportError",
        "ServerError",
        "SinkError",
        "StoppedError",
        "TargetError",
        "ThrottledError",
        "TransportError",
        "UntrustedError",
        "UsageError",
        "WrongFormatError",
    ),
    "penstock.fault_points": ("fault_point",),
    "penstock.filters": ("known_filters",),
    "penstock.model": (
        "Answer",
        "Batch",
        "Items",
        "Kind",
        "Page",
        "Pairs",
        "Partition",
        "Receipt",
        "ReceiptStatus",
        "Rejected",
        "Request",
        "Response",
        "Slice",
        "encode_query",
        "fill",
        "fill_json",
        "fill_path",
        "flag",
        "origin_of",
        "placeholders",
    ),
    "penstock.project.api": ("Project",),
    "penstock.project.records": ("Records",),
    "penstock.protocols": (
        "Accept",
        "Authenticator",
        "BodyDecoder",
        "Empty",
        "Exchange",
        "Gone",
        "Grant",
        "Judge",
        "Named",
        "Paginator",
        "Poller",
        "Ready",
        "Refusal",
        "Refuse",
        "ReportState",
        "Retry",
        "SinglePage",
        "Skip",
        "StatusRule",
        "Throttle",
        "Unavailable",
        "Renewing",
        "Unsigned",
        "Verdict",
        "Waiting",
        "named",
    ),
    "penstock.records": (
        "Column",
        "ColumnType",
        "Json",
        "NUMBER_FORMATS",
        "Zone",
        "added",
        "camel",
        "column",
        "columns_of",
        "derived",
        "money",
        "personal",
        "record",
        "row_key",
        "secret",
        "snake",
    ),
    "penstock.redact": ("MASK", "Secret", "clip", "mask"),
    "penstock.report_files": ("ReportFile",),
    "penstock.sandbox.app": ("SandboxApp", "SandboxRequest", "SandboxResponse"),
    "penstock.sandbox.base": ("SandboxBase", "SandboxError", "json_response"),
    "penstock.sinks": (
        "AccountCounts",
        "Adopting",
        "Adoption",
        "Checks",
        "Discrepancy",
        "Divisible",
        "EXTRA",
        "Encoder",
        "Grouping",
        "Interruptible",
        "Layout",
        "Ledger",
        "LedgerEntry",
        "LedgerFile",
        "MOST_REJECTED",
        "Part",
        "PendingReport",
        "Restatement",
        "RunRecord",
        "Sink",
        "SinkKind",
        "State",
        "Target",
        "Verifiable",
        "WholeStream",
        "Writer",
    ),
}
"""The public names, by the module that defines each."""

_MODULES = {name: module for module, names in PUBLIC.items() for name in names}

__all__ = ["PUBLIC", "__version__", "hookimpl", "hookspec", *_MODULES]  # derived from PUBLIC


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
