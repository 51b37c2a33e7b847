"""The configuration: where values come from, what is refused, and how a problem is reported."""

import re
import sys
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import penstock_plugins
import pytest
from attrs import evolve, field, frozen, validators
from penstock._config.config import Config, load
from penstock._config.pipeline import Notification, Pipeline
from penstock._config.raw_sections import RawValue, variable_of
from penstock._config.section_check import SectionContext, check_section, refusal_of, validators_of
from penstock._config.target_text import findable, secrets_in, shown_target
from penstock._plugins.plugin_errors import sink_hint
from penstock._plugins.registry import Registry
from penstock.connector import Connector
from penstock.errors import ConfigError, PluginError
from penstock.redact import Secret, mask
from penstock.settings import SourceSettings, keys_of, setting
from penstock.sinks import SinkKind


@frozen(kw_only=True)
class Settings(SourceSettings):
    base_url: str = setting("https://api.example.com", help="where it answers")
    reference: str = setting(help="your reference")
    key: Secret = setting(help="the key from your account's page")
    ids: tuple[str, ...] = setting((), help="accounts")
    style: Literal["bearer", "query"] = setting("bearer", help="how it signs")
    rate: Decimal = setting(Decimal(1), help="a rate")
    size: int = setting(10, help="a size", validator=validators.le(100))
    filters: dict[str, dict[str, tuple[str, ...]]] = setting(factory=dict, help="filters")
    more: dict[str, Any] = setting(factory=dict, help="anything")
    folder: Path | None = setting(None, help="a folder")


@frozen(kw_only=True)
class SinkSettings:
    dsn: Secret = setting(help="where")
    rows: int = setting(1, help="rows")


@frozen(kw_only=True)
class PathSettings:
    path: str = setting(help="where")


def parse(text: str) -> PathSettings:
    if text == "jsonl:defect":
        raise KeyError("x")
    if text == "jsonl:bad":
        raise ValueError("bad is no good place")
    return PathSettings(path=text.partition(":")[2])


def a_kind(name: str, scheme: str, settings: type, parse: Callable[[str], Any] = parse) -> SinkKind:
    return SinkKind(
        name=name, summary="", promise="", scheme=scheme, settings=settings, parse=parse, open=lambda settings: settings
    )


@frozen
class Offered:
    """What the registry answers, as values."""

    vault: Mapping[str, Callable[[str], str]] = field(factory=dict)
    settings: type[Settings] = Settings

    def connector(self, name: str) -> Connector:
        if name != "x":
            raise PluginError(f"no connector named {name!r} is installed.", missing=True)
        return Connector(name="x", summary="", settings=self.settings)

    def sinks(self) -> dict[str, SinkKind]:
        return {
            "jsonl": a_kind("jsonl", "jsonl", PathSettings),
            "postgres": a_kind("postgres", "postgresql", SinkSettings, lambda text: SinkSettings(dsn=Secret(text))),
            "stdout": a_kind("stdout", "-", PathSettings),
            "singer": evolve(a_kind("singer", "singer", PathSettings), summary="BigQuery and others"),
        }

    def sink(self, name: str) -> SinkKind:
        return next(kind for kind in self.sinks().values() if name in (kind.name, kind.scheme))

    def secrets(self) -> Mapping[str, Callable[[str], str]]:
        return self.vault


GOOD = """
[source.x]
reference = "r"
key = { env = "KEY" }
"""


def loaded(
    tmp_path: Path, text: str = GOOD, sets: tuple[str, ...] = (), environ: Mapping[str, str] | None = None
) -> Config:
    file = tmp_path / "penstock.toml"
    file.write_text(text)
    return load(file, sets, {"KEY": "hunter2-long", **(environ or {})})


