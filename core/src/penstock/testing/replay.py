"""
Recordings as fixtures: a response that a provider once gave, read by a connector in a test.

::

    def test_a_click_without_a_price_is_delivered():
        found = replayed("talroo", Path(__file__).parent / "fixtures" / "no-price")

        assert found.rows["clicks"][0]["price_amount"] is None
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import frozen

from penstock._plan.read_job import ReadJob
from penstock._plan.selection import chosen_streams
from penstock._project.setup import Setup
from penstock._recording.replay import Recording
from penstock._run.context import new_run
from penstock._run.runner import run_jobs
from penstock._run_report.report import RunReport
from penstock._util.clock import StandingClock
from penstock._util.days import window
from penstock.testing.memory import MemorySink


@frozen(kw_only=True)
class Replayed:
    """``rows``: by stream, as plain data (decimals as their text). ``report``: of the run, with its ``exit_code``."""

    rows: dict[str, list[dict[str, Any]]]
    report: RunReport


def replayed(source: str, folder: Path, *, plugins: Iterable[object] | None = None, **settings: Any) -> Replayed:
    """
    The run that ``penstock run --record`` kept in ``folder``, made again without network, at its time.

    ``source``: the source in the recording. ``settings``: in place of the recorded ones. ``plugins``: in place of the
    installed ones. Raises UsageError where ``folder`` is no recording.
    """
    recording = Recording.open(folder)
    setup = Setup(file={"source": {source: settings}} if settings else {}, plugins=plugins, environ={})
    setup = setup.with_recorded(recording)
    configured = setup.source(source)
    options = recording.options
    clock, sink = StandingClock(recording.started_at), MemorySink(None)
    since, until = window(options["since"], options["until"], recording.started_at.astimezone(configured.zone).date())
    job = ReadJob(
        source=configured,
        streams=chosen_streams(configured, options["streams"] or None),
        accounts=tuple(options["accounts"]),
        sink=sink,
        since=since,
        until=until,
        words=(options["since"], options["until"]),
    )
    report = run_jobs(new_run([job], clock=clock, recording=recording))
    return Replayed(rows={stream: sink.all(stream) for stream in sink.rows}, report=report)
