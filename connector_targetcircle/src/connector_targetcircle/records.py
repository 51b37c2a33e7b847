"""
The record classes, members in the provider's order and spelling (``commision``, ``catergory`` are on the wire so).

Money is in major units of the currency named beside it. All times are UTC.
"""

from datetime import date, datetime
from decimal import Decimal

from penstock import Json, added, column, personal, record, row_key


@record(members="camel")
class Transaction:
    """
    One conversion that the publisher is paid for. Its status and amounts change for weeks; no date states when.

    ``conversion_status`` is one text even where it holds a comma (``approved, paid out``). ``slug`` is the offer's.
    No member identifies a transaction, hence ``row_key``; it leaves out what changes.

    Source: publisher API, transactions report; that ``slug`` is the offer's and that ``commission_rep`` is in the
    requested currency is inferred.
    """

    row_key: str = row_key(
        "slug",
        "tracking_id",
        "saved",
        "product_group_name",
        "transaction_type",
        "ad_link_name",
        "reference",
        "country",
    )
    report_date: date = added(description="the UTC day of saved")
    conversion_status: str | None = None
    slug: str | None = column(description="the offer's slug")
    offer_name: str | None = None
    media_name: str | None = column(description="the ad inventory's name")
    product_group_name: str | None = None
    transaction_type: str | None = None
    tracking_method: str | None = None
    tracking_id: str | None = personal(description="names a visitor's click; not unique")
    ad_link_name: str | None = None
    reference: Json = column(description="the publisher's own sub-ids, a list of texts")
    transaction_amount: Decimal | None = column(unit="of column currency", additive=True)
    currency: str | None = None
    commission: Decimal | None = column(unit="of column currency", additive=True)
    commission_rep: Decimal | None = column(unit="presumably the requested currency", additive=True)
    country: str | None = column(description="name in English")
    saved: datetime = column(description="when the transaction was recorded, UTC")


@record(members="camel")
class Click:
    """
    One click on a publisher's link. Clicks have no identifier and do not change.

    Source: publisher API, clicks report.
    """

    row_key: str = row_key("slug", "media_name", "offer_name", "reference", "country", "ip", "click_date")
    report_date: date = added(description="the UTC day of click_date")
    slug: str | None = column(description="the offer's slug")
    media_name: str | None = column(description="the ad inventory's name")
    offer_name: str | None = None
    reference: Json = column(description="the publisher's own sub-ids, a list of texts")
    country: str | None = column(description="name in English")
    ip: str | None = personal()
    click_date: datetime = column(description="UTC")


@record(members="camel")
class Trade:
    """
    One agreement between an ad inventory and an offer, with its prices.

    ``offer`` is ``{name, href}``; the last segment of ``href`` is the offer's slug. ``pricings`` holds ``commision``
    and ``commisionType`` in the provider's spelling. ``verticals`` may hold an empty text.

    Source: publisher API, trades report.
    """

    id: int
    type: str | None = None
    status: str | None = None
    ad_inventory: str | None = column(description="the ad inventory's name")
    offer: Json = None
    category: str | None = None
    provider: str | None = None
    verticals: Json = None
    pricings: Json = None


@record(members="camel")
class Offer:
    """
    One offer as one ad inventory sees it. It carries no slug, only a number (the trade's, by the samples).

    Source: publisher API, ``GET /api/offers``.
    """

    ad_inventory_id: int = added(description="the ad inventory that the offer is listed under")
    ad_inventory_name: str | None = added()
    ad_inventory_slug: str | None = added(description="where the answer has one; the document shows none")
    id: int
    name: str | None = None
    status: str | None = None
    start_date: date | None = None
    end_date: date | None = None
    provider: str | None = None
    advertiser: str | None = None
    vertical: str | None = None
    catergory: str | None = None
    tracking: Json = None
    targeted_countries: Json = column(description="ISO 3166 codes of two letters")
    policies: Json = None
    terms_and_conditions: str | None = None
    currency: str | None = None
    highest_payout: Decimal | None = column(unit="of column currency")
    pricings: Json = None


@record(members="camel")
class OfferDetails:
    """
    One offer by its slug. ``general.adInventory`` lists inventories with their slugs.

    Source: publisher API, ``GET /api/offers/:slug``.
    """

    slug: str
    name: str | None = None
    target_url: str | None = None
    general: Json = None
    tracking: Json = None
    policies: Json = None
    targeted_countries: Json = column(description="names here, where offers have codes")


@record(members="camel")
class OfferAd:
    """
    One banner or text of an offer. ``banner_details.url`` may point to a host of the provider's own: not fetched.

    Source: publisher API, ``GET /api/offers/:slug/ads``.
    """

    offer_slug: str = added(description="the slug of the offer in the request")
    slug: str
    name: str | None = None
    target_url: str | None = None
    type: str | None = column(description="BANNER or TEXT")
    banner_details: Json = None


@record(members="camel")
class Code:
    """
    One tracking code for an offer on an ad inventory.

    Source: publisher API, ``GET /api/codes``.
    """

    offer_id: int = added(description="the offer of the request")
    ad_inventory: str = added(description="the ad inventory as the request names it (codes_inventory_field)")
    id: str
    name: str | None = None
    type: str | None = column(description="banner or text link")
    is_default: bool | None = None
    targeted_countries: Json = column(description="ISO 3166 codes of two letters")
    click_url: str | None = None
    banner_details: Json = None
