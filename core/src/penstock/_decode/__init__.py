"""
Items to typed records, without a Python statement per record. They are decoded in chunks: a page, or a part of a large
one.

The modules:
- ``compile``: the row builder of a stream, from its declarations
- ``row_builder``: the steps of a chunk, by name
- ``elements``: bytes, joined or in chunks
- ``chunk``: the rows of a chunk, column by column
- ``record_parser``: elements to rows
- ``structs``: Structs made from the record class
- ``conversion``: values to the type of their column
- ``columns``: stamps, days
- ``amounts``: exact money
- ``totals``: rows of totals, absent measures
- ``keys``: repeated rows of a slice
- ``slice_keys``: all keys of a slice
- ``row_comparison``: two rows of one key
- ``rejects``: rejected records, with path and reason
- ``masks``: secret and personal members in nested values

See ``docs/decisions/0003-records-at-c-speed.md`` for the measurements.
"""

from penstock._decode.columns import Requested, split_by_day
from penstock._decode.compile import ColumnOptions, compile_stream
from penstock._decode.row_builder import DecodedChunk, RowBuilder
from penstock._decode.slice_keys import SliceKeys
from penstock._decode.totals import sums

__all__ = [
    "ColumnOptions",
    "DecodedChunk",
    "Requested",
    "RowBuilder",
    "SliceKeys",
    "compile_stream",
    "split_by_day",
    "sums",
]
