"""Requests to the imitation of Convertr: it is as strict as the provider's documents."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from imitation_convertr import (
    CLIENT_ID,
    CLIENT_SECRET,
    PASSWORD,
    USERNAME,
    ConvertrSandbox,
    leads_on,
)
from penstock import SandboxRequest, SandboxResponse

TODAY = date(2026, 3, 20)
CREDENTIALS = {"username": USERNAME, "password": PASSWORD}


class Ticks:
    """Seconds that pass on demand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def app(ticks: Ticks) -> ConvertrSandbox:
    return ConvertrSandbox("http://127.0.0.1:9", TODAY, ticks)


def login(
    app: ConvertrSandbox, form: dict[str, str] = CREDENTIALS, path: str = "/api/login", **headers: str
) -> SandboxResponse:
    sent = {"content-type": "application/x-www-form-urlencoded", **headers}
    return app(SandboxRequest(method="POST", target=path, headers=sent, body=urlencode(form).encode()))


def token_of(app: ConvertrSandbox) -> str:
    return str(json.loads(login(app).body)["access_token"])


def get(
    app: ConvertrSandbox, path: str, *params: tuple[str, str], accept: str = "application/ld+json", token: str = ""
) -> SandboxResponse:
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in params)
    headers = {"authorization": f"Bearer {token or token_of(app)}", "accept": accept}
    return app(SandboxRequest(method="GET", target=f"{path}?{query}", headers=headers, body=b""))


def listed(app: ConvertrSandbox, path: str, *params: tuple[str, str], **more: Any) -> dict[str, Any]:
    answer = get(app, path, *params, **more)
    assert answer.status == 200, answer.body
    return dict(json.loads(answer.body))


def ids(body: dict[str, Any]) -> list[int]:
    return [item["id"] for item in body["hydra:member"]]


def window(start: datetime, end: datetime) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("updatedTs[after]", start.isoformat()), ("updatedTs[strictly_before]", end.isoformat())


# --- logging in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "path", "headers", "status"),
    [
        pytest.param(CREDENTIALS, "/api/login", {}, 200, id="right"),
        pytest.param({**CREDENTIALS, "password": "x"}, "/api/login", {}, 400, id="wrong password"),
        pytest.param(CREDENTIALS, "/api/login", {"content-type": "application/json"}, 400, id="no form"),
        pytest.param(CREDENTIALS, "/oauth/v2/token", {}, 400, id="older without grant type"),
        pytest.param(
            {**CREDENTIALS, "grant_type": "password", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET},
            "/oauth/v2/token",
            {},
            200,
            id="older",
        ),
        pytest.param(
            {**CREDENTIALS, "grant_type": "password", "client_id": CLIENT_ID, "client_secret": "x"},
            "/oauth/v2/token",
            {},
            400,
            id="older with a wrong client",
        ),
    ],
)
def test_a_login_needs_the_right_credentials(
    app: ConvertrSandbox, form: dict[str, str], path: str, headers: dict[str, str], status: int
) -> None:
    """
    A login is a form with the right credentials, and for the older address the client's.
    """
    assert login(app, form, path, **headers).status == status


def test_an_edition_without_a_login_address(app: ConvertrSandbox) -> None:
    """
    A Convertr of the older generation knows no ``/api/login``.
    """
    app.login_paths = frozenset({"/oauth/v2/token"})

    assert login(app).status == 404


def test_logins_are_limited(app: ConvertrSandbox, ticks: Ticks) -> None:
    """
    A hundred logins in five minutes, then none until the window has moved on.
    """
    statuses = [login(app).status for _ in range(101)]
    ticks.now = 301

    assert (statuses.count(200), statuses[-1], login(app).status) == (100, 429, 200)


def test_a_token_lives_an_hour(app: ConvertrSandbox, ticks: Ticks) -> None:
    """
    A token is good until its time is over, or until it is revoked.
    """
    token = token_of(app)
    seen = [get(app, "/api/v4/campaigns", token=token).status]
    ticks.now = 3600.0
    seen.append(get(app, "/api/v4/campaigns", token=token).status)
    token = token_of(app)
    app.expire_tokens()
    seen.append(get(app, "/api/v4/campaigns", token=token).status)

    assert seen == [200, 401, 401]


def test_an_expired_password_logs_in_and_reads_nothing(app: ConvertrSandbox) -> None:
    """
    The login answers so; every other call is forbidden.
    """
    app.password_expired = True

    answer = json.loads(login(app).body)

    assert answer["password_expired"] is True
    assert get(app, "/api/v4/campaigns", token=answer["access_token"]).status == 403


@pytest.mark.parametrize("style", ["bearer", "query"])
def test_each_style_of_sending_the_token(app: ConvertrSandbox, style: str) -> None:
    """
    The token is taken from the header or the query, and the links repeat the one in the query.
    """
    token = token_of(app)
    headers = {"authorization": f"Bearer {token}"} if style == "bearer" else {}
    query = f"access_token={token}&" if style == "query" else ""

    answer = app(SandboxRequest(method="GET", target=f"/api/v4/campaigns?{query}page=1", headers=headers, body=b""))

    assert answer.status == 200
    assert (token.encode() in answer.body) == (style == "query")


