"""
A connector and its imitation: how it is made, served, and read into memory.
"""

import atexit
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from penstock._config.config import Config
from penstock._config.source import ConfiguredSource
from penstock._fetch.exchange_recording import ExchangeRecording
from penstock._plan.read_job import ReadJob
from penstock._plan.selection import chosen_streams
from penstock._plugins.plugin_errors import describe_error, place_in_plugin
from penstock._plugins.registry import Registry
from penstock._run.context import new_run
from penstock._run.runner import run_jobs
from penstock._run_report.report import RunReport
from penstock.connector import Stream, settings_at
from penstock.events import OnEvent, ignore
from penstock.model import Request
from penstock.sandbox.server import Server, serve
from penstock.sinks import Sink
from penstock.testing.clock import ShiftedClock

TODAY = date(2026, 3, 20)

# Bounds small enough that a fault shows at once. A stated wait longer than throttle_wait_s would park the source.
QUICK: Mapping[str, Any] = {
    "requests_per_second": 2000.0,
    "concurrency": 4,
    "timeout_s": 3.0,
    "retry_first_s": 0.01,
    "retry_max_s": 0.05,
    "throttle_wait_s": 2.0,
    "poll_first_s": 0.01,
    "poll_max_s": 0.02,
    "poll_deadline_s": 30.0,
    "max_body_mib": 2,
    "max_pages": 500,
}
LONGEST_RUN_S = 120.0  # the longest that one run may take


def noon_of(today: date = TODAY, *, pace: float = 1.0) -> ShiftedClock:
    """A clock that runs from noon (UTC) of a day that is always the same; its sleeps are shorter by ``pace``."""
    return ShiftedClock(datetime.combine(today, time(12), UTC), pace=pace)


@frozen(kw_only=True)
class Subject:
    """
    A connector, and how its imitation is made and read: ``streams`` (none: all that are on by default) of the ``days``
    before ``today``, with ``settings`` as TOML would hold them.
    """

    name: str
    make: Callable[[str, date], Any]
    settings: Mapping[str, Any]
    streams: tuple[str, ...] = ()
    days: int = 3
    today: date = TODAY
    registry: Registry = field(factory=Registry, repr=False)
    state: Path | None = None  # for tokens that change with every grant, see source_of

    def window(self, today: date | None = None) -> list[date]:
        """The days that are read: those before today, which is not over."""
        return [(today or self.today) - timedelta(days=back) for back in range(self.days, 0, -1)]

    def source(self, base_url: str, **more: Any) -> ConfiguredSource:
        """The source as the configuration would make it of these values."""
        values = settings_at(base_url, {**self.settings, **QUICK, **more})
        return source_of(self.name, values, self.registry, self.state)

    def run(
        self,
        base_url: str,
        sink: Sink,
        *,
        days: list[date] | None = None,
        streams: Sequence[str] | None = None,
        clock: ShiftedClock | None = None,
        on_event: OnEvent = ignore,
        watch: Callable[[ConfiguredSource, Stream], Stream] | None = None,
        recording: ExchangeRecording | None = None,
        **settings: Any,
    ) -> RunReport:
        """
        Read the streams (default: the subject's) of these days (default: all of the window) in this process. ``watch``
        changes the streams, ``recording`` records or replays the calls, and ``settings`` are those of the source.
        """
        days, clock = days or self.window(), clock or noon_of(self.today)
        # A clock that runs faster passes its deadline while a busy machine has hardly begun.
        deadline_s = QUICK["poll_deadline_s"] * clock.pace
        source = self.source(base_url, **{"poll_deadline_s": deadline_s, **settings})
        if watch is not None:
            source = evolve(source, streams=tuple(watch(source, stream) for stream in source.streams))
        chosen = chosen_streams(source, self.streams if streams is None else streams)
        job = ReadJob(source=source, streams=chosen, sink=sink, since=days[0], until=days[-1])
        context = new_run(
            [job], clock=clock, on_event=on_event, recording=recording, deadline_s=LONGEST_RUN_S * clock.pace
        )
        return run_jobs(context)

    @contextmanager
    def served(self) -> Iterator[tuple[Server, Any]]:
        """A new imitation on a server of its own. An exception in the imitation fails the test."""
        with serve() as server:
            try:
                server.app = app = self.make(server.base_url, self.today)
            except Exception as error:
                what = f"the sandbox cannot be made: {describe_error(error)}{place_in_plugin(error)}"
                raise AssertionError(f"{what}; make= is a class or function of (base_url, today)") from error
            yield server, app
            raised = [f"{describe_error(error)}{place_in_plugin(error)}" for error in server.errors]
            assert not raised, f"the sandbox raised {raised[0]}"


def source_of(
    connector: str, values: Mapping[str, Any], registry: Registry | None = None, state: Path | None = None
) -> ConfiguredSource:
    """
    A source as the configuration would make it of these values. ``registry``: default: what is installed. ``state``:
    for tokens that change with every grant; default: a directory that is removed when the process ends.
    """
    registry = registry or Registry()
    checked = Config().with_values(connector, dict(values), "test").source(connector, registry)
    return ConfiguredSource.of(registry, connector, checked.settings, folder=state or Path(_scratch().name))


@cache
def _scratch() -> "tempfile.TemporaryDirectory[str]":
    folder = tempfile.TemporaryDirectory(prefix="penstock-kit-")
    atexit.register(folder.cleanup)  # else its removal at the end of the process is a ResourceWarning
    return folder


def path_of(request: Request, server: Server) -> str:
    return request.url.removeprefix(server.base_url).partition("?")[0]


def grant_request(source: ConfiguredSource) -> Request | None:
    return source.authenticator(None).grant_request()
