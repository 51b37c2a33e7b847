"""
``act``: write to a provider, and collect a receipt for each row.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec
from attrs import evolve, frozen

from penstock._config.target_text import shown_target
from penstock._plugins.plugin_errors import connector_errors
from penstock._project.setup import Notices, Setup
from penstock._util.clock import Clock
from penstock._write.action_job import ActionJob, GivenRows, Input, Query
from penstock._write.outbox import Outbox, OutboxJob
from penstock._write.rows import open_output, plain
from penstock._write.sender import Sender
from penstock.actions import Action
from penstock.connector import Connector
from penstock.errors import SinkError, UsageError
from penstock.events import Event, OnEvent
from penstock.model import EXACT_JSON, Receipt
from penstock.names import did_you_mean
from penstock.redact import mask, mask_json
from penstock.results import ActResult

_T = TypeVar("_T")


# --- actions ----------------------------------------------------------------------------------------------------------


def actions_of(setup: Setup, source: str) -> tuple[Connector, tuple[Action, ...]]:
    """The connector and the actions of a source. The name of a connector needs no configuration."""
    registry, config = setup.registry, setup.config
    name = source
    if source not in registry.connectors() or source in config.sources:
        name = config.connector_of(source)
        if name not in registry.connectors() and config.sources:
            setup.source(source)  # raises with the names of the sources
    return registry.connector(name), registry.actions(name)


def action_of(setup: Setup, source: str, name: str) -> Action:
    """The action of this name. Raises UsageError with the nearest name."""
    by_name = {action.name: action for action in actions_of(setup, source)[1]}
    if name in by_name:
        return by_name[name]
    if not by_name:
        raise UsageError(f"{source} has no writes: its provider offers none")
    raise UsageError(
        f"{source} has no action {name!r}.{did_you_mean(name, by_name)} `penstock act {source} --list` shows them"
    )


# --- input ------------------------------------------------------------------------------------------------------------


def input_of(
    setup: Setup,
    rows: Iterable[Mapping[str, Any]] | None,
    file: str | os.PathLike[str] | BinaryIO | None,
    sink: str | None,
    query: str | None,
    notices: Notices,
) -> Input:
    """The origin of the rows; None: the values are the one row. Raises UsageError for several origins."""
    if len([origin for origin in (rows, file, query) if origin is not None]) > 1:
        raise UsageError("rows, file and query: give one of them")
    if (sink is None) != (query is None):
        raise UsageError("--query needs --from SINK: the sink that runs the query")
    if sink is not None and query is not None:
        chosen = setup.config.sink_for(sink, setup.registry)
        notices.add(*chosen.notices)
        return Query(chosen, query)
    if rows is not None:
        return GivenRows(rows)
    if file is None or not isinstance(file, (str, os.PathLike)):
        return file
    if isinstance(file, str) and not Path(file).exists():
        named = file in setup.config.sinks or file.partition(":")[0] in setup.registry.sinks()
        if named or shown_target(file) != file or "://" in file:
            raise UsageError(
                f"--from {shown_target(file)} is a sink and no file: --query names which of its rows to take"
            )
    return Path(file)


def values_of(action: Action, values: Mapping[str, Any] | Sequence[str]) -> Mapping[str, Any]:
    """The shared values by name, from a mapping or from texts ``KEY=VALUE``. Raises UsageError."""
    if isinstance(values, Mapping):
        return plain(values)
    repeated = {
        name for field in action.fields if field.repeated for name in (field.name, field.member, *field.aliases)
    }
    lists = {name for field in action.fields if field.type == "list" for name in (field.name, field.member)}
    by_name: dict[str, Any] = {}
    for text in values:
        if not _is_unicode(text):
            raise UsageError(
                f"{text!a}: holds bytes that are no UTF-8 text; write the row into a file in UTF-8, and give "
                "--from FILE"
            )
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{text!r}: expected KEY=VALUE; `--help` behind the action's name lists its parameters")
        if name not in by_name:
            by_name[name] = [value] if name in repeated else value
        elif name in repeated:
            by_name[name].append(value)
        else:
            listed = f"""; a list is one value: {name}='["a", "b"]'""" if name in lists else ""
            raise UsageError(f"{name} is given twice{listed}")
    return {name: value[0] if isinstance(value, list) and len(value) == 1 else value for name, value in by_name.items()}


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- sending ----------------------------------------------------------------------------------------------------------


@frozen(kw_only=True, eq=False, repr=False)
class ActOptions:
    """The options of a call, as on the command line. ``receipts``, ``refused``: files to write."""

    dry_run: bool
    resume: bool
    retry_unknown: bool
    confirmed: bool
    receipts: Path | None
    refused: Path | None


@frozen(kw_only=True, eq=False, repr=False)
class Callbacks:
    """The functions that get each receipt, request of a dry run, and event. None: the result has the values."""

    on_receipt: Callable[[Receipt], None] | None
    on_request: Callable[[Mapping[str, Any]], None] | None
    on_event: OnEvent


def act(
    setup: Setup,
    action: Action,
    input_: Input,
    options: ActOptions,
    callbacks: Callbacks,
    *,
    source: str,
    values: Mapping[str, Any] | Sequence[str],
    clock: Clock,
    notices: Notices,
) -> ActResult:
    """Send the rows of an action, or prepare their requests only; see :meth:`penstock.Project.act`."""
    _check_options(action, input_, options)
    parameters = values_of(action, values)
    configured = setup.source(source, notices.add)
    emit = partial(_emit, setup, callbacks.on_event)
    with ExitStack() as stack:
        job = ActionJob(
            source=configured,
            action=action,
            parameters=parameters,
            is_text=not isinstance(values, Mapping),
            input=input_,
            clock=clock,
            stack=stack,
        )
        if options.dry_run:
            return _dry_run(job, callbacks, notices)
        sender = _open_sender(setup, job, options, emit)
        _notice_state(sender.job, options, notices)
        return _send(job, sender, options, callbacks.on_receipt, notices, emit)


def _check_options(action: Action, input_: Input, options: ActOptions) -> None:
    """Raises UsageError for an action or a combination of options that cannot be carried out."""
    if action.not_built:
        raise UsageError(f"{action.name} is not built: {action.not_built}")
    if options.dry_run and (options.resume or options.retry_unknown):
        raise UsageError("--dry-run sends nothing, so there is nothing to resume: give one of --dry-run and --resume")
    # An output file that is also the input or the other output: its rows would be lost.
    files = [("--from", input_), ("--receipts", options.receipts), ("--refused", options.refused)]
    option_by_path: dict[Path, str] = {}
    for option, path in files:
        if isinstance(path, Path) and (other := option_by_path.setdefault(path.resolve(), option)) != option:
            raise UsageError(f"{option} {path} is the file of {other}, which would be written over. Name another file")


def _open_sender(setup: Setup, job: ActionJob, options: ActOptions, emit: OnEvent) -> Sender:
    """The opened sender of a job. Raises UsageError if nothing may be sent."""
    job.check_allowed(confirmed=options.confirmed)
    return job.open(
        Outbox(setup.config.folder / ".penstock"),
        resume=options.resume,
        retry_unknown=options.retry_unknown,
        confirmed=options.confirmed,
        emit=emit,
    )


def _emit(setup: Setup, on_event: OnEvent, event: Event) -> None:
    """Pass an event to the plugins, then to the caller."""
    setup.registry.event(event)
    on_event(event)


def _notice_state(job: OutboxJob, options: ActOptions, notices: Notices) -> None:
    """Add a notice where the rows were not sent before, though they should have been, or were all sent before."""
    if (options.resume or options.retry_unknown) and job.is_new:
        notices.add("there is no job of these rows and parameters to resume: all rows are sent")
    elif job.is_finished:
        notices.add("this job is finished already: its receipts are printed again, and nothing is sent")


def _dry_run(job: ActionJob, callbacks: Callbacks, notices: Notices) -> ActResult:
    """Prepare the requests. Raises what the callbacks raise."""
    requests: list[Mapping[str, Any]] = []
    receipts: list[Receipt] = []
    take_request, take_receipt = callbacks.on_request or requests.append, callbacks.on_receipt or receipts.append
    counts: Counter[str] = Counter()
    for prepared in _blamed_items(job.source.connector, job.dry_run()):
        if isinstance(prepared, Receipt):
            counts[prepared.status] += 1
            take_receipt(prepared)
        else:
            take_request(prepared)
    return ActResult(
        counts=dict(counts),
        requests=tuple(requests),
        receipts=tuple(receipts),
        notices=tuple(notices.texts),
        exit_code=int(bool(counts)),
    )


def _send(
    job: ActionJob,
    sender: Sender,
    options: ActOptions,
    on_receipt: Callable[[Receipt], None] | None,
    notices: Notices,
    emit: OnEvent,
) -> ActResult:
    """Send the rows. Raises what ``on_receipt`` raises, and SinkError where a receipt cannot be written."""
    if options.refused is not None:
        sender.check_refused_file(options.refused)
    receipts: list[Receipt] = []
    take_receipt = on_receipt or receipts.append
    source, action = job.source.name, job.action.name
    with ExitStack() as files:
        write_receipt = files.enter_context(_receipts_to(options.receipts))
        emit({"event": "act_started", "source": source, "action": action})
        for receipt in _blamed_items(job.source.connector, sender.send()):
            masked = evolve(receipt, reason=mask(receipt.reason), answer=mask_json(receipt.answer))
            take_receipt(masked)
            write_receipt(masked)
        unwritten = _finish_files(files, sender, options.refused)
    error = sender.error or unwritten
    result = ActResult(
        counts=dict(sender.counts),
        not_sent=sender.not_sent,
        error=error,
        receipts=tuple(receipts),
        notices=tuple(notices.texts),
        exit_code=(error.exit_code or 1) if error is not None else int(not set(sender.counts) <= {"done"}),
    )
    emit(
        {
            "event": "act_finished",
            "source": source,
            "action": action,
            "counts": dict(result.counts),
            "not_sent": result.not_sent,
            "exit_code": result.exit_code,
        }
    )
    if error is None and not result.counts.get("unknown"):
        job.forget_rows()
    return result


@contextmanager
def _receipts_to(path: Path | None) -> Iterator[Callable[[Receipt], object]]:
    """A function that writes a receipt to a file; for None, one that does nothing."""
    if path is None:
        yield lambda receipt: None
        return
    with open_output(path, "--receipts") as write:
        yield lambda receipt: write(receipt_line(receipt) + "\n")


def _finish_files(files: ExitStack, sender: Sender, refused: Path | None) -> SinkError | None:
    """Close the file of receipts, and write the refused rows. Returns an error: the rows are sent, and are counted."""
    try:
        files.close()
        if refused is not None:
            sender.write_refused(refused)
    except SinkError as error:
        return error
    return None


def _blamed_items(connector: Connector, items: Iterator[_T]) -> Iterator[_T]:
    """The items; a defect of the connector that makes them is a PluginError, and one of their taker is not."""
    with connector_errors(connector.name):
        yield from items


def receipt_line(receipt: Receipt) -> str:
    """A receipt as a line of JSON: row, status, reason, and the provider's answer where there is one."""
    line = {"row": receipt.row, "status": receipt.status, "reason": receipt.reason}
    answered = line if receipt.answer is None else {**line, "answer": receipt.answer}
    return msgspec.json.format(EXACT_JSON.encode(answered), indent=0).decode()
