"""
``act``: write to a provider, and print a receipt for each row.
"""

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
from attrs import frozen

from penstock._cli.output import print_json, print_table
from penstock._cli.session import Session, as_json, command
from penstock._cli.signals import stopping
from penstock._cli.stderr import discard, harmless
from penstock._util.text import counted, did_you_mean
from penstock.errors import SinkError, StoppedError, UsageError
from penstock.project.setup import blamed

if TYPE_CHECKING:
    from penstock._config import SinkChoice
    from penstock._config.source import ConfiguredSource
    from penstock._util.clock import Clock
    from penstock._write.outbox import JobKey, OutboxJob
    from penstock._write.rows import Rows
    from penstock._write.sender import Finished
    from penstock.actions import Action, Field
    from penstock.connector import Connector
    from penstock.model import Receipt

PLACES = {"path": "path", "query": "query", "header": "header", "body": "body", "whole_body": "the body"}


@command()
@click.argument("source", required=False)
@click.argument("action", required=False)
@click.argument("parameters", nargs=-1, metavar="[KEY=VALUE ...]")
@click.option("--list", "list_", is_flag=True, help="What can be written.")
@as_json
@click.option("--from", "from_", metavar="FILE|SINK", help="A row each: JSON lines or CSV (- is stdin), or a sink.")
@click.option("--query", metavar="QUERY", help="Rows of the sink that --from names.")
@click.option("--yes", is_flag=True, help="Do what destroys.")
@click.option("--dry-run", is_flag=True, help="Print the requests, secrets masked, and send nothing.")
@click.option("--resume", is_flag=True, help="Go on with a job that did not come to its end: send what never left.")
@click.option(
    "--retry-unknown", is_flag=True, help="Also send again what may have arrived. It may then be there twice."
)
@click.option("--moved", is_flag=True, help="With --resume: the address changed since, the system behind it did not.")
@click.option("--anew", is_flag=True, help="The unfinished job went to another address: send this one all of its rows.")
@click.option("--group-ids", is_flag=True, help="Rows that differ in the repeated field only share a request.")
@click.option("--receipts", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Receipts there too.")
@click.option(
    "--refused", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Refused rows, to be corrected."
)
@click.option("-h", "--help", "help", is_flag=True, help="Of an action: its parameters.")
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

    Off until the source says allow_writes = true. What was sent is noted in .penstock beside the configuration: a row
    whose outcome is unknown is never sent again on its own.
    """
    context = click.get_current_context()
    if source is None or (help and action is None):
        if help or not list_:
            click.echo(context.get_help())
            return 0 if help else 2
        raise click.UsageError("--list needs a SOURCE", context)
    connector, actions = _offered(session, source)
    if list_:
        _list(connector, actions, json_)
        return 0
    if action is None:
        raise click.UsageError(f"which action? `penstock act {source} --list` shows them", context)
    chosen = _chosen(source, action, actions)
    if help:
        _describe(source, chosen, json_)
        return 0
    return _act(session, source, chosen, parameters, _Options(json_=json_, **options))


act.add_help_option = False  # --help is the command's own: an action has one as well


# --- what there is --------------------------------------------------------------------------------------------------


def _offered(session: Session, source: str) -> "tuple[Connector, tuple[Action, ...]]":
    """The source's connector and its actions; a connector's name is as good, without any configuration."""
    registry = session.registry
    name = source
    if source not in registry.connectors() or source in session.config.sources:
        name = session.config.connector_of(source)
        if name not in registry.connectors() and session.config.sources:
            session.configured([source])  # says which sources there are
    return registry.connector(name), registry.actions(name)


def _chosen(source: str, name: str, actions: "Sequence[Action]") -> "Action":
    found = {action.name: action for action in actions}
    if name in found:
        return found[name]
    if not found:
        raise UsageError(f"{source} has no writes: its provider offers none")
    raise UsageError(
        f"{source} has no action {name!r}.{did_you_mean(name, found)} `penstock act {source} --list` shows them"
    )


def _marks(action: "Action") -> list[str]:
    marks = [f"not built: {action.not_built}"] if action.not_built else []
    marks += ["destroys: --yes"] if action.destroys else []
    return marks + (["repeatable"] if action.repeatable else [])


def _list(connector: "Connector", actions: "Sequence[Action]", json_: bool) -> None:
    if json_:
        print_json({"connector": connector.name, "actions": [described(action) for action in actions]})
    elif not actions:
        print(f"{connector.name} has no writes")
    else:
        rows = [[one.name, one.method, one.path, ", ".join(_marks(one)), one.summary] for one in actions]
        print_table(["action", "method", "path", "notes", "summary"], rows)


def described(action: "Action") -> dict[str, Any]:
    """An action as ``--list --json`` shows it."""
    return {
        "name": action.name,
        "summary": action.summary,
        "method": action.method,
        "path": action.path,
        "destroys": action.destroys,
        "repeatable": action.repeatable,
        "rows_per_request": action.rows_per_request,
        "groups_by": action.grouping.field if action.grouping is not None else None,
        "open_body": action.open_body,
        "not_built": action.not_built or None,
        "fields": [
            {
                "name": one.name,
                "member": one.member,
                "place": one.place,
                "type": one.type,
                "required": one.required,
                "repeated": one.repeated,
                "choices": list(one.choices),
                "description": one.description,
            }
            for one in action.fields
        ],
    }


def _describe(source: str, action: "Action", json_: bool) -> None:
    if json_:
        print_json(described(action))
        return
    required = " ".join(_example(field) for field in action.fields if field.required)
    print(f"penstock act {source} {action.name} {required}{' --yes' if action.destroys else ''}\n")
    print(f"{action.summary}\n{action.method} {action.path}")
    for mark in _marks(action):
        print(mark)
    if action.bulk:
        print(f"the body is a list: rows that share all else travel together, up to {action.rows_per_request}")
    if action.grouping is not None:
        print(f"--group-ids: rows that differ in {action.grouping.field} only travel together")
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


def _example(field: "Field") -> str:
    samples = {"object": "'{...}'", "list": "'[...]'", "json": "JSON"}
    return f"{field.name}={samples.get(field.type, field.choices[0] if field.choices else '...')}"


# --- doing it -------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class _Options:
    """How a write is asked for, beside its parameters; see the help of ``act``."""

    json_: bool
    from_: str | None
    query: str | None
    yes: bool
    dry_run: bool
    resume: bool
    retry_unknown: bool
    moved: bool
    anew: bool
    group_ids: bool
    receipts: Path | None
    refused: Path | None

    @property
    def goes_on(self) -> bool:
        """Whether a job that was begun before is meant."""
        return self.resume or self.retry_unknown

    @property
    def file(self) -> str | None:
        """What ``--from`` names, unless it is a sink."""
        return self.from_ if self.query is None else None

    def check(self) -> None:
        """Raises UsageError where one contradicts another."""
        if self.query is not None and self.from_ is None:
            raise UsageError("--query needs --from SINK: where it is asked")
        if self.goes_on and self.dry_run:
            raise UsageError("--dry-run sends nothing, so there is nothing to go on with")
        if self.anew and self.goes_on:
            raise UsageError("--anew begins again, --resume and --retry-unknown go on: choose one")
        if self.moved and not self.goes_on:
            raise UsageError("--moved says something of a job to go on with: it needs --resume or --retry-unknown")


@frozen(kw_only=True, eq=False)
class _Work:
    """What is sent, or only shown: an action's rows, over the parameters that all of them share."""

    session: Session
    source: "ConfiguredSource"
    action: "Action"
    rows: "Rows"
    defaults: Mapping[str, Any]
    grouped: bool  # rows that may share a request do
    clock: "Clock"


def _act(session: Session, name: str, action: "Action", parameters: Sequence[str], options: _Options) -> int:
    from penstock._util.clock import Clock
    from penstock._write.outbox import Outbox

    if action.not_built:
        raise UsageError(f"{action.name} is not built: {action.not_built}")
    options.check()
    given = _pairs(action, parameters)
    grouped = options.group_ids
    if action.grouping is not None and "group_ids" in given:
        grouped = grouped or str(given.pop("group_ids")).lower() == "true"
    if grouped and action.grouping is None:
        raise UsageError(f"--group-ids: rows of {action.name} cannot share a request")
    (source,) = session.configured([name])
    _check_allowed(source, action, options)
    if options.file is not None:
        _check_no_sink(session, options.file)
    _check_files(options.file, options.receipts, options.refused)
    clock = Clock()
    folder = session.config.folder / ".penstock"
    with blamed(source.connector), ExitStack() as stack:
        defaults, key, read = _input(session, stack, source, action, given, options)

        def work(place: Path, *, fresh: bool) -> _Work:
            rows = read(place, fresh)
            return _Work(
                session=session,
                source=source,
                action=action,
                rows=rows,
                defaults=defaults,
                grouped=grouped,
                clock=clock,
            )

        if options.dry_run:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-")))
            return _print_dry_run(work(place, fresh=True), options.json_)
        job = Outbox(folder).open(
            key,
            clock.now(),
            resume=options.resume,
            retry_unknown=options.retry_unknown,
            moved=options.moved,
            anew=options.anew,
        )
        if options.goes_on and job.fresh:
            session.notice("there is no job of these rows and parameters to go on with: all of them are sent")
        elif job.over:
            session.notice("this job came to its end before: its receipts are printed again, and nothing is sent")
        stack.callback(job.close)
        sent = work(folder, fresh=job.fresh)
        if options.refused is not None:
            _check_form(options.refused, sent.rows)
        receipts = options.receipts
        copy = stack.enter_context(_written(receipts, "--receipts")) if receipts is not None else None
        return _send(sent, job, copy, options.refused)


def _check_allowed(source: "ConfiguredSource", action: "Action", options: _Options) -> None:
    """Raises UsageError where nothing may be sent, unless only the requests are shown."""
    if options.dry_run:
        return
    if not source.settings.allow_writes:
        raise UsageError(
            f"writes to {source.name} are off: nothing was sent. Set allow_writes = true under "
            f"[source.{source.name}]; --dry-run shows the request without it"
        )
    if action.destroys and not options.yes:
        raise UsageError(f"{action.name} destroys something at the provider: nothing was sent. Add --yes to do it")


def _send(work: _Work, job: "OutboxJob", copy: TextIO | None, refused: Path | None) -> int:
    from penstock._write.sender import Writer

    session = work.session

    def print_receipt(receipt: "Receipt") -> None:
        line = _line(receipt)
        try:
            _put(line)
        except BrokenPipeError:  # nobody reads the receipts any more; the rows are sent all the same
            discard(sys.stdout)
        except OSError as error:
            discard(sys.stdout)
            raise SinkError(
                f"the receipts cannot be written to standard output: {error.strerror}. No more rows were sent; what "
                "became of those before is noted, and --resume prints the receipts of all"
            ) from None
        if copy is not None:
            copy.write(line + "\n")

    def follow(event: Mapping[str, Any]) -> None:
        session.registry.event(event)
        if event["event"] == "retry" and (session.verbose or event["pause_s"] >= 5):
            session.notice(f"{event['message']} (again in {event['pause_s']:g} s)")

    with stopping(session, work.clock, "stopping after the request under way. Once more ends it at once"):
        writer = Writer(
            source=work.source,
            action=work.action,
            job=job,
            clock=work.clock,
            on_receipt=print_receipt,
            emit=follow,
            grouped=work.grouped,
        )
        finished = writer.run(work.rows, work.defaults)
    if refused is not None:
        _write_refused(refused, work.rows, job)
    if finished.error is None:
        work.rows.forget()
    _sum_up(work, finished)
    return finished.exit_code


def _sum_up(work: _Work, finished: "Finished") -> None:
    """What is left to say of a job: to plugins, why it ended early, and its counts."""
    session, name, action = work.session, work.source.name, work.action.name
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
        if finished.exit_code == StoppedError.exit_code:  # a write goes on by --resume, not by a next run
            why, left = "interrupted", "; --resume sends the rest"
        session.say(f"error: {why}{left}", event="error", exit_code=finished.exit_code)
    if session.quiet:
        return
    session.say(
        f"{name} {action}: {finished.summary}", event="act_finished", source=name, action=action, **finished.counts
    )
    if finished.counts.get("unknown"):
        session.say("unknown: sent, and nobody knows whether it arrived. --retry-unknown sends those rows again")


def _print_dry_run(work: _Work, json_: bool) -> int:
    from penstock._write.sender import dry_run
    from penstock.model import Receipt

    session, requests, refused = work.session, 0, 0
    for one in dry_run(work.source, work.action, work.rows, work.defaults, grouped=work.grouped, clock=work.clock):
        if isinstance(one, Receipt):
            refused += 1
            session.say(f"row {one.row} would be refused: {one.reason}")
            continue
        requests += 1
        if json_:
            _put(json.dumps(one, ensure_ascii=False))
            continue
        _put("" if requests > 1 else None)
        _put(one["request"])
        for name, value in one["headers"].items():
            _put(f"{name}: {value}")
        if one["body"] is not None:
            _put(f"\n{one['body']}")
    if not session.quiet:
        session.say(f"dry run: nothing was sent; {counted(requests, 'request')}, {counted(refused, 'row')} refused")
    return 1 if refused else 0


def _put(line: str | None) -> None:
    if line is not None:
        print(harmless(line), flush=True)


def _line(receipt: "Receipt") -> str:
    from penstock._write.sender import shown

    return json.dumps(shown(receipt), ensure_ascii=False)


# --- input ----------------------------------------------------------------------------------------------------------


def _pairs(action: "Action", parameters: Sequence[str]) -> dict[str, Any]:
    """``key=value ...``, still text; a repeated field may come several times."""
    repeated = {
        name for field in action.fields if field.repeated for name in (field.name, field.member, *field.aliases)
    }
    lists = {name for field in action.fields if field.type == "list" for name in (field.name, field.member)}
    given: dict[str, Any] = {}
    for text in parameters:
        if not _is_text(text):
            raise UsageError(f"{text!a}: holds bytes that are no UTF-8 text")
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{text!r}: wanted KEY=VALUE; `--help` behind the action's name lists its parameters")
        if name not in given:
            given[name] = [value] if name in repeated else value
        elif name in repeated:
            given[name].append(value)
        else:
            listed = f"""; a list is one value: {name}='["a", "b"]'""" if name in lists else ""
            raise UsageError(f"{name} is given twice{listed}")
    return {name: value[0] if isinstance(value, list) and len(value) == 1 else value for name, value in given.items()}


def _input(
    session: Session,
    stack: ExitStack,
    source: "ConfiguredSource",
    action: "Action",
    given: Mapping[str, Any],
    options: _Options,
) -> "tuple[Mapping[str, Any], JobKey, Callable[[Path, bool], Rows]]":
    """
    Typed parameters of the command line, what makes the job, and how its rows are read: given a place for copies, and
    whether the job is a new one.
    """
    from penstock._write.outbox import CALL, STDIN, JobKey
    from penstock._write.requests import checked, destination, typed
    from penstock._write.rows import RowFile, SingleRow

    from_, query = options.from_, options.query
    try:
        defaults = typed(action, given, text=True)
        if from_ is None:
            checked(action, source.settings, defaults)
    except ValueError as error:
        help_ = f"`penstock act {source.name} {action.name} --help` lists the parameters"
        stop = "" if str(error).endswith(("?", ".")) else "."
        raise UsageError(f"{action.name}: {error}{stop} {help_}") from None

    def key(digest: str, what: str) -> "JobKey":
        said = _digest(json.dumps([digest, sorted(defaults.items())], default=str))
        address = destination(action, source.settings)
        return JobKey(source=source.name, action=action.name, digest=said, what=what, destination=address)

    if from_ is None:
        single = SingleRow(defaults)
        return {}, key("parameters", CALL), lambda place, fresh: single
    if query is not None:
        choice = session.config.sink_for(from_, session.registry)
        for text in choice.notices:
            session.notice(text)
        if choice.kind.query is None:
            raise UsageError(f"--query: the sink {choice.shown} ({choice.kind.name}) cannot be asked; use --from FILE")
        digest = _digest(f"{choice.shown}\0{query}")
        read = partial(_queried, choice, query, f"query-{source.name}-{action.name}-{digest[:16]}.jsonl")
        return defaults, key(digest, f"this query of {choice.shown}"), read
    if from_ == "-":
        copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-"))) / "stdin"
        with copy.open("wb") as out:
            shutil.copyfileobj(sys.stdin.buffer, out)
        file = RowFile.at(copy, STDIN)
    else:
        file = RowFile.at(Path(from_))
    return defaults, key(file.digest, file.shown), lambda place, fresh: file


def _check_no_sink(session: Session, from_: str) -> None:
    """A sink without ``--query`` is told as that, and its password not as part of a path."""
    from penstock._config import shown_target

    named = from_ in session.config.sinks or from_.partition(":")[0] in session.registry.sinks()
    if (named or shown_target(from_) != from_ or "://" in from_) and not Path(from_).exists():
        raise UsageError(f"--from {shown_target(from_)} is a sink and no file: --query says which of its rows to take")


def _queried(choice: "SinkChoice", query: str, name: str, place: Path, fresh: bool) -> "Rows":
    """
    The rows of a query, from a copy: a job that is gone on with must see the rows it began with.

    Called with the job locked. A job that came to its end leaves no copy.
    """
    import msgspec

    from penstock._write.rows import RowFile

    copy = place / name
    if fresh or not copy.exists():
        assert choice.kind.query is not None
        encode = msgspec.json.Encoder(decimal_format="number", enc_hook=str).encode
        draft = copy.with_suffix(".part")
        try:
            with _written(draft, "--query", private=True) as out:
                for row in choice.kind.query(choice.settings, query):
                    out.write(encode(dict(row)).decode() + "\n")
            draft.replace(copy)
        finally:
            draft.unlink(missing_ok=True)
    return RowFile.at(copy, f"a query of {choice.shown}", temporary=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# --- files ----------------------------------------------------------------------------------------------------------


@contextmanager
def _written(path: Path, option: str, *, private: bool = False) -> Iterator[TextIO]:
    try:
        with path.open("w", encoding="utf-8") as file:
            if private:
                path.chmod(0o600)
            yield file
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot be written: {error.strerror}") from None


def _check_files(from_: str | None, receipts: Path | None, refused: Path | None) -> None:
    """No file is written over another one that this command names: its rows would be lost."""
    named = [("--from", Path(from_))] if from_ not in (None, "-") else []
    named += [("--receipts", receipts)] if receipts is not None else []
    named += [("--refused", refused)] if refused is not None else []
    seen: dict[Path, str] = {}
    for option, path in named:
        if (other := seen.setdefault(path.resolve(), option)) != option:
            raise UsageError(f"{option} {path} is the file of {other}, which would be written over. Name another file")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_form(path: Path, rows: "Rows") -> None:
    """The file of refused rows has the form of the input; a name that says otherwise would mislead its next reader."""
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--refused {path}: there is no directory {path.parent}")
    if rows.header and path.suffix.lower() != ".csv":
        raise UsageError(f"--refused {path}: the rows come from CSV, so name it .csv")
    if not rows.header and path.suffix.lower() in (".csv", ".gz"):
        raise UsageError(f"--refused {path}: the rows are written as JSON lines, so name it .jsonl")


def _write_refused(path: Path, rows: "Rows", job: "OutboxJob") -> None:
    """The rows that were refused, as they stood in the input; those that were not sent are not among them."""
    try:
        with path.open("wb") as file:
            file.write(rows.header)
            for given in rows:
                receipt = job.receipt(given.number)
                if receipt is not None and receipt.status == "refused":
                    file.write(given.raw)
    except OSError as error:
        raise UsageError(f"--refused {path}: cannot be written: {error.strerror}") from None
