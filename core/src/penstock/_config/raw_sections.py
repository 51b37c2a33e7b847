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

from attrs import field, frozen

from penstock._config.toml_values import toml
from penstock._util.text import shown
from penstock.errors import ConfigError
from penstock.names import NAME, did_you_mean
from penstock.redact import Secret

SECTIONS = ("source", "sink", "pipeline")
ENVIRONMENT = "PENSTOCK_"


@frozen(eq=False, repr=False)
class RawValue:
    """A value and its origin. ``where``: the file, the variable or the option; ``text``: it has no TOML type yet."""

    value: Any = field(repr=False)  # may be a secret
    where: str
    text: bool = False

    def at(self, path: str) -> str:
        """The origin of the key ``path``, for a message."""
        return f"--set {path}" if self.where == "--set" else f"{self.where}: {path}"


Section = Mapping[str, RawValue]


class _Tables(dict[str, dict[str, RawValue]]):
    """Tables by name. From the first call of :meth:`spelled` on, it alone adds any."""

    def __init__(self, tables: Mapping[str, dict[str, RawValue]] | None = None) -> None:
        super().__init__(tables or {})
        self._names: dict[str, str] = {}

    def spelled(self, name: str, new_name: str) -> dict[str, RawValue]:
        """The table of the first name that an environment variable spells like this one, else a new one."""
        if not self._names:
            for existing in self:
                self._names.setdefault(folded(existing), existing)
        return self.setdefault(self._names.setdefault(folded(name), new_name), {})


class AccountSections(_Tables):
    """The tables ``[source.NAME.accounts.ACCOUNT]``, by account: each key with its own origin."""

    def plain(self) -> dict[str, dict[str, Any]]:
        """The values without their origins, for a connector that has a key ``accounts`` of its own."""
        return {name: {key: raw.value for key, raw in section.items()} for name, section in self.items()}


Sections = dict[str, _Tables]


def read(
    file: "Path | Mapping[str, Any] | None", sets: Sequence[str], environ: Mapping[str, str], problems: list[str]
) -> Sections:
    """
    Section -> name -> key -> value. ``--set`` overrides the environment, which overrides the file (None: no file).

    Raises ConfigError for a file that cannot be read as TOML.
    """
    sections: Sections = {section: _Tables() for section in SECTIONS}
    if isinstance(file, Mapping):
        _add_tables(file, "configuration", sections, problems)
    elif file is not None:
        _add_tables(_read_file(file), str(file), sections, problems)
    _read_environment(environ, sections, problems)
    _read_sets(sets, sections, problems)
    where = str(file) if isinstance(file, Path) else "configuration"
    problems += [
        f"{where}: {section}.{name}: a name starts with a letter and has letters, digits, _ and - only, at most 63"
        for section in SECTIONS
        for name in sections[section]
        if not re.fullmatch(NAME, name)
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
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: is not UTF-8 text (line {line}); save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        quotes = "; a text is in quotes" if "Invalid value" in str(error) else ""
        raise ConfigError(f"{path}: is not TOML: {error}{quotes}") from None


def _add_tables(table: Mapping[str, Any], where: str, sections: Sections, problems: list[str]) -> None:
    for section, names in table.items():
        if section not in SECTIONS:
            meant = did_you_mean(section, SECTIONS)
            problems.append(
                f"{where}: {section}: unknown section.{meant} There are [source.NAME], [sink.NAME] and [pipeline.NAME]"
            )
            continue
        for name, keys in names.items() if isinstance(names, Mapping) else [("", names)]:
            if isinstance(keys, Mapping):
                sections[section][name] = {key: raw_value(section, key, value, where) for key, value in keys.items()}
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
                name: {key: raw_value("account", key, value, where) for key, value in table.items()}
                for name, table in value.items()
            }
        ),
        where,
    )


def _read_environment(environ: Mapping[str, str], sections: Sections, problems: list[str]) -> None:
    for variable in sorted(environ):
        names = variable.split("__")
        section = names[0].removeprefix(ENVIRONMENT).lower()
        if variable.startswith(ENVIRONMENT) and names[1:] and section not in SECTIONS:
            # A variable of another program that begins the same way resembles no section.
            if section.startswith(tuple(f"{existing}_" for existing in SECTIONS)) or did_you_mean(section, SECTIONS):
                problems.append(
                    f"environment variable {variable}: sets no key; expected PENSTOCK_SECTION__NAME__KEY, such as "
                    "PENSTOCK_SOURCE__TALROO__TIMEOUT_S"
                )
            continue
        if not variable.startswith(ENVIRONMENT) or section not in SECTIONS or len(names) < 3 or "" in names:
            continue
        keys = sections[section].spelled(names[1], names[1].lower())
        where = f"environment variable {variable}"
        _put(keys, [key.lower() for key in names[2:]], environ[variable], where)


def _read_sets(sets: Sequence[str], sections: Sections, problems: list[str]) -> None:
    for option in sets:
        path, equals, text = option.partition("=")
        names = path.strip().split(".")
        if not equals or len(names) < 3 or "" in names or names[0] not in SECTIONS:
            problems.append(
                f"--set {path}: expected SECTION.NAME.KEY=VALUE, such as --set source.talroo.timeout_s=30; the "
                f"sections are {', '.join(SECTIONS)}"
            )
            continue
        _put(sections[names[0]].setdefault(names[1], {}), names[2:], text.strip(), "--set")


def _put(keys: dict[str, RawValue], path: Sequence[str], text: str, where: str) -> None:
    """Put a text at a key, or at a key inside a table, whose other keys stay."""
    if path[0] == "accounts" and len(path) > 2:
        accounts = keys[path[0]].value if path[0] in keys else None
        if not isinstance(accounts, AccountSections):
            accounts = AccountSections()
            keys[path[0]] = RawValue(accounts, where)
        _put(accounts.spelled(path[1], path[1]), path[2:], text, where)
        return
    if len(path) == 1:
        keys[path[0]] = RawValue(text, where, text=True)
        return
    former = keys[path[0]].value if path[0] in keys and isinstance(keys[path[0]].value, dict) else {}
    table: dict[str, Any] = dict(former)
    keys[path[0]] = RawValue(table, where)
    for name in path[1:-1]:
        table[name] = dict(table[name]) if isinstance(table.get(name), dict) else {}
        table = table[name]
    table[path[-1]] = toml(text, text)


def variable_of(path: str) -> str:
    """The environment variable of a key's path: ``source.talroo.base_url`` -> ``PENSTOCK_SOURCE__TALROO__BASE_URL``."""
    return ENVIRONMENT + "__".join(folded(name) for name in path.split("."))


def folded(name: str) -> str:
    """A name as it stands in an environment variable."""
    return name.replace("-", "_").upper()
