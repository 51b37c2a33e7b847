"""
Every reading connector with its exact imitation: its partitions, and the rows that a reader must deliver.
"""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any

from attrs import field, frozen
from imitation_convertr import ConvertrSandbox
from imitation_joveo import JoveoSandbox
from imitation_talroo import TalrooSandbox
from imitation_targetcircle import TargetCircle
from penstock import SandboxRequest
from penstock._plugins.registry import Registry
from penstock.testing import conformance
from penstock.testing.conformance import TODAY, Key, Row, Rows, Subject, noon_of

REGISTRY = Registry()
then = noon_of

Truth = Callable[[Any, str, tuple[str, ...]], list[Row]]


@frozen(kw_only=True)
class Provider(Subject):
    """
    A connector and its imitation. ``parts`` names every partition that a run over ``days`` must deliver.

    ``submits``: whether a request submits a report; ``login`` is the path of the token call.
    """

    parts: Callable[[Any, list[date]], list[Key]]
    truth: Truth
    registry: Registry = field(default=REGISTRY, repr=False)
    secrets: tuple[str, ...] = ()
    login: str = ""
    submits: Callable[[SandboxRequest], bool] = field(default=lambda request: False)

    def expected(self, app: Any, days: list[date] | None = None) -> Rows:
        """What every partition must hold."""
        return {key: self.truth(app, *key) for key in self.parts(app, days or self.window())}

    def expected_by_stream(self, app: Any, days: list[date]) -> dict[str, list[Row]]:
        """What every stream must hold; rows that are merged by key are there once."""
        found: dict[str, list[Row]] = {stream: [] for stream in self.streams}
        for (stream, _), rows in self.expected(app, days).items():
            found[stream] += rows
        for stream in ("leads", "lead_data"):
            if stream in found:  # of each day, and merged by key
                found[stream] = list({json.dumps(row, default=str): row for row in found[stream]}.values())
        return found


# What penstock adds to a row, and what no imitation can know.
ADDED = frozenset({"row_key", "_extra", "updated_day"})
bag = partial(conformance.bag, without=ADDED)


# --- the providers --------------------------------------------------------------------------------------------------


def _talroo(base_url: str, today: date) -> TalrooSandbox:
    app = TalrooSandbox(base_url, today)
    if today == TODAY:
        app.now = then().now
    app.seed = 3  # two of the window's six days have no click with this one
    return app


def _targetcircle(base_url: str, today: date) -> TargetCircle:
    return TargetCircle(base_url, today, rows_per_page=5, offer_count=2)


class _RecentLeads(ConvertrSandbox):
    days_kept = 10  # a run reads a few days


def _joveo(base_url: str, today: date) -> JoveoSandbox:
    return JoveoSandbox(base_url, today, jobs_per_client=(12, 5), polls_until_ready=1)


def _talroo_truth(app: Any, stream: str, values: tuple[str, ...]) -> list[Row]:
    found: list[Row] = app.truth(stream, advertiser_id=values[0], report_date=values[1])
    return found


def _targetcircle_truth(app: Any, stream: str, values: tuple[str, ...]) -> list[Row]:
    found: list[Row] = app.truth(stream, date.fromisoformat(values[0]) if values else None)
    return found


def _convertr_truth(app: Any, stream: str, values: tuple[str, ...]) -> list[Row]:
    if not values:
        found: list[Row] = app.truth(stream)
        return found
    day = datetime.combine(date.fromisoformat(values[0]), time(), UTC)
    leads: list[Row] = app.truth(stream, start=day - timedelta(minutes=10), end=day + timedelta(days=1))
    return leads


def _joveo_truth(app: Any, stream: str, values: tuple[str, ...]) -> list[Row]:
    client = values[0] if values else None
    day = date.fromisoformat(values[1]) if len(values) > 1 else None
    found: list[Row] = app.truth(stream, client, day)
    return found


def _days(stream: str, days: list[date]) -> list[Key]:
    return [(stream, (day.isoformat(),)) for day in days]


TALROO = Provider(
    name="talroo",
    make=_talroo,
    streams=("clicks",),
    parts=lambda app, days: [
        ("clicks", (advertiser, day.isoformat())) for advertiser in app.advertisers for day in days
    ],
    truth=_talroo_truth,
    settings=REGISTRY.sandbox("talroo").settings,
    secrets=("customer_secret",),
)
TARGETCIRCLE = Provider(
    name="targetcircle",
    make=_targetcircle,
    streams=("transactions", "clicks", "trades", "offers", "offer_details"),
    parts=lambda app, days: [
        *_days("transactions", days),
        *_days("clicks", days),
        *[(stream, ()) for stream in ("trades", "offers", "offer_details")],
    ],
    truth=_targetcircle_truth,
    settings=REGISTRY.sandbox("targetcircle").settings,
    secrets=("api_token",),
    submits=lambda request: request.method == "POST",
)
CONVERTR = Provider(
    name="convertr",
    make=_RecentLeads,
    streams=("leads", "lead_data", "campaigns", "campaign_publishers", "campaign_publisher_bands"),
    parts=lambda app, days: [
        *_days("leads", days),
        *_days("lead_data", days),
        *[(stream, ()) for stream in ("campaigns", "campaign_publishers", "campaign_publisher_bands")],
    ],
    truth=_convertr_truth,
    settings=REGISTRY.sandbox("convertr").settings,
    secrets=("password",),
    login="/api/login",
)
JOVEO = Provider(
    name="joveo",
    make=_joveo,
    streams=("clients", "jobs", "campaigns", "campaign_details", "stats"),
    parts=lambda app, days: [
        ("clients", ()),
        *[(stream, (client,)) for stream in ("jobs", "campaigns", "campaign_details") for client in app.clients],
        *[("stats", (client, day.isoformat())) for client in app.clients for day in days],
    ],
    truth=_joveo_truth,
    settings=REGISTRY.sandbox("joveo").settings,
    days=2,
    secrets=("api_key", "api_client_id"),
    login="/oauth/token",
    submits=lambda request: request.method == "POST" and "oauth" not in request.path,
)

PROVIDERS = {one.name: one for one in (TALROO, TARGETCIRCLE, CONVERTR, JOVEO)}
