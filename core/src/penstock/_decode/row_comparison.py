"""
How rows with the same key are compared: by a digest of each row, or by reading again those whose key repeats.

``numbers`` gives a number for each row of a chunk, which is kept with its key. Where a key repeats, ``digests``
gives those of the rows with these numbers, and of the ``former`` rows, whose numbers it gets by key.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

from penstock._decode.chunk import DecodingChunk
from penstock._decode.elements import Elements
from penstock.model import EXACT_JSON


class ByDigest:
    """Of a slice with pages, files or several arrays: the number of a row is its digest."""

    def numbers(self, chunk: DecodingChunk) -> list[int]:
        return digests_of(chunk.rows)

    def digests(
        self, chunk: DecodingChunk, numbers: Sequence[int], former: Mapping[Any, int]
    ) -> tuple[Sequence[int], Mapping[Any, int]]:
        return numbers, former


BY_DIGEST = ByDigest()


@frozen(eq=False, repr=False)
class ByReadingAgain:
    """
    Of a slice of one array: the number of a row is the index of its element. Where a key repeats, both elements are
    decoded once more, together, to be read alike. ``read_again``: decodes the elements with these indices of the array
    that a chunk is a part of.
    """

    read_again: Callable[[Elements, Iterable[int]], list[Any]]

    def numbers(self, chunk: DecodingChunk) -> list[int]:
        return list(map((-chunk.elements.starts[0]).__add__, chunk.positions))

    def digests(
        self, chunk: DecodingChunk, numbers: Sequence[int], former: Mapping[Any, int]
    ) -> tuple[Sequence[int], Mapping[Any, int]]:
        if not former:  # the rows are at hand
            return digests_of(chunk.rows), former
        digests = digests_of(self.read_again(chunk.elements, [*numbers, *former.values()]))
        return digests[: len(numbers)], dict(zip(former, digests[len(numbers) :], strict=True))


RowComparison = ByDigest | ByReadingAgain


def digests_of(rows: list[Any]) -> list[int]:
    """A number for each row's values: equal values have equal numbers, in one process."""
    return list(map(hash, map(EXACT_JSON.encode, rows)))
