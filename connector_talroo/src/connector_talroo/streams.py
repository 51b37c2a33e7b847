"""
The one stream: clicks, by advertiser and day.
"""

from datetime import date, timedelta

from penstock import Envelope, Stream

from connector_talroo.records import Click
from connector_talroo.source import DAYS_PER_REQUEST, OPEN_FOR, click_report, states_its_total

REPORT = Envelope(
    items="clicks_report", keyed_by="report_date", optional=True, total="total_clicks", head=("status", "message")
)
"""
``{status, start_day, end_day, total_clicks, clicks_report: {day: [click, ...]}}``; of an error ``{status, message}``.

``end_day`` is the day after the last one, although the request's ``end`` is included: it is not read. A day
without clicks may be missing, and a report without any may be ``{}``, ``[]`` (PHP prints an empty map so), null or
absent. Source: Reporting API, sample answer; the empty forms are inferred.
"""


def earliest(today: date) -> date:
    """
    The first day of the month before last: on 12 August, 1 June.

    Source: Reporting API, "the previous two full calendar months"; that the running one comes on top is inferred.
    """
    last_month = today.replace(day=1) - timedelta(days=1)
    return (last_month.replace(day=1) - timedelta(days=1)).replace(day=1)


STREAMS = (
    Stream(
        name="clicks",
        summary="Every click that an advertiser pays for, with its price",
        record=Click,
        requests=lambda settings, slice_: click_report(settings, str(slice_.account), slice_.since, slice_.until),
        envelope=REPORT,
        judge=states_its_total,
        days_per_request=DAYS_PER_REQUEST,
        earliest=earliest,
        open_for=OPEN_FOR,
    ),
)
