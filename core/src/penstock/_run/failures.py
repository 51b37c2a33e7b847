"""
Failures of partitions: in the run report, and some at a time in the ledger. What ends the run itself is no failure.
"""

import traceback
from collections.abc import Sequence

from attrs import define, field

from penstock._plan.plan import PlannedSlice
from penstock._plugins.plugin_errors import FAILURES, defect, sink_errors
from penstock._run.context import RunContext
from penstock._run_report.log import RunLog
from penstock.errors import PenstockError, PluginError
from penstock.ledger_interface import Ledger
from penstock.model import Partition
from penstock.redact import mask


@define(eq=False, repr=False)
class Failures:
    """
    The failures of one job. ``connector``: its name. ``max_unrecorded``: how many wait for one transaction of the
    ledger.
    """

    connector: str
    ledger: Ledger | None
    log: RunLog
    context: RunContext
    max_unrecorded: int
    _unrecorded: list[tuple[Partition, str]] = field(factory=list, init=False)  # not in the ledger yet

    def add(self, planned: PlannedSlice, partitions: Sequence[Partition], error: BaseException) -> None:
        """
        Add the failure of these partitions of a slice. A stream that is not delivered has no place in the ledger, nor
        in the counts of the report.
        """
        if self._record_end(error):
            return
        if not isinstance(error, PenstockError):
            error = self._defect(error)
        elif isinstance(error, PluginError) and error.__cause__ is not None:
            self._trace(error.__cause__)
        if planned.to_deliver:
            self.log.count(planned.stream.name, failed=len(partitions))
        for partition in partitions:
            if planned.to_deliver and self.ledger is not None:
                self._unrecorded.append((partition, error.without_place))
            self.log.fail(planned.stream.name, partition.as_dict(), error)
        if len(self._unrecorded) >= self.max_unrecorded:
            self.flush()

    def _record_end(self, error: BaseException) -> bool:
        """Record in the report what ended the run, or its reads of this source. False: it is a failure."""
        run_report, source = self.context.run_report, self.log.source
        was_parked = source in run_report.parked
        if not run_report.end_by(error, source):
            return False
        if run_report.output_closed:
            self.context.clock.stop.set()
        if source in run_report.parked and not was_parked:
            self.log.note(str(error), parked=True)
        return True

    def flush(self) -> None:
        """Record the failures in the ledger: together, or if that fails one by one."""
        failures, self._unrecorded = self._unrecorded, []
        if self.ledger is None or not failures:
            return
        try:
            self._record(self.ledger, failures)
        except PenstockError:  # one text that the ledger cannot hold, or a lost session, which is opened again below
            for failure in failures:
                self._record_alone(self.ledger, failure)

    def _record_alone(self, ledger: Ledger, failure: tuple[Partition, str]) -> None:
        try:
            self._record(ledger, [failure])
        except PluginError:
            raise
        except PenstockError as error:  # the target is lost: only the report has the failure
            note = f"{failure[0]}, and what fails after it, is not recorded in the ledger: {error}"
            self.log.note_once(str(error), note)

    def _record(self, ledger: Ledger, failures: Sequence[tuple[Partition, str]]) -> None:
        with sink_errors(type(ledger).__name__):
            ledger.fail_all(self.log.source, failures, self.context.run_report.run_id)

    def _defect(self, error: BaseException) -> PenstockError:
        """An unforeseen error of the connector or of penstock. The partition fails."""
        if not isinstance(error, FAILURES):
            raise error
        self._trace(error)
        return defect(error, self.connector, "--debug shows where.")

    def _trace(self, error: BaseException) -> None:
        """The trace of an unforeseen error goes to the log."""
        trace = mask("".join(traceback.format_exception(error)))
        self.log.emit({"event": "defect", "source": self.log.source, "message": mask(str(error)), "trace": trace})
