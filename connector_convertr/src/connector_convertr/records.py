"""
The records of Convertr's collections, each in the order of the provider's sample answer.

Money and rates come as text and are delivered as exact decimals. Amounts without ``base_currency`` are in the
currency of their campaign, which differs between campaigns, so only those in the enterprise's base currency may be
summed. Times carry their own offset, and different offsets occur in one document.
"""

from datetime import date, datetime
from decimal import Decimal

from penstock import Json, added, column, personal, record, secret

_STAFF = ("username", "email", "firstName", "lastName")


@record(members="camel")
class Lead:
    """
    One lead as it is now: its validity, billability and payouts change after it was created.

    ``campaign``, ``lead_notes`` and ``lead_processr_jobs`` refer by path (``/api/v4/campaigns/44064``). ``lead_data``
    holds the free fields of the campaign's form; the one named ``leadHash`` lets its holder validate or invalidate
    the lead and never leaves.

    Source: Quick Start, example response Lead; the members after ``lead_processr_jobs`` occur in newer editions.
    """

    at_id: str | None = column(member="@id")
    at_type: str | None = column(member="@type")
    id: int
    publisher_sub_id: str | None
    form_hash: str | None
    created_ts: datetime | None
    postcode: str | None = personal()
    address_line1: str | None = personal()
    address_line2: str | None = personal()
    address_line3: str | None = personal()
    address_line4: str | None = personal()
    first_name: str | None = personal()
    last_name: str | None = personal()
    email: str | None = personal()
    telephone: str | None = personal(description="digits as entered, with a leading 0")
    integration: bool | None
    over_allocation: bool | None
    visible: bool | None
    processr_status: int | None = column(description="a code; the provider does not explain its values")
    score: int | None
    hardfail: bool | None
    max_score: int | None
    base_currency_publisher_payout: Decimal | None = column(unit="base currency", additive=True)
    publisher_payout: Decimal | None = column(unit="campaign currency")
    base_currency_advertiser_payout: Decimal | None = column(unit="base currency", additive=True)
    advertiser_payout: Decimal | None = column(unit="campaign currency")
    advertiser_billable: bool | None
    publisher_billable: bool | None
    lead_data: Json = column(hidden=("[name=leadHash]",), hidden_personal=("*.value",))
    lead_notes: Json
    campaign: str | None
    qa_result: Json
    lead_flag: Json
    lead_processr_jobs: Json
    updated_ts: datetime | None
    channel: Json
    title: str | None = personal()
    dob: str | None = personal(description="date of birth, as the provider writes it")
    sex: str | None = personal()
    photo: str | None = personal()
    ip: str | None = personal()
    host: str | None
    opt_in: bool | None
    double_opt_in: bool | None
    processing_counter: int | None
    suppression_list: Json
    imported: bool | None
    first_delivered_ts: datetime | None
    email_hash: str | None = personal()
    fingerprint: str | None = personal()
    integration_results: Json = personal(description="to be matched with campaign jobs; no sample shows it")
    updated_day: date | None = added(
        description="the UTC day of cursor_field in whose window the lead was last read; windows reach back, so one "
        "of a day's last ten minutes has the next day"
    )


@record(members="camel")
class LeadDetail(Lead):
    """
    A lead read by its id.

    Source: Quick Start, "Lead item"; no sample, taken to be the collection's record with its context.
    """

    at_context: str | None = column(member="@context")


@record(members="camel")
class LeadData:
    """
    One free field of a lead's form, except ``leadHash``.

    Source: Quick Start, example response Lead, member ``leadData``; newer editions add ``type``.
    """

    lead_id: int = added(description="id of the lead")
    at_id: str = column(member="@id")
    at_type: str | None = column(member="@type")
    name: str | None
    type: str | None
    value: str | None = personal()


@record(members="camel")
class Campaign:
    """
    One campaign with its contract, its settings and its totals up to the moment of reading.

    ``statistics`` moves without ``updated_ts``. Three members are credentials and never leave: the key that posts
    leads to the campaign, a Facebook token, and the hash that signs its order.

    Source: Quick Start, example response Campaign.
    """

    at_id: str | None = column(member="@id")
    at_type: str | None = column(member="@type")
    status: str | None
    id: int
    name: str | None
    start_ts: datetime | None
    end_ts: datetime | None
    expose_publisher: bool | None
    expose_publisher_sub: bool | None
    updated_ts: datetime | None
    default_threshold_score: int | None
    integrate: bool | None
    call_centre: bool | None
    welcome_email: bool | None
    double_optin: bool | None
    score_base_routing: bool | None
    default_sale_value: Decimal | None = column(description="in default_sale_currency")
    default_sale_currency: str | None
    advertiser: Json = column(hidden_personal=("email",))
    account_manager: Json = column(hidden_personal=_STAFF)
    subcategory: Json
    country: Json
    campaign_market: str | None
    contract_value: Decimal | None = column(unit="campaign currency")
    performance_model: str | None
    internal_only: bool | None
    default_publisher_rate: int | None = column(unit="%")
    publisher_payout_type: str | None
    manual_score: bool | None
    combined_job_score: int | None
    use_value_transforms: bool | None
    campaign_manager: Json = column(hidden_personal=_STAFF)
    pause_ts: datetime | None
    publisher_terms: str | None
    send_voucher: bool | None
    test_mode: bool | None
    send_mediakit: bool | None
    conversion_rate: Decimal | None
    currency: Json
    base_currency_contract_value: Decimal | None = column(unit="base currency", additive=True)
    end_ts_extension: int | None
    unavailable_campaign_logic: str | None
    unavailable_campaign_redirect_url: str | None
    hold_publisher_over_delivery: bool | None
    value_based_routing: bool | None
    auto_sign_publisher: bool | None
    variable_publisher_payout: bool | None
    use_scheduled_delivery: bool | None
    uncapped: bool | None
    facebook_offline_event_set_id: str | None
    facebook_system_user_access_token: str | None = secret()
    lead_process_delay: int | None
    api_key: str | None = secret()
    leads_required: int | None = column(additive=True)
    payout_amount: Decimal | None = column(unit="campaign currency", description="per lead, for payout CPL")
    payout: str | None
    base_currency_payout_amount: Decimal | None = column(unit="base currency", description="per lead, for payout CPL")
    notes: str | None
    sign_name: str | None = personal()
    sign_role: str | None
    sign_ts: datetime | None
    sign_io_number: str | None
    terms: str | None
    statistics: Json
    sign_hash: str | None = secret()
    allow_publisher_import_export: bool | None
    purchase_order: str | None
    reference_number: str | None
    purchase_order_file: Json


