"""
Makes the reader of each slice of one job, with what the reads of one stream share.
"""

from collections import defaultdict
from functools import partial

from attrs import define, field

from penstock._config.source import ConfiguredSource
from penstock._plan.dependencies import Dependencies
from penstock._plan.plan import PlannedSlice
from penstock._read.components import Components, components_of
from penstock._read.context import SliceContext
from penstock._read.counts import StreamCounters
from penstock._read.reader import Reader
from penstock._read.report_adoption import ReportAdoption
from penstock._run_report.log import RunLog
from penstock._util.clock import Clock
from penstock.connector import Stream
from penstock.sinks import Target


@define(eq=False, repr=False)
class ReaderFactory:
    """Makes the reader of a slice."""

    target: Target
    clock: Clock
    log: RunLog
    dependencies: Dependencies
    report_adoption: ReportAdoption
    _components: dict[tuple[str, int], Components] = field(factory=dict, init=False)  # by stream and source
    _stream_counters: dict[str, StreamCounters] = field(factory=partial(defaultdict, StreamCounters), init=False)

    def reader_of(self, planned: PlannedSlice) -> Reader:
        """The reader of a slice."""
        components = self.components_of(planned.stream, planned.source)
        context = SliceContext(
            planned=planned,
            components=components,
            target=self.target if planned.to_deliver else None,
            dependencies=self.dependencies,
            stream_counters=self._stream_counters[planned.stream.name],
            log=self.log,
            clock=self.clock,
        )
        return Reader(context, None if components.poller is None else self.report_adoption.reports_for(context))

    def components_of(self, stream: Stream, source: ConfiguredSource) -> Components:
        """The components of a stream, made when they are first needed. ``source``: as an account sees it."""
        key = (stream.name, id(source))  # one object per account, see Accounts.source_of
        if key not in self._components:
            self._components[key] = components_of(source, stream, self.dependencies.columns(stream))
        return self._components[key]
