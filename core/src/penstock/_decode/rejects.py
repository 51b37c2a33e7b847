"""
Values that do not fit their column: they become null, or their record is rejected with path, reason and masked JSON.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from attrs import define, evolve, field
from msgspec import UNSET, DecodeError, Raw, ValidationError

from penstock._decode.chunk import DecodingChunk, RejectedElement, UnreadValue, get_column, set_column_each
from penstock._decode.conversion import Misfits, NoObject, is_bounded
from penstock._decode.masks import Masks
from penstock.model import EXACT_JSON, PLAIN_JSON, Rejected
from penstock.records import Column
from penstock.redact import MASK, mask, mask_json
from penstock.sinks import EXTRA

RejectReasons = Mapping[int, tuple[str, str]]
"""Index of a row -> the column for whose value it is rejected, and the reason."""


def add_extra(row: Any, member: str, value: Any) -> None:
    """Keep a value in the row's ``_extra``."""
    extra = getattr(row, EXTRA)
    setattr(row, EXTRA, {**(extra if extra is not UNSET else {}), member: value})


@define(eq=False, repr=False, kw_only=True)
class Rejects:
    """
    Handles values that do not fit their column, for the chunks of one stream. In a ``required`` column, the record is
    rejected. In a ``hidden`` column, which is not delivered, the value is ignored. Any other value becomes null, is
    kept in ``_extra``, and is counted.

    ``masks`` apply to the stored JSON of a rejected element, ``extra_masks`` to a value that is kept in ``_extra``.
    ``stores_unknown``: whether unknown members may be stored; ``has_extra``: whether there is a column ``_extra``.
    """

    stream: str
    columns: Mapping[str, Column]
    required: frozenset[str]
    hidden: frozenset[str]
    masks: Masks
    extra_masks: Masks
    stores_unknown: bool
    has_extra: bool
    _members: frozenset[str | None] = field(init=False)

    @_members.default
    def _default_members(self) -> frozenset[str | None]:
        return frozenset(column.top_member for column in self.columns.values())

    @property
    def keeps_unknown(self) -> bool:
        """Whether unknown members are kept in ``_extra``."""
        return self.stores_unknown and self.has_extra

    def is_required(self, column: Column) -> bool:
        """Whether a record is rejected if it has no value that fits this column."""
        return not column.nullable or column.name in self.required

    def handle_misfits(self, chunk: DecodingChunk, column: Column, misfits: Misfits, values: list[Any]) -> None:
        """
        Handle the rows whose value does not fit the column. ``values``: the received values of all rows of the chunk.

        The attribute of these rows must be null already.
        """
        if self.is_required(column):
            self.reject(chunk, {index: (column.name, reason) for index, reason in misfits.items()})
            return
        for index, reason in misfits.items():
            self.keep_unread(chunk, chunk.positions[index], column, reason, chunk.rows[index], values[index])

    def keep_unread(
        self, chunk: DecodingChunk, position: int, column: Column, reason: str, row: Any, value: Any
    ) -> None:
        """Keep the value that became null in the row's ``_extra``, and count it."""
        if column.name in self.hidden:
            return
        if column.member is not None and self.has_extra:
            # Where an object was expected, another value may contain its secret members all the same.
            received = value.value if isinstance(value, NoObject) else value
            if isinstance(received, Decimal) and not is_bounded(received):
                received = str(received)  # written out as a number, it could fill the memory
            add_extra(row, column.member, mask_json(self.extra_masks.apply(received)))
        path, index = chunk.elements.locate(position)
        where = f"{path}[{index}].{column.member or column.derived_of}"
        chunk.unread.append(UnreadValue(position, where, self._reason(column, reason)))

    def mask_extras(self, chunk: DecodingChunk) -> None:
        """Mask secret members, and secrets of the configuration, in the unknown members that ``_extra`` keeps."""
        masks = self.extra_masks
        extras = get_column(chunk.rows, EXTRA)
        encoded = EXACT_JSON.encode([extra for extra in extras if extra is not UNSET])
        text = encoded.decode()
        if (masks and masks.may_be_in(encoded)) or mask(text) != text:
            plain = [extra if extra is UNSET else PLAIN_JSON.decode(EXACT_JSON.encode(extra)) for extra in extras]
            set_column_each(
                chunk.rows, EXTRA, [extra if extra is UNSET else mask_json(masks.apply(extra)) for extra in plain]
            )

    def reject(self, chunk: DecodingChunk, reasons: RejectReasons) -> None:
        """Reject these rows and remove them from the chunk."""
        if reasons:
            self.record_rejected(chunk, reasons)
            chunk.drop(reasons.keys())

    def record_rejected(self, chunk: DecodingChunk, reasons: RejectReasons) -> None:
        """Add these rows to the rejected ones, but leave them in the chunk."""
        for index, (name, reason) in reasons.items():
            self.reject_element(chunk, chunk.positions[index], self.columns[name], reason)

    def reject_element(self, chunk: DecodingChunk, position: int, column: Column | None, reason: str) -> None:
        """Reject the element at ``position``, for the value of ``column``; None: for the whole element."""
        path, index = chunk.elements.locate(position)
        member = f".{column.member}" if column is not None and column.member is not None else ""
        rejected = Rejected(
            stream=self.stream,
            path=f"{path}[{index}]{member}",
            reason=self._reason(column, reason),
            raw=self._storable(chunk.elements.raw()[position]),
            column=column.name if column is not None else "",
        )
        chunk.rejected.append(RejectedElement(position, rejected))

    def erased(self, rejected: Rejected) -> Rejected:
        """A record that an earlier reading rejected, as this one would store it. Raw text that is no JSON goes."""
        reason = rejected.reason
        for column in map(self.columns.__getitem__, self.hidden):
            if rejected.path.endswith(f".{column.member or column.name}"):
                reason = self._reason(column, reason)
        try:
            value = PLAIN_JSON.decode(rejected.raw)
        except (DecodeError, RecursionError):
            return evolve(rejected, reason=reason, raw="(not shown: it may hold what must not be kept)")
        if isinstance(value, dict) and self.hidden & value.keys():  # a sink names columns, not members
            value = {name: MASK if name in self.hidden else inner_value for name, inner_value in value.items()}
            return evolve(rejected, reason=reason, raw=self._storable(Raw(EXACT_JSON.encode(value))))
        return evolve(rejected, reason=reason, raw=self._storable(Raw(rejected.raw.encode())))

    def _reason(self, column: Column | None, reason: str) -> str:
        """The reason for a message: without the value, if the column is not delivered."""
        if column is not None and column.name in self.hidden:
            return f"its value does not fit a {column.type} column"
        return mask(reason)

    def _storable(self, element: Raw) -> str:
        """The element as it may be stored, with ``***`` for values that are not delivered."""
        if self.stores_unknown and not self.masks:
            return mask(bytes(element).decode(errors="replace"))
        try:
            value = PLAIN_JSON.decode(element)
            if isinstance(value, list) and not any(isinstance(element, (dict, list)) for element in value):
                return "(not shown: without names, it may hold what must not be kept)"
            if not self.stores_unknown:
                if not isinstance(value, dict):
                    return "(not shown: it is no object, and may hold personal data)"
                value = {name: inner_value if name in self._members else MASK for name, inner_value in value.items()}
            return mask(EXACT_JSON.encode(self.masks.apply(value)).decode())
        except (ValidationError, RecursionError):
            return "(not shown: it cannot be read, and may hold what must not be kept)"
