"""
The interface between the client of a source and a recording of the exchanges of its run. The recorder and the replay
are in :mod:`penstock._recording`.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol

from penstock._config.source import ConfiguredSource
from penstock._fetch.call import Call, CallResult, JudgeCall


class ExchangeRecording(Protocol):
    """
    Records the calls of a run, or replays a recording. ``until``: when the last response
    of a recording came; None for one that records.
    """

    @property
    def until(self) -> datetime | None: ...

    def begin(self, started_at: datetime, sources: Iterable[ConfiguredSource]) -> None:
        """Called before the first call, with the start of the run. Raises UsageError."""

    def exchange(
        self, source: ConfiguredSource, call: Call, send: Callable[[], CallResult], judge: JudgeCall
    ) -> CallResult:
        """The result of a call; ``send`` makes it, ``judge`` judges a response to it. Called in fetching threads."""

    def finish(self) -> Sequence[str]:
        """Called after the last call. Returns notices; raises SinkError."""
