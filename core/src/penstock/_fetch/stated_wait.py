"""
The wait that a response states: in Retry-After, or in the headers of its quota.
"""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from penstock.model import Response

# Headers in which providers state when a quota is full again, in the order in which they are read.
RESETS = ("ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset")
_REMAINING = ("ratelimit-remaining", "x-ratelimit-remaining", "x-rate-limit-remaining")
_SECONDS = r"[0-9]{1,18}(\.[0-9]{1,9})?"
_EPOCH_S, _EPOCH_MS = 1e9, 1e12  # what is larger is no number of seconds to wait but a time since 1970


def stated_wait(response: Response, *, throttled: bool = False) -> float | None:
    """
    Seconds that the provider states: in ``Retry-After``, or where it refuses for its quota (``throttled``), in one of
    ``RESETS``. None without one, with a broken one, and where a part of the quota remains.

    Each may be seconds, seconds or milliseconds since 1970, an HTTP date, or a time in ISO 8601; without a zone it is
    UTC. A time is compared with the provider's own ``Date``, so that our clock may be wrong.
    """
    names = ["retry-after"]
    remaining = next((value for name in _REMAINING if (value := response.header(name)) is not None), "0")
    if throttled and remaining.strip() == "0":
        names.extend(RESETS)
    waits = (_wait(response, value) for name in names if (value := response.header(name)) is not None)
    return next((wait for wait in waits if wait is not None), None)


def _wait(response: Response, text: str) -> float | None:
    now = response.date or response.received_at
    if re.fullmatch(_SECONDS, text.strip()):
        number = float(text.strip())
        if number < _EPOCH_S:
            return number
        return max(0.0, (number / 1000 if number >= _EPOCH_MS else number) - now.timestamp())
    when = _moment(text.strip())
    return None if when is None else max(0.0, (when - now).total_seconds())


def _moment(text: str) -> datetime | None:
    """An HTTP date or a time in ISO 8601, aware; None for any other text."""
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            when = parse(text)
        except (ValueError, OverflowError, TypeError):
            continue
        return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return None