def problems(config: Config, name: str = "x", offers: Offered | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.source(name, offers or Offered())
    return [problem.replace(f"{config.where}: ", "") for problem in caught.value.problems]


def test_a_file_becomes_the_connectors_settings(tmp_path: Path) -> None:
    """
    Every type a settings class may have is taken from TOML, exactly.
    """
    text = """
[source.x]
reference = "r"
key = { env = "KEY" }
ids = ["1", "2"]
style = "query"
rate = 0.1
timeout_s = 5
start = 2026-01-31
include_personal = false
filters = { leads = { status = ["a", "b"] } }
more = { n = 1.5, list = [1, "a"] }
folder = "here"
"""
    settings = loaded(tmp_path, text).source("x", Offered()).settings

    assert isinstance(settings, Settings)
    assert settings.key == Secret("hunter2-long")
    assert settings.ids == ("1", "2")
    assert settings.style == "query"
    assert settings.rate == Decimal("0.1")
    assert (settings.timeout_s, type(settings.timeout_s)) == (5.0, float)
    assert settings.start == date(2026, 1, 31)
    assert settings.include_personal is False
    assert settings.filters == {"leads": {"status": ("a", "b")}}
    assert settings.more == {"n": 1.5, "list": [1, "a"]}
    assert type(settings.more["n"]) is float
    assert settings.folder == tmp_path / "here"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        pytest.param('size = "5"', 'size: found "5", expected a whole number; write it without quotes: 5', id="quoted"),
        pytest.param("size = true", "size: found true, expected a whole number", id="true is no number"),
        pytest.param("size = 5.0", "size: found 5.0, expected a whole number", id="no fraction"),
        pytest.param("size = 101", "size: found 101, expected 100 or less", id="validator"),
        pytest.param(
            "style = 'qery'",
            'style: found "qery", expected one of "bearer", "query". Did you mean "query"?',
            id="choice",
        ),
        pytest.param("ids = 2112", 'ids: found 2112, expected a list of text; write ["2112"]', id="number for texts"),
        pytest.param('ids = "2112"', 'ids: found "2112", expected a list of text; write ["2112"]', id="text for list"),
        pytest.param(
            'ids = "21, 22"', 'ids: found "21, 22", expected a list of text; write ["21", "22"]', id="text of several"
        ),
        pytest.param("ids = [1]", 'ids[0]: found 1, expected text; write it in quotes: "1"', id="inside a list"),
        pytest.param(
            "filters = { leads = { status = [1] } }",
            'filters.leads.status[0]: found 1, expected text; write it in quotes: "1"',
            id="inside tables",
        ),
        pytest.param(
            'start = "2026-01-31"',
            'start: found "2026-01-31", expected a date such as 2026-01-31; write it without quotes: 2026-01-31',
            id="quoted date",
        ),
        pytest.param(
            "start = 2026-01-31T00:00:00",
            "start: found 2026-01-31 00:00:00, expected a date such as 2026-01-31",
            id="a time is no day",
        ),
        pytest.param("timeout_s = nan", "timeout_s: found NaN, expected a number", id="nan"),
        pytest.param("timeout_s = 0", "timeout_s: found 0, expected a number above 0", id="zero"),
        pytest.param("retries = -1", "retries: found -1, expected 0 or more", id="negative"),
        pytest.param(
            'timezone = "Europe/Berln"',
            'timezone: found "Europe/Berln", expected an IANA name such as "Europe/Berlin" or "UTC"',
            id="zone",
        ),
        pytest.param(
            'timezone = "Europe"',
            'timezone: found "Europe", expected an IANA name such as "Europe/Berlin" or "UTC"',
            id="a directory of zones",
        ),
        pytest.param(
            'open_for = "soon"',
            'open_for: found \'soon\', expected a time such as "3 days" or "40 days, 8th of next month"',
            id="open_for",
        ),
        pytest.param(
            'base_url = "api.example.com"',
            "base_url: found 'api.example.com', expected a URL such as https://api.example.com",
            id="no scheme",
        ),
        pytest.param(
            'base_url = "https://u:pass-word@api.example.com"',
            "base_url: credentials do not belong into the URL; the connector has keys for them",
            id="password in the URL",
        ),
        *(
            pytest.param(
                f'proxy = "{url}"', f"proxy: found '{reported}', expected a URL such as https://api.example.com", id=url
            )
            for url, reported in {
                "me:sesame@proxy:80": "***@proxy:80",
                "//me:sesame@proxy:80": "***@proxy:80",
                "http:me:sesame@proxy:80": "***@proxy:80",
                "http://me:sesame/x@proxy:80": "http://***@proxy:80",
                "http://me:sesame#x@proxy:80": "http://***@proxy:80",
                "http://me:sesame@proxy:port": "http://***@proxy:port",
            }.items()
        ),
        pytest.param(
            'base_url = "https://api.example.com/v1?key=sesame"',
            "base_url: found 'https://api.example.com/v1?***', expected a URL without ? and #",
            id="key in the URL",
        ),
        pytest.param('ca_file = "/nowhere"', 'ca_file: found "/nowhere", expected a file that can be read', id="ca"),
        pytest.param(
            'refrence = "r"',
            'refrence: unknown key. Did you mean "reference"? `penstock init x` lists every key',
            id="unknown key",
        ),
    ],
)
def test_a_wrong_value_is_reported_with_place_found_and_expected(tmp_path: Path, line: str, problem: str) -> None:
    """
    The message names the key's path, what was found and what is expected.
    """
    assert problems(loaded(tmp_path, GOOD + line)) == [f"source.x.{problem}"]


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    """
    Unknown sections, unknown keys, wrong types and what is missing come in one error.
    """
    text = """
[sorce.y]
a = 1
[source.x]
size = "a"
nonsense = 1
[pipeline.daily]
source = 5
streem = ["a"]
"""
    found = problems(loaded(tmp_path, text))

    assert [problem.partition(" ")[0] for problem in found] == [
        "sorce:",
        "pipeline.daily.source:",
        "pipeline.daily.streem:",
        "pipeline.daily.sink",
        "source.x.size:",
        "source.x.nonsense:",
        "source.x.reference",
        "source.x.key",
    ]
    assert 'Did you mean "source"?' in found[0]
    assert 'write key = { env = "X_KEY" }' in found[-1]


