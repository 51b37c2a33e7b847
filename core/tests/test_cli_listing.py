"""
What is installed and configured: connectors, streams, ``init``, the schema, completion, imitations.
"""

import json
import re
import tomllib
from datetime import date
from decimal import Decimal
from pathlib import Path

import jsonschema
import penstock_plugins
import pytest
from attrs import evolve
from command_in_process import main
from penstock._cli.init import source_lines, toml_value
from penstock._cli.installed import described, print_streams
from penstock._cli.sandbox import as_typed
from penstock._config.config import load
from penstock._plugins.registry import Registry
from penstock.connector import Limits, Stream
from penstock.records import money, record
from penstock.redact import Secret
from penstock.settings import OpenFor
from shop_commands import SHOP, Here, PrintingPlugin, ShopPlugin, completions

pytestmark = pytest.mark.slow


def test_connectors_lists_installed_connectors_and_sinks(here: Here) -> None:
    """
    Connectors, sinks with what ``--to`` takes, broken plugins.
    """
    found = json.loads(here("connectors", "--json"))

    assert found["connectors"] == [
        {"name": "shop", "summary": "Sales of a shop", "distribution": "connector-shop", "version": "", "sandbox": True}
    ]
    assert {"jsonl:DIR", "csv:DIR", "-"} <= {sink["to"] for sink in found["sinks"]}
    assert found["broken"] == []
    assert "Sales of a shop" in here("connectors")


