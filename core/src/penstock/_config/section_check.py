"""
Conversion of one section of the configuration to its settings class, with all of its problems.
"""

import os
import re
import stat
import typing
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import attrs
from attrs import define, field, frozen

from penstock._config.raw_sections import AccountSections, RawValue, Section, folded, variable_of
from penstock._config.toml_values import bare_type, from_text, is_table, problems_inside, sample, structure
from penstock._plugins.plugin_errors import FAILURES, describe_error, place_in_plugin
from penstock._util.text import shown, sort_of
from penstock.errors import ConfigError, PluginError, sentences
from penstock.names import did_you_mean, source_line
from penstock.redact import Secret
from penstock.settings import info_of, is_base_url, keys_of

# What a shell would replace: $NAME or ${NAME}.
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")

# The bounds of attrs' validators in words.
_BOUNDS = {">": "a number above {}", ">=": "{} or more", "<": "a number below {}", "<=": "{} or less"}


class CheckedSection(NamedTuple):
    """The settings of one source or sink, and notices for the user about them."""

    settings: Any
    notices: tuple[str, ...] = ()


@frozen(kw_only=True, eq=False, repr=False)
class SectionContext:
    """
    Facts about a section: its path in messages (``source.talroo``), the place of a missing key, the folder that
    relative paths start from, the environment, and the kinds of reference to a secret.
    """

    path: str
    where: str
    folder: Path
    environ: Mapping[str, str] = field(repr=False)
    secrets: Mapping[str, Callable[[str], str]] = field(factory=dict)
    other_keys: tuple[str, ...] = ()  # of the section, which belong to no settings class
    listing: str = ""  # the command that lists every key


def check_section(
    cls: type, keys: Section, context: SectionContext, problems: Sequence[str] = (), urls: Sequence[str] = ()
) -> CheckedSection:
    """
    ``keys`` made into an instance of the attrs class ``cls``.

    ``urls``: keys that are checked as ``base_url`` is. Raises ConfigError with ``problems``, which were found
    elsewhere, and all problems of this section.
    """
    section = _SectionCheck(cls, context, urls)
    keys, accounts = section.split(keys)
    values = section.values(keys)
    tables = {account: section.values(table, account) for account, table in accounts.items()}
    values |= section.missing(keys, accounts, tables)
    settings = section.make_settings(values, keys, accounts, tables)
    if section.problems or problems:
        raise ConfigError([*problems, *section.problems])
    return CheckedSection(settings=settings, notices=tuple(section.notices))