def test_no_token_no_answer(app: ConvertrSandbox) -> None:
    """
    A request without a token gets a 401.
    """
    assert app(SandboxRequest(method="GET", target="/api/v4/leads", headers={}, body=b"")).status == 401


# --- pages ----------------------------------------------------------------------------------------------------------


def test_pages_add_up_to_the_total(app: ConvertrSandbox) -> None:
    """
    Every campaign is on exactly one page, and pages behind the last are empty.
    """
    pages = [listed(app, "/api/v4/campaigns", ("itemsPerPage", "100"), ("page", str(number))) for number in (1, 2, 3)]

    found = [number for page in pages for number in ids(page)]
    assert [len(ids(page)) for page in pages] == [100, 30, 0]
    assert len(set(found)) == len(found) == pages[0]["hydra:totalItems"] == 130
    assert "hydra:next" in pages[0]["hydra:view"]
    assert "hydra:next" not in pages[1]["hydra:view"]


@pytest.mark.parametrize(
    ("params", "count"),
    [
        pytest.param((), 10, id="default size"),
        pytest.param((("itemsPerPage", "500"),), 100, id="more than allowed is capped silently"),
    ],
)
def test_pages_have_the_requested_size(app: ConvertrSandbox, params: tuple[tuple[str, str], ...], count: int) -> None:
    """
    Pages hold ten items unless the request names another size, and never more than a hundred.
    """
    assert len(ids(listed(app, "/api/v4/campaigns", *params))) == count


@pytest.mark.parametrize(
    ("accept", "prefix", "shape"),
    [
        pytest.param("application/ld+json", "hydra:", "hydra:member", id="hydra"),
        pytest.param("application/ld+json", "", "member", id="newer"),
        pytest.param("application/json", "hydra:", list, id="bare array"),
    ],
)
def test_forms_of_the_answer(app: ConvertrSandbox, accept: str, prefix: str, shape: Any) -> None:
    """
    The envelope is in the requested form and the configured spelling.
    """
    app.prefix = prefix

    body = json.loads(get(app, "/api/v4/campaigns", accept=accept).body)

    assert isinstance(body, shape) if isinstance(shape, type) else shape in body


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("/api/v4/leads?updatedTs[after]=2026-03-01T00:00:00Z", id="raw brackets"),
        pytest.param("/api/v4/leads?updatedTs%5Bafter%5D=2026-03-01T00:00:00+00:00", id="raw plus"),
        pytest.param("/api/v4/leads?updatedTs%5Bafter%5D=yesterday", id="no date"),
        pytest.param("/api/v4/leads?status=x", id="unknown filter"),
        pytest.param("/api/v4/leads?page=0", id="page 0"),
        pytest.param("/api/v4/leads?order%5Bid%5D=up", id="no order"),
    ],
)
def test_a_bad_query_is_refused(app: ConvertrSandbox, target: str) -> None:
    """
    A filter that would be wrong is an error.
    """
    headers = {"authorization": f"Bearer {token_of(app)}"}

    assert app(SandboxRequest(method="GET", target=target, headers=headers, body=b"")).status == 400


@pytest.mark.parametrize(
    ("path", "status"),
    [("/api/v4/advertisers", 404), ("/api/v4/leads/1", 404), ("/api/v4/campaigns/600", 200), ("/other", 404)],
)
def test_only_documented_paths_are_there(app: ConvertrSandbox, path: str, status: int) -> None:
    """
    Only the documented collections and their objects are there.
    """
    assert get(app, path).status == status


# --- filters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "params", "keeps"),
    [
        pytest.param("campaigns", (("id", "605"),), lambda item: item["id"] == 605, id="exact"),
        pytest.param("campaigns", (("id[]", "605"), ("id[]", "607")), lambda item: item["id"] in (605, 607), id="any"),
        pytest.param("campaigns", (("status[]", "Paused"),), lambda item: item["status"] == "Paused", id="list of one"),
        pytest.param("campaigns", (("advertiser.id", "303"),), lambda item: item["advertiser"]["id"] == 303, id="dots"),
        pytest.param("campaign-publishers", (("latest", "true"),), lambda item: item["current"], id="newest contract"),
        pytest.param(
            "campaign-processr-jobs",
            (("processrJob.processrJobCategory.id", "2"),),
            lambda item: item["processrJob"]["processrJobCategory"]["id"] == 2,
            id="integrations",
        ),
    ],
)
def test_a_filter_keeps_the_records_that_it_describes(
    app: ConvertrSandbox, path: str, params: tuple[tuple[str, str], ...], keeps: Callable[[Any], bool]
) -> None:
    """
    A filter keeps exactly the records that it describes.
    """
    stream = path.replace("-", "_")
    expected = [item["id"] for item in app.truth(stream) if keeps({**item, **_camel(item)})]

    body = listed(app, f"/api/v4/{path}", *params, ("itemsPerPage", "100"))

    assert 0 < body["hydra:totalItems"] == len(expected)
    assert ids(body) == expected[:100]


