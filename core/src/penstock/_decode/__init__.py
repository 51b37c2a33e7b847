"""
Items to typed records, a page at a time, without a Python statement per record.

The modules, in the order in which a page passes them: ``page`` (bytes, joined or in chunks), ``structs`` (bytes to
rows, by Structs made from the record class), ``values`` and ``coerce`` (conversion of whole columns, and of single
values), ``columns`` (stamps, exact money, days), ``seen`` and ``keys`` (repeated rows), ``derived`` (streams cut from a
page's rows) and ``rejects`` (rejected records, with path and reason). Beside them: ``nested`` (secret and personal
members in nested values), ``erasure`` (what an earlier reading delivered), ``totals`` (rows of totals) and ``batch``
(sums and days of a batch). ``stream_decoder`` joins them.

:func:`compile_stream` makes the decoder of a stream. See ``docs/decisions/0003-records-at-c-speed.md`` for the
measurements.
"""

from penstock._decode.batch import split_by_day, sums
from penstock._decode.columns import Requested
from penstock._decode.seen import Occurrences, SeenKeys, SliceKeys
from penstock._decode.stream_decoder import ColumnOptions, Decoded, StreamDecoder, compile_stream

__all__ = [
    "ColumnOptions",
    "Decoded",
    "Occurrences",
    "Requested",
    "SeenKeys",
    "SliceKeys",
    "StreamDecoder",
    "compile_stream",
    "split_by_day",
    "sums",
]
