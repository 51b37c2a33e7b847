"""
What a reading knows of the provider's ceiling: which parts of its slice must be halved.
"""

from typing import NamedTuple

from attrs import define, field

from penstock.model import Slice


class CeilingReachedError(Exception):
    """A listing reached a ceiling, and its part of the slice may be halved."""


class HalvesNeededError(Exception):
    """A slice must be halved whose rows are partly written. It is read again, in halves from the start."""


class SlicePart(NamedTuple):
    """A planned slice, or a half of one. ``may_halve``: a listing at a ceiling raises CeilingReachedError."""

    slice: Slice
    may_halve: bool


@define(eq=False, repr=False)
class Ceilings:
    """
    What the readings of a planned slice have learned of the provider's ceiling: the parts that it cuts, and whether it
    answers for ``whole_days`` only, so that halves of a day have no effect.
    """

    reached_by: list[Slice] = field(factory=list)
    whole_days: bool = False