def test_validators_are_all_called(tmp_path: Path) -> None:
    """
    Two refused values are two problems.
    """
    found = problems(loaded(tmp_path, GOOD + "size = 1000\nretries = -1"))

    assert [problem.partition(":")[0] for problem in found] == ["source.x.retries", "source.x.size"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('size = "a"\nretries = -1', ["size", "retries"]),
        ("nonsense = 1\nretries = -1", ["nonsense", "retries"]),
        ('allow_http = "no"\nbase_url = "http://api.example.com"\nretries = -1', ["allow_http", "retries"]),
        ('[source.x.accounts.one]\ntimezone = 1\n[source.x.accounts.two]\ntimezone = "Mars"', ["one", "two"]),
    ],
    ids=["type", "unknown key", "key that a validator needs", "accounts"],
)
def test_a_bad_value_hides_no_bad_bound(tmp_path: Path, lines: str, expected: list[str]) -> None:
    """
    The validators of the other keys are called all the same, but for one that needs a value which could not be read.
    """
    found = problems(loaded(tmp_path, GOOD + lines))

    assert len(found) == len(expected)
    assert all(name in problem.partition(" ")[0] for name, problem in zip(expected, found, strict=True))


def test_the_command_line_wins_over_the_environment_over_the_file(tmp_path: Path) -> None:
    """
    File, environment, ``--set``: the later one wins.
    """
    environ = {"PENSTOCK_SOURCE__X__SIZE": "2", "PENSTOCK_SOURCE__X__RETRIES": "2"}
    config = loaded(tmp_path, GOOD + "size = 1\nretries = 1\nmax_pages = 1", ("source.x.size=3",), environ)

    settings = config.source("x", Offered()).settings
    assert (settings.size, settings.retries, settings.max_pages) == (3, 2, 1)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        pytest.param("size", "7", 7, id="int"),
        pytest.param("rate", "0.10", Decimal("0.10"), id="decimal"),
        pytest.param("include_personal", "no", False, id="bool"),
        pytest.param("start", "2026-01-31", date(2026, 1, 31), id="date"),
        pytest.param("start", "", None, id="nothing"),
        pytest.param("ids", "2112,2113", ("2112", "2113"), id="list by commas"),
        pytest.param("ids", '["2112"]', ("2112",), id="list of TOML"),
        pytest.param("reference", "10", "10", id="text stays text"),
        pytest.param("reference", '"10"', "10", id="quoted text"),
        pytest.param("filters", '{ leads = { a = ["b"] } }', {"leads": {"a": ("b",)}}, id="table"),
        pytest.param("filters.leads.a", '["b"]', {"leads": {"a": ("b",)}}, id="inside a table"),
        pytest.param("requests_per_second", "2", 2.0, id="optional number"),
    ],
)
def test_text_is_read_by_the_declared_type(tmp_path: Path, key: str, text: str, expected: object) -> None:
    """
    A value of ``--set`` or of the environment has no type of its own.
    """
    by_option = loaded(tmp_path, GOOD, (f"source.x.{key}={text}",))
    by_variable = loaded(tmp_path, GOOD, (), {variable_of(f"source.x.{key}"): text})

    for config in (by_option, by_variable):
        assert getattr(config.source("x", Offered()).settings, key.partition(".")[0]) == expected


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        pytest.param("source.x.size=many", 'found "many", expected a whole number', id="type"),
        pytest.param("source.x.start=tomorrow", 'found "tomorrow", expected a date such as 2026-01-31', id="date"),
        pytest.param("source.x.filters=leads", "expected a table such as", id="table"),
        pytest.param("source.x.ids=caf\udce9", "expected text in UTF-8", id="bytes that are no text"),
        pytest.param("source.x.folder=caf\ud800", "cannot name in the encoding of its locale", id="no name of a file"),
        pytest.param("size=5", "expected SECTION.NAME.KEY=VALUE", id="short path"),
        pytest.param("source.x.key=hunter3-long", "set PENSTOCK_SOURCE__X__KEY in the environment", id="secret"),
    ],
)
def test_a_bad_option_is_reported(tmp_path: Path, option: str, problem: str) -> None:
    """
    The problem names ``--set``; a secret's value is not repeated.
    """
    (found,) = problems(loaded(tmp_path, GOOD, (option,)))

    assert found.startswith("--set ")
    assert problem in found
    assert "hunter3" not in found


