"""
Plugins: how they are found and listed; broken ones, and names that two of them declare.
"""

import importlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import penstock
import pytest
from attrs import evolve
from connector_run import loaded
from penstock.connector import Connector, ConnectorPlugin, Registration, Sandbox, Stream
from penstock.errors import PluginError
from penstock.model import Batch
from penstock.protocols import Named, SinglePage
from penstock.records import record
from penstock.settings import SourceSettings
from penstock.sinks import Layout, SinkKind


@record()
class Row:
    id: str


def a_stream(name: str = "rows") -> Stream:
    return Stream(name=name, summary="", record=Row, kind="snapshot", key="id", requests=lambda settings, slice_: ())


class Sound:
    """Offers the connector ``x`` with one stream and a part."""

    @penstock.hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        yield Connector(name="x", summary="The x", settings=SourceSettings)

    @penstock.hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        return [a_stream()] if source == "x" else []

    @penstock.hookimpl
    def penstock_paginators(self) -> Iterable[Registration]:
        yield Registration(name="single", factory=SinglePage, summary="one page")


class Twin(Sound):
    """Offers the same names."""


class More:
    @penstock.hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        return [a_stream("more")] if source == "x" else []


class Unknown:
    @penstock.hookimpl
    def penstock_sinkz(self) -> Iterable[SinkKind]:
        return []


class Unmarked:
    def penstock_sinks(self) -> Iterable[SinkKind]:
        return []


class WrongArgument:
    @penstock.hookimpl
    def penstock_record_streams(self, sauce: str) -> Iterable[Stream]:
        return []


class Raising:
    @penstock.hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        yield Connector(name="y", summary="", settings=SourceSettings)
        raise RuntimeError("no licence")


class Exiting:
    @penstock.hookimpl
    def penstock_sandboxes(self) -> Iterable[Any]:
        raise SystemExit(1)


class WrongValue:
    @penstock.hookimpl
    def penstock_sources(self) -> Iterable[Any]:
        return ["y"]


class RaisingStreams:
    @penstock.hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        yield Connector(name="z", summary="", settings=SourceSettings)

    @penstock.hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        if source == "z":
            raise RuntimeError("no streams today")
        return []


class BrokenWrapper:
    @penstock.hookimpl(wrapper=True)
    def penstock_sources(self) -> Iterator[None]:
        raise RuntimeError("wrapped too tight")
        yield


class BatchWrapper:
    @penstock.hookimpl(wrapper=True)
    def penstock_batch(self, batch: Batch) -> Iterator[None]:
        yield


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        (Unknown, 'it implements penstock_sinkz, which is not a hook. Did you mean "penstock_sinks"?'),
        (Unmarked, "penstock_sinks lacks the mark @penstock.hookimpl"),
        (WrongArgument, "the arguments of a hook function are not those of the hook"),
        (Raising, "penstock_sources failed: RuntimeError: no licence"),
        (Exiting, "penstock_sandboxes failed: SystemExit: 1"),
        (WrongValue, "it offers str; write Connector(...)"),
        (RaisingStreams, "penstock_record_streams failed: RuntimeError: no streams today"),
        (BatchWrapper, "penstock_batch cannot be a wrapper"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_plugin_is_listed_and_affects_nothing(plugin: type, reason: str) -> None:
    """
    A broken plugin is named with its reason; what the others offer can be used; strictness makes it an error.
    """
    registry = loaded([plugin(), Sound()])

    (broken,) = registry.broken()
    assert broken.plugin.distribution == plugin.__name__
    assert reason in broken.reason
    assert "x" in registry.connectors()
    assert [stream.name for stream in registry.streams("x")] == ["rows"]
    with pytest.raises(PluginError, match=plugin.__name__):
        loaded([plugin(), Sound()], strict=True)


class Static:
    @staticmethod
    @penstock.hookimpl
    def penstock_secrets() -> Mapping[str, Any]:
        return {"safe": str.upper}


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        (None, "it names None, which has no hook function; name a ConnectorPlugin(...)"),
        ("acme", "it names a str, which has no hook function"),
        ((ConnectorPlugin("acme:CONNECTOR"),), "it names a tuple, which has no hook function"),
        (json, "it names the module json, which has no hook function"),
        (
            ConnectorPlugin,
            "it names the class ConnectorPlugin; name an object of it, such as plugin = ConnectorPlugin(",
        ),
        (Sound, "it names the class Sound; name an object of it, such as plugin = Sound(...)"),
    ],
    ids=["None", "text", "tuple by a comma", "module without hooks", "class", "class of an author"],
)
def test_a_plugin_without_a_callable_hook_is_broken(named: Any, reason: str) -> None:
    """
    A plugin without a callable hook is broken: it would offer nothing, and its connector would be one that is not
    installed.
    """
    (broken,) = loaded([named, Static]).broken()

    assert reason in broken.reason
    assert "safe" in loaded([named, Static]).secrets()
    with pytest.raises(PluginError, match=r"Broken: .*; `penstock connectors` shows the reasons"):
        loaded([named, Static]).connector("acme")


