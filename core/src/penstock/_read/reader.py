"""
Read one planned slice until its rows are written: again if a reading contradicts itself, in halves at a ceiling.
"""

from attrs import define

from penstock._fetch.call import Pause, Steps
from penstock._plan.dependencies import Dependencies
from penstock._plan.plan import PlannedSlice
from penstock._read.components import Components
from penstock._read.counts import StreamReads
from penstock._read.loader import Loader
from penstock._read.on_demand import ReportsOnDemand
from penstock._read.read_counts import ReadCounts
from penstock._read.result import ReadResult
from penstock._read.slice_reading import Ceilings, HalvesNeededError, SliceReading
from penstock._run_report.log import RunLog
from penstock._util.clock import Clock
from penstock.errors import BrokenBodyError, InconsistentReadError
from penstock.sinks import Target

MAX_REREADS = 5  # of a slice, after an InconsistentReadError


@define(eq=False, repr=False, kw_only=True)
class Reader:
    """
    Reads one planned slice. ``on_demand`` for a stream with a poller; ``dependencies`` holds the rows of a parent.
    """

    planned: PlannedSlice
    components: Components
    target: Target | None  # None: nothing is written, see Loader
    on_demand: ReportsOnDemand | None
    clock: Clock
    dependencies: Dependencies
    stream_reads: StreamReads
    log: RunLog

    def read(self) -> Steps[ReadResult]:
        """
        Read the slice. After an InconsistentReadError it is read again. A response that reached a ceiling is requested
        in halves. Any other error is raised: failed requests have been retried already.
        """
        rereads = 0
        ceilings = Ceilings()
        while True:
            try:
                return (yield from self._reading(ceilings, is_first_reading=not rereads).read())
            except HalvesNeededError:
                pass
            except InconsistentReadError as error:  # before BrokenBodyError: a BrokenPageError is both, and is reread
                rereads += 1
                if rereads > MAX_REREADS:
                    self._drop_reports()
                    raise error.when_repeated(rereads) from None
                self.log.note(f"{self.planned}: {error}; reading it again")
                settings = self.planned.source.settings
                yield Pause(min(settings.retry_max_s, settings.retry_first_s * rereads))
            except BrokenBodyError:
                self._drop_reports()
                raise

    def _reading(self, ceilings: Ceilings, *, is_first_reading: bool) -> SliceReading:
        """A new reading of the slice, from its start; ``is_first_reading``: no other came before it."""
        if self.on_demand is not None:
            self.on_demand.restart()
        counts = ReadCounts(planned=self.planned, began_at=self.clock.now())
        return SliceReading(
            planned=self.planned,
            components=self.components,
            on_demand=self.on_demand,
            dependencies=self.dependencies,
            stream_reads=self.stream_reads,
            log=self.log,
            counts=counts,
            loader=Loader(
                planned=self.planned,
                counts=counts,
                components=self.components,
                target=self.target,
                dependencies=self.dependencies,
                log=self.log,
            ),
            ceilings=ceilings,
            is_first_reading=is_first_reading,
        )

    def _drop_reports(self) -> None:
        """Drop finished reports on demand, which hold the same however often they are read."""
        if self.on_demand is not None:
            self.on_demand.drop_ready()