def test_an_option_that_reaches_nothing_is_a_problem(tmp_path: Path) -> None:
    """
    A misspelt source's name in ``--set`` does not pass silently.
    """
    config = loaded(tmp_path, GOOD, ("source.xx.size=5",))

    (problem,) = config.unused_set_problems(["x"])
    assert problem == "--set source.xx.size: no source 'xx' here. Did you mean \"x\"?"
    assert config.unused_set_problems(["x", "xx"]) == ()


def test_a_source_may_live_in_the_environment_alone() -> None:
    """
    Without any file, a source named as an installed connector is made of variables.
    """
    environ = {"PENSTOCK_SOURCE__X__KEY": "hunter2-long", "PENSTOCK_SOURCE__X__REFERENCE": "r"}

    settings = load(None, (), environ).source("x", Offered()).settings

    assert settings.key.reveal() == "hunter2-long"


def test_a_secret_from_a_file_loses_one_newline(tmp_path: Path) -> None:
    """
    ``{ file = ... }`` is relative to the configuration; one newline at its end is not part of the secret.
    """
    (tmp_path / "key").write_text("hunter2-long\n\n")
    (tmp_path / "key").chmod(0o600)

    settled = loaded(tmp_path, '[source.x]\nreference = "r"\nkey = { file = "key" }').source("x", Offered())

    assert settled.settings.key.reveal() == "hunter2-long\n"
    assert settled.notices == ()


@frozen(kw_only=True)
class PairedSettings(Settings):
    def __attrs_post_init__(self) -> None:
        if len(self.key.reveal()) < len(self.reference):
            raise ValueError("the key is shorter than the reference")


def test_a_missing_secret_hides_no_other_problem(tmp_path: Path) -> None:
    """
    The class of the settings compares two keys when it is made, and one of them has no value.
    """
    text = '[source.x]\nreference = "r"\nkey = { env = "UNSET" }\ntimezone = "Mars"\nsize = 101'
    found = problems(loaded(tmp_path, text), offers=Offered(settings=PairedSettings))

    assert [problem.split(":")[0].removeprefix("source.x.") for problem in found] == ["key", "timezone", "size"]


@frozen(kw_only=True)
class EndingSettings(Settings):
    def __attrs_post_init__(self) -> None:
        sys.exit()


def test_settings_that_end_the_process_are_a_defect_of_the_connector(tmp_path: Path) -> None:
    """
    The error has name and place: the command would end with exit code 0, as if it had read everything.
    """
    with pytest.raises(PluginError, match=r"EndingSettings \(test_config\.py, line \d+\) failed with SystemExit"):
        loaded(tmp_path).source("x", Offered(settings=EndingSettings))


@pytest.mark.parametrize(
    ("stored", "content"),
    [
        pytest.param("env", b"hunter2-long\n", id="variable with a newline"),
        pytest.param("file", b"hunter2-long\r\n", id="file of Windows"),
        pytest.param("file", b"\xef\xbb\xbfhunter2-long\n", id="file with a mark of UTF-8"),
    ],
)
def test_newlines_around_a_stored_secret_are_no_part_of_it(tmp_path: Path, stored: str, content: bytes) -> None:
    """
    The newline of a command's output, and what an editor writes around a text.
    """
    (tmp_path / "KEY").write_bytes(content)
    text = f'[source.x]\nreference = "r"\nkey = {{ {stored} = "KEY" }}'

    settled = loaded(tmp_path, text, environ={"KEY": content.decode()}).source("x", Offered())

    assert settled.settings.key.reveal() == "hunter2-long"


