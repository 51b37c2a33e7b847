"""
Items to typed records, a page at a time, without a Python statement per record.

In the order of a page's way: ``page`` (bytes, joined or in chunks), ``structs`` (bytes to rows, by Structs made from
the record class), ``values`` and ``coerce`` (whole columns, and single values, to their types), ``columns`` (stamps,
exact money, days), ``seen`` and ``keys`` (rows that come again), ``derived`` (streams cut from a page's rows) and
``rejects`` (what is set aside, with path and reason). ``compiled`` joins them: :func:`compile_stream` makes the decoder
of a stream. See ``docs/decisions/0003-records-at-c-speed.md`` for the measurements.
"""

from penstock._decode.batch import split_by_day, sums
from penstock._decode.compiled import Compiled, Decoded, Wanted, compile_stream
from penstock._decode.seen import Occurrences, SeenKeys

__all__ = ["Compiled", "Decoded", "Occurrences", "SeenKeys", "Wanted", "compile_stream", "split_by_day", "sums"]
