"""
eBay's transactions, campaigns and campaign reports, as the comparison has them. Source: eBay's public documents.
"""

from datetime import date, datetime
from decimal import Decimal

from attrs import frozen
from penstock import Connector, Parent, Secret, SourceSettings, Stream, column, money, named, record, setting

SCOPES = "https://api.ebay.com/oauth/api_scope/sell.finances https://api.ebay.com/oauth/api_scope/sell.marketing"


@frozen(kw_only=True)
class EbaySettings(SourceSettings):
    base_url: str = setting("https://api.ebay.com", help="where eBay answers")
    client_id: str = setting(help="App ID of your application")
    client_secret: Secret = setting(help="Cert ID of your application")
    refresh_token: Secret = setting(help="the refresh token that a seller granted", per_account=True)


@record(members="camel", kind="report", key=("transaction_id", "transaction_type"), account="seller", day="day")
class Transaction:
    """Sales, refunds and charges, with their status."""

    transaction_id: str
    transaction_type: str
    transaction_status: str
    transaction_date: datetime
    order_id: str | None
    payout_id: str | None
    booking_entry: str
    amount: Decimal = money()
    total_fee_amount: Decimal | None = money()


@record(members="camel", kind="snapshot", key="campaign_id", account="seller")
class Campaign:
    """Promoted Listings campaigns as they are now."""

    campaign_id: str
    campaign_name: str
    campaign_status: str
    start_date: datetime
    end_date: datetime | None
    marketplace_id: str
    funding_model: str | None = column(path="fundingStrategy.fundingModel")
    bid_percentage: Decimal | None = column(path="fundingStrategy.bidPercentage")


@record(kind="report", key="campaign_id", account="seller", day="day")
class CampaignDay:
    """Performance of each campaign and day."""

    day: date
    campaign_id: str
    campaign_name: str | None
    impressions: int = column(additive=True)
    clicks: int = column(additive=True)
    ad_fees: Decimal = column(additive=True, description="in the marketplace's currency")
    sales: int = column(additive=True)
    sale_amount: Decimal = column(additive=True, description="in the marketplace's currency")


TRANSACTIONS = Stream(
    name="transactions",
    record=Transaction,
    path="/sell/finances/v1/transaction",
    params={"filter": "transactionDate:[{start:%Y-%m-%dT%H:%M:%S.000Z}..{end:%Y-%m-%dT%H:%M:%S.000Z}]"},
    envelope=named("json", items="transactions", total="total", head="next"),
    paginator=named("link", member="next", size_param="limit", size=1000),
    days_per_request=7,
    day_of="transaction_date",
    inexact_bounds=True,  # the filter includes both its ends
    open_for=45,
)
CAMPAIGNS = Stream(
    name="campaigns",
    record=Campaign,
    path="/sell/marketing/v1/ad_campaign",
    envelope=named("json", items="campaigns", total="total", head="next"),
    paginator=named("link", member="next", size_param="limit", size=10),
)
CAMPAIGN_DAYS = Stream(
    name="campaign_days",
    record=CampaignDay,
    parent=Parent(stream="campaigns", columns=("campaign_id",), per_request=1000),
    path="/sell/marketing/v1/ad_report_task",
    json={
        "reportType": "CAMPAIGN_PERFORMANCE_SUMMARY_REPORT",
        "reportFormat": "TSV_GZIP",
        "marketplaceId": "EBAY_US",
        "campaignIds": ["{campaign_id}"],
        "dimensions": [{"dimensionKey": "campaign_id"}, {"dimensionKey": "day"}],
        "metricKeys": ["impressions", "clicks", "ad_fees", "sales", "sale_amount"],
        "dateFrom": "{since}T00:00:00.000Z",
        "dateTo": "{until}T00:00:00.000Z",
    },
    poller=named("polled", id_at=None, state_at="reportTaskStatus", rows_at="reportHref"),
    envelope=named("report_file", delimiter="\t"),
    days_per_request=30,
    day_of="day",
    open_for=4,
)

CONNECTOR = Connector(
    name="ebay",
    summary="Transactions, campaigns and campaign reports of eBay sellers",
    settings=EbaySettings,
    authenticator=lambda settings: named(
        "oauth_refresh",
        url=settings.url("/identity/v1/oauth2/token"),
        client_id=settings.client_id,
        client_secret=settings.client_secret,
        refresh_token=settings.refresh_token,
        scope=SCOPES,
        client_in="basic",
    ),
    reason="errors[].message",
    streams=[TRANSACTIONS, CAMPAIGNS, CAMPAIGN_DAYS],
)