def test_a_secret_that_others_can_read_is_reported(tmp_path: Path) -> None:
    """
    An open file and a secret in the configuration itself are taken, with a notice each.
    """
    (tmp_path / "key").write_text("hunter2-long")
    (tmp_path / "key").chmod(0o644)

    by_file = loaded(tmp_path, '[source.x]\nreference = "r"\nkey = { file = "key" }').source("x", Offered())
    both = "".join(f'[source.{name}]\nconnector = "x"\nreference = "r"\nkey = "hunter2-long"\n' for name in "xy")
    literal = loaded(tmp_path, both).source("x", Offered())

    assert by_file.notices == (
        f"the secret file {tmp_path / 'key'} is open to other users of this machine; chmod 600 closes it",
    )
    assert "penstock.toml: secrets are written in the file" in literal.notices[0]
    assert literal.notices == loaded(tmp_path, both).source("y", Offered()).notices, "printed once for a file"
    assert "hunter2" not in literal.notices[0]


def test_a_shell_variable_as_a_secret_is_reported(tmp_path: Path) -> None:
    """
    ``$NAME`` of a variable that is set is no secret. Where there is no such variable, it may be one.
    """
    text = '[source.x]\nreference = "r"\nkey = "{}"\n'

    for written in ("$KEY", "${KEY}"):
        (found,) = problems(loaded(tmp_path, text.replace("{}", written)))
        assert found == 'source.x.key: found "$KEY", which no shell replaces here; write { env = "KEY" }'
    settled = loaded(tmp_path, text.replace("{}", "$KEY2")).source("x", Offered())
    assert settled.settings.key.reveal() == "$KEY2"


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        pytest.param("$HOME/data", 'found "$HOME/data", in which no shell replaces $HOME', id="variable"),
        pytest.param("", "is empty; write . for the directory itself", id="empty"),
        pytest.param("s3://bucket/data", 'found "s3://bucket/data", expected a path of this machine', id="URL"),
        pytest.param("~nobody-here/data", "this machine has no user ~nobody-here", id="another user"),
    ],
)
def test_an_unintended_path_is_reported(tmp_path: Path, path: str, problem: str) -> None:
    """
    A path with a variable, a URL or an unknown user, and an empty one, are reported: a directory of that name would be
    made beside the configuration.
    """
    text = f'[source.x]\nreference = "r"\nkey = {{ env = "KEY" }}\nfolder = "{path}"'

    (found,) = problems(loaded(tmp_path, text, (), {"HOME": "/srv/somebody"}))

    assert found.startswith(f"source.x.folder: {problem}")


def test_a_pipeline_with_a_problem_is_not_missing(tmp_path: Path) -> None:
    """
    A pipeline with a problem is reported with that problem only, and not as missing.
    """
    (found,) = problems(loaded(tmp_path, '[pipeline.daily]\nsource = "x"'), "daily")

    assert found.startswith("pipeline.daily.sink is missing")


@pytest.mark.parametrize("variable", ["PENSTOCK_SORCE__X__SIZE", "PENSTOCK_SOURCE_X__SIZE"])
def test_a_variable_that_sets_no_key_is_reported(tmp_path: Path, variable: str) -> None:
    """
    A misspelled section, or one underscore in place of two. A variable of another program is none of these.
    """
    (found,) = problems(loaded(tmp_path, GOOD, (), {variable: "5", "PENSTOCK_WRAPPER__X__SIZE": "5"}))

    assert found.startswith(f"environment variable {variable}: sets no key; expected PENSTOCK_SECTION__NAME__KEY")
    assert loaded(tmp_path, GOOD, (), {"PENSTOCK_WRAPPER__X__SIZE": "5"}).problems == ()


def test_an_unknown_connector_is_reported_where_it_is_named(tmp_path: Path) -> None:
    """
    A source that only the environment names is a mistake in the variable, not in the file.
    """
    config = loaded(tmp_path, GOOD, (), {"PENSTOCK_SOURCE__XX__SIZE": "5"})

    (found,) = problems(config, "xx")
    assert found.startswith("environment variable PENSTOCK_SOURCE__XX__SIZE: source.xx: no connector named 'xx'")


