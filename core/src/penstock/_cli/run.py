"""
``run``: jobs carried out, followed and summed up.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock._cli.follow import following
from penstock._cli.jobs import jobs_for, window
from penstock._cli.session import Session, command
from penstock._cli.signals import stopping
from penstock._cli.types import DURATION
from penstock._run.history import History, write_json
from penstock._util.clock import Clock
from penstock.errors import PenstockError, UsageError

if TYPE_CHECKING:
    from penstock._config import SinkChoice
    from penstock._plan.planner import Job
    from penstock.report import RunReport


@command("run")
@click.argument("name", metavar="PIPELINE|SOURCE", required=False)
@window
@click.option("--strict", is_flag=True, help="Exit 5 when records were rejected or unknown members came.")
@click.option("--deadline", type=DURATION, metavar="TIME", help="Stop in time: 45, 45s, 30m or 2h.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write it as JSON.")
def run(
    session: Session, name: str | None, *, strict: bool, deadline: float | None, report: Path | None, **wanted: Any
) -> int:
    """
    Fetch what is not final yet and deliver it.

    A PIPELINE stands in the configuration with its sink. A SOURCE needs one: penstock run talroo --to jsonl:data
    """
    if report is not None and not report.absolute().parent.is_dir():
        raise UsageError(f"--report {report}: there is no directory {report.parent}")
    clock = Clock()
    try:
        jobs, choice = jobs_for(session, name, **wanted)
        assert choice is not None
        finished = perform(session, jobs, clock=clock, deadline_s=deadline, strict=strict, choice=choice)
    except PenstockError as error:
        if report is not None:
            seen = {"source": None, "stream": None, "partition": None, "error": type(error).__name__}
            _write_report(
                report,
                {
                    "run_id": None,
                    "status": "not started",
                    "exit_code": error.exit_code,
                    "seconds": 0.0,
                    "sources": {},
                    "errors": [{**seen, "message": str(error)}],
                },
            )
        raise
    if report is not None:
        _write_report(report, finished.as_dict())
    return finished.exit_code


def perform(
    session: Session,
    jobs: "Sequence[Job]",
    *,
    clock: Clock,
    deadline_s: float | None = None,
    strict: bool = False,
    choice: "SinkChoice | None" = None,
) -> "RunReport":
    """
    Run the jobs, followed on stderr and by plugins, ended cleanly by a signal; the report, after its summary.

    The target of ``choice`` is remembered once it could be opened: a place that took nothing is none to look at later.
    """
    from penstock._run import runner

    def heard(event: Mapping[str, Any]) -> None:
        if event["event"] == "run_started" and choice is not None:
            remember(session, choice, jobs, clock)
        follow(event)

    with (
        stopping(session, clock),
        following(
            log_format=session.log_format, quiet=session.quiet, verbose=session.verbose, debug=session.debug
        ) as follow,
    ):
        finished = runner.run(jobs, clock=clock, deadline_s=deadline_s, strict=strict, on_event=heard)
    summarise(session, finished)
    return finished


def summarise(session: Session, finished: "RunReport") -> None:
    """What is left to say after a run: notices, what failed beyond single partitions, and the summary line."""
    if session.log_format == "json":
        return  # the event run_finished holds all of it
    for text in finished.notices:
        session.notice(text)
    beyond = [error for error in finished.errors if error["partition"] is None]
    for error in beyond:
        place = ".".join(error[key] for key in ("source", "stream") if error[key])
        session.say(f"error: {place}: {error['message']}")
    if not session.quiet:
        session.say(finished.summary_line)


def remember(session: Session, choice: "SinkChoice", jobs: "Sequence[Job]", clock: Clock) -> None:
    """Keep the target for later commands; where that fails, say so and go on."""
    if choice.remembered is None:
        return
    try:
        History(session.config.folder).remember(choice.remembered, [job.source.name for job in jobs], clock.now())
    except OSError as error:
        session.notice(
            f"the target cannot be remembered in {session.config.folder / '.penstock'} ({error.strerror}); "
            "plan, status and rejected will need --to"
        )


def _write_report(path: Path, value: Mapping[str, Any]) -> None:
    from penstock.redact import mask_json

    try:
        write_json(path, mask_json(dict(value)))
    except OSError as error:
        raise UsageError(f"--report {path}: cannot be written: {error.strerror}") from None
