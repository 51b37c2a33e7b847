"""
``act``: write to a provider, and print a receipt for each row.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click
from attrs import asdict, frozen

from penstock._cli.complete import actions, sources
from penstock._cli.output import print_json, print_table
from penstock._cli.session import Session, as_json, command
from penstock._cli.signals import stopping
from penstock._cli.stderr import harmless
from penstock._config.targets import shown_target
from penstock._project.setup import blamed
from penstock._write.job import ActionJob, Input, Query, cannot_write, written
from penstock._write.outbox import Outbox
from penstock._write.sender import JobResult, Sender
from penstock.actions import Action, Field
from penstock.commands.process import discard_output
from penstock.connector import Connector
from penstock.errors import SinkError, StoppedError, UsageError
from penstock.events import Event
from penstock.model import Receipt
from penstock.names import counted, did_you_mean
from penstock.redact import mask, mask_json

PLACES = {"path": "path", "query": "query", "header": "header", "body": "body", "whole_body": "the body"}
STOPPING = "stopping after the current request. A second signal ends the process at once"


@command()
@click.argument("source", required=False, shell_complete=sources)
@click.argument("action", required=False, shell_complete=actions)
@click.argument("parameters", nargs=-1, metavar="[KEY=VALUE ...]")
@click.option("--list", "list_", is_flag=True, help="What can be written.")
@as_json
@click.option("--from", "from_", metavar="FILE|SINK", help="A row each: JSON lines or CSV (- is stdin), or a sink.")
@click.option("--query", metavar="QUERY", help="Rows of the sink that --from names.")
@click.option("--yes", is_flag=True, help="Confirm a destructive action, or another address of an unfinished job.")
@click.option("--dry-run", is_flag=True, help="Print the requests, secrets masked, and send nothing.")
@click.option("--resume", is_flag=True, help="Resume an unfinished job: send the rows that were not sent.")
@click.option(
    "--retry-unknown", is_flag=True, help="Also send rows again that may have arrived. They may then exist twice."
)
@click.option(
    "--receipts", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Also write receipts to FILE."
)
@click.option(
    "--refused", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Refused rows, to be corrected."
)
@click.option("-h", "--help", "help", is_flag=True, help="Show this help, or the parameters of the ACTION.")
def act(
    session: Session,
    source: str | None,
    action: str | None,
    parameters: tuple[str, ...],
    list_: bool,
    json_: bool,
    help: bool,
    **options: Any,
) -> int:
    """
    Write to a provider; one receipt for each row, as JSON lines on stdout, in the order of the rows.

    \b
    penstock act SOURCE --list                         what can be written
    penstock act SOURCE ACTION --help                  its parameters
    penstock act joveo pause_job client_id=... job_reference=...
    penstock act sensis report_event --from events.jsonl

    Writes are off until the source has allow_writes = true. Every sent row is recorded in .penstock beside the
    configuration: a row whose outcome is unknown is sent again on request only.
    """
    context = click.get_current_context()
    if source is None or (help and action is None):
        if help or not list_:
            click.echo(context.get_help())
            return 0 if help else 2
        raise click.UsageError("--list needs a SOURCE", context)
    connector, actions = _connector_and_actions(session, source)
    if list_:
        _list_actions(connector, actions, json_)
        return 0
    if action is None:
        raise click.UsageError(f"which action? `penstock act {source} --list` shows them", context)
    chosen = _chosen(source, action, actions)
    if help:
        _describe(source, chosen, json_)
        return 0
    return _act(session, source, chosen, parameters, _Options(json_=json_, **options))


act.add_help_option = False  # --help is the command's own: an action has one as well


# --- lists and help -------------------------------------------------------------------------------------------------


def _connector_and_actions(session: Session, source: str) -> tuple[Connector, tuple[Action, ...]]:
    """The source's connector and its actions. A connector's name needs no configuration."""
    registry = session.registry
    name = source
    if source not in registry.connectors() or source in session.config.sources:
        name = session.config.connector_of(source)
        if name not in registry.connectors() and session.config.sources:
            session.setup.source(source)  # raises with the names of the sources
    return registry.connector(name), registry.actions(name)


def _chosen(source: str, name: str, actions: Sequence[Action]) -> Action:
    by_name = {action.name: action for action in actions}
    if name in by_name:
        return by_name[name]
    if not by_name:
        raise UsageError(f"{source} has no writes: its provider offers none")
    raise UsageError(
        f"{source} has no action {name!r}.{did_you_mean(name, by_name)} `penstock act {source} --list` shows them"
    )


def _action_marks(action: Action) -> list[str]:
    marks = [f"not built: {action.not_built}"] if action.not_built else []
    marks += ["destroys: --yes"] if action.destroys else []
    return marks + (["repeatable"] if action.repeatable else [])


def _list_actions(connector: Connector, actions: Sequence[Action], json_: bool) -> None:
    if json_:
        print_json({"connector": connector.name, "actions": [described(action) for action in actions]})
    elif not actions:
        print(f"{connector.name} has no writes")
    else:
        rows = [
            [action.name, action.method, action.path, ", ".join(_action_marks(action)), action.summary]
            for action in actions
        ]
        print_table(["action", "method", "path", "notes", "summary"], rows)


def described(action: Action) -> dict[str, Any]:
    """An action as ``--list --json`` shows it."""
    return {
        "name": action.name,
        "summary": action.summary,
        "method": action.method,
        "path": action.path,
        "destroys": action.destroys,
        "repeatable": action.repeatable,
        "rows_per_request": action.rows_per_request,
        "open_body": action.open_body,
        "not_built": action.not_built or None,
        "fields": [asdict(field, filter=lambda attribute, _: attribute.name != "aliases") for field in action.fields],
    }


def _describe(source: str, action: Action, json_: bool) -> None:
    if json_:
        print_json(described(action))
        return
    required = " ".join(_example(field) for field in action.fields if field.required)
    print(f"penstock act {source} {action.name} {required}{' --yes' if action.destroys else ''}\n")
    print(f"{action.summary}\n{action.method} {action.path}")
    for mark in _action_marks(action):
        print(mark)
    if action.bulk:
        print(f"the body is a list: rows that share all else travel together, up to {action.rows_per_request}")
    if action.most_values is not None:
        limits = action.most_values
        print(f"one row is one request: up to {limits.most} of {limits.field}, {limits.most_url} characters of URL")
    if action.bulk or action.open_body:
        kind = "a list of objects" if action.bulk else "an object"
        print(f"body=JSON: {kind}, instead of its members one by one")
    if action.fields:
        print()
        rows = [
            [
                field.name,
                field.member if field.member != field.name else "",
                PLACES[field.place],
                f"{field.type}, repeatable" if field.repeated else field.type,
                "yes" if field.required else "",
                " ".join([*([f"one of {', '.join(field.choices)}."] if field.choices else []), field.description]),
            ]
            for field in action.fields
        ]
        print_table(["parameter", "provider's name", "in", "type", "required", "description"], rows)


def _example(field: Field) -> str:
    samples = {"object": "'{...}'", "list": "'[...]'", "json": "JSON"}
    return f"{field.name}={samples.get(field.type, field.choices[0] if field.choices else '...')}"


# --- sending --------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class _Options:
    """The options of ``act`` that send something; see its help."""

    json_: bool
    from_: str | None
    query: str | None
    yes: bool
    dry_run: bool
    resume: bool
    retry_unknown: bool
    receipts: Path | None
    refused: Path | None

    @property
    def goes_on(self) -> bool:
        """Whether the command resumes a job."""
        return self.resume or self.retry_unknown


def _act(session: Session, name: str, action: Action, parameters: Sequence[str], options: _Options) -> int:
    if action.not_built:
        raise UsageError(f"{action.name} is not built: {action.not_built}")
    if options.goes_on and options.dry_run:
        raise UsageError("--dry-run sends nothing, so there is nothing to resume: give one of --dry-run and --resume")
    texts = _parameter_pairs(action, parameters)
    source = session.setup.source(name, session.notice)
    rows = _origin_of_rows(session, options)
    _check_files(options)
    with blamed(source.connector), ExitStack() as stack:
        job = ActionJob(source=source, action=action, parameters=texts, input=rows)
        stack.callback(job.close)
        if options.dry_run:
            return _print_dry_run(session, job, options.json_)
        job.check_allowed(confirmed=options.yes)
        sender = job.open(
            Outbox(session.config.folder / ".penstock"),
            resume=options.resume,
            retry_unknown=options.retry_unknown,
            confirmed=options.yes,
            emit=partial(_follow, session),
        )
        if options.goes_on and sender.job.is_new:
            session.notice("there is no job of these rows and parameters to resume: all rows are sent")
        elif sender.job.is_finished:
            session.notice("this job is finished already: its receipts are printed again, and nothing is sent")
        return _send(session, stack, job, sender, options)


def _follow(session: Session, event: Event) -> None:
    session.registry.event(event)
    if event["event"] == "retry" and (session.verbose or event["pause_s"] >= 5):
        session.notice(f"{event['message']} (again in {event['pause_s']:g} s)")


def _send(session: Session, stack: ExitStack, job: ActionJob, sender: Sender, options: _Options) -> int:
    if options.refused is not None:
        sender.check_refused_file(options.refused)
    copy = stack.enter_context(written(options.receipts, "--receipts")) if options.receipts is not None else None

    def print_receipt(receipt: Receipt) -> None:
        line = _receipt_line(receipt)
        try:
            _print_line(line)
        except BrokenPipeError:  # the reader of the receipts is gone; the rows are sent all the same
            discard_output(sys.stdout)
        except OSError as error:
            discard_output(sys.stdout)
            raise SinkError(
                f"the receipts cannot be written to standard output: {error.strerror}. No further rows were sent. "
                "The outcomes of the sent ones are recorded, and --resume prints all receipts"
            ) from None
        if copy is not None:
            copy.write(line + "\n")

    with stopping(session, job.clock, STOPPING):
        for receipt in sender.send():
            print_receipt(receipt)
    finished = sender.result
    _sum_up(session, job, finished)
    if options.refused is not None:
        try:
            sender.write_refused(options.refused)
        except OSError as error:
            raise cannot_write("--refused", options.refused, error) from None
    if finished.error is None and not finished.counts.get("unknown"):
        job.forget_rows()
    return finished.exit_code


def _sum_up(session: Session, job: ActionJob, finished: JobResult) -> None:
    """The end of a job: an event for plugins, why it ended early, and its counts."""
    name, action = job.source.name, job.action.name
    session.registry.event(
        {
            "event": "act_finished",
            "source": name,
            "action": action,
            "counts": dict(finished.counts),
            "not_sent": finished.not_sent,
            "exit_code": finished.exit_code,
        }
    )
    if finished.error is not None:
        left = ""
        if finished.not_sent == 1:
            left = "; 1 row was not sent, --resume sends it"
        elif finished.not_sent:
            left = f"; {finished.not_sent} rows were not sent, --resume sends them"
        why = str(finished.error)
        if finished.exit_code == StoppedError.exit_code:  # a write continues with --resume, not with the next run
            why, left = "interrupted", "; --resume sends the rest"
        session.say(f"error: {why}{left}", event="error", exit_code=finished.exit_code)
    if session.quiet:
        return
    session.say(
        f"{name} {action}: {finished.summary}", event="act_finished", source=name, action=action, **finished.counts
    )
    if finished.counts.get("unknown"):
        session.say(
            "unknown: sent, without a response that states whether the rows arrived. --retry-unknown sends them again"
        )


def _print_dry_run(session: Session, job: ActionJob, json_: bool) -> int:
    requests, refused = 0, 0
    for row in job.dry_run():
        if not isinstance(row, Mapping):
            refused += 1
            session.say(f"row {row.row} would be refused: {row.reason}")
            continue
        requests += 1
        if json_:
            _print_line(json.dumps(row, ensure_ascii=False))
            continue
        if requests > 1:
            _print_line("")
        _print_line(row["request"])
        for name, value in row["headers"].items():
            _print_line(f"{name}: {value}")
        if row["body"] is not None:
            _print_line(f"\n{row['body']}")
    if not session.quiet:
        session.say(f"dry run: nothing was sent; {counted(requests, 'request')}, {counted(refused, 'row')} refused")
    return 1 if refused else 0


def _print_line(line: str) -> None:
    print(harmless(line), flush=True)


def _receipt_line(receipt: Receipt) -> str:
    """A receipt as it is printed: row, status, reason, and the provider's answer where there is one."""
    line = {"row": receipt.row, "status": receipt.status, "reason": mask(receipt.reason)}
    shown = line if receipt.answer is None else {**line, "answer": mask_json(receipt.answer)}
    return json.dumps(shown, ensure_ascii=False)


