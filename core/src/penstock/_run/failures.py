"""
Failures of partitions: in the run report, and some at a time in the ledger. What ends the run itself is no failure.
"""

import traceback
from collections.abc import Sequence
from enum import Enum, auto

from attrs import define, field

from penstock._config.sink_defaults import has_own
from penstock._plan.plan import PlannedSlice
from penstock._plugins.plugin_errors import FAILURES, defect
from penstock._run.context import RunContext
from penstock._run_report.log import RunLog
from penstock.errors import DeadlineReachedError, OutputClosedError, ParkedError, PenstockError, StoppedError
from penstock.ledger_interface import Ledger
from penstock.model import Partition
from penstock.redact import mask

GROUP_PARTITIONS = 64  # that the ledger records in one transaction


class EndOfRun(Enum):
    """What ended the run, or its reads of one source (``PARKED``), before a read was complete."""

    OUTPUT_CLOSED = auto()
    STOPPED = auto()
    DEADLINE = auto()
    PARKED = auto()
    READ_CLOSED = auto()  # the generator of the read: another end is in the report


def end_of_run(error: BaseException) -> EndOfRun | None:
    """The end of the run that an error stands for; None: it is a failure."""
    match error:
        case OutputClosedError():
            return EndOfRun.OUTPUT_CLOSED
        case StoppedError():
            return EndOfRun.STOPPED
        case DeadlineReachedError():
            return EndOfRun.DEADLINE
        case ParkedError():
            return EndOfRun.PARKED
        case GeneratorExit():
            return EndOfRun.READ_CLOSED
    return None


@define(eq=False, repr=False)
class Failures:
    """The failures of one job. ``connector``: its name."""

    connector: str
    ledger: Ledger | None
    log: RunLog
    context: RunContext
    _unrecorded: list[tuple[Partition, str]] = field(factory=list, init=False)  # not in the ledger yet

    def add(self, planned: PlannedSlice, partitions: Sequence[Partition], error: BaseException) -> None:
        """
        Add the failure of these partitions of a slice. A stream that is not delivered has no place in the ledger, nor
        in the counts of the report.
        """
        if (end := end_of_run(error)) is not None:
            self._end_run(end, str(error))
            return
        if not isinstance(error, PenstockError):
            error = self._defect(error)
        if planned.to_deliver:
            self.log.count(planned.stream.name, failed=len(partitions))
        for partition in partitions:
            if planned.to_deliver and self.ledger is not None:
                self._unrecorded.append((partition, error.without_place))
            self.log.fail(planned.stream.name, partition.as_dict(), error)
        if len(self._unrecorded) >= GROUP_PARTITIONS:
            self.flush()

    def _end_run(self, end: EndOfRun, reason: str) -> None:
        """Record in the report what ended the run, or its reads of this source; stop a run without an output."""
        run_report = self.context.run_report
        match end:
            case EndOfRun.OUTPUT_CLOSED:
                run_report.output_closed = True
                self.context.clock.stop.set()
            case EndOfRun.STOPPED:
                run_report.stopped = True
            case EndOfRun.DEADLINE:
                run_report.deadline = True
            case EndOfRun.PARKED if self.log.source not in run_report.parked:
                run_report.parked[self.log.source] = reason
                self.log.note(reason, parked=True)

    def flush(self) -> None:
        """Record the failures in the ledger: together, or if that fails one by one."""
        failures, self._unrecorded = self._unrecorded, []
        if self.ledger is None or not failures:
            return
        if has_own(self.ledger, "fail_all"):  # the default records some, and these would be recorded twice
            try:
                self.ledger.fail_all(self.log.source, failures, self.context.run_report.run_id)
            except PenstockError:
                pass  # one text that the ledger cannot hold, or a lost session, which is opened again below
            else:
                return
        for partition, text in failures:
            try:
                self.ledger.fail(self.log.source, partition, text, self.context.run_report.run_id)
            except PenstockError as error:  # the target is lost: only the report has the failure
                note = f"{partition}, and what fails after it, is not recorded in the ledger: {error}"
                self.log.note_once(str(error), note)

    def _defect(self, error: BaseException) -> PenstockError:
        """An unforeseen error of the connector or of penstock. The partition fails; the trace goes to the log."""
        if not isinstance(error, FAILURES):
            raise error
        trace = mask("".join(traceback.format_exception(error)))
        self.log.emit({"event": "defect", "source": self.log.source, "message": mask(str(error)), "trace": trace})
        return defect(error, self.connector, "--debug shows where.")
