"""
``run``: run a pipeline or source, show its progress on stderr, end it cleanly on a signal, and summarise it.
"""

import stat
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from penstock._cli.completion import pipelines_and_sources
from penstock._cli.follow import following, stopping
from penstock._cli.lines import Lines
from penstock._cli.options import DURATION, selection
from penstock._cli.session import Session, command
from penstock._project.run_result import RunResult
from penstock._project.selected_jobs import unnamed_error
from penstock._util.clock import Clock
from penstock._util.files import write_json
from penstock.commands.process import only_data_on_stdout
from penstock.errors import PenstockError, UsageError
from penstock.events import Event, OnEvent
from penstock.redact import mask_json

_COLORS = {0: "green", 4: "yellow", 5: "yellow", 6: "yellow"}  # of the verdict, by exit code


@command("run")
@click.argument("name", metavar="PIPELINE|SOURCE", required=False, shell_complete=pipelines_and_sources)
@selection
@click.option("--strict", is_flag=True, help="Exit 5 also for members that no column declares.")
@click.option("--allow-rejected", metavar="N|N%|true", help="Exit 0 with at most so many rejected records.")
@click.option("--deadline", "deadline_s", type=DURATION, metavar="TIME", help="Stop in time: 45, 45s, 30m or 2h.")
@click.option("--shard", metavar="N/M", help="Read one of M shards of the accounts and days, beside other processes.")
@click.option("--workers", type=int, metavar="N", help="Divide accounts and days among N processes.  [default: 1]")
@click.option(
    "--engine", metavar="NAME:ADDRESS", help="Divide them among the workers of an engine, such as dask://HOST:PORT."
)
@click.option(
    "--record", type=click.Path(file_okay=False), metavar="DIR", help="Keep every exchange in a new directory, masked."
)
@click.option(
    "--record-full", type=click.Path(file_okay=False), metavar="DIR", help="As --record, with credentials masked only."
)
@click.option(
    "--replay", type=click.Path(file_okay=False), metavar="DIR", help="Read a recording in place of the provider."
)
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write the run report as JSON."
)
def run(session: Session, name: str | None, *, report: Path | None, **options: Any) -> int:
    """
    Fetch what is not final yet and deliver it.

    A PIPELINE is defined in the configuration, with its sink. A SOURCE needs --to: penstock run talroo --to jsonl:data
    """
    if report is not None and not report.absolute().parent.is_dir():
        raise UsageError(f"--report {report}: there is no directory {report.parent}; make it, or name another file")
    try:
        if name is None:
            raise unnamed_error(session.setup.config, planning=False)
        result = run_and_follow(
            session, lambda follow, stop: session.project.run(name, **options, on_event=follow, stop=stop)
        )
    except PenstockError as error:
        if report is not None:
            _write_report(session, report, RunResult.not_started(error).report)
        raise
    written = report is None or _write_report(session, report, result.report)
    if result.error is not None:
        raise result.error
    return result.exit_code or int(not written)


def run_and_follow(session: Session, start: Callable[[OnEvent, threading.Event], RunResult]) -> RunResult:
    """
    Start a run that reports its events to the follower and ends when the event is set, which a signal does; then
    summarise it on stderr.
    """
    clock = Clock()
    lines = Lines(quiet=session.quiet, verbose=session.verbose, debug=session.debug)
    with (
        stopping(session, clock),
        following(lines, json_=session.log_format == "json") as follow,
    ):

        def show(event: Event) -> None:
            if event["event"] == "notice":
                session.notice(event["message"])
            else:
                follow(event)

        with only_data_on_stdout():
            result = start(show, clock.stop)
    if result.error is None:
        summarise(session, result)
    return result


def summarise(session: Session, result: RunResult) -> None:
    """Print, after a run, the notices, the errors that belong to no single partition, and the summary line."""
    if session.quiet:  # who relies on a receiver would take its silence for a good run
        for text in result.undelivered_notifications:
            session.say(text, event="notice")
    if session.log_format == "json":
        return  # the event run_finished contains all of it
    session.notice(*result.notices)
    for error in result.errors:
        if error["partition"] is None:
            session.say(f"error: {error['message']}")
    for text in filter(None, (result.rejected_line, result.missing_measures_line, result.truncated_line)):
        session.say(text)
    if not session.quiet:
        session.say(result.summary, _COLORS.get(result.exit_code, "red"))
        return
    # Notes and notices, which -q leaves out: without these lines, cron would not name a source that was not read, nor
    # rows that somebody deleted.
    for text in result.target_notices:
        session.say(text)
    for source, why in result.report.get("parked", {}).items():
        session.say(f"{source} is parked: {why}")
    for source, why in result.report.get("locked", {}).items():
        session.say(f"{source} was not read: {why}")


def _write_report(session: Session, path: Path, value: Mapping[str, Any]) -> bool:
    """
    Write the report; whether that succeeded. The run has ended, so a failure does not change its exit code. A file that
    is there keeps its access rights.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
        write_json(path, mask_json(dict(value)), mode)
    except OSError as error:
        session.say(f"error: --report {path}: cannot be written: {error.strerror}", event="error")
        return False
    return True
