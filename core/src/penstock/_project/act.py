"""
``act``: write to a provider, and collect a receipt for each row.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from attrs import evolve

from penstock._config.target_text import shown_target
from penstock._project.setup import Notices, Setup, blamed
from penstock._util.clock import Clock
from penstock._write.job import ActionJob, GivenRows, Input, Query
from penstock._write.outbox import Outbox
from penstock._write.rows import open_output, plain
from penstock._write.sender import Sender
from penstock.actions import Action
from penstock.connector import Connector
from penstock.errors import SinkError, UsageError
from penstock.events import Event, OnEvent
from penstock.model import Receipt
from penstock.names import did_you_mean
from penstock.redact import mask, mask_json
from penstock.results import ActResult

OnReceipt = Callable[[Receipt], None]
OnRequest = Callable[[Mapping[str, Any]], None]

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
        notices.add_all(chosen.notices)
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


def _refuse_overwriting(input_: Input, receipts: Path | None, refused: Path | None) -> None:
    """Raises UsageError if an output file is also the input or the other output: its rows would be lost."""
    named = [("--from", input_), ("--receipts", receipts), ("--refused", refused)]
    option_by_path: dict[Path, str] = {}
    for option, path in named:
        if isinstance(path, Path) and (other := option_by_path.setdefault(path.resolve(), option)) != option:
            raise UsageError(f"{option} {path} is the file of {other}, which would be written over. Name another file")


# --- sending ----------------------------------------------------------------------------------------------------------


def act(
    setup: Setup,
    action: Action,
    input_: Input,
    *,
    source: str,
    values: Mapping[str, Any] | Sequence[str],
    clock: Clock,
    notices: Notices,
    dry_run: bool,
    resume: bool,
    retry_unknown: bool,
    confirmed: bool,
    receipts: Path | None,
    refused: Path | None,
    on_receipt: OnReceipt | None,
    on_request: OnRequest | None,
    on_event: OnEvent,
) -> ActResult:
    """Send the rows of an action, or prepare their requests only; see :meth:`penstock.Project.act`."""
    if action.not_built:
        raise UsageError(f"{action.name} is not built: {action.not_built}")
    if dry_run and (resume or retry_unknown):
        raise UsageError("--dry-run sends nothing, so there is nothing to resume: give one of --dry-run and --resume")
    parameters = values_of(action, values)
    configured = setup.source(source, notices.add)
    _refuse_overwriting(input_, receipts, refused)
    is_text = not isinstance(values, Mapping)

    def emit(event: Event) -> None:
        setup.registry.event(event)
        on_event(event)

    with ExitStack() as stack:
        with blamed(configured.connector):
            job = ActionJob(
                source=configured,
                action=action,
                parameters=parameters,
                is_text=is_text,
                input=input_,
                clock=clock,
                stack=stack,
            )
            if not dry_run:
                job.check_allowed(confirmed=confirmed)
                sender = job.open(
                    Outbox(setup.config.folder / ".penstock"),
                    resume=resume,
                    retry_unknown=retry_unknown,
                    confirmed=confirmed,
                    emit=emit,
                )
        if dry_run:
            return _dry_run(job, notices, on_receipt, on_request)
        if (resume or retry_unknown) and sender.job.is_new:
            notices.add("there is no job of these rows and parameters to resume: all rows are sent")
        elif sender.job.is_finished:
            notices.add("this job is finished already: its receipts are printed again, and nothing is sent")
        return _send(job, sender, notices, receipts, refused, on_receipt, emit)


def _dry_run(job: ActionJob, notices: Notices, on_receipt: OnReceipt | None, on_request: OnRequest | None) -> ActResult:
    requests: list[Mapping[str, Any]] = []
    receipts: list[Receipt] = []
    take_request, take_receipt = on_request or requests.append, on_receipt or receipts.append
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
    notices: Notices,
    receipts: Path | None,
    refused: Path | None,
    on_receipt: OnReceipt | None,
    emit: OnEvent,
) -> ActResult:
    """Send the rows. Raises what ``on_receipt`` raises, and SinkError where ``receipts`` cannot be written."""
    if refused is not None:
        sender.check_refused_file(refused)
    collected: list[Receipt] = []
    take_receipt = on_receipt or collected.append
    of_job = {"source": job.source.name, "action": job.action.name}
    unwritten: SinkError | None = None
    with ExitStack() as files:
        write = files.enter_context(open_output(receipts, "--receipts")) if receipts is not None else None
        emit({"event": "act_started", **of_job})
        for receipt in _blamed_items(job.source.connector, sender.send()):
            masked = evolve(receipt, reason=mask(receipt.reason), answer=mask_json(receipt.answer))
            take_receipt(masked)
            if write is not None:
                write(receipt_line(masked) + "\n")
        try:
            files.close()  # not at the end of the block: the rows are sent, and the result has their counts
            if refused is not None:
                sender.write_refused(refused)
        except SinkError as failure:
            unwritten = failure
    error = sender.error or unwritten
    result = ActResult(
        counts=dict(sender.counts),
        not_sent=sender.not_sent,
        error=error,
        receipts=tuple(collected),
        notices=tuple(notices.texts),
        exit_code=(error.exit_code or 1) if error is not None else int(not set(sender.counts) <= {"done"}),
    )
    emit(
        {
            "event": "act_finished",
            **of_job,
            "counts": dict(result.counts),
            "not_sent": result.not_sent,
            "exit_code": result.exit_code,
        }
    )
    if error is None and not result.counts.get("unknown"):
        job.forget_rows()
    return result


def _blamed_items(connector: Connector, items: Iterator[_T]) -> Iterator[_T]:
    """The items; a defect of the connector that makes them is a PluginError, and one of their taker is not."""
    with blamed(connector):
        yield from items


def receipt_line(receipt: Receipt) -> str:
    """A receipt as a line of JSON: row, status, reason, and the provider's answer where there is one."""
    line = {"row": receipt.row, "status": receipt.status, "reason": receipt.reason}
    return json.dumps(line if receipt.answer is None else {**line, "answer": receipt.answer}, ensure_ascii=False)
