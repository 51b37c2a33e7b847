"""
The sections of a configuration, from the file, the environment and ``--set``, not yet checked against a connector or a
sink.

A problem found here does not end the reading: it is reported together with all others.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from attrs import frozen

from penstock._config.checked import ENVIRONMENT, AccountSections, RawValue, Section, folded
from penstock._config.convert import split_list, toml
from penstock._util.text import shown
from penstock.errors import ConfigError
from penstock.names import did_you_mean
from penstock.redact import Secret
from penstock.run_report import NONE_ALLOWED, Allowance

SECTIONS = ("source", "sink", "pipeline")
PIPELINE_KEYS = ("source", "streams", "exclude_streams", "sink", "allow_rejected", "notify", "workers", "engine")

# Names become directories and database schemas, and parts of environment variables.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")

Sections = dict[str, dict[str, dict[str, RawValue]]]


@frozen(kw_only=True)
class Pipeline:
    """
    A named source -> sink. ``streams``, ``exclude_streams``: ``STREAM`` or ``SOURCE.STREAM``, with ``*`` as in a shell;
    ``streams`` None: those that are on by default. ``allowed``: how many records may be set aside without exit code 5.
    """

    name: str
    sources: tuple[str, ...]
    sink: str
    streams: tuple[str, ...] | None = None
    exclude_streams: tuple[str, ...] = ()
    allowed: Allowance = NONE_ALLOWED
    workers: int | None = None  # None and no engine: one process
    engine: str | None = None
    notify: tuple[Section, ...] = ()  # the tables of ``notify``, not checked yet


def read(
    file: "Path | Mapping[str, Any] | None", sets: Sequence[str], environ: Mapping[str, str], problems: list[str]
) -> Sections:
    """
    Section -> name -> key -> value. ``--set`` overrides the environment, which overrides the file (None: no file).

    Raises ConfigError for a file that cannot be read as TOML.
    """
    sections: Sections = {section: {} for section in SECTIONS}
    if isinstance(file, Mapping):
        _take(file, "configuration", sections, problems)
    elif file is not None:
        _take(_read_file(file), str(file), sections, problems)
    _read_environment(environ, sections)
    _read_sets(sets, sections, problems)
    where = str(file) if isinstance(file, Path) else "configuration"
    problems += [
        f"{where}: {section}.{name}: a name starts with a letter and has letters, digits, _ and - only, at most 63"
        for section in SECTIONS
        for name in sections[section]
        if not _NAME.fullmatch(name)
    ]
    return sections


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
        # Numbers with a point stay exact until their expected type is known.
        return tomllib.loads(text, parse_float=Decimal)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `penstock init CONNECTOR > {path}` writes a first one") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None


def _take(found: Mapping[str, Any], where: str, sections: Sections, problems: list[str]) -> None:
    for section, names in found.items():
        if section not in SECTIONS:
            meant = did_you_mean(section, SECTIONS)
            problems.append(
                f"{where}: {section}: unknown section.{meant} There are [source.NAME], [sink.NAME] and [pipeline.NAME]"
            )
            continue
        for name, keys in names.items() if isinstance(names, Mapping) else [("", names)]:
            if isinstance(keys, Mapping):
                sections[section][name] = {key: raw_value(section, key, one, where) for key, one in keys.items()}
            else:
                dotted = f"{section}.{name}" if name else section
                problems.append(
                    f"{where}: {dotted}: found {shown(keys)}, expected a section with a name, such as "
                    f"[{section}.{name or 'NAME'}]"
                )


def raw_value(section: str, key: str, value: Any, where: str) -> RawValue:
    """A value of the file. The tables of accounts keep the origin of each of their keys."""
    if isinstance(value, Secret):
        return RawValue(value.reveal(), where, text=True)
    accounts = section == "source" and key == "accounts" and isinstance(value, Mapping)
    if not accounts or not all(isinstance(table, Mapping) for table in value.values()):
        return RawValue(value, where)
    return RawValue(
        AccountSections(
            {
                name: {key: raw_value("account", key, one, where) for key, one in table.items()}
                for name, table in value.items()
            }
        ),
        where,
    )


def _read_environment(environ: Mapping[str, str], sections: Sections) -> None:
    for variable in sorted(environ):
        parts = variable.split("__")
        section = parts[0].removeprefix(ENVIRONMENT).lower()
        if not variable.startswith(ENVIRONMENT) or section not in SECTIONS or len(parts) < 3 or "" in parts:
            continue
        name = next((known for known in sections[section] if folded(known) == folded(parts[1])), parts[1].lower())
        where = f"environment variable {variable}"
        _put(sections[section].setdefault(name, {}), [part.lower() for part in parts[2:]], environ[variable], where)


def _read_sets(sets: Sequence[str], sections: Sections, problems: list[str]) -> None:
    for option in sets:
        path, equals, text = option.partition("=")
        parts = path.strip().split(".")
        if not equals or len(parts) < 3 or "" in parts or parts[0] not in SECTIONS:
            problems.append(
                f"--set {path}: expected SECTION.NAME.KEY=VALUE, such as --set source.talroo.timeout_s=30; the "
                f"sections are {', '.join(SECTIONS)}"
            )
            continue
        _put(sections[parts[0]].setdefault(parts[1], {}), parts[2:], text.strip(), "--set")


def _put(keys: dict[str, RawValue], path: Sequence[str], text: str, where: str) -> None:
    """Put a text at a key, or at a key inside a table, whose other keys stay."""
    if path[0] == "accounts" and len(path) > 2:
        accounts = keys[path[0]].value if path[0] in keys else None
        if not isinstance(accounts, AccountSections):
            accounts = AccountSections()
            keys[path[0]] = RawValue(accounts, where)
        name = next((known for known in accounts if folded(known) == folded(path[1])), path[1])
        _put(accounts.setdefault(name, {}), path[2:], text, where)
        return
    if len(path) == 1:
        keys[path[0]] = RawValue(text, where, text=True)
        return
    former = keys[path[0]].value if path[0] in keys and isinstance(keys[path[0]].value, dict) else {}
    table: dict[str, Any] = dict(former)
    keys[path[0]] = RawValue(table, where)
    for part in path[1:-1]:
        table[part] = dict(table[part]) if isinstance(table.get(part), dict) else {}
        table = table[part]
    table[path[-1]] = toml(text, text)


def pipelines(sections: Mapping[str, Mapping[str, Section]], where: str, problems: list[str]) -> dict[str, Pipeline]:
    """The pipelines without a problem, by name."""
    made: dict[str, Pipeline] = {}
    for name, keys in sections["pipeline"].items():
        before = len(problems)
        for key, given in keys.items():
            if key not in PIPELINE_KEYS:
                meant = did_you_mean(key, PIPELINE_KEYS)
                problems.append(
                    f"{given.at(f'pipeline.{name}.{key}')}: unknown key.{meant} There are {', '.join(PIPELINE_KEYS)}"
                )
        sources = _names(keys, "source", name, problems)
        streams = _names(keys, "streams", name, problems)
        excluded = _names(keys, "exclude_streams", name, problems) or ()
        sinks = _names(keys, "sink", name, problems)
        allowed = _allowance(keys, name, problems)
        notify = _tables(keys, "notify", name, problems)
        workers = _workers(keys, name, problems)
        engine = _names(keys, "engine", name, problems)
        for key, value in (("source", sources), ("sink", sinks)):
            if value is None and key not in keys:
                problems.append(f"{where}: pipeline.{name}.{key} is missing")
        if sinks is not None and len(sinks) != 1:
            problems.append(f"{keys['sink'].at(f'pipeline.{name}.sink')}: found a list, expected one sink's name")
        if len(problems) == before and sources and sinks:
            made[name] = Pipeline(
                name=name,
                sources=sources,
                sink=sinks[0],
                streams=streams,
                exclude_streams=excluded,
                allowed=allowed,
                workers=workers,
                engine=engine[0] if engine else None,
                notify=notify,
            )
    return made


def _allowance(keys: Section, pipeline: str, problems: list[str]) -> Allowance:
    given = keys.get("allow_rejected")
    if given is None:
        return NONE_ALLOWED
    try:
        return Allowance.parse(given.value)
    except ValueError as error:
        problems.append(f"{given.at(f'pipeline.{pipeline}.allow_rejected')}: {error}")
        return NONE_ALLOWED


def _workers(keys: Section, pipeline: str, problems: list[str]) -> int | None:
    given = keys.get("workers")
    if given is None:
        return None
    text = str(given.value)
    if isinstance(given.value, bool) or not text.isdecimal() or not int(text):
        problems.append(
            f"{given.at(f'pipeline.{pipeline}.workers')}: found {shown(given.value)}, expected a number of processes"
        )
        return None
    return int(text)


def _tables(keys: Section, key: str, pipeline: str, problems: list[str]) -> tuple[Section, ...]:
    given = keys.get(key)
    value = [] if given is None else given.value if isinstance(given.value, list) else [given.value]
    if given is not None and not all(isinstance(one, Mapping) for one in value):
        problems.append(
            f"{given.at(f'pipeline.{pipeline}.{key}')}: found {shown(given.value)}, expected tables such as "
            '[{ url = { env = "NAME" }, on = ["failed"] }]'
        )
        return ()
    return tuple(
        {name: raw_value("", name, inner, given.where) for name, inner in one.items()}
        for one in value
        if given is not None
    )


def _names(keys: Section, key: str, pipeline: str, problems: list[str]) -> tuple[str, ...] | None:
    given = keys.get(key)
    if given is None:
        return None
    value = given.value
    if given.text:
        value = split_list(value)
    elif isinstance(value, str):
        value = [value]
    if isinstance(value, list) and value and all(isinstance(one, str) and one for one in value):
        doubled = [one for index, one in enumerate(value) if one in value[:index]]
        if not doubled:
            return tuple(value)
        problems.append(f"{given.at(f'pipeline.{pipeline}.{key}')}: {doubled[0]!r} is there twice")
        return None
    problems.append(
        f"{given.at(f'pipeline.{pipeline}.{key}')}: found {shown(value)}, expected a name or a list of names"
    )
    return None
