"""
``act``: write to a provider, and print a receipt for each row.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from attrs import asdict

from penstock._cli.completion import actions as action_names, sources
from penstock._cli.follow import stopping
from penstock._cli.output import print_json, print_table
from penstock._cli.session import Session, as_json, command
from penstock._cli.stderr import harmless
from penstock._project.act import action_of, actions_of, receipt_line
from penstock._util.clock import Clock
from penstock.actions import Action, Field
from penstock.commands.process import discard_output, only_data_on_stdout, standard_output
from penstock.connector import Connector
from penstock.errors import SinkError, StoppedError, sentences
from penstock.events import Event
from penstock.model import Receipt
from penstock.names import counted
from penstock.results import ActResult

PLACES = {"path": "path", "query": "query", "header": "header", "body": "body", "whole_body": "the body"}
STOPPING = "stopping after the current request. A second signal ends the process at once"


@command()
@click.argument("source", required=False, shell_complete=sources)
@click.argument("action", required=False, shell_complete=action_names)
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
    if list_:
        with only_data_on_stdout():
            connector, actions = actions_of(session.setup, source)
        _list_actions(connector, actions, json_)
        return 0
    if action is None:
        raise click.UsageError(f"which action? `penstock act {source} --list` shows them", context)
    if help:
        with only_data_on_stdout():
            described_action = action_of(session.setup, source, action)
        _describe(source, described_action, json_)
        return 0
    if options["dry_run"]:
        return _dry_run(session, source, action, parameters, json_, options)
    return _send(session, source, action, parameters, options)


act.add_help_option = False  # --help is the command's own: an action has one as well


# --- lists and help -------------------------------------------------------------------------------------------------


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
        print(f"the body is a list: rows that share all else share a request, up to {action.rows_per_request}")
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


def _send(session: Session, source: str, action: str, parameters: Sequence[str], options: Mapping[str, Any]) -> int:
    clock = Clock()
    with ExitStack() as signals:

        def follow(event: Event) -> None:
            if event["event"] == "act_started":  # until then Ctrl-C ends the command at once
                signals.enter_context(stopping(session, clock, STOPPING))
            elif event["event"] == "notice":
                session.notice(event["message"])
            elif event["event"] == "retry" and (session.verbose or event["pause_s"] >= 5):
                session.notice(f"{event['message']} (again in {event['pause_s']:g} s)")

        result = session.project.act(
            source,
            action,
            parameters,
            **_origin(options),
            resume=options["resume"],
            retry_unknown=options["retry_unknown"],
            confirmed=options["yes"],
            receipts=options["receipts"],
            refused=options["refused"],
            on_receipt=_print_receipt,
            on_event=follow,
            stop=clock.stop,
        )
    _sum_up(session, source, action, result)
    return result.exit_code


def _origin(options: Mapping[str, Any]) -> dict[str, Any]:
    """The origin of the rows, from ``--from`` and ``--query``."""
    if options["query"] is not None:
        return {"sink": options["from_"], "query": options["query"]}
    return {"file": sys.stdin.buffer if options["from_"] == "-" else options["from_"]}


def _print_receipt(receipt: Receipt) -> None:
    try:
        _print_line(receipt_line(receipt))
    except BrokenPipeError:  # the reader of the receipts is gone; the rows are sent all the same
        discard_output(standard_output())
    except OSError as error:
        discard_output(standard_output())
        raise SinkError(
            f"the receipts cannot be written to standard output: {error.strerror}. No further rows were sent. "
            "The outcomes of the sent ones are recorded, and --resume prints all receipts"
        ) from None


def _sum_up(session: Session, source: str, action: str, result: ActResult) -> None:
    """Print why a job ended early, and its counts."""
    if result.error is not None:
        left = ""
        if result.not_sent == 1:
            left = "1 row was not sent: --resume sends it"
        elif result.not_sent:
            left = f"{result.not_sent} rows were not sent: --resume sends them"
        why = str(result.error)
        if result.exit_code == StoppedError.exit_code:  # a write continues with --resume, not with the next run
            why, left = "interrupted", "--resume sends the rest"
        session.say(f"error: {sentences(why, left)}", event="error", exit_code=result.exit_code)
    if session.quiet:
        return
    session.say(
        f"{source} {action}: {result.summary}", event="act_finished", source=source, action=action, **result.counts
    )
    if result.counts.get("unknown"):
        session.say(
            "unknown: sent, without a response that states whether the rows arrived. --retry-unknown sends them again"
        )


def _dry_run(
    session: Session, source: str, action: str, parameters: Sequence[str], json_: bool, options: Mapping[str, Any]
) -> int:
    requests = 0

    def print_request(request: Mapping[str, Any]) -> None:
        nonlocal requests
        requests += 1
        if json_:
            _print_line(json.dumps(request, ensure_ascii=False))
            return
        if requests > 1:
            _print_line("")
        _print_line(request["request"])
        for name, value in request["headers"].items():
            _print_line(f"{name}: {value}")
        if request["body"] is not None:
            _print_line(f"\n{request['body']}")

    result = session.project.act(
        source,
        action,
        parameters,
        **_origin(options),
        dry_run=True,
        resume=options["resume"],
        retry_unknown=options["retry_unknown"],
        on_request=print_request,
        on_receipt=lambda receipt: session.say(f"row {receipt.row} would be refused: {receipt.reason}"),
    )
    session.notice(*result.notices)
    if not session.quiet:
        refused = counted(sum(result.counts.values()), "row")
        session.say(f"dry run: nothing was sent; {counted(requests, 'request')}, {refused} refused")
    return result.exit_code


def _print_line(line: str) -> None:
    print(harmless(line), file=standard_output(), flush=True)