def test_connectors_states_how_to_install_what_is_absent(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The core alone has neither connectors nor sinks.
    """
    assert main(["connectors"], plugins=[], environ={}) == 0

    printed = capsys.readouterr().out
    assert "pip install ./connector_PROVIDER" in printed
    assert "pip install ./plugins" in printed


def test_streams_lists_fields_without_a_configuration(here: Here) -> None:
    """
    Name, kind, key, partition, when final, and every field with type, unit and marks.
    """
    (here.folder / "penstock.toml").unlink()

    sales, items, later = json.loads(here("streams", "shop", "--json"))["streams"]

    assert (sales["kind"], sales["key"], sales["partition"]) == ("report", ["id"], ["shop_id", "report_date"])
    assert sales["final"] == "after 2 days"
    assert [field["name"] for field in sales["fields"]] == [
        "shop_id",
        "report_date",
        "id",
        "price",
        "price_amount",
        "buyer",
    ]
    amount = sales["fields"][4]
    assert (amount["type"], amount["unit"], amount["additive"], amount["member"]) == ("decimal", "USD", True, None)
    assert sales["fields"][5]["personal"] is True
    assert (items["final"], items["partition"], items["on_by_default"]) == ("never", [], True)
    assert (later["not_built"], later["on_by_default"]) == ("the provider works on it", False)
    text = here("streams", "shop")
    assert "price_amount" in text
    assert "the provider works on it" in text


def test_streams_names_the_column_of_a_currency(capsys: pytest.CaptureFixture[str]) -> None:
    """
    An amount whose unit differs from row to row has it in another column.
    """

    @record(kind="snapshot", key="id")
    class Fee:
        id: str
        fee: Decimal | None = money("fee", currency="unit")

    listed = described(Stream(name="fees", record=Fee, path="/fees"))
    print_streams([listed])

    assert [(field["unit"], field["unit_of"]) for field in listed["fields"][1:]] == [
        (None, "fee_currency"),
        (None, None),
    ]
    assert re.search(r"fee +decimal +in fee_currency +additive", capsys.readouterr().out)


def test_the_configuration_that_init_prints_loads_again(here: Here, tmp_path: Path) -> None:
    """
    With the secret in the environment and what is open filled in, the printed configuration is complete, and also with
    every default written out.
    """
    (here.folder / "penstock.toml").unlink()
    text = here("init", "shop").replace('"..."', '"filled in"')
    every_key = re.sub(r"^# (\w+ = |\[)", r"\1", text, flags=re.M)
    every_key = re.sub(
        r"^(ca_file|streams|exclude_streams) = .*$", "", every_key, flags=re.M
    )  # name things that are not here
    registry = Registry([ShopPlugin(), penstock_plugins])

    for name, one in (("as_printed.toml", text), ("every_key.toml", every_key)):
        (tmp_path / name).write_text(one)
        config = load(tmp_path / name, (), {"SHOP_KEY": "sesame-open"})
        settings = config.source("shop", registry).settings
        assert settings.key == Secret("sesame-open")
        assert settings.page_size == 100
        assert config.pipeline("daily").sink == "files"
        assert config.sink_for("files", registry).kind.name == "jsonl"
    assert settings.open_for == OpenFor(3)
    assert settings.retries == 5


def test_init_writes_several_sources_into_one_file(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Several connectors share a pipeline; what is appended later repeats no section, and the file stays valid.
    """
    (here.folder / "penstock.toml").unlink()
    text = here("init", "shop", "shop")
    assert tomllib.loads(text)["pipeline"]["daily"]["source"] == "shop"
    assert text.startswith("#:schema ./penstock.schema.json\n")
    assert '# path = "data.duckdb"' in text
    postgres = text.partition('\n# [sink.postgres]\n# kind = "postgres"\n')[2]
    assert postgres.startswith("# required, secret: ")
    assert text.count("keep_run_days = ") == text.count("# [sink.csv]") == 1
    assert text.index("[pipeline.daily]") < text.index("# [sink.csv]")
    (here.folder / "penstock.toml").write_text(text)

    more = here("init", "shop")

    both = tomllib.loads(text + "\n" + more)
    assert both["source"]["shop_2"]["connector"] == "shop"
    assert '# To read it every day, add "shop_2" to the key source of [pipeline.daily].' in more


def test_init_marks_required_and_secret_keys() -> None:
    """
    Required keys stand open, all others behind ``#`` with their default; the help is the comment.
    """
    text = "\n".join(source_lines(SHOP))

    assert '# required, secret: the shop\'s key\nkey = { env = "SHOP_KEY" }' in text
    assert '# required: the shops to read\nshop_ids = ["..."]' in text
    assert "# sales on a page\n# page_size = 100\n" in text
    assert set(tomllib.loads(text)["source"]["shop"]) == {"key", "shop_ids"}


def test_init_distinguishes_an_example_from_a_default() -> None:
    """
    The limits that a connector declares are the default of the keys that change them.
    """
    text = "\n".join(source_lines(evolve(SHOP, limits=Limits(requests_per_second=4.0, concurrency=3))))

    assert "\n# requests_per_second = 4.0\n" in text
    assert "\n# concurrency = 3\n" in text
    assert "\n# poll_first_s = 5.0  # an example\n" in text
    assert "\n# retries = 5\n" in text
    assert "\n# requests_per_second = 1.0  # an example\n" in "\n".join(source_lines(SHOP))


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        'a "quoted" \\ \n line',
        "\x7f\x01é",
        5,
        1.5,
        True,
        ["a", 1],
        {"a b": {"c": ["d"]}},
        {},
        date(2026, 1, 31),
    ],
    ids=repr,
)
def test_values_are_written_as_toml_reads_them(value: object) -> None:
    """
    A printed value reads back equal.
    """
    assert tomllib.loads(f"value = {toml_value(value)}")["value"] == value


def test_streams_can_be_searched(here: Here) -> None:
    """
    The text is a stream's name, a part of it, or a part of any name or description.
    """
    assert [one["name"] for one in json.loads(here("streams", "shop", "sal", "--json"))["streams"]] == ["sales"]
    found = json.loads(here("streams", "shop", "--search", "CALLED", "--json"))["streams"]
    assert [one["name"] for one in found] == ["items", "later"]
    assert "nothing of shop has 'zebra' in it" in here("streams", "shop", "--search", "zebra")
    here("streams", "shop", "slaes", code=2)
    assert 'Did you mean "sales"?' in here.err


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("run ", {"daily", "shop"}),
        ("run d", {"daily"}),
        ("run daily --to ", {"files", "jsonl:", "csv:"}),
        ("run shop --streams sales,", {"sales,sales", "sales,items"}),
        ("run daily --streams shop.", {"shop.sales", "shop.items"}),
        ("run --streams sales,sh", {"sales,shop.sales"}),
        ("run daily --exclude-streams sa", {"sales"}),
        ("streams shop sa", {"sales"}),
        ("forget ", {"shop"}),
        ("forget shop sa", {"sales"}),
        ("verify d", {"daily"}),
        ("runs d", {"daily"}),
        ("act sh", {"shop"}),
        ("sandbox sh", {"shop"}),
        ("sta", {"status"}),
    ],
)
def test_a_shell_completes_names(here: Here, monkeypatch: pytest.MonkeyPatch, line: str, offered: set[str]) -> None:
    """
    Commands, sources, pipelines, streams and sinks of the configuration at hand.
    """
    assert offered <= completions(here, monkeypatch, line)