MISTAKEN = """
from penstock import Connector, Limits, Refusal, SourceSettings, Stream, record

@record(kind="snapshot", key="id")
class Row:
    id: str

CONNECTOR = Connector(
    name="m", summary="", settings=SourceSettings, limits=Limits(concurrency=2), statuses={404: Refusal("Look.")},
    streams=[Stream(name="rows", summary="", record=Row, path="/rows")],
)
"""


@pytest.mark.parametrize(
    ("right", "wrong", "reason"),
    [
        ("import Connector", "import Conector", "cannot import name 'Conector' from 'penstock'"),
        ('@record(kind="snapshot", key="id")', "@record", r"record\(\) takes 0 positional arguments but 1 was given"),
        ("summary=", "sumary=", "unexpected keyword argument 'sumary'"),
        ("record=Row", "open_days=3, record=Row", "unexpected keyword argument 'open_days'"),
        ("Limits(concurrency=2)", "Limits(2)", r"Limits.__init__\(\) takes 1 positional argument but 2"),
        ("concurrency=2", 'concurrency="2"', "Limits: concurrency is '2'; write a number above 0"),
        ("concurrency=2", "requests_per_second=0", "Limits: requests_per_second is 0; write a number above 0"),
        ('{404: Refusal("Look.")}', "[404]", r"statuses is \[404\]; write a table, {404: Refusal\(...\)}"),
        ("id: str", "id: str = added()", r"name 'added' is not defined \(source.py, line 6\)"),
        (
            "id: str",
            "date: date | None = None",
            r"line 6\)\. Probably, a column has the name of the type",
        ),
        ("id: str", "date: date = None", r"TypeError: a column has the name of the type in its annotation"),
        ("CONNECTOR =", "CONECTOR =", 'connector_m.source has no CONNECTOR. Did you mean "CONECTOR"'),
    ],
)
def test_a_mistake_of_an_author_is_named(
    right: str, wrong: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A mistake that Python finds has Python's message, and the place where that has one; where that message does not
    state the mistake, penstock does.
    """
    assert right in MISTAKEN
    (tmp_path / "connector_m").mkdir()
    (tmp_path / "connector_m" / "__init__.py").write_text("")
    (tmp_path / "connector_m" / "source.py").write_text(MISTAKEN.replace(right, wrong, 1))
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("connector_m", "connector_m.source"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    (broken,) = loaded([ConnectorPlugin("connector_m.source:CONNECTOR")]).broken()

    assert re.search(reason, broken.reason), broken.reason


def test_a_module_that_is_not_there_suggests_the_one_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The text that names a connector is compared with the modules beside it.
    """
    (tmp_path / "connector_n").mkdir()
    (tmp_path / "connector_n" / "__init__.py").write_text("")
    (tmp_path / "connector_n" / "source.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)

    (broken,) = loaded([ConnectorPlugin("connector_n.sources:CONNECTOR")]).broken()

    assert 'there is no module connector_n.sources. Did you mean "source"?' in broken.reason


def test_a_module_of_hook_functions_that_fails_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An entry point may name a module. It is listed with its reason, as a class is.
    """
    (tmp_path / "connector_old.py").write_text(
        "from penstock import hookimpl\n@hookimpl\ndef penstock_sources():\n    from penstock.gone import Connector\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    (broken,) = loaded([importlib.import_module("connector_old"), Sound()]).broken()

    assert "penstock_sources failed: ModuleNotFoundError: No module named 'penstock.gone'" in broken.reason


def test_a_failing_wrapper_is_named() -> None:
    """
    A wrapper fails around each plugin's hook function, so the reason names the wrapper's plugin too.
    """
    (broken,) = loaded([BrokenWrapper(), Sound()]).broken()

    reason = re.sub(r", line \d+", "", broken.reason)
    assert reason == (
        "penstock_sources failed: RuntimeError: wrapped too tight (the hook is wrapped by BrokenWrapper) "
        "(test_registry.py)"
    )


class Unimportable:
    """Every hook needs the same module."""

    @penstock.hookimpl
    def penstock_sources(self) -> list[Connector]:
        raise ImportError("no module here")

    @penstock.hookimpl
    def penstock_sandboxes(self) -> list[Any]:
        raise ImportError("no module here")


def test_an_error_that_all_hooks_have_is_listed_once_with_its_place() -> None:
    """
    A module that cannot be imported fails in each of them.
    """
    (broken,) = loaded([Unimportable()]).broken()

    assert re.search(r"failed: ImportError: no module here \(test_registry.py, line \d+\)$", broken.reason)


def test_a_plugin_that_is_refused_leaves_none_of_its_hooks() -> None:
    """
    A wrong signature in one hook function also takes back the plugin's other hook functions.
    """

    class Partly(Sound):
        @penstock.hookimpl
        def penstock_secrets(self, sauce: str) -> Mapping[str, Any]:
            return {}

    assert loaded([Partly()]).connectors() == {}


def test_sound_plugins_are_not_broken() -> None:
    """
    Several plugins may offer streams for one connector.
    """
    registry = loaded([Sound(), More()], strict=True)

    assert registry.broken() == ()
    assert sorted(stream.name for stream in registry.streams("x")) == ["more", "rows"]
    assert registry.origin("x").distribution == "Sound"
    assert isinstance(registry.component("paginator", Named("single")), SinglePage)


def test_a_name_that_two_claim_belongs_to_neither() -> None:
    """
    Both are listed as broken; whoever needs the name gets an error that names both.
    """
    registry = loaded([Sound(), Twin()])

    assert {broken.plugin.distribution for broken in registry.broken()} == {"Sound", "Twin"}
    assert registry.connectors() == {}
    with pytest.raises(PluginError, match="the connector 'x' is offered by Sound and by Twin"):
        registry.connector("x")
    with pytest.raises(PluginError, match="the paginator 'single' is offered by Sound and by Twin"):
        registry.component("paginator", Named("single"))


def test_a_connector_whose_streams_fail_is_listed_with_the_reason() -> None:
    """
    A connector whose streams fail is not listed as if it had none.
    """
    with pytest.raises(PluginError, match=r"RaisingStreams is broken: .*no streams today"):
        loaded([RaisingStreams()]).streams("z")


@pytest.mark.parametrize(
    ("name", "output"),
    [
        pytest.param("other", "A connector is a package of its own", id="how to install"),
        pytest.param("X", 'Did you mean "x"?', id="nearest"),
    ],
)
def test_an_unknown_connector_is_named_with_the_remedy(name: str, output: str) -> None:
    """
    The nearest name, or the installed ones. No package name is made from a name that nobody knows.
    """
    with pytest.raises(PluginError) as caught:
        loaded([Sound()]).connector(name)
    assert output in str(caught.value)
    assert "pip install" not in str(caught.value)


def test_a_part_that_cannot_be_made_names_its_options() -> None:
    """
    A wrong option of a named part is the plugin author's to correct.
    """
    with pytest.raises(PluginError, match=r"single.*cannot be made with the options \['size'\]"):
        loaded([Sound()]).component("paginator", Named("single", {"size": 3}))


def a_batch(rows: list[Any]) -> Batch:
    return Batch(layout=Layout(source="x", stream="rows", kind="snapshot", columns=()), rows=rows)


class Doubling:
    @penstock.hookimpl
    def penstock_batch(self, batch: Batch) -> Batch | None:
        return Batch(layout=batch.layout, rows=[row * 2 for row in batch.rows])


class Watching:
    @penstock.hookimpl
    def penstock_batch(self, batch: Batch) -> Batch | None:
        return None


class Replacing:
    @penstock.hookimpl
    def penstock_batch(self, batch: Batch) -> Any:
        return "rows"


def test_batch_hooks_are_applied_one_by_one() -> None:
    """
    Each is a function from a batch to a batch, or to nothing when it leaves it as it is.
    """
    doubling, watching = loaded([Doubling(), Watching()]).batch_hooks()

    changed = doubling(a_batch([1]))
    assert changed is not None
    assert changed.rows == [2]
    assert watching(a_batch([1])) is None


class Dropping:
    @penstock.hookimpl
    def penstock_batch(self, batch: Batch) -> Batch | None:
        return Batch(layout=batch.layout, rows=batch.rows[1:])


class DroppingInPlace:
    @penstock.hookimpl
    def penstock_batch(self, batch: Batch) -> None:
        batch.rows.clear()


@pytest.mark.parametrize("plugin", [Dropping, DroppingInPlace])
def test_a_batch_hook_that_removes_rows_is_refused(plugin: type) -> None:
    """
    Fewer rows would be delivered than were fetched, without a word.
    """
    (hook,) = loaded([plugin()]).batch_hooks()

    with pytest.raises(PluginError, match=rf"{plugin.__name__}: penstock_batch made \d of 2 rows of rows"):
        hook(a_batch([1, 2]))


def test_a_batch_hook_that_returns_something_else_is_named() -> None:
    """
    The error about a batch hook's wrong result names the plugin.
    """
    (hook,) = loaded([Replacing()]).batch_hooks()

    with pytest.raises(PluginError, match="Replacing: penstock_batch must return a batch"):
        hook(a_batch([]))


class Following:
    def __init__(self) -> None:
        self.seen: list[str] = []

    @penstock.hookimpl
    def penstock_event(self, event: Mapping[str, Any]) -> None:
        self.seen.append(event["event"])
        if event["event"] == "bad":
            raise RuntimeError("cannot follow")


class Angry(Following):
    @penstock.hookimpl
    def penstock_event(self, event: Mapping[str, Any]) -> None:
        raise RuntimeError("cannot follow")


def test_a_follower_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """
    The others still hear of it; it is logged once.
    """
    following = Following()
    registry = loaded([Angry(), following])

    for name in ("run_started", "run_finished"):
        registry.event({"event": name})

    assert following.seen == ["run_started", "run_finished"]
    assert [entry.message for entry in caplog.records] == ["Angry: penstock_event failed: RuntimeError: cannot follow"]


def test_installed_plugins_are_found_by_their_entry_points() -> None:
    """
    The plugins installed here are read through the entry-point group, with distribution and version.
    """
    registry = loaded()

    assert {"talroo", "joveo", "targetcircle", "convertr", "sensis"} <= set(registry.connectors())
    assert [name for name in registry.connectors() if not registry.origin(name).version] == []


def test_an_entry_point_may_name_an_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An entry point may name an object. The first of two installations of one distribution on ``sys.path`` counts.
    """
    output = (
        "# [penstock]\n[console_scripts]\nx = y:z\n\n[penstock]\n# a = b\nshop = shop_plugin:Holder.plugin [extra]\n"
    )
    (tmp_path / "shop_plugin.py").write_text(
        "import penstock\n"
        "class Plugin:\n"
        "    @penstock.hookimpl\n"
        "    def penstock_secrets(self):\n"
        "        return {'safe': str.upper}\n"
        "    @penstock.hookimpl\n"
        "    def penstock_sinks(self):\n"
        "        raise ValueError('the second hook')\n"
        "class Holder:\n"
        "    plugin = Plugin()\n"
    )
    for folder, version in ((tmp_path, "2"), (tmp_path / "later", "1")):
        info = folder / f"shop_plugin-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: Shop.Plugin\nVersion: {version}\n\nVersion: 7\n")
        (info / "entry_points.txt").write_text(output)
    monkeypatch.syspath_prepend(tmp_path / "later")
    monkeypatch.syspath_prepend(tmp_path)

    assert loaded().secrets()["safe"]("a") == "A"
    assert "Shop.Plugin 2" in [str(one.plugin) for one in loaded().broken()]


def test_an_import_that_ends_the_process_is_a_broken_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    ``sys.exit()`` in a plugin's module breaks the plugin. Ctrl-C during the import ends the command.
    """
    (tmp_path / "plugin_exits.py").write_text("import sys\nsys.exit(3)")
    (tmp_path / "plugin_pressed.py").write_text("raise KeyboardInterrupt")
    info = tmp_path / "plugin_ends-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-ends\nVersion: 1\n")
    points = info / "entry_points.txt"
    points.write_text("[penstock]\nends = plugin_exits\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    (reason,) = [one.reason for one in loaded().broken() if one.plugin.distribution == "plugin-ends"]

    assert reason == "it cannot be imported: SystemExit: 3 (plugin_exits.py, line 2)"
    points.write_text("[penstock]\nends = plugin_pressed\n")
    importlib.invalidate_caches()
    with pytest.raises(KeyboardInterrupt):
        loaded()


SHOP = Connector(
    name="shop",
    summary="The shop",
    settings=SourceSettings,
    streams=[a_stream()],
    sandbox=Sandbox(connector="shop", summary="", make=lambda base_url, today: None, settings={}),  # type: ignore[arg-type, return-value]
)


@pytest.mark.parametrize("declared", [SHOP, f"{__name__}:SHOP"], ids=["value", "dotted name"])
def test_one_declared_connector_makes_the_hooks(declared: Connector | str):
    """
    The streams, actions and sandbox of a declared connector are offered for its own name and no other, whether it is
    given or named.
    """
    registry = loaded([ConnectorPlugin(declared), Sound()], strict=True)

    assert sorted(registry.connectors()) == ["shop", "x"]
    assert [stream.name for stream in registry.streams("shop")] == ["rows"]
    assert [stream.name for stream in registry.streams("x")] == ["rows"]
    assert registry.streams("x")[0] is not registry.streams("shop")[0]
    assert registry.actions("shop") == ()
    assert sorted(registry.sandboxes()) == ["shop"]


def test_a_plugin_with_a_name_is_imported_for_itself_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """
    A plugin with a name is imported for that name, and where all connectors are listed.
    """
    imported = tmp_path / "imported"
    (tmp_path / "plugin_elsewhere.py").write_text(
        f"import pathlib\npathlib.Path({str(imported)!r}).touch()\nimport no_such_package\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    elsewhere = ConnectorPlugin("plugin_elsewhere:CONNECTOR", name="elsewhere")
    registry = loaded([ConnectorPlugin(SHOP, name="shop"), elsewhere])

    assert registry.connector("shop") is SHOP
    assert [stream.name for stream in registry.streams("shop")] == ["rows"]
    assert not imported.exists()
    with pytest.raises(PluginError, match="No module named 'no_such_package'"):
        registry.connector("elsewhere")
    assert imported.exists()
    assert [fault.plugin.name for fault in registry.broken()] == ["plugin_elsewhere:CONNECTOR"]


def test_a_plugin_that_states_another_name_than_its_connector_is_broken():
    """
    Neither name can be used: one of them would be the wrong one in a configuration.
    """
    registry = loaded([ConnectorPlugin(SHOP, name="store"), Sound()])

    for name in ("shop", "store"):
        with pytest.raises(PluginError, match=name):
            registry.connector(name)
    (fault,) = registry.broken()
    assert "ConnectorPlugin states 'store', its connector is 'shop': name one" in fault.reason


def test_two_plugins_that_state_one_name_clash():
    """
    Two plugins that state one name clash, also where a run needs no other connector.
    """
    registry = loaded([ConnectorPlugin(SHOP, name="shop"), ConnectorPlugin(evolve(SHOP, summary="Another"))])

    with pytest.raises(PluginError, match="none of them is used"):
        registry.connector("shop")


def test_a_connector_that_cannot_be_imported_is_broken():
    """
    The name is imported when a hook is called; the plugin is listed with the reason, and nothing else is affected.
    """
    registry = loaded([ConnectorPlugin("no_such_package.source:CONNECTOR"), Sound()])

    assert list(registry.connectors()) == ["x"]
    assert "there is no module no_such_package.source" in registry.broken()[0].reason
