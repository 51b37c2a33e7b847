"""
Elements set aside: where each was, why, and what it was, without what must not be kept.
"""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Raw, ValidationError

from penstock._decode.nested import masked_members
from penstock._decode.page import EXACT_JSON, PLAIN, RawPage
from penstock.model import Rejected
from penstock.records import Column
from penstock.redact import mask

Misfits = dict[int, tuple[str | None, str]]
"""Index of a row -> (column, or None for the whole element; reason)."""


class Rejects:
    """
    Sets rows of one stream aside. ``masked`` are members that are not delivered, ``cleaners`` remove by column what
    is hidden inside a nested value: neither is kept of a rejected element.
    """

    def __init__(
        self,
        stream: str,
        columns: Mapping[str, Column],
        masked: frozenset[str],
        cleaners: Mapping[str, Callable[[Any], Any]],
    ) -> None:
        self._stream = stream
        self._columns = columns
        self._masked = masked
        self._cleaners = cleaners

    def reject(self, page: RawPage, bad: Misfits) -> None:
        """Note these rows as rejected and take them from the page."""
        if bad:
            self.note(page, bad)
            page.drop(bad.keys())

    def note(self, page: RawPage, bad: Misfits) -> None:
        """Note these rows as rejected; they stay in the page."""
        for index, (name, reason) in bad.items():
            member = self._columns[name].member if name is not None else None
            self.set_aside(page, page.positions[index], member, reason)

    def set_aside(self, page: RawPage, position: int, member: str | None, reason: str) -> None:
        """Note the element at ``position`` as rejected, the path naming the member that is at fault."""
        path, index = page.locate(position)
        rejected = Rejected(
            stream=self._stream,
            path=f"{path}[{index}]" + (f".{member}" if member is not None else ""),
            reason=mask(reason),
            raw=self._shown(page.elements()[position]),
        )
        page.rejected.append((position, rejected))

    def _shown(self, element: Raw) -> str:
        """The element as it may be kept: members that are not delivered as ``***``."""
        if not (self._masked or self._cleaners):
            return mask(bytes(element).decode(errors="replace"))
        try:
            value = PLAIN.decode(element)
            if isinstance(value, dict):
                for name, clean in self._cleaners.items():
                    clean(value.get(self._columns[name].member))
            return mask(EXACT_JSON.encode(masked_members(value, self._masked)).decode())
        except (ValidationError, RecursionError):
            return "(not shown: it cannot be read, and may hold what must not be kept)"