def test_a_shell_completes_the_streams_of_the_named_source(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A shell completes the streams of the named source; those of the whole configuration where none is named yet.
    """
    assert "sales" in completions(here, monkeypatch, "run --streams ")
    assert "sales" in completions(here, monkeypatch, "run shop --streams ")
    assert "sales" not in completions(here, monkeypatch, "run another --streams ")


def test_a_shell_completes_nothing_that_a_plugin_prints(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A line that code of a connector prints is no name.
    """
    assert completions(here, monkeypatch, "streams shop sa", PrintingPlugin()) == {"sales"}


def test_completion_prints_a_script(here: Here) -> None:
    """
    The script is for the shell that is named, with the line that installs it; without a name, for $SHELL.
    """
    assert here("completion", "bash").startswith('# eval "$(penstock completion bash)"')
    assert "_PENSTOCK_COMPLETE=zsh_complete" in here("completion", "zsh")
    assert 'string split "," ' not in here("completion", "fish"), "a value may have a comma"
    here("completion", code=2)


def test_the_schema_accepts_exactly_valid_configurations(here: Here) -> None:
    """
    The filled-in output of init is valid; a wrong key, a wrong type and a missing one are not.
    """
    validator = jsonschema.Draft7Validator(json.loads(here("schema")))
    validator.check_schema(validator.schema)
    good = tomllib.loads((here.folder / "penstock.toml").read_text())
    good["pipeline"]["daily"]["notify"] = [{"url": {"env": "HOOK"}, "on": ["failed"]}]
    (here.folder / "penstock.toml").unlink()

    assert list(validator.iter_errors(good)) == []
    assert list(validator.iter_errors(tomllib.loads(here("init", "shop")))) == []
    for section, change in (
        ("source", {"shop": {**good["source"]["shop"], "kye": "x"}}),
        ("source", {"shop": {**good["source"]["shop"], "page_size": "ten"}}),
        ("source", {"shop": {"key": "x"}}),
        ("source", {"mall": good["source"]["shop"]}),
        ("pipeline", {"daily": {"source": "shop"}}),
        ("sink", {"files": {"kind": "jsonl"}}),
    ):
        assert list(validator.iter_errors({**good, section: change})), change


def test_demo_runs_every_imitation(here: Here) -> None:
    """
    No configuration, no credentials: data in ./penstock-demo, a summary, and what to do next.
    """
    (here.folder / "penstock.toml").unlink()

    out = here("demo")

    assert re.search(r"shop +sales +60 +0 +120 +60", out)
    assert "penstock init shop > penstock.toml" in out
    lines = [line.replace("  penstock", "  .venv/bin/penstock") for line in out.partition("Next:")[2].splitlines()]
    assert max(map(len, lines)) <= 80, "a terminal would break a word"
    assert "notice" not in here.err
    assert len(list((here.folder / "penstock-demo").rglob("data.jsonl"))) == 61
    assert not (here.folder / ".penstock").exists()


def test_the_next_step_of_the_demo_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The bare name only where it is found as such and is the same; else the way that was taken.
    """
    command = tmp_path / "bin" / "penstock"
    command.parent.mkdir()
    command.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))

    assert as_typed(command) == str(command)
    assert as_typed(Path("__main__.py")) == "penstock"
    monkeypatch.setenv("PATH", str(command.parent))
    assert as_typed(command) == "penstock"


def test_sandbox_names_the_faults(here: Here) -> None:
    """
    ``--faults list`` lists what may go wrong; an unknown one is refused before anything is served.
    """
    assert "throttled" in here("sandbox", "shop", "--faults", "list")
    here("sandbox", "shop", "--faults", "nonsense", code=2)
    assert "no fault is named nonsense" in here.err
