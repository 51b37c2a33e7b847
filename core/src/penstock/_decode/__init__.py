"""
Items to typed records, a page at a time, without a Python statement per record.

``compile`` makes the decoder of a stream from its declarations. ``stream_decoder`` has the steps of a page, by name.

The modules, in the order in which a page passes them: ``runs`` (bytes, joined or in chunks), ``page`` (elements and
rows), ``record_decoder`` (elements to rows), by ``structs`` (Structs made from the record class) or, where a page does
not fit, by ``single_elements``; ``outer_members`` (columns inside of other members), ``values`` and ``coerce``
(conversion of whole columns, and of single values), ``columns`` (stamps, exact money, days), ``measures`` (rows of
totals, absent measures), ``unmarked_total`` (such a row that nothing marks), ``keys`` and ``slice_keys`` (repeated
rows), ``derived`` (streams cut from a page's rows), ``rejects`` (rejected records, with path and reason). Beside
them: ``codecs`` (JSON), ``masks`` (secret and personal members in nested values), ``erasure`` (what an earlier
reading delivered), ``batch`` (sums and days of a batch). ``compile`` and ``stream_decoder`` join them.

See ``docs/decisions/0003-records-at-c-speed.md`` for the measurements.
"""

from penstock._decode.batch import split_by_day, sums
from penstock._decode.columns import Requested
from penstock._decode.compile import ColumnOptions, compile_stream
from penstock._decode.slice_keys import SliceKeys
from penstock._decode.stream_decoder import Decoded, StreamDecoder

__all__ = [
    "ColumnOptions",
    "Decoded",
    "Requested",
    "SliceKeys",
    "StreamDecoder",
    "compile_stream",
    "split_by_day",
    "sums",
]
