"""
Following a run on a terminal: a bar for the whole run, one for each stream, and lines for what needs attention.
"""

from collections.abc import Mapping
from typing import Any

from attrs import define, field
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import Progress, ProgressColumn, Task, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Column
from rich.text import Text

from penstock._cli.lines import PLAN, Lines
from penstock._cli.stderr import harmless
from penstock.events import Event
from penstock.names import counted
from penstock.redact import mask

WIDEST_NAME = 30  # characters; a longer name of a stream is cut
LINES_AROUND_BARS = 6  # of the terminal, for the lines above and below the bars


@define(eq=False, repr=False)
class StreamBar:
    """What is known of one stream of one source."""

    name: str
    task: Any  # rich's id of its bar
    planned: int = 0
    done: int = 0
    failed: int = 0
    records: int = 0
    derived_records: int = 0  # records of the streams that are derived from it
    reports: int = 0  # being made by the provider
    begun: bool = False
    parked: bool = False  # its source is left for a later run

    @property
    def left(self) -> int:
        """Partitions that this run still reads."""
        return 0 if self.parked else max(0, self.planned - self.done)

    @property
    def finished(self) -> bool:
        return self.done >= self.planned

    @property
    def state(self) -> str:
        """The text after the bar: what needs attention first, since a narrow terminal cuts its end."""
        if not self.begun and not self.finished:
            return "parked" if self.parked else "not begun"
        phrases = [f"{self.failed:,} failed"] if self.failed else []
        if self.parked and not self.finished:
            phrases.append("parked")
        if self.records or not (self.reports or self.parked):
            phrases.append(f"{self.records:,} records")
        if self.reports and not self.parked:
            reports = f"{self.reports:,}" if self.records else counted(self.reports, "report")
            phrases.append(f"{reports} pending")
        return ", ".join(phrases)