@define(eq=False, repr=False)
class _SectionCheck:
    """A section that is being checked. ``notices``: what the user should know."""

    cls: type
    context: SectionContext
    urls: Sequence[str]
    problems: list[str] = field(factory=list, init=False)
    notices: list[str] = field(factory=list, init=False)
    _keys: dict[str, "attrs.Attribute[Any]"] = field(init=False)
    _hints: dict[str, Any] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._keys = {attribute.name: attribute for attribute in keys_of(self.cls)}
        self._hints = typing.get_type_hints(self.cls)

    def split(self, keys: Section) -> tuple[Section, AccountSections]:
        """The keys of the section itself, and the tables of its accounts."""
        accounts = keys["accounts"].value if "accounts" in keys else None
        if not isinstance(accounts, AccountSections):
            return keys, AccountSections()
        if "accounts" in self._keys:  # the connector has a key of this name, which takes a table
            return {**keys, "accounts": RawValue(accounts.plain(), self.context.where)}, AccountSections()
        return {key: raw for key, raw in keys.items() if key != "accounts"}, accounts

    def values(self, keys: Section, account: str | None = None) -> dict[str, Any]:
        """The values of these keys as their types; those that are no keys, or of another type, are problems."""
        prefix = "" if account is None else f"accounts.{account}."
        allowed = [name for name, attribute in self._keys.items() if account is None or info_of(attribute).per_account]
        values: dict[str, Any] = {}
        for key, raw in keys.items():
            place = f"{self._place(raw)}.{prefix}{key}"
            if key in allowed:
                try:
                    values[key] = _converted(self._keys[key], self._value(raw, self._hints[key], f"{prefix}{key}"))
                except _InvalidError as error:
                    self.problems += [f"{place}{text}" for text in error.texts]
                continue
            what = "unknown key" if account is None else "not a key of an account"
            meant = did_you_mean(key, [*allowed, *self.context.other_keys])
            listing = f"There are {', '.join(allowed) or 'none'}"
            if account is None and self.context.listing:
                listing = f"`{self.context.listing}` lists every key"
            self.problems.append(f"{place}: {what}.{meant} {listing}")
        return values

    def missing(
        self, keys: Section, accounts: AccountSections, tables: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """
        The values of required keys that only the tables of the accounts have: those of the first account, as which a
        request without an account is signed. A required key that is missing is a problem.
        """
        values: dict[str, Any] = {}
        for name, attribute in self._keys.items():
            if name in keys or attribute.default is not attrs.NOTHING:
                continue
            text = f"is missing ({info_of(attribute).help})"
            if info_of(attribute).per_account and accounts:
                lacking = [account for account, table in accounts.items() if name not in table]
                self.problems += [f"{self._place()}.accounts.{account}.{name} {text}" for account in lacking]
                values[name] = next(iter(tables.values())).get(name)
            else:
                example = sample(self._hints[name], folded(self.context.path.partition(".")[2] + "_" + name))
                self.problems.append(f"{self._place()}.{name} {text}; write {name} = {example}")
        return values

    def make_settings(
        self,
        values: Mapping[str, Any],
        keys: Section,
        accounts: AccountSections,
        tables: Mapping[str, Mapping[str, Any]],
    ) -> Any:
        """The instance; what its converters and validators refuse are problems, also for the values of each account."""
        arguments = {**values, "account_tables": tables} if tables else values
        without_value = self._without_value(keys, values)
        settings, refused = _instance(self.cls, arguments, self.urls, without_value)
        for key, text in refused:
            self.problems.append(f"{self._place(keys.get(key))}{f'.{key}' if key else ''}: {text}")
        for account, table in tables.items() if not refused else ():
            account_keys = without_value - table.keys() | self._without_value(accounts[account], table, required=False)
            for key, text in _instance(self.cls, {**values, **table}, self.urls, account_keys)[1]:
                place = f"{self._place(accounts[account].get(key))}.accounts.{account}"
                self.problems.append(f"{place}{f'.{key}' if key else ''}: {text}")
        return settings

    def _without_value(self, keys: Section, values: Mapping[str, Any], *, required: bool = True) -> set[str]:
        """The keys whose value could not be read; with ``required``, also those that are missing."""
        return {
            name
            for name, attribute in self._keys.items()
            if name not in values and (name in keys or (required and attribute.default is attrs.NOTHING))
        }

    def _place(self, raw: RawValue | None = None) -> str:
        """The section's path, with the origin of one of its values."""
        return raw.at(self.context.path) if raw is not None else f"{self.context.where}: {self.context.path}"

    # --- one value ---------------------------------------------------------------------------------------------------

    def _value(self, raw: RawValue, hint: Any, key: str) -> Any:
        """The value of one key as the type ``hint``. Raises _InvalidError."""
        if raw.value in ("...", ["..."]):
            raise _InvalidError(': still holds the "..." that stands for a value to be filled in')
        is_secret = bare_type(hint) is Secret
        if is_secret:
            self._check_origin_of_secret(raw, key)
        value, text = raw.value, raw.text
        if isinstance(value, dict) and not is_table(hint):
            value, text = self._resolved_reference(value, f"{self.context.path}.{key}"), True
        if is_secret:
            return _secret(value)
        converted = _structured(value, hint, text=text)
        if isinstance(converted, Path):
            self._check_path(value)
            # A path in the file is relative to the file; a path from the environment or --set to the current directory.
            return _expanded(converted) if raw.text else self.context.folder / _expanded(converted)
        return converted

    def _check_origin_of_secret(self, raw: RawValue, key: str) -> None:
        """Raises _InvalidError for a secret of the command line, or ``$NAME``; notes one that is in the file."""
        if raw.where == "--set":
            raise _InvalidError(
                f": a secret on the command line can be seen in the process list; set "
                f"{variable_of(f'{self.context.path}.{key}')} in the environment instead, or write "
                f'{key} = {{ env = "NAME" }} in the file'
            )
        if raw.text or not isinstance(raw.value, str):
            return
        if name := self._meant_variable(raw.value):
            raise _InvalidError(f': found "${name}", which no shell replaces here; write {{ env = "{name}" }}')
        # Without the section: equal notices are printed once, and a file may have many sources.
        self.notices.append(
            f"{raw.where}: secrets are written in the file ({key}); "
            '{ env = "NAME" } or { file = "/run/secrets/..." } keeps them out'
        )

    def _check_path(self, value: Any) -> None:
        """
        Raises _InvalidError for a path that is empty, is a URL, or names a variable: of ``s3://a`` and ``$HOME`` there
        would be directories ``s3:`` and ``$HOME``.
        """
        if not str(value):
            raise _InvalidError(": is empty; write . for the directory itself")
        if "://" in str(value):
            raise _InvalidError(f": found {shown(str(value))}, expected a path of this machine")
        names = [match[1] for match in re.finditer(_VARIABLE, str(value)) if match[1] in self.context.environ]
        if names:
            raise _InvalidError(
                f": found {shown(str(value))}, in which no shell replaces ${names[0]}; write the whole path, or one "
                "that begins with ~/"
            )

    def _meant_variable(self, value: str) -> str:
        """The variable of the environment in a text such as ``$NAME``; empty where the text may be a secret."""
        match = _VARIABLE.fullmatch(value)
        return match[1] if match is not None and match[1] in self.context.environ else ""

    def _resolved_reference(self, table: Mapping[str, Any], path: str) -> str:
        """The text that a reference such as ``{ env = "NAME" }`` refers to."""
        kinds = ["env", "file", *self.context.secrets]
        kind, reference = next(iter(table.items())) if len(table) == 1 else ("", None)
        if kind not in kinds or not isinstance(reference, str) or not reference:
            meant = did_you_mean(kind, kinds) if kind and kind not in kinds else ""
            shapes = " or ".join(f'{{ {kind_of_reference} = "..." }}' for kind_of_reference in kinds)
            found = f": found a table with {', '.join(table) or 'nothing'}, expected {shapes}"
            raise _InvalidError(sentences(found, meant))
        if kind == "env":
            value = self.context.environ.get(reference)
            if value is not None:
                value = _without_newline(value)
            if not value:
                raise _InvalidError(
                    f": the environment variable {reference} is {'not set' if value is None else 'empty'}; set it for "
                    'this process, or refer to a file: { file = "..." }'
                )
            return value
        if kind == "file":
            return self._secret_file(self.context.folder / _expanded(Path(reference)))
        try:
            secret = self.context.secrets[kind](reference)
        except LookupError as error:
            raise _InvalidError(
                f": {kind} has no {shown(reference)}: {error.args[0] if error.args else error}"
            ) from None
        except Exception as error:
            raise _InvalidError(f": {kind} failed at {shown(reference)}: {type(error).__name__}: {error}") from None
        if not isinstance(secret, str):
            raise _InvalidError(f": {kind} gave {sort_of(secret)} for {shown(reference)}, expected text")
        return secret

    def _secret_file(self, path: Path) -> str:
        """The file's text without one newline at its end, and without a mark of UTF-8 at its begin."""
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                value = file.read().decode("utf-8-sig")  # some editors write a mark of UTF-8
        except OSError as error:
            remedy = "create it, or correct its path" if isinstance(error, FileNotFoundError) else "make it readable"
            raise _InvalidError(f": the file {path} cannot be read: {error.strerror}; {remedy}") from None
        except UnicodeDecodeError:
            raise _InvalidError(f": the file {path} is not UTF-8 text") from None
        if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
            # Without the key: equal notices are printed once, and many sources may read one file.
            self.notices.append(f"the secret file {path} is open to other users of this machine; chmod 600 closes it")
        value = _without_newline(value)
        if not value:
            raise _InvalidError(f": the file {path} is empty")
        return value


def _expanded(path: Path) -> Path:
    """The path with the directory of a user in place of ``~``. Raises _InvalidError where there is no such user."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise _InvalidError(f": this machine has no user {path.parts[0]}; write the whole path") from None


def _without_newline(value: str) -> str:
    """A secret without one newline at its end, which is of the way it was stored."""
    return value.removesuffix("\n").removesuffix("\r")


def _instance(
    cls: type, values: Mapping[str, Any], urls: Sequence[str], without_value: Set[str]
) -> tuple[Any, list[tuple[str, str]]]:
    """
    An instance of ``cls``, and (key, problem) for every validator that refuses a value, not only for the first. It has
    no attribute for a key of ``without_value``, and a validator that uses one has no problem.

    Where ``cls`` cannot be made without these keys, the instance has the attributes of ``values`` only.
    """
    stand_ins = {name: None for name in without_value if attrs.fields_dict(cls)[name].default is attrs.NOTHING}
    try:
        with attrs.validators.disabled():
            settings = cls(**stand_ins, **values)
        for name in without_value:
            object.__delattr__(settings, name)
    except FAILURES as error:
        if without_value:  # its __attrs_post_init__ may need them
            settings = object.__new__(cls)
            for name, value in values.items():
                object.__setattr__(settings, name, value)
        elif isinstance(error, (ValueError, TypeError)):
            return None, [("", str(error))]
        else:
            raise PluginError(
                f"{cls.__name__} ({source_line(cls)}) failed with {describe_error(error)}{place_in_plugin(error)}. "
                "This is a defect of the connector, not of your configuration. Report it to the connector's publisher."
            ) from error
    refused: list[tuple[str, str]] = []
    for attribute in attrs.fields(cls):
        if not hasattr(settings, attribute.name):
            continue
        validators = validators_of(cls, attribute.name) + ([is_base_url] if attribute.name in urls else [])
        for validator in validators:
            value = getattr(settings, attribute.name)
            try:
                validator(settings, attribute, value)
            except AttributeError:
                if not without_value:
                    raise
            except (ValueError, TypeError) as error:
                refused.append((attribute.name, refusal_of(attribute.name, value, error)))
    return settings, refused


def refusal_of(key: str, value: Any, error: Exception) -> str:
    """What a validator found and expected; one of attrs' own states a bound as ``'size' must be > 0: 0``."""
    text = str(error.args[0]) if error.args else "refused"
    stated = re.fullmatch(rf"'{re.escape(key)}' must be (>=|<=|>|<|in) (.+?)(?:: [^:]*| \(got .*\))", text, re.DOTALL)
    if stated is None:
        return text
    value = int(value) if isinstance(value, float) and value.is_integer() else value  # 0 becomes 0.0 by its type
    if stated[1] == "in":
        return f"found {shown(value)}, expected one of {stated[2].strip('()[]{}')}"
    return f"found {shown(value)}, expected {_BOUNDS[stated[1]].format(stated[2])}"


def validators_of(cls: type, name: str) -> list[Callable[[Any, Any, Any], None]]:
    """The validators of a key in ``cls`` and in the classes whose key of this name it replaces."""
    validators: list[Callable[[Any, Any, Any], None]] = []
    for base in filter(attrs.has, cls.__mro__):
        attribute = attrs.fields_dict(base).get(name)
        validator = attribute.validator if attribute is not None else None
        if validator is not None and all(validator is not other for other in validators):
            validators.append(validator)
    return validators


class _InvalidError(Exception):
    """The problems of one key: texts that follow its path."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        super().__init__(*texts)


def _converted(attribute: "attrs.Attribute[Any]", value: Any) -> Any:
    """What the converter of a key makes of its value, which it leaves unchanged when the instance is made."""
    try:
        return attribute.converter(value) if callable(attribute.converter) else value
    except (ValueError, TypeError) as error:
        raise _InvalidError(f": {error}") from None


def _structured(value: Any, hint: Any, *, text: bool) -> Any:
    """The value as the type ``hint``. ``text``: it was written as text, as in the environment. Raises _InvalidError."""
    if text:
        try:
            value = from_text(value, hint)
        except ValueError as error:
            raise _InvalidError(f": found {shown(value)}, expected {error}") from None
    try:
        return structure(value, hint)
    except Exception as error:
        raise _InvalidError(*(f"{inside}: {problem}" for inside, problem in problems_inside(error))) from None


def _secret(value: Any) -> Secret:
    if not isinstance(value, str):
        raise _InvalidError(
            f': found {sort_of(value)}, expected a secret: {{ env = "NAME" }} or {{ file = "/run/secrets/..." }}'
        )
    if not value:
        raise _InvalidError(": is empty")
    return Secret(value)
