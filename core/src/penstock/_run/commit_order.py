"""
The order of commits: the days of ``changes`` one after the other, all others as they come.
"""

from attrs import define, field

from penstock._plan.dependencies import Key, key_of
from penstock._plan.plan import PlannedSlice
from penstock._read.result import ReadResult


@define(eq=False, repr=False)
class CommitOrder:
    """
    The slices of ``changes`` that are not committed, in the order of their days, and the results that wait for an
    earlier one: a row read with an older day must not overwrite the same row read with a newer one.
    """

    _expected: dict[Key, list[PlannedSlice]] = field(factory=dict, init=False)
    _waiting: dict[PlannedSlice, ReadResult] = field(factory=dict, init=False)

    def expect(self, planned: PlannedSlice) -> None:
        """Register a slice before it is read. Called in the order of the days."""
        if planned.stream.kind == "changes":
            self._expected.setdefault(key_of(planned), []).append(planned)

    def after_read(self, result: ReadResult) -> list[ReadResult]:
        """The results to commit now that this one is there, in order."""
        if result.planned.stream.kind != "changes":
            return [result]
        self._waiting[result.planned] = result
        return self._ready(key_of(result.planned))

    def after_failure(self, planned: PlannedSlice) -> list[ReadResult]:
        """The results to commit now that this slice has failed, in order."""
        expected = self._expected.get(key_of(planned), [])
        if planned not in expected:
            return []
        expected.remove(planned)
        return self._ready(key_of(planned))

    def _ready(self, key: Key) -> list[ReadResult]:
        expected, ready = self._expected[key], list[ReadResult]()
        while expected and expected[0] in self._waiting:
            ready.append(self._waiting.pop(expected.pop(0)))
        return ready
