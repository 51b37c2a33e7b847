"""
Read one planned slice until its rows are written: again if a reading contradicts itself, in halves at a ceiling.
"""

from attrs import define

from penstock._fetch.call import Pause, Steps
from penstock._read.ceilings import Ceilings, HalvesNeededError
from penstock._read.context import SliceContext
from penstock._read.loader import Loader
from penstock._read.on_demand import ReportsOnDemand
from penstock._read.result import ReadResult
from penstock._read.slice_counts import SliceCounts
from penstock._read.slice_reading import SliceReading
from penstock.errors import BrokenBodyError, InconsistentReadError

MAX_REREADS = 5  # of a slice, after an InconsistentReadError


@define(eq=False, repr=False)
class Reader:
    """
    Reads one planned slice. ``on_demand`` for a stream with a poller.
    """

    context: SliceContext
    on_demand: ReportsOnDemand | None

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
            except InconsistentReadError as error:
                rereads += 1
                if rereads > MAX_REREADS:
                    self._drop_reports()
                    raise error.when_repeated(rereads) from None
                self.context.note(f"{error}; reading it again")
                settings = self.context.planned.source.settings
                yield Pause(min(settings.retry_max_s, settings.retry_first_s * rereads))
            except BrokenBodyError:
                self._drop_reports()
                raise

    def _reading(self, ceilings: Ceilings, *, is_first_reading: bool) -> SliceReading:
        """A new reading of the slice, from its start; ``is_first_reading``: no other came before it."""
        if self.on_demand is not None:
            self.on_demand.restart()
        counts = SliceCounts(planned=self.context.planned, rows_as_of=self.context.clock.now())
        return SliceReading(
            context=self.context,
            on_demand=self.on_demand,
            counts=counts,
            loader=Loader(self.context, counts),
            ceilings=ceilings,
            is_first_reading=is_first_reading,
        )

    def _drop_reports(self) -> None:
        """Drop finished reports on demand, which hold the same however often they are read."""
        if self.on_demand is not None:
            self.on_demand.drop_ready()