@record(members="camel")
class CampaignDetail(Campaign):
    """
    A campaign read by its id.

    Source: Quick Start, the rule that an id added to a collection's path reads one object; no sample.
    """

    at_context: str | None = column(member="@context")


@record(members="camel")
class CampaignPublisher:
    """
    One version of a publisher's contract on a campaign.

    ``statistics`` covers all contract versions of that publisher on that campaign: never sum it over versions
    (the filter ``latest = true`` reads the newest ones only). ``link_hash`` is the publisher's tracking link and
    never leaves.

    Source: Quick Start, example response CampaignPublisher and the notes below it.
    """

    at_id: str | None = column(member="@id")
    at_type: str | None = column(member="@type")
    id: int
    leads_required: int | None
    start_ts: datetime | None
    end_ts: datetime | None
    sign_name: str | None = personal()
    sign_role: str | None
    signed_ts: datetime | None
    signed_ip: str | None = personal()
    updated_ts: datetime | None
    created_ts: datetime | None
    terms: str | None
    link_hash: str | None = secret()
    publisher: Json = column(hidden_personal=("email",))
    campaign: Json = column(hidden_personal=("advertiser.email",))
    updated_by: Json = column(hidden_personal=_STAFF)
    created_by: Json = column(hidden_personal=_STAFF)
    publisher_application: Json
    track_conversion: Json
    current: bool | None
    campaign_publisher_bands: Json
    uncapped: bool | None
    caps_on_bands: bool | None
    statistics: Json
    contract_type: str | None
    fixed_amount_payout: Decimal | None = column(unit="campaign currency")
    fixed_amount_base_payout: Decimal | None = column(unit="base currency")
    fixed_amount_fulfilled: Json
    current_contract_status: str | None


@record(members="camel")
class CampaignPublisherDetail(CampaignPublisher):
    """
    A contract version read by its id.

    Source: Quick Start, the rule that an id added to a collection's path reads one object; no sample.
    """

    at_context: str | None = column(member="@context")


@record(members="camel")
class CampaignPublisherBand:
    """
    One payout band of a contract; every contract has at least one, and one without ``campaign_payout_band`` is the
    default band.

    In the sample, ``statistics`` has a member named by a single blank where other records have ``totalLeads``; it is
    kept as it is.

    Source: Quick Start, example response CampaignPublisher, member ``campaignPublisherBands``.
    """

    campaign_publisher_id: int = added(description="id of the contract version")
    at_id: str = column(member="@id")
    at_type: str | None = column(member="@type")
    payout: Decimal | None = column(unit="campaign currency")
    base_currency_payout: Decimal | None = column(unit="base currency")
    campaign_payout_band: Json
    leads_required: int | None
    statistics: Json


@record(members="camel")
class CampaignProcessrJob:
    """
    One job (check, enrichment or integration) as it is set up on a campaign; jobs of category 2 are integrations.

    ``config`` may hold the credentials of an integration and never leaves. The lists that the sample shows empty may
    be objects when they are filled.

    Source: Quick Start, example response CampaignProcessrJob.
    """

    at_id: str | None = column(member="@id")
    at_type: str | None = column(member="@type")
    id: int
    stage: int | None
    score: int | None
    hardfail: bool | None
    visible: bool | None
    enabled: bool | None
    updated_ts: datetime | None
    campaign: Json
    processr_job: Json
    updated_by: Json = column(hidden_personal=_STAFF)
    label: str | None
    campaign_mapping: Json
    route_by_score_minimum: int | None
    route_by_score_maximum: int | None
    routing_values: Json
    shown_on_campaign: bool | None
    config: Json = secret()
    always_deliver: bool | None
    campaign_processr_job_group_job: Json
    statistics: Json
    unmapped_fields: Json


@record(members="camel")
class CampaignProcessrJobDetail(CampaignProcessrJob):
    """
    A campaign's job read by its id.

    Source: Quick Start, the rule that an id added to a collection's path reads one object; no sample.
    """

    at_context: str | None = column(member="@context")
