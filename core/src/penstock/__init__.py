"""
penstock: carry records from reporting APIs to files or Postgres, and events back to their providers.

Each public name is imported from its module on first use, so that ``import penstock`` stays quick for the command line
and for the scan of plugins. ``__init__.pyi`` has the same names for type checkers; ``make docs`` writes it.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# The markers of hooks -> their class in pluggy, the import of which takes as long as the start of the interpreter.
_MARKERS = {"hookspec": "HookspecMarker", "hookimpl": "HookimplMarker"}

# Module -> the names that connectors, sinks and Python programs may import from penstock.
_NAMES = {
    "_plan.plan": "PlannedPartition",
    "_project.plan": "PlanResult",
    "_project.project": "Project",
    "_project.read": "Encoder Records",
    "_project.run_result": "RunResult",
    "actions": "Action ActionJudge Field FieldType MostValues Place Values",
    "commands.declaration": "Command",
    "connector": """
        Connector ConnectorPlugin Derived Limits Parent Registration Sandbox Stream
    """,
    "envelope": "Envelope graphql_judge",
    "errors": """
        AuthenticationError BoundExceededError BrokenBodyError BrokenPageError ConfigError CountMismatchError
        DeadlineReachedError ForbiddenError ForeignOriginError InconsistentReadError LockHeldError NotReadyError
        OutputClosedError PagingError ParkedError PenstockError PluginError ProviderError RefusedError
        RejectedRecordsError ReportError ServerError SinkError StoppedError TargetError ThrottledError
        TransportError UntrustedError UsageError WorkerLostError WrongFormatError
    """,
    "events": "Event OnEvent",
    "fault_points": "fault_point",
    "filters": "known_filters",
    "handover": "HandoverSink",
    "ledger_interface": """
        AccountCounts FinalDay Ledger LedgerEntry LedgerFile PendingReport
        Restatement RunRecord State
    """,
    "model": """
        EXACT_JSON Answer Batch Items Kind Page Pairs Partition Receipt ReceiptStatus Rejected Request Response Slice
        encode_query flag origin_of
    """,
    "names": "did_you_mean",
    "protocols": """
        Authenticator BodyDecoder Empty Exchange Gone Grant Judge LoginSigning Named Paginator Poller Ready
        Renewing ReportState SinglePage Unsigned Waiting named
    """,
    "records": """
        NUMBER_FORMATS Column ColumnType Json Zone added camel column columns_of derived money personal record
        row_key secret snake
    """,
    "redact": "MASK Secret clip mask mask_always",
    "report_files": "ReportFile",
    "results": """
        AccountStatus ActResult Adopted AdoptResult Change ChangesResult Checked CheckResult Deleted
        DifferenceInfo ForgetResult Forgotten PartitionsResult PartitionStatus Problem RejectedRecord RejectedResult
        RunInfo RunsResult SourceStatus StatusResult TargetStatus Total TotalsResult VerifyResult
    """,
    "sandbox.app": "SandboxApp SandboxRequest SandboxResponse",
    "sandbox.base": "SandboxBase SandboxError json_response",
    "settings": "OpenFor SourceSettings setting",
    "sinks": """
        EXTRA MOST_REJECTED Adopting Adoption BaseSink BaseTarget CommittingWriter Coordinating Difference Divisible
        Erased Erasing Erasure Layout LockShare Sink SinkKind Staging Target Verifiable Writer
    """,
    "templates": "fill fill_json fill_path json_placeholders placeholder_formats placeholders",
    "verdicts": "Accept Refusal Refuse Retry Skip StatusRule Throttle Unavailable Verdict",
}
_MODULES = {name: f"penstock.{module}" for module, names in _NAMES.items() for name in names.split()}


def public_names() -> dict[str, str]:
    """The public names, each with the module that defines it."""
    return dict(_MODULES)


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name in _MARKERS:
        value = globals()[name] = getattr(import_module("pluggy"), _MARKERS[name])("penstock")
        return value
    if name not in _MODULES:
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(["__version__", *_MARKERS, *_MODULES])