# --- input ----------------------------------------------------------------------------------------------------------


def _parameter_pairs(action: Action, parameters: Sequence[str]) -> dict[str, Any]:
    """``key=value ...``, still text; a repeated field may come several times."""
    repeated = {
        name for field in action.fields if field.repeated for name in (field.name, field.member, *field.aliases)
    }
    lists = {name for field in action.fields if field.type == "list" for name in (field.name, field.member)}
    values: dict[str, Any] = {}
    for text in parameters:
        if not _is_text(text):
            raise UsageError(
                f"{text!a}: holds bytes that are no UTF-8 text; write the row into a file in UTF-8, and give "
                "--from FILE"
            )
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{text!r}: expected KEY=VALUE; `--help` behind the action's name lists its parameters")
        if name not in values:
            values[name] = [value] if name in repeated else value
        elif name in repeated:
            values[name].append(value)
        else:
            listed = f"""; a list is one value: {name}='["a", "b"]'""" if name in lists else ""
            raise UsageError(f"{name} is given twice{listed}")
    return {name: value[0] if isinstance(value, list) and len(value) == 1 else value for name, value in values.items()}


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _origin_of_rows(session: Session, options: _Options) -> Input:
    """The origin of the rows, from ``--from`` and ``--query``."""
    from_ = options.from_
    if options.query is not None:
        if from_ is None:
            raise UsageError("--query needs --from SINK: the sink that runs the query")
        sink = session.config.sink_for(from_, session.registry)
        session.notices(sink.notices)
        return Query(sink, options.query)
    if from_ is None:
        return None
    if from_ == "-":
        return sys.stdin.buffer
    named = from_ in session.config.sinks or from_.partition(":")[0] in session.registry.sinks()
    if (named or shown_target(from_) != from_ or "://" in from_) and not Path(from_).exists():
        raise UsageError(f"--from {shown_target(from_)} is a sink and no file: --query names which of its rows to take")
    return Path(from_)


def _check_files(options: _Options) -> None:
    """Raises UsageError if an output file of this command is also its input: the rows would be lost."""
    named: list[tuple[str, Path]] = []
    if options.from_ not in (None, "-") and options.query is None:
        named.append(("--from", Path(str(options.from_))))
    named += [("--receipts", options.receipts)] if options.receipts is not None else []
    named += [("--refused", options.refused)] if options.refused is not None else []
    option_by_path: dict[Path, str] = {}
    for option, path in named:
        if (other := option_by_path.setdefault(path.resolve(), option)) != option:
            raise UsageError(f"{option} {path} is the file of {other}, which would be written over. Name another file")