def _camel(item: dict[str, Any]) -> dict[str, Any]:
    return {"processrJob": item["processr_job"]} if "processr_job" in item else {}


def test_windows_meet_without_gap_or_double(app: ConvertrSandbox) -> None:
    """
    ``after`` includes its moment and ``strictly_before`` does not, so two days share no lead and miss none.
    """
    first = datetime(2026, 3, 10, tzinfo=UTC)
    days = [(first + timedelta(days=at), first + timedelta(days=at + 1)) for at in range(2)]

    totals = [listed(app, "/api/v4/leads", *window(*day))["hydra:totalItems"] for day in days]

    both = listed(app, "/api/v4/leads", *window(days[0][0], days[1][1]))["hydra:totalItems"]
    assert sum(totals) == both
    assert totals == [len(app.truth("leads", day.date())) for day, _ in days]


def test_an_order_turns_the_list_around(app: ConvertrSandbox) -> None:
    """
    Descending ids begin with the newest.
    """
    body = listed(app, "/api/v4/campaigns", ("order[id]", "desc"))

    assert ids(body) == list(range(729, 719, -1))


# --- what a test may change -----------------------------------------------------------------------------------------


def test_restated_leads_move_to_today(app: ConvertrSandbox) -> None:
    """
    After a restatement the leads of that day are found where they were updated last, unpaid.
    """
    day = date(2026, 3, 10)
    before = len(app.truth("leads", day))

    moved = app.restate(day)

    assert len(moved) == before > 0
    assert app.truth("leads", day) == []
    assert {row["advertiser_payout"] for row in app.truth("leads", TODAY)} == {Decimal("0.00")}


def test_faults_come_once_and_in_order(app: ConvertrSandbox) -> None:
    """
    The next reads fail as set, later ones do not; a cut answer is half of a good one.
    """
    token = token_of(app)
    app.fail_next(503, 2, Retry_After="7")
    app.cut_next()

    answers = [get(app, "/api/v4/campaigns", token=token) for _ in range(4)]

    assert [answer.status for answer in answers] == [503, 503, 200, 200]
    assert answers[0].headers["Retry-After"] == "7"
    assert answers[3].body.startswith(answers[2].body)
    assert len(answers[2].body) == len(answers[3].body) // 2


def test_requests_are_limited(app: ConvertrSandbox, ticks: Ticks) -> None:
    """
    Every answer beyond the limit is 429 until the window has moved on.
    """
    app.requests_per_window = 2
    token = token_of(app)

    statuses = [get(app, "/api/v4/campaigns", token=token).status for _ in range(3)]
    ticks.now = 301

    assert (*statuses, get(app, "/api/v4/campaigns", token=token).status) == (200, 200, 429, 200)


def test_newer_leads_have_more_members(app: ConvertrSandbox) -> None:
    """
    The newer edition sends the update time, an empty text for a boolean, and members that nobody documented.
    """
    app.newer_leads = True
    day = next(day for back in range(1, 9) if leads_on(day := TODAY - timedelta(days=back)))

    row = app.truth("leads", day)[0]

    assert (row["over_allocation"], row["ip"], row["something_new"]) == ("", "192.0.2.7", {"kept": True})
    assert datetime.fromisoformat(row["updated_ts"]).astimezone(UTC).date() == day


def test_the_data_does_not_depend_on_chance() -> None:
    """
    The imitation of the next day holds the same leads, except those of the days that only one of the two keeps.
    """
    today, tomorrow = (
        {row["id"]: row for row in ConvertrSandbox("http://127.0.0.1:9", day).truth("leads")}
        for day in (TODAY, TODAY + timedelta(days=1))
    )
    kept = [TODAY - timedelta(days=back) for back in range(1, ConvertrSandbox.days_kept + 1)]

    both = today.keys() & tomorrow.keys()
    assert len(today) == sum(map(leads_on, kept)) > 2000
    assert len(both) == sum(map(leads_on, kept[:-1]))
    assert all(today[number] == tomorrow[number] for number in both)


def test_truth_holds_no_secret(app: ConvertrSandbox) -> None:
    """
    Secrets are in the answers, and not in the rows that a reader should have.
    """
    sent = json.dumps(listed(app, "/api/v4/campaigns")["hydra:member"])
    day = datetime(2026, 3, 10, tzinfo=UTC)
    leads = json.dumps(listed(app, "/api/v4/leads", *window(day, day + timedelta(days=1))))
    names = {name for stream in ("campaigns", "campaign_publishers") for row in app.truth(stream) for name in row}

    assert "apiKey" in sent
    assert "leadHash" in leads
    assert not names & {"api_key", "sign_hash", "link_hash", "facebook_system_user_access_token"}
    assert "leadHash" not in json.dumps([app.truth("leads"), app.truth("lead_data")], default=str)
