"""
Items to typed records, a page at a time, without a Python statement per record.

:func:`compile_stream` makes of a stream's record class a :class:`Compiled`. A page's bytes become rows by a msgspec
Struct that knows the provider's member names (``wire``); stamps, exact money and days are set column by column
(``columns``); rows that came before are found by their keys (``keys``), derived streams cut from theirs (``derived``),
and the rows moved to a Struct of equal layout, which knows the columns' names, by swapping their class (``compiled``).

Only a page that does not fit is looked at more closely, down to a single value (``coerce``); what fits on no road is
set aside with its path and reason (``rejects``). See ``docs/decisions/0003-records-at-c-speed.md`` for the
measurements.
"""

from penstock._decode.batch import split_by_day, sums
from penstock._decode.compiled import Compiled, Decoded, Wanted, compile_stream
from penstock._decode.keys import SeenKeys

__all__ = ["Compiled", "Decoded", "SeenKeys", "Wanted", "compile_stream", "split_by_day", "sums"]