def test_an_empty_file_has_no_pipeline(tmp_path: Path) -> None:
    """
    The name is not taken for a connector that is not installed.
    """
    (found,) = problems(loaded(tmp_path, ""), "daily")

    assert "no source or pipeline 'daily'" in found
    assert "`penstock init CONNECTOR` prints a source" in found


def missing(reference: str) -> str:
    raise LookupError("sealed")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        pytest.param('{ env = "ABSENT" }', "the environment variable ABSENT is not set", id="env"),
        pytest.param('{ env = "VOID" }', "the environment variable VOID is empty", id="empty"),
        pytest.param('{ file = "absent" }', "cannot be read: No such file or directory", id="file"),
        pytest.param('{ vault = "a/b" }', 'vault has no "a/b": sealed', id="plugin"),
        pytest.param(
            '{ valt = "a" }',
            'found a table with valt, expected { env = "..." } or { file = "..." } or { vault = "..." }. Did you mean',
            id="unknown kind",
        ),
        pytest.param("5", 'found a whole number, expected a secret: { env = "NAME" }', id="number"),
        pytest.param('""', "is empty", id="nothing"),
    ],
)
def test_a_secret_that_cannot_be_had_is_reported(tmp_path: Path, value: str, problem: str) -> None:
    """
    The reference is named, and what to write instead; never a value.
    """
    config = loaded(tmp_path, f'[source.x]\nreference = "r"\nkey = {value}', (), {"VOID": ""})

    (found,) = problems(config, offers=Offered({"vault": missing}))
    assert problem in found


def test_a_reference_works_for_any_single_value(tmp_path: Path) -> None:
    """
    ``{ env = "NAME" }`` also gives a text or number that is no secret.
    """
    text = '[source.x]\nreference = { env = "REF" }\nkey = { vault = "k" }\nsize = { env = "SIZE" }'
    config = loaded(tmp_path, text, (), {"REF": "r-1", "SIZE": "9"})

    settings = config.source("x", Offered({"vault": lambda reference: f"secret of {reference}"})).settings

    assert (settings.reference, settings.size, settings.key.reveal()) == ("r-1", 9, "secret of k")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("[source.x", "is not TOML", id="syntax"),
        pytest.param("[source.x]\nkey = abc", "column 7\\); a text is in quotes", id="no quotes"),
        pytest.param("[source.x]\nkey = 1\nkey = 2", "is not TOML", id="twice"),
    ],
)
def test_a_file_that_is_no_toml_is_reported(tmp_path: Path, text: str, problem: str) -> None:
    """
    The file is named, with the place of the mistake.
    """
    with pytest.raises(ConfigError, match=problem):
        loaded(tmp_path, text)


def test_a_file_of_another_encoding_is_reported_with_the_line(tmp_path: Path) -> None:
    """
    An editor shows lines, not bytes.
    """
    file = tmp_path / "penstock.toml"
    file.write_bytes(b'[source.x]\nreference = "M\xfcller"\n')

    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(line 2\); save it as UTF-8"):
        load(file)


def test_a_named_file_must_exist_and_the_default_one_need_not(working_directory: Path) -> None:
    """
    ``--config FILE`` names a file that is there; ``./penstock.toml`` may be absent.
    """

    assert load(None).path is None
    with pytest.raises(ConfigError, match=r"no such file; `penstock init"):
        load(Path("other.toml"))


def test_a_source_that_is_nowhere_gets_the_nearest(tmp_path: Path) -> None:
    """
    A slip in a source's name names the sources there are.
    """
    text = GOOD.replace("source.x", "source.main") + 'connector = "x"'

    (found,) = problems(loaded(tmp_path, text), "mian")

    assert found == (
        "no source or pipeline 'mian', nor a connector of that name. Did you mean \"main\"? It has the source main."
    )


