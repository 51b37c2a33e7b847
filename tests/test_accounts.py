"""
Accounts with credentials and time zones of their own, in tables ``[source.NAME.accounts.ACCOUNT]`` or listed by a
stream.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import connector_run
import penstock_plugins
import pytest
import time_machine
from attrs import evolve, frozen
from command_in_process import main
from connector_run import ConfiguredSource, RunReport, check_credentials, configured_in, plan
from penstock import (
    Connector,
    Envelope,
    Grant,
    Project,
    Request,
    SandboxRequest,
    SandboxResponse,
    Secret,
    Slice,
    SourceSettings,
    Stream,
    Unsigned,
    added,
    column,
    hookimpl,
    record,
    setting,
)
from penstock.errors import AuthenticationError, ConfigError, ProviderError, UsageError
from penstock.sandbox.server import serve
from penstock.settings import OpenFor
from penstock.testing.clock import FakeClock
from penstock.testing.memory import MemorySink
from penstock_plugins.integrations import dlt
from scripted_provider import ScriptedProvider

pytestmark = pytest.mark.slow

# 05:30 of the 3rd in Auckland, where the 2nd is over; 08:30 of the 2nd in Los Angeles, where it is not.
NOW = datetime(2026, 3, 2, 16, 30, tzinfo=UTC)


@frozen(kw_only=True)
class ShopSettings(SourceSettings):
    base_url: str = setting(help="where the shop answers")
    token: Secret = setting(help="the token of a seller", per_account=True)
    site: str = setting("main", help="the site of a seller", per_account=True)
    note: str = setting("", help="of the source only")


@frozen
class Bearer(Unsigned):
    token: Secret

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        return request.with_headers(("Authorization", self.token.reveal()))


@record()
class Sale:
    seller: str
    day: date
    id: int


@record()
class Seller:
    name: str
    zone: str | None


def requests(settings: ShopSettings, slice_: Slice) -> Iterable[Request]:
    assert slice_.start is not None
    params = {"seller": slice_.account, "day": slice_.since, "from": slice_.start.isoformat(), "site": settings.site}
    return [Request(url=f"{settings.base_url}/sales", params=tuple((name, str(one)) for name, one in params.items()))]


class Shop:
    """A connector with a report by seller, and a list of sellers with their zones."""

    def __init__(self, **stream: Any) -> None:
        self.stream = stream

    @hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        return [
            Connector(
                name="shop",
                summary="a shop",
                settings=ShopSettings,
                authenticator=lambda settings: Bearer(settings.token),
                check=lambda settings, slice_: Request(url=f"{settings.base_url}/sales", params=(("seller", "x"),)),
            )
        ]

    @hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        sellers = Stream(
            name="sellers",
            summary="sellers",
            record=Seller,
            kind="snapshot",
            key="name",
            requests=lambda settings, slice_: [Request(url=f"{settings.base_url}/sellers")],
            envelope=Envelope(items="data"),
        )
        sales = Stream(
            name="sales",
            summary="sales",
            record=Sale,
            kind="report",
            key="id",
            account="seller",
            day="day",
            open_for=OpenFor(0),
            requests=requests,
            envelope=Envelope(items="data"),
        )
        return [sellers, evolve(sales, **self.stream)]


class Provider:
    """Answers with one sale per seller and day; ``seen`` are the parameters of each request and its token."""

    def __init__(self, refused: Iterable[str] = (), sellers: Mapping[str, str | None] | None = None) -> None:
        self.refused = set(refused)
        self.sellers = sellers or {}
        self.seen: list[dict[str, str]] = []

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        token = request.headers.get("authorization", "")
        if token in self.refused:
            return SandboxResponse(status=401, body=b"{}")
        if request.target.startswith("/sellers"):
            data: list[Any] = [{"name": name, "zone": zone} for name, zone in self.sellers.items()]
        else:
            params = dict(parse_qsl(request.target.partition("?")[2]))
            self.seen.append({**params, "token": token})
            data = [{"seller": params["seller"], "day": params.get("day"), "id": len(self.seen)}]
        return SandboxResponse(body=json.dumps({"data": data}).encode())


TWO = """
[source.shop.accounts.alpha]
token = { env = "ALPHA" }
timezone = "America/Los_Angeles"
[source.shop.accounts.beta]
token = { env = "BETA" }
timezone = "Pacific/Auckland"
"""
ENVIRON = {"ALPHA": "token-of-alpha", "BETA": "token-of-beta", "ALL": "token-of-all"}


def source(folder: Path, text: str, base_url: str = "http://127.0.0.1:1", **stream: Any) -> ConfiguredSource:
    file = folder / "penstock.toml"
    file.write_text(f'[source.shop]\nbase_url = "{base_url}"\nretries = 0\nstart = 2026-03-01\n{text}')
    return configured_in(file, "shop", plugins=[Shop(**stream), penstock_plugins], environ=ENVIRON)


def read(folder: Path, text: str, provider: Provider, sink: MemorySink, **stream: Any) -> RunReport:
    with serve(provider) as server:
        configured = source(folder, text, server.base_url, **stream)
        return connector_run.read(configured, sink, "sales", clock=FakeClock(NOW))


def days(sink: MemorySink) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in sink.all("sales"):
        found.setdefault(row["seller"], []).append(str(row["day"]))
    return {account: sorted(several) for account, several in found.items()}


def test_each_account_has_its_own_credentials_and_zone(tmp_path: Path) -> None:
    """
    A day is read when it is over in the zone of its account, and begins at midnight of that zone.
    """
    provider, sink = Provider(), MemorySink(tmp_path / "ledger.db")

    report = read(tmp_path, TWO, provider, sink)

    assert report.exit_code == 0
    assert days(sink) == {"alpha": ["2026-03-01"], "beta": ["2026-03-01", "2026-03-02"]}
    assert {(one["seller"], one["token"]) for one in provider.seen} == {
        ("alpha", "token-of-alpha"),
        ("beta", "token-of-beta"),
    }
    assert {(one["seller"], one["day"], one["from"]) for one in provider.seen} == {
        ("alpha", "2026-03-01", "2026-03-01T00:00:00-08:00"),
        ("beta", "2026-03-01", "2026-03-01T00:00:00+13:00"),
        ("beta", "2026-03-02", "2026-03-02T00:00:00+13:00"),
    }


def test_days_are_final_when_they_are_over_in_the_zone_of_their_account(tmp_path: Path) -> None:
    """
    The ledger keeps the moment from which a read is final, in the zone of the account; the next run reads nothing.
    """
    provider, sink = Provider(), MemorySink(tmp_path / "ledger.db")
    read(tmp_path, TWO, provider, sink)

    planned = plan(source(tmp_path, TWO), sink, "sales", now=NOW)

    assert planned.partitions == ()
    assert planned.final == {"sales": 3}
    other = TWO.replace("Pacific/Auckland", "Europe/Berlin")
    planned = plan(source(tmp_path, other), sink, "sales", now=NOW)
    assert [one.partition.values[0][1] for one in planned.partitions] == ["beta"]
    assert [one.reason for one in planned.partitions] == ["changed"]


def test_an_account_whose_token_is_refused_fails_alone(tmp_path: Path) -> None:
    """
    The other accounts are delivered; the run ends with 3.
    """
    provider, sink = Provider(refused=["token-of-alpha"]), MemorySink(tmp_path / "ledger.db")

    report = read(tmp_path, TWO, provider, sink)

    assert report.exit_code == 3
    assert days(sink) == {"beta": ["2026-03-01", "2026-03-02"]}
    assert [error["partition"]["seller"] for error in report.errors] == ["alpha"]


def test_accounts_without_credentials_share_those_of_the_source(tmp_path: Path) -> None:
    """
    A refusal of shared credentials ends every account that shares them; an empty table is an account, too.
    """
    text = 'token = { env = "ALL" }\n[source.shop.accounts.alpha]\n[source.shop.accounts.beta]\n'
    text += '[source.shop.accounts.gamma]\ntoken = { env = "BETA" }\nsite = "other"'
    provider, sink = Provider(refused=["token-of-all"]), MemorySink(tmp_path / "ledger.db")

    report = read(tmp_path, text, provider, sink)

    assert report.exit_code == 3
    assert days(sink) == {"gamma": ["2026-03-01"]}
    assert [one["site"] for one in provider.seen] == ["other"]


def test_a_list_of_the_connector_comes_before_the_tables(tmp_path: Path) -> None:
    """
    The tables are the stream's accounts only where the connector has no list of its own.
    """
    provider, sink = Provider(), MemorySink(tmp_path / "ledger.db")

    read(tmp_path, TWO, provider, sink, accounts=lambda settings: ["beta"])

    assert set(days(sink)) == {"beta"}


LISTED: dict[str, Any] = {"accounts_from": ("sellers", "name"), "zone_from": "zone"}


def test_listed_accounts_bring_their_zone(tmp_path: Path) -> None:
    """
    A column of the listing states the zone; a table overrides it; the plan remembers it without a request.
    """
    zones = {"a": "America/Los_Angeles", "b": "Pacific/Auckland", "c": None, "d": "Pacific/Auckland"}
    provider, sink = Provider(sellers=zones), MemorySink(tmp_path / "ledger.db")
    text = 'token = { env = "ALL" }\n[source.shop.accounts.d]\ntimezone = "America/Los_Angeles"\n'

    report = read(tmp_path, text, provider, sink, **LISTED)

    assert report.exit_code == 0
    both = ["2026-03-01", "2026-03-02"]
    assert days(sink) == {"a": both[:1], "b": both, "c": both[:1], "d": both[:1]}
    planned = plan(source(tmp_path, text, **LISTED), sink, "sales", now=NOW)
    assert (planned.partitions, planned.final) == ((), {"sales": 5})


def test_a_table_of_an_account_that_the_provider_does_not_list_is_noted(tmp_path: Path) -> None:
    """
    The account that was meant would have another zone, in silence.
    """
    provider, sink = Provider(sellers={"alpha": "UTC", "beta": "UTC"}), MemorySink(tmp_path / "ledger.db")
    text = 'token = { env = "ALL" }\n[source.shop.accounts.alhpa]\ntimezone = "America/Los_Angeles"\n'

    report = read(tmp_path, text, provider, sink, **LISTED)

    (table,) = report.notices
    assert table.startswith(
        "shop.sellers lists no account alhpa, so the table [source.shop.accounts.alhpa] is not used."
    )
    assert table.endswith('Did you mean "alpha"? There are alpha, beta')


def test_a_listed_zone_that_does_not_exist_fails_its_account(tmp_path: Path) -> None:
    """
    An account whose listed zone does not exist is not read, since its days would be other days in any other zone; the
    other accounts are.
    """
    provider, sink = Provider(sellers={"a": "Mars/Olympus", "b": "UTC"}), MemorySink(tmp_path / "ledger.db")

    events: list[Mapping[str, Any]] = []
    with serve(provider) as server:
        given = source(tmp_path, 'token = { env = "ALL" }', server.base_url, **LISTED)
        report = connector_run.read(given, sink, "sales", clock=FakeClock(NOW), on_event=events.append)

    assert report.exit_code == 1
    assert [one["partition"] for one in events if one["event"] == "partition_failed"] == [{"seller": "a"}]
    assert set(days(sink)) == {"b"}
    (error,) = report.errors
    assert error["partition"] == {"seller": "a"}
    assert "'Mars/Olympus', which is no IANA name" in error["message"]


def run_singer(folder: Path, provider: Provider, state: Any, code: int) -> None:
    """One run of ``penstock singer`` from a state on."""
    state_file = folder / "state.json"
    state_file.write_text(json.dumps(state))
    with serve(provider) as server, time_machine.travel(NOW, tick=True):
        source(folder, 'token = { env = "ALL" }', server.base_url)
        words = ["--config", str(folder / "penstock.toml"), "singer", "shop", "--state", str(state_file)]
        assert main(words, plugins=[Shop(**LISTED), penstock_plugins], environ=ENVIRON) == code


def test_an_integration_remembers_the_listed_accounts_in_its_state(tmp_path: Path, capfdbinary: Any) -> None:
    """
    A list of accounts that becomes empty fails the streams that it divides, as with a ledger; one that has fewer
    accounts is noted.
    """
    both: dict[str, str | None] = {"a": "UTC", "b": "UTC"}
    state: dict[str, Any] = {}
    for sellers, code, said in (
        (both, 0, b""),
        ({}, 1, b"sales: it was not read: sellers lists no account, and listed 2"),
        ({"a": "UTC"}, 0, b"shop.sellers does not list b any more"),
    ):
        run_singer(tmp_path, Provider(sellers=sellers), state, code)
        out, err = capfdbinary.readouterr()
        assert said in err
        state = [line["value"] for line in map(json.loads, out.splitlines()) if line["type"] == "STATE"][-1]


def test_dlt_remembers_the_listed_accounts_in_its_state(caplog: pytest.LogCaptureFixture) -> None:
    """
    A resource whose list of accounts becomes empty ends the extraction, also where a run before read nothing new.
    """
    state: dict[str, Any] = {}

    def extract(*sellers: str) -> None:
        with serve(Provider(sellers=dict.fromkeys(sellers, "UTC"))) as server:
            project = Project(
                {"source": {"shop": {"base_url": server.base_url, "token": "t", "start": date(2026, 3, 1)}}},
                plugins=[Shop(**LISTED), penstock_plugins],
                environ={},
                clock=lambda stop: FakeClock(NOW, stop),
            )
            (layout,) = layouts = project.layouts("shop", ["sales"])
            list(dlt.resource_rows(state, project, "shop", layouts, layout, {}))

    extract("a", "b")
    extract("a")
    assert "shop.sellers does not list b any more" in caplog.text
    with pytest.raises(ProviderError, match="sellers lists no account, and listed 1"):
        extract()


def test_notices_of_a_run_and_of_a_reading_are_events(tmp_path: Path) -> None:
    """
    A program gets each notice once, also those that are known at the end only.
    """
    events: list[Mapping[str, Any]] = []
    with serve(Provider()) as server:
        values = {"base_url": server.base_url, "token": "t", "start": date(2026, 3, 1)}
        project = Project(
            {"source": {"shop": values}},
            plugins=[Shop(**LISTED), penstock_plugins],
            environ={},
            clock=lambda stop: FakeClock(NOW, stop),
        )
        result = project.run("shop", to=f"jsonl:{tmp_path}", on_event=events.append)
        assert list(project.read("shop", "sales", on_event=events.append).dicts()) == []

    notices = [event["message"] for event in events if event["event"] == "notice"]
    assert [text for text in notices if "lists no account" in text] == [
        "shop.sellers lists no account, so that nothing is read of sales"
    ] * 2
    assert set(notices) == set(result.notices)


def test_an_account_that_failed_before_it_had_days_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The ledger has no row of it; ``status --problems`` has it of the last run, and of the chosen accounts only.
    """
    target = f"jsonl:{tmp_path / 'data'}"
    with serve(Provider(sellers={"a": "Mars/Olympus", "b": "UTC"})) as server:
        text = f'[source.shop]\nbase_url = "{server.base_url}"\ntoken = {{ env = "ALL" }}\n'
        (tmp_path / "penstock.toml").write_text(text)

        def penstock(*arguments: str) -> str:
            config = ["--config", str(tmp_path / "penstock.toml")]
            main([*config, *arguments], plugins=[Shop(**LISTED), penstock_plugins], environ=ENVIRON)
            return capsys.readouterr().out

        penstock("run", "shop", "--to", target, "--since", "2026-03-01", "--until", "2026-03-01")
        problems = penstock("status", "--to", target, "--problems")

    assert "shop.sales: 1 failed of a" in problems
    assert "Mars/Olympus" in problems
    assert "nothing needs attention" in penstock("status", "--to", target, "--problems", "--accounts", "b")


