"""
The one stream: clicks, by advertiser and day.
"""

from datetime import date, timedelta

from attrs import evolve
from penstock import Column, Envelope, Stream, columns_of

from connector_talroo.config import TalrooSettings
from connector_talroo.records import Click
from connector_talroo.source import DAYS_PER_REQUEST, OPEN_FOR, click_report, states_its_total

REPORT = Envelope(
    items="clicks_report",
    keyed_by="report_date",
    optional=True,
    total="total_clicks",
    head=("status", "message"),
    echoes={"start_day": "start"},
)
"""
``{status, start_day, end_day, total_clicks, clicks_report: {day: [click, ...]}}``; an error is ``{status, message}``.

``start_day`` is the request's ``start``: in an answer without clicks, nothing else shows its day.
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


def amounts(settings: TalrooSettings) -> tuple[Column, ...]:
    """``price_amount`` in the unit that the settings name; without one, whole numbers are cents."""
    if settings.price_unit is None:
        return ()
    scale = -2 if settings.price_unit == "cents" else 0
    return tuple(evolve(column, scale=scale, whole="") for column in columns_of(Click) if column.name == "price_amount")


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
        extra_columns=amounts,
        open_for=OPEN_FOR,
    ),
)
