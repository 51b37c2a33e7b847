"""
The records of Joveo, each in the order in which the provider prints its members.

Lists are documented only as ``{"data": [...]}``: that their rows look like the single objects is inferred, so only
keys are required, and what else comes is kept in ``_extra``. Amounts are decimals in major units of a currency that
the provider does not state.
"""

import datetime as dt
from decimal import Decimal

from penstock import Json, added, column, personal, record, row_key

_COUNT = column(additive=True)
_RATIO = column(description="a ratio: never sum it")


@record(members="camel")
class Client:
    """
    An advertiser (or a group of them, by ``children``) of the agency.

    ``start_date`` and ``end_date`` stay text: they are declared ``mm/dd/yyyy`` and printed day first.

    Source: operations 3 and 5.
    """

    id: str
    children: Json = None
    company_name: str | None = None
    exported_name: str | None = None
    start_date: str | None = None
    end_date: str | None = None
    time_zone: str | None = column(description="as UTC-10:00; probably where this client's report days are cut")
    ats: str | None = None
    caps: Json = None
    start_default_campaign: bool | None = None
    client_type: str | None = None
    markdown: Decimal | None = None
    apply_conv_window: int | None = column(unit="d", description="presumably days")
    excluded_publishers: Json = None
    globally_excluded_publishers: Json = None


@record(members="camel")
class ClientStatus:
    """
    Whether a client is active (``A``) or paused (``P``).

    Source: operation 7; the letters' meaning is inferred.
    """

    client_id: str = added(description="the client of the request")
    result: str | None = None
    message: str | None = None


@record()
class CustomIdxField:
    """
    One entry of a client's map from the fields of its feed to Joveo's custom index fields.

    Source: operation 8, which answers with the map itself.
    """

    source_field: str
    idx_field: str | None = None


@record(members="camel")
class Job:
    """
    A job of a client.

    Source: operations 12, 13 and 18 (which prints nothing of its jobs); ``url``, ``alternate_url``, ``published_date``
    and ``end_at_date`` from the body that creates one. ``zip`` is declared as text and printed as a number.
    """

    ref_number: str
    title: str | None = None
    company: str | None = None
    description: str | None = None
    category: str | None = None
    url: str | None = None
    alternate_url: str | None = column(member="alternateURL")
    city: str | None = None
    state: str | None = None
    country: str | None = None
    job_id: str | None = None
    zip: str | None = None
    created_at_date: dt.datetime | None = None
    updated_at_date: dt.datetime | None = None
    published_date: dt.datetime | None = None
    pub_date: dt.datetime | None = None
    posted_date: dt.datetime | None = None
    modified_date: dt.datetime | None = None
    end_at_date: dt.datetime | None = column(description="the job is deleted after it")
    type: str | None = None
    additional_fields: Json = None
    publisher_fields: Json = None
    job_setting: Json = None
    placement_settings: Json = None
    client_id: str | None = None
    valid: bool | None = None
    status: str | None = None


@record(members="camel")
class Campaign:
    """
    A campaign of a client. ``created_on`` is printed as the word "string", so its form is unknown.

    Source: operations 20 and 21.
    """

    id: str
    name: str | None = None
    active_status: str | None = None
    settings_override: Json = None
    created_on: str | None = None
    children: Json = None
    is_default: bool | None = None
    caps: Json = None
    placement_caps: Json = column(description="an object or a text")


@record(members="camel")
class JobGroup:
    """
    A job group: the part of a campaign's jobs that shares filters and bids.

    Source: operations 28 and 29.
    """

    id: str
    compound_filters: Json = column(member="Compound Filters")
    name: str | None = None
    placement_ids: Json = None
    active_status: str | None = None
    settings_override: Json = None
    ad_words_metadata: Json = None
    created_on: dt.datetime | None = None
    is_default: bool | None = None
    caps: Json = None
    placement_caps: Json = None
    priority: int | None = None
    performance_targets: Json = None
    io_details: Json = None
    categories: Json = None
    iid: int | None = None


@record(members="camel")
class CampaignJobGroup(JobGroup):
    """
    A job group as listed below its campaign.

    Source: operations 27 and 29.
    """

    campaign_id: str = added(description="the campaign of the request")


@record(members="camel")
class Feed:
    """
    A feed from which a client's jobs come. A deleted one may stay listed, with ``deleted``.

    Source: operations 35 and 36.
    """

    client_id: str | None = None
    source: str | None = None
    config: Json = None
    created_on: dt.datetime | None = None
    last_updated: dt.datetime | None = None
    active: bool | None = None
    schema_mappings: Json = None
    url_params_to_strip: Json = None
    id: str
    deleted: bool | None = None
    schema_value_overrides: Json = None
    schema_value_defaults: Json = None
    mandatory_fields: Json = None


