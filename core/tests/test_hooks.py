"""
Every hook: the example of its section in docs/hooks.md, installed beside a small provider and used by a real run.
"""

import json
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, get_args, get_type_hints

import market
import penstock
import penstock_plugins
import pytest
from attrs import evolve, frozen
from command_in_process import main
from connector_run import loaded
from penstock import Project, Sandbox, hookspecs
from penstock.connector import Connector, Stream
from penstock.envelope import Envelope
from penstock.errors import ConfigError
from penstock.model import Request
from penstock.protocols import named
from penstock.records import added, personal, record
from penstock.redact import Secret
from penstock.sandbox.app import SandboxRequest, SandboxResponse
from penstock.sandbox.server import serve
from penstock.settings import SourceSettings, setting
from penstock.testing.conformance import conforms

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "hooks.md"
HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("penstock_"))
DAY = date(2026, 3, 1)


def section(hook: str) -> str:
    found = re.search(rf"^## {hook}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/hooks.md has no section {hook}"
    return found[1]


def example(hook: str) -> Any:
    """The plugin that the hook's section shows, as a module."""
    blocks = re.findall(r"^```python\n(.*?)^```", section(hook), re.MULTILINE | re.DOTALL)
    module = types.ModuleType(f"example_{hook}")
    exec(compile("\n".join(blocks), f"docs/hooks.md: {hook}", "exec"), vars(module))
    return module


@record(members="camel")
class Click:
    account_id: str = added()
    day: date = added()
    click_id: str
    ip: str | None = personal()


def requests(settings: Any, slice_: Any) -> Iterable[Request]:
    yield Request(
        url=f"{settings.base_url}/clicks", params=(("account", slice_.account), ("day", slice_.since.isoformat()))
    )


class Provider:
    """The connector ``acme`` with the stream ``clicks``; a test changes some of what it declares."""

    def __init__(self, authenticator: Any = None, **stream: Any) -> None:
        self.authenticator = authenticator
        self.stream = stream

    @penstock.hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        authenticator = self.authenticator
        yield Connector(
            name="acme",
            summary="Acme",
            settings=SourceSettings,
            authenticator=None if authenticator is None else lambda settings: authenticator,
        )

    @penstock.hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        declared: dict[str, Any] = {
            "name": "clicks",
            "summary": "",
            "record": Click,
            "kind": "report",
            "key": "click_id",
            "account": "account_id",
            "accounts": lambda settings: ["1"],
            "day": "day",
            "requests": requests,
            "envelope": Envelope(items="clicks", total="total", head=("next",)),
            "poll_first_s": 0.01,
            "poll_max_s": 0.01,
        }
        return [Stream(**{**declared, **self.stream})] if source == "acme" else []


@pytest.fixture
def place(working_directory: Path) -> Path:
    """An empty directory, where commands are given."""
    return working_directory


Answer = Callable[[SandboxRequest], SandboxResponse]


def run(plugins: Iterable[object], answer: Answer, *, to: str = "jsonl:data", **keys: str) -> int:
    """``penstock run acme`` for one day against ``answer``; the exit code."""
    with serve(answer) as server:
        values = {"base_url": server.base_url, "retry_first_s": "0.01", **keys}
        environ = {f"PENSTOCK_SOURCE__ACME__{key.upper()}": value for key, value in values.items()}
        window = ["--since", DAY.isoformat(), "--until", DAY.isoformat()]
        return main(["run", "acme", "--to", to, *window], plugins=[penstock_plugins, *plugins], environ=environ)


def rows(place: Path, stream: str = "clicks") -> list[dict[str, Any]]:
    """What was delivered."""
    files = sorted((place / "data" / "acme" / stream).rglob("data.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def json_answer(value: Any, status: int = 200) -> SandboxResponse:
    return SandboxResponse(status=status, body=json.dumps(value).encode())


def clicks(*ids: str, **more: Any) -> SandboxResponse:
    return json_answer({"clicks": [{"clickId": one} for one in ids], **more})


# --- the page ---------------------------------------------------------------------------------------------------------


def test_every_hook_has_a_section_an_example_and_a_test() -> None:
    """
    A hook that is added is explained, in the order of hookspecs.py, and shown at work here.
    """
    headings = re.findall(r"^## (penstock_\w+)$", PAGE.read_text(), re.MULTILINE)

    assert headings == [name for name in vars(hookspecs) if name in HOOKS]
    assert [hook for hook in HOOKS if "```python" not in section(hook)] == []
    assert [hook for hook in HOOKS if f"test_hook_{hook}" not in globals()] == []


@pytest.mark.parametrize("hook", HOOKS)
def test_an_example_is_a_sound_plugin(hook: str) -> None:
    """
    The registry takes it without complaint, and it implements the hook that it is an example of.
    """
    module = example(hook)
    beside = [] if hook == "penstock_sources" else [example("penstock_sources")]

    assert hasattr(module, hook)
    assert loaded([module, *beside], strict=True).broken() == ()


# --- the hooks --------------------------------------------------------------------------------------------------------


def test_hook_penstock_sources(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    """
    The connector is listed; its settings are what init prints; a secret among them is requested as one.
    """
    plugin = example("penstock_sources")

    assert main(["connectors"], plugins=[plugin]) == 0
    assert "Clicks from Acme" in capsys.readouterr().out
    assert main(["init", "acme"], plugins=[plugin]) == 0
    printed = capsys.readouterr().out
    assert 'base_url = "https://api.acme.example"' in printed
    assert 'api_key = { env = "ACME_API_KEY" }' in printed


def test_hook_penstock_record_streams(place: Path) -> None:
    """
    The stream is requested with account and day, and both are on its rows.
    """
    plugins = [example("penstock_sources"), example("penstock_record_streams")]

    def answer(request: SandboxRequest) -> SandboxResponse:
        assert request.target == "/clicks?account=1&day=2026-03-01"
        return json_answer({"total": 1, "clicks": [{"clickId": "a", "price": 0.1}]})

    assert run(plugins, answer, api_key="abcdef", account_ids="1") == 0
    assert rows(place) == [{"account_id": "1", "day": "2026-03-01", "click_id": "a", "price": 0.1}]


def test_hook_penstock_authenticators(place: Path) -> None:
    """
    A connector names it; each attempt is signed anew.
    """
    seen: list[str] = []

    def answer(request: SandboxRequest) -> SandboxResponse:
        assert request.headers["x-time"].isdigit()
        seen.append(request.headers["x-key"])
        return clicks("a", total=1) if len(seen) > 1 else json_answer({}, status=503)

    authenticator = named("stamped", key=Secret("from the account page"))
    assert run([example("penstock_authenticators"), Provider(authenticator)], answer) == 0
    assert seen == ["from the account page"] * 2
    assert len(rows(place)) == 1


def test_hook_penstock_paginators(place: Path) -> None:
    """
    A stream names it; pages follow each other until there is no cursor.
    """
    pages = {None: clicks("a", next="2"), "2": clicks("b", next="3"), "3": clicks("c")}

    def answer(request: SandboxRequest) -> SandboxResponse:
        cursor = re.search(r"/after/(\w+)$", request.path)
        return pages[cursor[1] if cursor else None]

    assert run([example("penstock_paginators"), Provider(paginator=named("after"))], answer) == 0
    assert [row["click_id"] for row in rows(place)] == ["a", "b", "c"]


def test_hook_penstock_pollers(place: Path) -> None:
    """
    A stream names it; the report is submitted once and polled until it is done.
    """
    requested: list[str] = []

    def answer(request: SandboxRequest) -> SandboxResponse:
        requested.append(request.path)
        if request.path == "/clicks":
            return json_answer({"ticket": "17"})
        return clicks("a", state="done") if len(requested) > 3 else json_answer({"state": "queued"})

    assert run([example("penstock_pollers"), Provider(poller=named("ticketed"))], answer) == 0
    assert requested == ["/clicks", "/clicks/17", "/clicks/17", "/clicks/17"]
    assert [row["click_id"] for row in rows(place)] == ["a"]


@pytest.mark.parametrize(
    ("body", "exit_code", "delivered"),
    [
        pytest.param(b"clickId;ip\na;\nb;1.2.3.4\n#2\n", 0, ["a", "b"], id="whole"),
        pytest.param(b"clickId;ip\na;\n", 1, [], id="cut"),
        pytest.param(b"clickId;ip\na;\n#2\n", 1, [], id="short"),
    ],
)
def test_hook_penstock_decoders(place: Path, body: bytes, exit_code: int, delivered: list[str]) -> None:
    """
    A stream names it; a body that is cut, or holds fewer rows than it states, fails and delivers nothing.
    """
    plugins = [example("penstock_decoders"), Provider(envelope=named("semicolons"))]

    assert run(plugins, lambda request: SandboxResponse(body=body), retries="1", retry_max_s="0.01") == exit_code
    assert [row["click_id"] for row in rows(place)] == delivered


def test_hook_penstock_encoders(place: Path) -> None:
    """
    A reading is handed over in the form that its caller names.
    """
    with serve(lambda request: clicks("a", "b")) as server:
        plugins = [example("penstock_encoders"), Provider(), penstock_plugins]
        project = Project({"source": {"acme": {"base_url": server.base_url}}}, plugins=plugins, environ={})
        found = project.read("acme", "clicks", since=DAY, until=DAY).encode("columns")

    assert found["click_id"] == ["a", "b"]
    assert found["day"] == [DAY, DAY]


def test_hook_penstock_actions(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    The action is offered to its connector only, and sent as declared; its receipt has the result.
    """
    plugins = [example("penstock_actions"), Provider()]
    requested: list[tuple[str, str, Any]] = []

    def answer(request: SandboxRequest) -> SandboxResponse:
        requested.append((request.method, request.target, json.loads(request.body)))
        return json_answer({})

    with serve(answer) as server:
        environ = {"PENSTOCK_SOURCE__ACME__BASE_URL": server.base_url, "PENSTOCK_SOURCE__ACME__ALLOW_WRITES": "true"}
        command = ["act", "acme", "report_event", "click_id=a b", "kind=hired"]
        assert main(command, plugins=[penstock_plugins, *plugins], environ=environ) == 0
    assert requested == [("POST", "/clicks/a%20b/events", {"kind": "hired"})]
    receipt = json.loads(capsys.readouterr().out)
    assert (receipt["row"], receipt["status"]) == (0, "done")
    assert loaded(plugins).actions("acme")
    assert list(plugins[0].penstock_actions(source="other")) == []


def test_hook_penstock_sinks(place: Path) -> None:
    """
    A sink is found by the scheme of --to and gets each partition once.
    """
    assert run([example("penstock_sinks"), Provider()], lambda request: clicks("a", "b"), to="count:counts.txt") == 0
    assert (place / "counts.txt").read_text() == "clicks[account_id=1, day=2026-03-01] 2\n"


def test_hook_penstock_secrets(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """
    A reference of its kind is resolved when the source is configured; what it lacks is reported with its reason.
    """
    store = place / "pass"
    found, absent = "echo s3cret-key", "{ echo 'no such entry' >&2; exit 1; }"
    store.write_text(f'#!/bin/sh\n[ "$2" = acme/reporting ] && {found} || {absent}\n')
    store.chmod(0o755)
    monkeypatch.setenv("PATH", str(place), prepend=":")
    plugins = [example("penstock_secrets"), example("penstock_sources"), example("penstock_record_streams")]

    def configured(entry: str) -> int:
        (place / "penstock.toml").write_text(
            f'[source.acme]\naccount_ids = ["1"]\napi_key = {{ pass = "{entry}" }}\nallow_http = true\n'
        )
        return main(["plan", "acme", "--since", "2026-03-01", "--until", "2026-03-01"], plugins=plugins, environ={})

    assert configured("acme/reporting") == 0
    assert configured("acme/other") == 2
    output = capfd.readouterr()
    assert "no such entry" in output.err
    assert "s3cret-key" not in output.out + output.err


def test_hook_penstock_sandboxes(place: Path) -> None:
    """
    The imitation and the settings of a sandbox fit together: a source made of them reads it.
    """
    plugin = example("penstock_sandboxes")
    sandbox = loaded([plugin]).sandbox("acme")
    app = sandbox.make("http://127.0.0.1", DAY)
    provider = Provider(
        example("penstock_authenticators").Stamped(key=Secret(sandbox.settings["api_key"])),
        accounts=lambda settings: sandbox.settings["account_ids"],
    )

    assert run([plugin, provider], app) == 0
    assert [row["click_id"] for row in rows(place)] == ["a"]


def test_hook_penstock_commands(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A plugin's command runs with the project of the options before it, and is listed; penstock's own names are refused.
    """
    plugin = example("penstock_commands")
    monkeypatch.setitem(sys.modules, "acme_rows", plugin)
    assert run([Provider(), plugin, penstock_plugins], lambda request: clicks("a", "b")) == 0
    capsys.readouterr()

    assert main(["rows", "acme"], plugins=[Provider(), plugin, penstock_plugins], environ={}) == 0
    assert capsys.readouterr().out == "2\n"
    assert main(["connectors"], plugins=[plugin], environ={}) == 0
    assert "Print the number of rows delivered from a source." in capsys.readouterr().out


class Greedy:
    @penstock.hookimpl
    def penstock_commands(self) -> Iterable[penstock.Command]:
        yield penstock.Command(name="run", target="greedy:run", summary="Run something else.")
        yield penstock.Command(name="absent", target="greedy:absent", summary="Not there.")


def test_a_command_of_penstock_is_not_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    """
    The offer is refused by name; a command that cannot be imported is one line and exit 2; a slip is guessed.
    """
    assert main(["connectors"], plugins=[Greedy()], environ={}) == 0
    assert "the command 'run' is one of penstock's own; rename it" in capsys.readouterr().out
    assert main(["absent"], plugins=[Greedy()], environ={}) == 2
    assert "error: the command absent cannot be imported: ModuleNotFoundError" in capsys.readouterr().err
    assert main(["absnt"], plugins=[Greedy()], environ={}) == 2
    assert 'Did you mean "absent"?' in capsys.readouterr().err


def test_hook_penstock_engines(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An engine of a plugin carries out the parts of a run.
    """
    plugin = example("penstock_engines")
    monkeypatch.setitem(sys.modules, plugin.__name__, plugin)
    app = market.Market()
    with serve(app) as server:
        Path("penstock.toml").write_text(
            f'[source.market]\nbase_url = "{server.base_url}"\npassword = "sesame"\nshops = ["shop1", "shop2"]\n'
        )
        result = Project("penstock.toml", plugins=[market, plugin, penstock_plugins]).run(
            "market", to="jsonl:out", streams=["items"], engine="threads", workers=2
        )

    assert (result.exit_code, result.errors) == (0, ())
    assert len(list(Path("out/market/items").rglob("data.jsonl"))) == 2


def test_hook_penstock_batch(place: Path) -> None:
    """
    The hook changes what is delivered, row by row of a page, and leaves pages without such a column alone.
    """
    answer = json_answer({"clicks": [{"clickId": "a", "ip": "203.0.113.9"}, {"clickId": "b"}]})

    assert run([example("penstock_batch"), Provider()], lambda request: answer) == 0
    assert [row["ip"] for row in rows(place)] == ["203.0.113.0", None]


class Misnamed:
    @penstock.hookimpl
    def penstock_batches(self, batch: Any) -> None:
        """There is no such hook."""


def test_a_plugin_that_is_not_loaded_is_named_by_a_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    A run names a plugin that is not loaded: it may be one that was to mask what is delivered now.
    """
    answer = json_answer({"clicks": [{"clickId": "a"}]})

    assert run([Misnamed(), Provider()], lambda request: answer) == 0
    assert "notice: Misnamed is broken and is not used: it implements penstock_batches" in capsys.readouterr().err


def test_a_plugin_that_is_not_loaded_is_named_where_no_credentials_work(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    It may be the one that has them, such as a vault.
    """

    class WithoutKey(Provider):
        @penstock.hookimpl
        def penstock_sources(self) -> Iterable[Connector]:
            for connector in super().penstock_sources():
                yield evolve(connector, authenticator=self.no_authenticator)

        def no_authenticator(self, settings: SourceSettings) -> Any:
            raise ConfigError("no key")

    assert run([Misnamed(), WithoutKey()], lambda request: json_answer({})) == 2
    assert "notice: Misnamed is broken and is not used: it implements penstock_batches" in capsys.readouterr().err


def test_hook_penstock_event(place: Path) -> None:
    """
    The hook receives the events of a run, with the members that their types have.
    """
    plugin = example("penstock_event")
    heard: dict[str, Mapping[str, Any]] = {}

    class Listening:
        @penstock.hookimpl
        def penstock_event(self, event: Mapping[str, Any]) -> None:
            heard.setdefault(event["event"], event)

    answers: Iterator[SandboxResponse] = iter([json_answer({}, status=503), clicks("a", "b", total=2)])
    assert run([plugin, Listening(), Provider()], lambda request: next(answers)) == 0
    assert plugin.rows == {("acme", "clicks"): 2}

    kinds = {"run_started", "planned", "stream_started", "request", "retry", "partition_delivered", "run_finished"}
    assert set(heard) == kinds
    assert {event["run_id"] for event in heard.values()} == {heard["run_started"]["run_id"]}
    for name, event in heard.items():
        type_ = EVENTS[name]
        assert type_.__required_keys__ <= set(event) <= type_.__required_keys__ | type_.__optional_keys__, name


# The types of events by kind.
EVENTS = {get_args(get_type_hints(type_)["event"])[0]: type_ for type_ in get_args(penstock.Event)}


@pytest.mark.parametrize("kind", sorted(EVENTS.keys() - {"run_finished"}))
def test_the_row_of_an_event_names_its_members(kind: str) -> None:
    """
    The page lists the events by the docstrings of their types.
    """
    members = EVENTS[kind].__required_keys__ | EVENTS[kind].__optional_keys__
    assert set(re.findall("``([a-z_]+)``", EVENTS[kind].__doc__)) == members - {"event", "run_id"}


def test_every_event_that_is_emitted_has_a_type() -> None:
    """
    Each type is emitted, too.
    """
    core = Path(penstock.__file__).parent
    stages = [core / "_fetch", core / "_read", core / "_run", core / "_run_report", core / "_project"]
    source = "".join(path.read_text() for stage in stages for path in stage.rglob("*.py"))
    assert set(re.findall(r'"event": "(\w+)"', source)) == EVENTS.keys()


# --- the examples, held to the requirements for every connector -------------------------------------------------------


@frozen(kw_only=True)
class KeySettings(SourceSettings):
    key: Secret = setting(help="the key")


class Market:
    """Three clicks a day. Subclasses serve them as an example reads them."""

    def __init__(self, base_url: str, today: date) -> None:
        self.polls = 0

    def truth(self, stream: str, account_id: str, day: str) -> list[dict[str, Any]]:
        return [{"clickId": f"{day}-{number}"} for number in range(3)]

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        params = request.params
        return self.answer(
            request, self.truth("clicks", params.get("account", "1"), params.get("day", DAY.isoformat()))
        )

    def answer(self, request: SandboxRequest, rows: list[dict[str, Any]]) -> SandboxResponse:
        return json_answer({"clicks": rows, "total": 3})


class OfKeys(Market):
    def answer(self, request: SandboxRequest, rows: list[dict[str, Any]]) -> SandboxResponse:
        allowed = request.headers.get("x-key") == "demo-key" and request.headers.get("x-time", "").isdigit()
        return super().answer(request, rows) if allowed else json_answer({}, 401)


class OfCursors(Market):
    def answer(self, request: SandboxRequest, rows: list[dict[str, Any]]) -> SandboxResponse:
        start = int(request.path.partition("/after/")[2] or 0)
        following = {"next": str(start + 2)} if start + 2 < len(rows) else {}
        return json_answer({"clicks": rows[start : start + 2], "total": 3, **following})


class OfTickets(Market):
    def answer(self, request: SandboxRequest, rows: list[dict[str, Any]]) -> SandboxResponse:
        if request.path == "/clicks":
            return json_answer({"ticket": request.params["day"]})
        self.polls += 1
        day = request.path.rpartition("/")[2]
        done = {"state": "done", "clicks": self.truth("clicks", "1", day), "total": 3}
        return json_answer(done if self.polls % 2 else {"state": "running"})


class OfSemicolons(Market):
    def answer(self, request: SandboxRequest, rows: list[dict[str, Any]]) -> SandboxResponse:
        lines = "".join(f"{row['clickId']};\n" for row in rows)
        return SandboxResponse(headers={"Content-Type": "text/csv"}, body=f"clickId;ip\n{lines}#3\n".encode())


READ_BY: dict[str, tuple[type, dict[str, Any]]] = {
    "penstock_authenticators": (OfKeys, {}),
    "penstock_paginators": (OfCursors, {"paginator": named("after")}),
    "penstock_pollers": (OfTickets, {"poller": named("ticketed")}),
    "penstock_decoders": (OfSemicolons, {"envelope": named("semicolons")}),
}


class Sandboxed(Provider):
    """The connector of the examples, with an imitation, and with a key where the imitation requires one."""

    def __init__(self, make: type, stream: dict[str, Any]) -> None:
        super().__init__(**stream)
        self.make = make

    @penstock.hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        if self.make is not OfKeys:
            return super().penstock_sources()
        return [
            Connector(
                name="acme",
                summary="Acme",
                settings=KeySettings,
                authenticator=lambda settings: named("stamped", key=settings.key),
            )
        ]

    @penstock.hookimpl
    def penstock_sandboxes(self) -> Iterable[Sandbox]:
        settings = {"key": "demo-key"} if self.make is OfKeys else {}
        yield Sandbox(connector="acme", summary="", make=self.make, settings=settings)


class Keyed:
    """The source of the page, signed as the page's section on authenticators shows."""

    @penstock.hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        (declared,) = example("penstock_sources").penstock_sources()
        return [evolve(declared, authenticator=lambda settings: named("stamped", key=settings.api_key))]


def test_the_examples_of_a_connector_meet_the_requirements_together(tmp_path: Path) -> None:
    """
    Source, stream, authenticator and sandbox of the page are one connector; those of batches and events are beside it.
    """
    shown = (
        "penstock_record_streams",
        "penstock_authenticators",
        "penstock_sandboxes",
        "penstock_batch",
        "penstock_event",
    )

    conforms(
        "acme",
        tmp_path,
        plugins=[Keyed(), *map(example, shown), penstock_plugins],
        truth=lambda app, stream, account_id, day: [{"clickId": "a", "price": 0.25}],
        faults="cut,html_as_json",
    )


@pytest.mark.parametrize("hook", READ_BY)
def test_an_example_meets_the_requirements_for_every_connector(hook: str, tmp_path: Path) -> None:
    """
    Through a fault, a stop and a second run, with the rows of its imitation.
    """
    make, stream = READ_BY[hook]

    conforms(
        "acme", tmp_path, plugins=[example(hook), Sandboxed(make, stream), penstock_plugins], faults="cut,html_as_json"
    )