def test_pipelines_name_one_or_more_sources(tmp_path: Path) -> None:
    """
    ``source`` is a name, a list, or a text with commas; streams may be left out.
    """
    text = """
[pipeline.daily]
source = ["x", "y"]
sink = "jsonl:data"
[pipeline.hourly]
source = "x, y"
streams = ["a"]
sink = "warehouse"
"""
    config = loaded(tmp_path, text)

    assert config.pipeline("daily").source == ("x", "y")
    assert config.pipeline("daily").streams is None
    assert config.pipeline("hourly").source == ("x", "y")
    assert config.pipeline("hourly").streams == ("a",)
    with pytest.raises(ConfigError, match=r"no pipeline or source 'dayly'\. Did you mean \"daily\""):
        config.pipeline("dayly")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('source = ["x", "x"]', "source: 'x' is there twice"),
        ("source = []", "source: found a list, expected a name or a list of names"),
        ('sink = ""', "sink: is empty"),
        ("workers = 0", "workers: found 0, expected a number above 0"),
        ("notify = 5", "notify: expected tables such as"),
        ("allow_rejected = 0.5", "allow_rejected: expected true, a number of records"),
    ],
)
def test_a_pipeline_that_cannot_run_is_refused(tmp_path: Path, line: str, problem: str) -> None:
    """
    A key of a pipeline is checked as one of a source is.
    """
    keys = {"source": 'source = "x"', "sink": 'sink = "-"'} | {line.partition(" ")[0]: line}
    text = "\n".join(["[pipeline.daily]", *keys.values()])

    (found,) = loaded(tmp_path, text).problems
    assert f"pipeline.daily.{problem}" in found


def test_a_sink_is_named_or_spelled_out(tmp_path: Path) -> None:
    """
    A name of the file, ``scheme:place``, or ``-``.
    """
    text = '[sink.warehouse]\nkind = "postgres"\ndsn = { env = "KEY" }\nrows = 5\n[sink.jsonl]\npath = "here"'
    config = loaded(tmp_path, text)

    warehouse = config.sink_for("warehouse", Offered())
    assert (warehouse.kind.name, warehouse.settings.rows, warehouse.name) == ("postgres", 5, "warehouse")
    assert config.sink_for("jsonl", Offered()).settings.path == "here"
    assert config.sink_for("jsonl:out", Offered()).settings.path == "out"
    assert config.sink_for("jsonl:out", Offered()).remembered == f"jsonl:{Path('out').absolute()}"
    assert config.sink_for("-", Offered()).remembered is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("warehose", 'Did you mean "warehouse"?', id="near a name"),
        pytest.param("jsonl", "found no address, expected one such as jsonl:data", id="no place"),
        pytest.param("jsonl:bad", "bad is no good place", id="refused by the sink"),
        pytest.param("data", "expected a sink of", id="neither"),
        pytest.param("data.json", 'Did you mean "jsonl:DIR"?', id="near a format"),
        pytest.param("BigQuery", "Write --to singer:DIR, which takes BigQuery and others.", id="of another tool"),
    ],
)
def test_a_sink_that_is_none_is_reported(tmp_path: Path, text: str, problem: str) -> None:
    """
    The message lists the sinks, with the nearest name.
    """
    config = loaded(tmp_path, '[sink.warehouse]\nkind = "postgres"\ndsn = { env = "KEY" }')

    with pytest.raises(ConfigError) as caught:
        config.sink_for(text, Offered())
    assert problem in str(caught.value)


def test_an_unknown_kind_of_sink_is_reported_with_its_key(tmp_path: Path) -> None:
    """
    The place is the key of the file, and an ordinary word of a sink's summary is no advice.
    """
    config = loaded(tmp_path, '[sink.out]\nkind = "jsonn"\npath = "data"')

    with pytest.raises(ConfigError) as caught:
        config.sink_for("out", Registry([penstock_plugins]))

    assert str(caught.value).startswith(
        f"{config.where}: sink.out.kind: no sink named 'jsonn' is installed. Did you mean \"jsonl\"?"
    )
    assert "--to" not in str(caught.value)
    assert sink_hint(Registry([penstock_plugins]).sinks().values(), "files") == ""
    assert "singer:COMMAND" in sink_hint(Registry([penstock_plugins]).sinks().values(), "bigquery")


def test_a_password_on_the_command_line_is_taken_masked_and_not_kept(tmp_path: Path) -> None:
    """
    A notice states that others can see it; from then on it is masked everywhere.
    """
    choice = loaded(tmp_path).sink_for("postgresql://me:sesame-open@db/prod?password=other-word", Offered())

    assert choice.name == "postgresql://me:***@db/prod?password=***"
    assert choice.remembered == "postgresql://me@db/prod"
    assert "process list" in choice.notices[0]
    assert mask("sesame-open other-word") == "*** ***"


