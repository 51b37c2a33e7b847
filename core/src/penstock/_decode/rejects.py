"""
What does not fit: values that become null, and elements set aside with path and reason, without what must not be kept.
"""

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen
from msgspec import UNSET, Raw, ValidationError

from penstock._decode.coerce import NoObject
from penstock._decode.nested import Masks
from penstock._decode.page import EXACT_JSON, PLAIN, RawPage
from penstock.model import Rejected
from penstock.records import Column
from penstock.redact import MASK, mask
from penstock.sinks import EXTRA

Bad = Mapping[int, tuple[str, str]]
"""Index of a row -> (column, reason)."""

Misfits = dict[int, str]
"""Index of a row -> why its value does not fit the column."""


@frozen(kw_only=True)
class Handling:
    """
    What becomes of a value that does not fit its column. ``required``: its record is set aside. ``hidden``: the column
    is not delivered, so nothing is lost. Any other value becomes null, is kept in ``_extra``, and counted.

    ``masks`` are for what is kept of an element that is set aside. ``unknown``: whether members that the record class
    does not know may be kept; ``extra``: whether there is a column ``_extra``.
    """

    required: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()
    masks: Masks = field(factory=Masks)
    unknown: bool = True
    extra: bool = True


def add_extra(row: Any, member: str, value: Any) -> None:
    """Keep a value in the row's ``_extra``."""
    extra = getattr(row, EXTRA)
    setattr(row, EXTRA, {**(extra if extra is not UNSET else {}), member: value})


class Rejects:
    """Handles what does not fit, for the pages of one stream: values that become null, records that are set aside."""

    def __init__(self, stream: str, columns: Mapping[str, Column], handling: Handling) -> None:
        self._stream = stream
        self._columns = columns
        self._handling = handling
        self._members = {column.top_member for column in columns.values()}

    def is_required(self, column: Column) -> bool:
        """Whether a record is set aside if it has no value that fits this column."""
        return not column.nullable or column.name in self._handling.required

    def unfit(self, page: RawPage, column: Column, misfits: Misfits, values: list[Any]) -> None:
        """
        Handle the rows whose value does not fit the column: ``values`` holds what came for every row of the page.

        The rows' attribute is null already.
        """
        if self.is_required(column):
            self.reject(page, {index: (column.name, reason) for index, reason in misfits.items()})
            return
        for index, reason in misfits.items():
            self.unread(page, page.positions[index], column, reason, page.rows[index], values[index])

    def unread(self, page: RawPage, position: int, column: Column, reason: str, row: Any, value: Any) -> None:
        """Keep the value that became null in the row's ``_extra``, and count it."""
        if column.name in self._handling.hidden:
            return
        if column.member is not None and self._handling.extra:
            add_extra(row, column.member, value.value if isinstance(value, NoObject) else value)
        path, index = page.locate(position)
        page.unread.append((f"{path}[{index}].{column.member or column.derived_of}", self._reason(column, reason)))

    def reject(self, page: RawPage, bad: Bad) -> None:
        """Note these rows as rejected and take them from the page."""
        if bad:
            self.note(page, bad)
            page.drop(bad.keys())

    def note(self, page: RawPage, bad: Bad) -> None:
        """Note these rows as rejected; they stay in the page."""
        for index, (name, reason) in bad.items():
            self.set_aside(page, page.positions[index], self._columns[name], reason)

    def set_aside(self, page: RawPage, position: int, column: Column | None, reason: str) -> None:
        """Note the element at ``position`` as rejected, for the value of ``column``; None: the whole of it."""
        path, index = page.locate(position)
        member = f".{column.member}" if column is not None and column.member is not None else ""
        rejected = Rejected(
            stream=self._stream,
            path=f"{path}[{index}]{member}",
            reason=self._reason(column, reason),
            raw=self._shown(page.elements()[position]),
            column=column.name if column is not None else "",
        )
        page.rejected.append((position, rejected))

    def _reason(self, column: Column | None, reason: str) -> str:
        """The reason as it may be shown: of a column that is not delivered, without its value."""
        if column is not None and column.name in self._handling.hidden:
            return f"its value does not fit a {column.type} column"
        return mask(reason)

    def _shown(self, element: Raw) -> str:
        """The element as it may be kept: what is not delivered as ``***``."""
        handling = self._handling
        if handling.unknown and not handling.masks:
            return mask(bytes(element).decode(errors="replace"))
        try:
            value = PLAIN.decode(element)
            if isinstance(value, list) and not any(isinstance(item, (dict, list)) for item in value):
                return "(not shown: without names, it may hold what must not be kept)"
            if not handling.unknown:
                if not isinstance(value, dict):
                    return "(not shown: it is no object, and may hold personal data)"
                value = {name: item if name in self._members else MASK for name, item in value.items()}
            return mask(EXACT_JSON.encode(handling.masks.apply(value)).decode())
        except (ValidationError, RecursionError):
            return "(not shown: it cannot be read, and may hold what must not be kept)"