@define(eq=False, repr=False)
class Bars:
    """
    A follower with bars on stderr. As a context manager it shows them from its start to its end.

    Streams are in the order of the plan. Where they do not all fit in the height of the terminal, those that are being
    read and those with failures have bars, and the others are one line of counts.
    """

    lines: Lines = field(factory=Lines)
    console: Console = field(factory=lambda: Console(stderr=True, highlight=False))
    _streams: dict[tuple[str, str], StreamBar] = field(factory=dict, init=False)
    _pauses: dict[str, float] = field(factory=dict, init=False)  # source -> until when its provider is waited for
    _progress: Progress = field(init=False)
    _live: Live = field(init=False)
    _total: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=WIDEST_NAME)),
            _Bar(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}", justify="right", table_column=Column(no_wrap=True)),
            TextColumn(
                "{task.fields[state]}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            ),
            console=self.console,
            expand=True,
        )
        self._total = self._progress.add_task("all", total=0, state="", failed=0)
        self._live = Live(console=self.console, get_renderable=self.shown, refresh_per_second=4)

    def __enter__(self) -> "Bars":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        self._count(event)
        for level, text in self.lines.lines_of(event):
            if event["event"] not in PLAN or self.lines.verbose:  # the bars show the plan
                self.console.print(Text(harmless(mask(text)), style="red" if level == "ERROR" else ""))

    # --- counts -------------------------------------------------------------------------------------------------------

    def _count(self, event: Event) -> None:
        if event["event"] == "retry" and event["pause_s"]:
            self._pauses[event["source"]] = self._progress.get_time() + event["pause_s"]
        elif event["event"] == "note" and event.get("parked"):
            self._park(event["source"])
        if (bar := self._bar_of(event)) is None:
            return
        match event["event"]:
            case "planned":
                bar.planned = event["partitions"]
            case "stream_started":
                bar.begun = True
            case "report_waiting":
                bar.reports += 1
            case "report_ready":
                bar.reports -= 1
            case "partition_delivered":
                bar.done += 1
                bar.records += event["records"]
                bar.derived_records += sum(event.get("derived", {}).values())
            case "partition_failed":
                bar.done += 1
                bar.failed += 1
        self._progress.update(bar.task, total=bar.planned, completed=bar.done, state=bar.state, failed=bar.failed)

    def _bar_of(self, event: Mapping[str, Any]) -> StreamBar | None:
        """The bar of an event's stream, which is added when the stream is planned; None for an event without one."""
        key = (event.get("source", ""), event.get("stream", ""))
        if event["event"] == "planned" and key not in self._streams:
            task = self._progress.add_task(".".join(key), total=0, state="", failed=0)
            self._streams[key] = StreamBar(".".join(key), task)
        return self._streams.get(key)

    def _park(self, source: str) -> None:
        self._pauses.pop(source, None)
        for (owner, _), bar in self._streams.items():
            if owner == source:
                bar.parked = True
                self._progress.update(bar.task, state=bar.state)

    # --- what is shown ------------------------------------------------------------------------------------------------

    def shown(self) -> RenderableType:
        """The bars as they are now; nothing before the first stream is planned, so that an early error stands alone."""
        bars = list(self._streams.values())
        if not bars:
            return Group()
        self._progress.update(
            self._total,
            total=sum(bar.planned for bar in bars),
            completed=sum(bar.done for bar in bars),
            failed=sum(bar.failed for bar in bars),
            visible=len(bars) != 1,
        )
        room = max(1, self.console.height - LINES_AROUND_BARS)
        active = [bar for bar in bars if bar.failed or (bar.begun and bar.left)]
        shown_bars = bars if len(bars) <= room else active[: room - 1]
        for bar in bars:
            self._progress.update(bar.task, visible=bar in shown_bars)
        folded = [bar for bar in bars if bar not in shown_bars]
        lines = [Text(text, style="dim") for text in (_folded(folded), self._waits()) if text]
        return Group(Text(self._pace(bars), style="bold"), self._progress, *lines)

    def _pace(self, bars: list[StreamBar]) -> str:
        """Records and seconds so far, the rate, and the time left as the rate of partitions gives it."""
        task = next(task for task in self._progress.tasks if task.id == self._total)
        seconds = task.elapsed or 0.0
        records = sum(bar.records + bar.derived_records for bar in bars)  # as the summary of the run counts them
        phrases = [f"{records:,} records", _duration(seconds)]
        if seconds >= 1:
            phrases.insert(1, f"{records / seconds:,.0f} records/s")
        left, done = sum(bar.left for bar in bars), sum(bar.done for bar in bars)
        if seconds >= 1 and left and done:
            phrases.append(f"{_duration(seconds * left / done)} left")
        return ", ".join(phrases)

    def _waits(self) -> str:
        """The sources whose provider is waited for, with the seconds that are left."""
        now = self._progress.get_time()
        waits = [f"{source} for {until - now:.0f} s" for source, until in self._pauses.items() if until - now >= 1]
        return f"waits before a retry: {', '.join(waits)}" if waits else ""


def _folded(bars: list[StreamBar]) -> str:
    """One line for the streams without a bar."""
    counts = {
        "finished": sum(bar.finished for bar in bars),
        "parked": sum(bar.parked and not bar.finished for bar in bars),
        "being read": sum(bar.begun and bar.left > 0 for bar in bars),
        "not begun": sum(not bar.begun and bar.left > 0 for bar in bars),
    }
    numbers = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    return f"and {counted(len(bars), 'more stream')}: {numbers}" if bars else ""


def _duration(seconds: float) -> str:
    minutes, seconds_left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds_left:02}"


class _Bar(ProgressColumn):
    """A bar: cyan in progress, green when complete, yellow where partitions failed. Red is for errors."""

    def render(self, task: Task) -> ProgressBar:
        style = "yellow" if task.fields["failed"] else "cyan"
        return ProgressBar(
            total=task.total or None,
            completed=task.completed,
            width=10,
            complete_style=style,
            finished_style="yellow" if task.fields["failed"] else "green",
            pulse=False,
        )