def test_a_stream_by_account_without_any_account_is_refused(tmp_path: Path) -> None:
    """
    A stream by account without any account is refused: it would read nothing and end with 0.
    """
    sink = MemorySink(tmp_path / "ledger.db")
    shop = source(tmp_path, 'token = { env = "ALL" }')

    with pytest.raises(UsageError, match=r"write a table \[source\.shop\.accounts\.ACCOUNT\] for each"):
        plan(shop, sink, "sales", now=NOW)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        pytest.param(
            '[source.shop.accounts.alpha]\ntoken = { env = "ALPHA" }\n[source.shop.accounts.beta]\n',
            ["source.shop.accounts.beta.token is missing (the token of a seller)"],
            id="missing",
        ),
        pytest.param(
            TWO + "timezne = 1\nnote = 'x'",
            [
                'source.shop.accounts.beta.timezne: not a key of an account. Did you mean "timezone"? '
                "There are timezone, token, site",
                "source.shop.accounts.beta.note: not a key of an account. There are timezone, token, site",
            ],
            id="no such key",
        ),
        pytest.param(
            TWO.replace("Pacific/Auckland", "Pacific/Oakland").replace('"BETA"', '"GAMMA"'),
            [
                "source.shop.accounts.beta.token: the environment variable GAMMA is not set; set it for this process, "
                'or refer to a file: { file = "..." }',
                'source.shop.accounts.beta.timezone: found "Pacific/Oakland", expected an IANA name such as '
                '"Europe/Berlin" or "UTC"',
            ],
            id="a secret that is not set, and a zone",
        ),
        pytest.param(
            TWO.replace("Pacific/Auckland", "Pacific/Oakland"),
            [
                'source.shop.accounts.beta.timezone: found "Pacific/Oakland", expected an IANA name such as '
                '"Europe/Berlin" or "UTC"'
            ],
            id="zone",
        ),
    ],
)
def test_problems_of_an_account_name_its_key(tmp_path: Path, text: str, problems: list[str]) -> None:
    """
    The message names file, account and key.
    """
    with pytest.raises(ConfigError) as caught:
        source(tmp_path, text)

    assert [one.partition("penstock.toml: ")[2] for one in caught.value.problems] == problems