@pytest.mark.parametrize(
    ("text", "secrets", "shown", "kept"),
    [
        ("postgresql://u:p%40ss@h/d", {"p%40ss", "p@ss"}, "postgresql://u:***@h/d", "postgresql://u@h/d"),
        ("postgresql://u:p@ss@h/d", {"p@ss"}, "postgresql://u:***@h/d", "postgresql://u@h/d"),
        ("postgresql://u@h/d", set(), "postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql:///d?host=/run&password=abcd", {"abcd"}, "postgresql:///d?host=/run&password=***", None),
        ("postgresql:///d?host=/run&sslpassword=abcd", {"abcd"}, "postgresql:///d?host=/run&sslpassword=***", None),
        ("host=h password=abcd", {"abcd"}, "host=h password=***", "host=h "),
        ("x:/d?motherduck_token=abcd&a=b", {"abcd"}, "x:/d?motherduck_token=***&a=b", "x:/d?&a=b"),
        ("x:/t --api-key 'ab cd' -v", {"ab cd", "'ab cd'"}, "x:/t --api-key *** -v", "x:/t  -v"),
        ("x:/t --auth-token=abcd", {"abcd"}, "x:/t --auth-token=***", "x:/t "),
        ("x:/token=7/api_key", set(), "x:/token=7/api_key", "x:/token=7/api_key"),
    ],
    ids=[
        "encoded",
        "unescaped @",
        "none",
        "parameter",
        "of a key file",
        "keywords",
        "query",
        "option",
        "option=",
        "path",
    ],
)
def test_secrets_in_targets(text: str, secrets: set[str], shown: str, kept: str | None) -> None:
    """
    Every place of a secret is known: in a database's URL, in a query, in the options of a command.
    """
    assert set(secrets_in(text)) == secrets
    assert shown_target(text) == shown
    assert findable(text) == (kept or "postgresql:///d?host=/run")


REGISTRY = Registry()
DECLARATIONS = {
    **{f"source {name}": connector.settings for name, connector in REGISTRY.connectors().items()},
    **{f"sink {name}": kind.settings for name, kind in REGISTRY.sinks().items()},
    "pipeline": Pipeline,
    "notify": Notification,
}


@pytest.mark.parametrize("declaration", DECLARATIONS)
def test_a_bound_of_a_number_is_stated_in_words(declaration: str) -> None:
    """
    A number that is too low, in any setting of the installed sources and sinks, is refused with what was
    found and what is expected.
    """
    cls = DECLARATIONS[declaration]
    hints = get_type_hints(cls)
    numbers = [key for key in keys_of(cls) if {int, float, Decimal} & {hints[key.name], *get_args(hints[key.name])}]

    for key in numbers:
        (validator,) = validators_of(cls, key.name)
        with pytest.raises(ValueError) as refused:
            validator(None, key, -1)
        assert re.fullmatch(r"found -1, expected .*\d.*", refusal_of(key.name, -1, refused.value)), key.name


@pytest.mark.parametrize(
    ("validator", "value", "message"),
    [
        (validators.ge(1), 0, "found 0, expected 1 or more"),
        (validators.gt(0), 0.0, "found 0, expected a number above 0"),
        (validators.le(9), 9.5, "found 9.5, expected 9 or less"),
        (validators.lt(9), Decimal("9.0"), "found 9, expected a number below 9"),
        (validators.in_((".", ",")), ";", "found \";\", expected one of '.', ','"),
        (validators.optional(validators.gt(0)), -1, "found -1, expected a number above 0"),
        (validators.and_(validators.ge(0), validators.le(38)), 39, "found 39, expected 38 or less"),
    ],
)
def test_a_bound_of_attrs_is_stated_in_words(validator: Any, value: Any, message: str) -> None:
    """
    A connector of others may declare any of attrs' bounds.
    """

    @frozen
    class OneSetting:
        size: Any = setting(help="a size", validator=validator)

    with pytest.raises(ConfigError) as refused:
        check_section(
            OneSetting,
            {"size": RawValue(value, "penstock.toml")},
            SectionContext(path="x", where="penstock.toml", folder=Path(), environ={}),
        )
    assert refused.value.problems == (f"penstock.toml: x.size: {message}",)


def test_a_defect_in_the_parser_of_a_sink_names_the_sink(tmp_path: Path) -> None:
    """
    Any other error than one about the text is no mistake of the user.
    """
    with pytest.raises(PluginError, match=r"the sink jsonl failed with KeyError: 'x'"):
        loaded(tmp_path).sink_for("jsonl:defect", Offered())
