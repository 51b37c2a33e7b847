"""
The record of the click report, members in the provider's order and spelling.
"""

from datetime import date, datetime
from decimal import Decimal

from penstock import added, column, derived, personal, record


@record(kind="report", key="click_id", account="advertiser_id", day="report_date")
class Click:
    """
    One click that an advertiser pays for.

    ``price`` is what the provider sends, presumably US cents as text; ``price_amount`` is the same in dollars, exact.
    A price with a decimal point may be in dollars, so its unit is not certain: it has no amount, unless the setting
    ``price_unit`` decides. ``time`` has no zone: the provider states none, and cuts its days in the same unknown one.

    Source: Reporting API, ``get_clicks``; that prices are US cents is inferred from the provider's other APIs.
    """

    advertiser_id: str = added(description="the advertiser of the request")
    report_date: date = added(description="the day under which the provider lists the click, in the provider's zone")
    click_id: str
    bid_type: str | None = column(description="what is paid for, such as cpc")
    price: str | None = column(description="as sent; US cents, unless price_unit is dollars")
    price_amount: Decimal | None = derived(
        of="price", scale=-2, whole="cents", expected=True, unit="USD", additive=True, description="what is paid"
    )
    time: datetime | None = column(zone="naive", description="when it was clicked, in the provider's zone")
    job_reference: str | None = column(description="the customer's own reference of the job")
    ip: str | None = personal(description="address of the person who clicked, IPv4 or IPv6")
    url: str | None = personal(description="landing page; its parameters may identify who clicked")
    tlr_sid: str | None = personal(description="names the visit; the provider's landing URLs carry it")
    platform: str | None = column(description="device or channel, free text")
    job_id: str | None = column(description="the provider's own number of the job")
    campaign_id: str | None = None
    campaign_name: str | None = column(description="may change over time")
