"""
How old a response is by our clock: a cache may be old, and the provider's clock behind ours.
"""

import re
from datetime import timedelta

from penstock._fetch.call import Answered
from penstock.model import http_date

NOTED_BEHIND = timedelta(days=2)
FARTHEST_BEHIND = timedelta(days=31)
"""The largest credible lag of a provider's clock. A larger difference is an invalid Date header."""

_AGE = re.compile(r"[0-9]{1,9}")


def clock_lag(result: Answered) -> tuple[timedelta, str]:
    """
    The age of a response by its Date header, which a cache keeps, or by its Age header, and a note on an old Date
    header. Zero for a download without credentials.
    """
    response = result.response
    if not result.call.request.credentials:
        return timedelta(0), ""
    headers = dict(reversed(response.headers))  # the first of each name
    age = headers.get("age", "")
    cached = timedelta(seconds=int(age) if _AGE.fullmatch(age) else 0)
    stated = http_date(headers.get("date"))
    dated = response.received_at - stated if stated is not None else timedelta(0)
    if dated > FARTHEST_BEHIND:
        dated = timedelta(0)
    note = ""
    if dated > NOTED_BEHIND:
        note = (
            f"by its Date header a response is {dated.days} days old, and its days are open or final as of then. It is "
            "from a cache, or this host's clock is ahead: correct it"
        )
    return max(dated, cached, timedelta(0)), note
