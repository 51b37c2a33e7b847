"""
Reject the records that a target cannot hold, and deliver the others. No value is changed to fit.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Any

import msgspec
from attrs import evolve, field, frozen
from penstock import EXACT_JSON, MOST_REJECTED, Layout, LedgerEntry, Rejected, SinkError


@frozen(eq=False, repr=False)
class Unfit:
    """A record that the target cannot hold, with its values, so that it can be subtracted from counts and sums."""

    rejected: Rejected
    values: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, layout: Layout, values: Mapping[str, Any], column: str | None, reason: str) -> "Unfit":
        """``column``: the one whose value does not fit; None: not known."""
        declared = next((column_ for column_ in layout.columns if column_.name == column), None)
        raw = {name: _in_json(value) for name, value in values.items()}
        where = ",".join(f"@.{name}=={EXACT_JSON.encode(raw.get(name)).decode()}" for name in layout.key)
        path = f"$[?({where})]" + (f".{declared.member or declared.name}" if declared is not None else "")
        return cls(
            Rejected(stream=layout.stream, path=path, reason=reason, raw=EXACT_JSON.encode(raw).decode()),
            values,
        )


def _in_json(value: Any) -> Any:
    """A value as JSON can have it: null for none, and the text of a number that is not finite."""
    if isinstance(value, Decimal) and not value.is_finite():
        return str(value)
    return None if value is msgspec.UNSET else value


def sums_without(sums: Mapping[str, Decimal], layout: Layout, unfit: Sequence[Unfit]) -> dict[str, Decimal]:
    """The sums of a delivery without these records; those of an amount with a currency in each row by currency."""
    sums_left = dict(sums)
    with localcontext(prec=1000):  # one that does not fit may be longer than all the others
        for column in layout.columns:
            if not column.additive:
                continue
            for record in unfit:
                unit = f"[{record.values.get(column.unit_of) or ''}]" if column.unit_of else ""
                name = f"{column.name}{unit}"
                if name in sums_left:
                    sums_left[name] -= Decimal(record.values.get(column.name) or 0)
    return sums_left


@frozen(eq=False, repr=False)
class Omissions:
    """
    What a target leaves out of a delivery, of one stream: records that it cannot hold, and rows that repeat a key.
    ``sums``: those of the rows that are left, where rows are left out that repeat a key.
    """

    layout: Layout
    unfit: Sequence[Unfit]
    repeated: int = 0
    sums: Mapping[str, Decimal] | None = None


def entry_without(entry: LedgerEntry, omissions: Sequence[Omissions], target: str, *, advice: str = "") -> LedgerEntry:
    """
    A delivery without what the target leaves out of its stream and of those derived from it. Raises SinkError if no
    record of the stream is left: the delivered rows are not replaced by nothing. ``advice``: what may help then.
    """
    changes: dict[str, Any] = {}
    for omitted in omissions:
        rows = len(omitted.unfit) + omitted.repeated
        if not rows:
            continue
        if omitted.layout.stream != entry.partition.stream:
            derived = changes.setdefault("derived_rows", {**entry.derived_rows})
            derived[omitted.layout.stream] = derived.get(omitted.layout.stream, 0) - rows
            continue
        if omitted.unfit and rows == entry.rows:
            fault = f"{target} refuses all {len(omitted.unfit)} records of {entry.partition}"
            raise _refusal(fault, omitted.unfit[0], advice)
        changes |= {
            "rows": entry.rows - rows,
            "rejected": entry.rejected + len(omitted.unfit),
            "repeated": entry.repeated + omitted.repeated,
            "sums": sums_without(entry.sums, omitted.layout, omitted.unfit) if omitted.sums is None else omitted.sums,
        }
    rejected = [unfit.rejected for omitted in omissions for unfit in omitted.unfit]
    return evolve(entry, **changes, rejected_records=(*entry.rejected_records, *rejected)) if changes else entry


def check_number(unfit: Sequence[Unfit], target: str, of: str) -> None:
    """Raises SinkError if these records are more than a partition may reject. ``of``: what they are of."""
    if len(unfit) > MOST_REJECTED:
        raise _refusal(f"{target} refuses more than {MOST_REJECTED} records of {of}", unfit[0])


def _refusal(fault: str, first: Unfit, advice: str = "") -> SinkError:
    rejected = first.rejected
    return SinkError(f"{fault}, the first because {rejected.path}: {rejected.reason}. Nothing was replaced.{advice}")