@record(members="camel")
class PostingConfig:
    """
    A config, or posting: what a publisher charges for posting jobs, and for how many of them.

    ``start_date`` and ``end_date`` stay text, in the form that ``date_format`` gives. ``billing_type`` and
    ``purchase_type`` are an object in operation 42 and a text in operation 44.

    Source: operations 42, 44 and 48.
    """

    id: str
    agency_id: str | None = None
    client_ids: Json = None
    placement: str | None = column(description="the publisher")
    placement_name: str | None = None
    cost: Decimal | None = None
    cost_per_job_per_day: Decimal | None = None
    cost_per_slot_per_hour: Decimal | None = None
    start_date: str | None = None
    end_date: str | None = None
    date_format: str | None = None
    duration: int | None = None
    available_count: int | None = None
    rotate_freq_in_days: int | None = column(unit="d")
    used_count: int | None = None
    last_rotated: dt.datetime | None = None
    is_active: bool | None = None
    last_updated: dt.datetime | None = None
    created_on: dt.datetime | None = None
    job_duration: int | None = None
    posted_jobs_count: int | None = None
    config_type: str | None = None
    min_job_duration_in_days: int | None = column(unit="d")
    billing_type: Json = None
    purchase_type: Json = None


@record(members="camel")
class PublisherPostingConfig(PostingConfig):
    """
    A config as listed for one of the ``publisher_ids``.

    Source: operation 42.
    """

    publisher_id: str = added(description="the publisher of the request")


@record(members="camel")
class PostedJob:
    """
    A job as posted over a publisher.

    Source: operations 39, 46 and 47.
    """

    id: str | None = None
    client_id: str | None = None
    job_id: str | None = None
    placement: str | None = column(description="the publisher")
    ref_number: str | None = None
    is_posted: bool | None = None
    is_pinned: bool | None = None
    is_paused: bool | None = None
    last_modified: dt.datetime | None = None
    created_on: dt.datetime | None = None
    status: str | None = None
    publisher_id: str = added(description="the publisher of the request")


@record(members="camel")
class ConfigJob(PostedJob):
    """
    A job of one config.

    Source: operations 46 and 47.
    """

    id: str
    config_id: str = added(description="the config of the request")


@record(members="camel")
class ClientMetadata:
    """
    A campaign with its job groups, as the metadata of a client name them.

    Source: operation 52, which prints an empty list; the members are inferred.
    """

    id: str
    name: str | None = None
    job_groups: Json = None


@record(members="camel")
class StatsRow:
    """
    One row of the stats report: what a campaign, job, publisher, ... did on a day.

    Nobody documents the columns: these are the usual ones, ``stats_columns`` declares more, and the rest is kept in
    ``_extra``. The ratios are made by the provider and must never be summed or averaged: presumably CPC = spend /
    clicks, CPA = spend / applies, CTA = applies / clicks, ATH = applies / hires, CPH = spend / hires.

    Source: operations 49 and 50; the ratios are named there, all other columns are inferred.
    """

    row_key: str = row_key(
        "client_id", "campaign_id", "campaign_name", "job_group_id", "job_group_name", "job_id", "ref_number",
        "publisher", "placement",
    )  # fmt: skip
    date: dt.date | None
    client_id: str | None = None
    client_name: str | None = None
    campaign_id: str | None = None
    campaign_name: str | None = None
    job_group_id: str | None = None
    job_group_name: str | None = None
    job_id: str | None = None
    ref_number: str | None = None
    publisher: str | None = None
    placement: str | None = None
    impressions: int | None = _COUNT
    clicks: int | None = _COUNT
    applies: int | None = _COUNT
    hires: int | None = _COUNT
    spend: Decimal | None = column(additive=True, description="in a currency that the provider does not state")
    cpc: Decimal | None = _RATIO
    cpa: Decimal | None = _RATIO
    cta: Decimal | None = _RATIO
    ath: Decimal | None = _RATIO
    cph: Decimal | None = _RATIO


@record(members="camel")
class IpRow:
    """
    One row of the IP report: clicks by address. The address is personal data, under whichever name it comes.

    Source: operations 55 and 56, which print no row; all columns are inferred.
    """

    row_key: str = row_key("campaign_id", "job_group_id", "job_id", "ref_number", "publisher", "click_id")
    ip: str | None = personal()
    ip_address: str | None = personal()
    ips: Json = personal()
    user_agent: str | None = personal()
    click_id: str | None = None
    campaign_id: str | None = None
    job_group_id: str | None = None
    job_id: str | None = None
    ref_number: str | None = None
    publisher: str | None = None
    clicks: int | None = _COUNT


@record(members="camel")
class PublisherReportRow:
    """
    One row of the report that a publisher partner gets.

    Source: operations 59 and 60, which print no row; all columns are inferred.
    """

    row_key: str = row_key("client_id", "campaign_id", "job_group_id", "job_id", "ref_number", "date")
    period: str = added(description="the period of the request: LAST_30_DAYS, LAST_MONTH, THIS_MONTH")
    date: dt.date | None
    client_id: str | None = None
    client_name: str | None = None
    campaign_id: str | None = None
    campaign_name: str | None = None
    job_group_id: str | None = None
    job_id: str | None = None
    ref_number: str | None = None
    impressions: int | None = _COUNT
    clicks: int | None = _COUNT
    applies: int | None = _COUNT
    spend: Decimal | None = column(additive=True, unit="USD")
    cpc: Decimal | None = _RATIO
    cpa: Decimal | None = _RATIO