def test_a_key_of_an_account_may_come_from_the_environment(tmp_path: Path) -> None:
    """
    The variable is named like the key's path; the account is found in whatever case.
    """
    file = tmp_path / "penstock.toml"
    file.write_text(f'[source.shop]\nbase_url = "https://shop.example"\n{TWO}')
    plugins = [Shop(), penstock_plugins]
    environ = {**ENVIRON, "PENSTOCK_SOURCE__SHOP__ACCOUNTS__BETA__TOKEN": "another-token"}

    sets = ["source.shop.accounts.beta.timezone=UTC"]
    settings = configured_in(file, "shop", plugins=plugins, environ=environ, sets=sets).settings

    assert settings.for_account("beta").token.reveal() == "another-token"
    assert settings.for_account("beta").timezone == "UTC"
    assert settings.for_account("alpha").timezone == "America/Los_Angeles"
    sets = ["source.shop.accounts.beta.token=another"]
    with pytest.raises(ConfigError, match="a secret on the command line"):
        configured_in(file, "shop", plugins=plugins, environ=ENVIRON, sets=sets)


def test_plan_and_status_show_the_zone_of_an_account(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    ``plan`` beside the partition, ``status -v`` beside the account, both in JSON.
    """
    (tmp_path / "penstock.toml").write_text('[source.shop]\nbase_url = "http://127.0.0.1:1"\n' + TWO)
    provider = Provider()

    def penstock(*arguments: str, base_url: str = "http://127.0.0.1:1") -> str:
        sets = ["--config", str(tmp_path / "penstock.toml"), "--set", f"source.shop.base_url={base_url}"]
        assert main([*sets, *arguments], plugins=[Shop(), penstock_plugins], environ=ENVIRON) == 0
        return capsys.readouterr().out

    window = ["--streams", "sales", "--since", "2026-03-01", "--until", "2026-03-01"]
    planned = penstock("plan", "shop", *window)
    assert "alpha    2026-03-01 (America/Los_Angeles)" in planned
    with serve(provider) as server:
        penstock("run", "shop", "--to", f"jsonl:{tmp_path / 'data'}", *window, base_url=server.base_url)
    assert "beta (Pacific/Auckland)" in penstock("status", "shop", "-v")
    (target,) = json.loads(penstock("status", "shop", "--json"))["targets"]
    zones = {one["account"]["seller"]: one["timezone"] for one in target["sources"][0]["streams"]}
    assert zones == {"alpha": "America/Los_Angeles", "beta": "Pacific/Auckland"}


def test_check_tries_the_credentials_of_each_account(tmp_path: Path) -> None:
    """
    A line for each account with its own; a refused one is named after all were tried.
    """
    provider = Provider()
    with serve(provider) as server:
        assert check_credentials(source(tmp_path, TWO, server.base_url), FakeClock(NOW)).count("credentials work") == 2
        provider.refused.add("token-of-alpha")
        with pytest.raises(AuthenticationError, match="account alpha: "):
            check_credentials(source(tmp_path, TWO, server.base_url), FakeClock(NOW))
    assert [one["token"] for one in provider.seen] == ["token-of-alpha", "token-of-beta", "token-of-beta"]


def test_a_table_of_an_account_that_no_stream_has_is_a_problem(tmp_path: Path) -> None:
    """
    A table of an account that no stream has is a problem: the account with the misspelt name would use the credentials
    and the zone of the source.
    """
    source(tmp_path, TWO)
    file = tmp_path / "penstock.toml"

    def plan_of(**stream: Any) -> None:
        project = Project(file, plugins=[Shop(**stream), penstock_plugins], environ=ENVIRON)
        project.plan("shop", to=f"jsonl:{tmp_path / 'data'}")

    with pytest.raises(ConfigError) as refused:
        plan_of(accounts=lambda settings: ["alpha", "betta"])
    assert list(refused.value.problems) == [
        f"{file}: source.shop.accounts.beta: no stream of this source has the account 'beta'. Did you mean \"betta\"?"
    ]
    plan_of()


def test_init_shows_the_keys_of_an_account(capsys: pytest.CaptureFixture[str]) -> None:
    """
    A commented table with the zone and the keys that the connector marks.
    """
    assert main(["init", "shop"], plugins=[Shop(), penstock_plugins], environ={}) == 0

    printed = capsys.readouterr().out
    table = (
        '# [source.shop.accounts.ACCOUNT]\n# timezone = "..."\n# token = { env = "SHOP_ACCOUNT_TOKEN" }\n# site = "..."'
    )
    assert table in printed


def test_a_window_may_hold_a_day_for_some_accounts_only(tmp_path: Path) -> None:
    """
    A day that is over in one zone only is read there. A day that is over nowhere is a mistake.
    """
    sink = MemorySink(tmp_path / "ledger.db")
    shop = source(tmp_path, TWO)

    planned = plan(shop, sink, "sales", now=NOW, since=date(2026, 3, 2))
    assert [str(one.partition) for one in planned.partitions] == ["sales[seller=beta, day=2026-03-02]"]
    with pytest.raises(UsageError, match="--since 2026-03-04 is after"):
        plan(shop, sink, "sales", now=NOW, since=date(2026, 3, 4))


def test_accounts_of_a_python_configuration(tmp_path: Path) -> None:
    """
    A configuration in Python has tables of accounts as a file has, with secrets as values; into CSV.
    """
    provider = Provider()
    with serve(provider) as server:
        accounts = {
            "alpha": {"token": Secret("token-of-alpha"), "timezone": "America/Los_Angeles"},
            "beta": {"token": Secret("token-of-beta"), "timezone": "Pacific/Auckland"},
        }
        config = {"source": {"shop": {"base_url": server.base_url, "accounts": accounts}}}
        project = Project(config, plugins=[Shop(), penstock_plugins], environ={})
        day = date(2026, 3, 1)
        result = project.run("shop", to=f"csv:{tmp_path / 'data'}", streams=["sales"], since=day, until=day)

    assert result.exit_code == 0
    assert {(one["seller"], one["token"]) for one in provider.seen} == {
        ("alpha", "token-of-alpha"),
        ("beta", "token-of-beta"),
    }
    assert len(list((tmp_path / "data").rglob("data.csv"))) == 2


@record(kind="snapshot", key="id")
class Site:
    """A site, which may have no code."""

    id: int
    code: str | None


@record(kind="snapshot", key="number", account="code")
class Visit:
    """A visit of a site."""

    code: str = added()
    number: int = column(default=...)


@pytest.mark.parametrize("more", [{"code": None}, {"code": ""}, {}], ids=["null", "empty", "absent"])
@pytest.mark.parametrize("chosen", [(), ("visits",)], ids=["with the list", "alone"])
def test_a_listed_account_without_a_name_is_an_error(
    more: dict[str, Any], chosen: tuple[str, ...], tmp_path: Path
) -> None:
    """
    A listed account without a name is an error, and nothing is requested for it; the other accounts are read.
    """
    listed: dict[str, Any] = {"envelope": Envelope(items="data")}
    sites = [{"id": 1, "code": "a"}, {"id": 2, **more}]
    shop = ScriptedProvider(
        folder=tmp_path,
        streams=[
            Stream(name="sites", record=Site, path="/sites", **listed),
            Stream(
                name="visits",
                record=Visit,
                path="/visits",
                params={"code": "{account}"},
                accounts_from=("sites", "code"),
                **listed,
            ),
        ],
        answer=lambda request: {"data": sites if request.path == "/sites" else [{"number": 1}]},
        chosen=chosen,
    )

    report = shop.run()

    assert report.exit_code == 1
    (error,) = report.errors
    assert error["message"].startswith("shop.visits: 1 of 2 records of sites have no code")
    assert [request.params["code"] for request in shop.requests if request.path == "/visits"] == ["a"]
    assert [row["code"] for row in shop.rows("visits")] == ["a"]


@record(kind="report", key="number", account="code", day="day")
class Sold:
    """What a site sold on a day."""

    number: int = column(default=...)


def sites_of(folder: Path, codes: list[str]) -> ScriptedProvider:
    """A shop that lists its sites, and what each of them sold by day."""
    listed: dict[str, Any] = {"envelope": Envelope(items="data")}
    by_site = {"accounts_from": ("sites", "code"), "params": {"code": "{account}"}, **listed}
    return ScriptedProvider(
        folder=folder,
        streams=[
            Stream(name="sites", record=Site, path="/sites", **listed),
            Stream(name="visits", record=Visit, path="/visits", **by_site),
            Stream(name="sold", record=Sold, path="/sold", open_for=OpenFor(1), **by_site),
        ],
        answer=lambda request: {
            "data": [{"id": number, "code": code} for number, code in enumerate(codes)]
            if request.path == "/sites"
            else [{"number": 1}]
        },
    )


def test_a_listed_account_in_the_form_of_a_day_is_an_error(tmp_path: Path) -> None:
    """
    The ledger knows a partition's day by its form. No request is made for it; the other accounts are read, by each run.
    """
    shop = sites_of(tmp_path, ["2026-06-01", "a"])

    for _ in range(2):
        report = shop.run()

        assert report.exit_code == 1
        assert [error["message"].split(": a partition")[0] for error in report.errors] == [
            f"shop.{stream}: an account cannot have the form of a day (2026-06-01)" for stream in ("visits", "sold")
        ]
    assert {row["code"] for row in shop.rows("visits")} == {"a"}


def test_an_account_that_is_not_listed_any_more_is_noted(tmp_path: Path) -> None:
    """
    An account that is not listed any more is noted once, with the number of its open days, which no run reads again.
    """
    codes = ["a", "b"]
    shop = sites_of(tmp_path, codes)
    shop.run()
    codes.remove("b")
    left = shop.run()
    later = shop.run()

    assert (left.exit_code, later.exit_code, later.notices) == (0, 0, [])
    assert left.notices == [
        "shop.sites does not list b any more: what was delivered of these accounts stays as it was last read, also "
        "their 1 days that are still open"
    ]


def test_an_unlisted_account_needs_attention_for_a_week(tmp_path: Path) -> None:
    """
    An unlisted account needs attention for a week, with the number of its days and lists that stay open: the notice of
    one run may not have been read.
    """
    codes = ["a", "b"]
    shop = sites_of(tmp_path, codes)
    noon = datetime(2026, 6, 17, 12, tzinfo=UTC)
    sink = {"files": {"kind": "jsonl", "path": str(tmp_path / "data")}}

    with serve(shop) as server:
        config = {"source": {"shop": {"base_url": server.base_url}}, "sink": sink}

        def at(now: datetime) -> Project:
            return Project(config, plugins=[shop, penstock_plugins], environ={}, clock=lambda _: FakeClock(now))

        at(noon).run("shop", to="files", since="2026-06-14")
        codes.remove("b")
        at(noon).run("shop", to="files", since="2026-06-14")
        (target,) = at(noon + timedelta(days=6)).status(to="files").targets

        assert [(one.kind, one.stream, one.account, one.count) for one in target.problems] == [
            ("left open", "sold", {"code": "b"}, 1),
            ("left open", "visits", {"code": "b"}, 1),
        ]
        assert "the provider does not list the account any more" in target.problems[0].reason
        assert at(noon + timedelta(days=8)).status(to="files").targets[0].problems == ()


def test_a_list_without_any_account_is_a_failure_where_there_were_some(tmp_path: Path) -> None:
    """
    Each run fails for the streams that it divides, until there are accounts again; what was delivered stays.
    """
    codes = ["a", "b"]
    shop = sites_of(tmp_path, codes)
    shop.run()
    codes.clear()
    empty, again = shop.run(), shop.run()
    codes.append("a")
    full = shop.run()

    for report in (empty, again):
        assert report.exit_code == 1
        assert [error["stream"] for error in report.errors] == ["visits", "sold"]
        assert "sites lists no account, and listed 2 when it was read before (a, b)" in report.errors[0]["message"]
    assert full.exit_code == 0
    assert "does not list b any more" in full.notices[0]
    assert {row["code"] for row in shop.rows("visits")} == {"a", "b"}


def test_a_list_that_never_had_an_account_is_noted(tmp_path: Path) -> None:
    """
    A list that had no account in any run is noted, and is no error; nothing is read.
    """
    report = sites_of(tmp_path, []).run()

    assert (report.exit_code, report.notices) == (
        0,
        ["shop.sites lists no account, so that nothing is read of visits, sold"],
    )
