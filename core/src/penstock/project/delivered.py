"""
Changes of delivered partitions: joined, summed up, and in words.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext

from attrs import evolve

from penstock.project.results import Change


def joined(first: Change, last: Change) -> Change:
    """Two changes of one partition as one: before the first, after the last."""
    sums = {
        name: (
            first.sums[name][0] if name in first.sums else last.sums[name][0],
            last.sums[name][1] if name in last.sums else first.sums[name][1],
        )
        for name in dict.fromkeys((*first.sums, *last.sums))
    }
    return evolve(last, rows_before=first.rows_before, sums=sums, runs=(*first.runs, *last.runs))


def moved_sums(changes: Iterable[Change]) -> dict[str, tuple[Decimal, Decimal]]:
    """Each measure that moved, summed up over the changes in which it did: before and after."""
    sums: dict[str, tuple[Decimal, Decimal]] = {}
    with localcontext(prec=1000):
        for change in changes:
            for name, (before, after) in change.sums.items():
                total = sums.get(name, (Decimal(0), Decimal(0)))
                sums[name] = (total[0] + before, total[1] + after)
    return sums


def moved_in_words(changes: Sequence[Change]) -> list[str]:
    """The number of rows, if it moved, and each measure that did: ``clicks 3 -> 4``."""
    before, after = sum(change.rows_before for change in changes), sum(change.rows_after for change in changes)
    rows = {} if before == after else {"rows": (before, after)}
    return [f"{what} {old} -> {new}" for what, (old, new) in {**rows, **moved_sums(changes)}.items()]
