"""
One section of the configuration made into its settings class, with every problem found on the way.
"""

import os
import stat
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import attrs
from attrs import field, frozen

from penstock._config.convert import bare_type, from_text, is_table, leaves, sample, structure
from penstock._config.targets import shown_url
from penstock._util.text import did_you_mean, shown, sort_of
from penstock.connector import Connector, OpenFor, SourceSettings, help_of
from penstock.errors import ConfigError
from penstock.model import is_loopback
from penstock.redact import Secret
from penstock.sinks import SinkKind

ENVIRONMENT = "PENSTOCK_"

# Numbers of every source that must be more than zero; those of _NOT_NEGATIVE may be zero.
_POSITIVE = (
    "requests_per_second",
    "concurrency",
    "timeout_s",
    "poll_first_s",
    "poll_max_s",
    "poll_deadline_s",
    "retry_first_s",
    "retry_max_s",
    "max_body_mib",
    "max_pages",
)
_NOT_NEGATIVE = ("retries", "throttle_wait_s")


@frozen
class RawValue:
    """One value as it was found. ``where`` is the file, the variable or the option; ``text``: it has no type yet."""

    value: Any = field(repr=False)  # may be a secret
    where: str
    text: bool = False

    def at(self, path: str) -> str:
        """Where the key ``path`` was found, for a message."""
        return f"--set {path}" if self.where == "--set" else f"{self.where}: {path}"


Section = Mapping[str, RawValue]


@frozen(kw_only=True)
class Checked:
    """Settings of one source or sink without a problem, and what the user should know about them."""

    settings: Any
    notices: tuple[str, ...] = ()


class Offers(Protocol):
    """What of the installed plugins a configuration needs; the registry has it."""

    def connector(self, name: str) -> Connector:
        """The connector of this name; raises PluginError."""

    def sink(self, name: str) -> SinkKind:
        """The output of this name or scheme; raises PluginError."""

    def sinks(self) -> Mapping[str, SinkKind]:
        """The outputs, by name."""

    def secrets(self) -> Mapping[str, Callable[[str], str]]:
        """Kinds of reference to a secret, each with the function that follows one."""


@frozen(kw_only=True)
class SectionContext:
    """
    What is known around a section: its path in messages (``source.talroo``), where a missing key would have been,
    the folder that relative paths start from, the environment, and the kinds of reference to a secret.
    """

    path: str
    where: str
    folder: Path
    environ: Mapping[str, str] = field(repr=False)
    secrets: Mapping[str, Callable[[str], str]]
    further: tuple[str, ...] = ()  # keys of the section that belong to no settings class
    listing: str = ""  # the command that lists every key


def check_section(cls: type, keys: Section, around: SectionContext, problems: Sequence[str] = ()) -> Checked:
    """
    ``keys`` made into an instance of the attrs class ``cls``.

    Raises ConfigError with ``problems``, those found elsewhere, and everything that is wrong here.
    """
    wrong = list(problems)
    notices: list[str] = []
    values: dict[str, Any] = {}
    hints = typing.get_type_hints(cls)
    attributes = {attribute.name: attribute for attribute in attrs.fields(cls) if attribute.init}
    for key, given in keys.items():
        if key not in attributes:
            listing = (
                f" `{around.listing}` lists every key" if around.listing else f" There are {', '.join(attributes)}"
            )
            meant = did_you_mean(key, [*attributes, *around.further])
            wrong.append(f"{given.at(around.path)}.{key}: unknown key.{meant}{listing}")
            continue
        try:
            values[key] = _value(given, hints[key], key, around, notices)
        except _WrongError as error:
            wrong.extend(f"{given.at(around.path)}.{key}{text}" for text in error.texts)
    for name, attribute in attributes.items():
        if name not in keys and attribute.default is attrs.NOTHING:
            wrong.append(
                f"{around.where}: {around.path}.{name} is missing ({help_of(attribute)}); write {name} = "
                f"{sample(hints[name], folded(around.path.partition('.')[2] + '_' + name))}"
            )
    # The validators see the values of other keys too, so they are asked only when every value has its type.
    if len(wrong) == len(problems):
        settings, refused = _made(cls, attributes, values, keys, around)
        wrong.extend(refused)
    if wrong:
        raise ConfigError(wrong)
    return Checked(settings=settings, notices=tuple(notices))


def _made(
    cls: type, attributes: Mapping[str, Any], values: Mapping[str, Any], keys: Section, around: SectionContext
) -> tuple[Any, list[str]]:
    """The instance, and all that the class's own validators say of it instead of the first."""

    def at(key: str) -> str:
        return f"{keys[key].at(around.path) if key in keys else f'{around.where}: {around.path}'}.{key}"

    for name, value in values.items():
        if callable(attributes[name].converter):
            try:
                attributes[name].converter(value)
            except (ValueError, TypeError) as error:
                return None, [f"{at(name)}: {error}"]
    refused: list[str] = []
    try:
        with attrs.validators.disabled():
            made = cls(**values)
    except (ValueError, TypeError) as error:
        return None, [f"{around.where}: {around.path}: {error}"]
    for name, attribute in attributes.items():
        if attribute.validator is None:
            continue
        try:
            attribute.validator(made, attribute, getattr(made, name))
        except (ValueError, TypeError) as error:
            # attrs' own validators raise with the attribute and the value as further arguments: only the text is told.
            refused.append(f"{at(name)}: {error.args[0] if error.args else 'refused'}")
    if isinstance(made, SourceSettings):
        refused.extend(f"{at(key)}: {text}" for key, text in _common_problems(made))
    return made, refused


def _common_problems(settings: SourceSettings) -> Iterator[tuple[str, str]]:
    """(key, what is wrong) with the keys that every source takes, beyond their types."""
    for key in (*_POSITIVE, *_NOT_NEGATIVE):
        number = getattr(settings, key)
        if number is not None and (number < 0 or (number == 0 and key in _POSITIVE)):
            yield key, f"found {number}, wanted {'more than 0' if key in _POSITIVE else '0 or more'}"
    if not _is_zone(settings.timezone):
        yield "timezone", f'found {shown(settings.timezone)}, wanted an IANA name such as "Europe/Berlin" or "UTC"'
    if settings.open_for is not None:
        try:
            OpenFor.parse(settings.open_for)
        except ValueError as error:
            yield "open_for", str(error)
    if settings.base_url and (problem := _url_problem(settings.base_url)):
        yield "base_url", problem
    elif settings.base_url and not settings.allow_http:
        parts = urlsplit(settings.base_url)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            yield (
                "base_url",
                f"plain http to {parts.hostname}: credentials and data would travel readable. Write https, or set "
                "allow_http = true for a host that you reach over a network you trust",
            )
    if settings.proxy and (problem := _url_problem(settings.proxy, userinfo=True)):
        yield "proxy", problem
    if settings.ca_file and not (Path(settings.ca_file).is_file() and os.access(settings.ca_file, os.R_OK)):
        yield "ca_file", f"found {shown(settings.ca_file)}, wanted a file that can be read"


def _is_zone(name: str) -> bool:
    if name == "UTC":
        return True
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # OSError: a directory of the zone database, such as "Europe"
        return False
    return True


def _url_problem(url: str, *, userinfo: bool = False) -> str:
    wanted = "wanted a URL such as https://api.example.com"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        why = "" if "@" in url else f" ({error})"  # it would quote the password that was taken for a port
        return f"found {shown_url(url)!r}{why}, {wanted}"
    if parts.scheme not in ("https", "http") or not host or any(sign.isspace() for sign in url):
        return f"found {shown_url(url)!r}, {wanted}"
    if (parts.username or parts.password) and not userinfo:
        return "credentials do not belong into the URL; the connector has keys for them"
    if parts.query or parts.fragment:
        return f"found {shown_url(url)!r}, wanted a URL without ? and #"
    return ""


class _WrongError(Exception):
    """What is wrong with one key: texts that go behind its path."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        super().__init__(*texts)


def _value(given: RawValue, hint: Any, key: str, around: SectionContext, notices: list[str]) -> Any:
    """One key's value as ``hint`` wants it; raises _WrongError."""
    path = f"{around.path}.{key}"
    secret = bare_type(hint) is Secret
    value: Any = given.value
    text = given.text
    if value in ("...", ["..."]):
        raise _WrongError(': still holds the "..." that stands for a value to be filled in')
    if secret and given.where == "--set":
        raise _WrongError(
            f": a secret on the command line can be seen in the process list; set {variable_of(path)} in the "
            f'environment instead, or write {key} = {{ env = "NAME" }} in the file'
        )
    if isinstance(value, dict) and not is_table(hint):
        value = _referred(value, path, around, notices)
        text = True
    elif secret and not text and isinstance(value, str):
        notices.append(
            f"{given.where}: the secret {path} is written in the file; "
            f'{{ env = "NAME" }} or {{ file = "/run/secrets/..." }} keeps it out'
        )
    if secret:
        if not isinstance(value, str):
            raise _WrongError(
                f': found {sort_of(value)}, wanted a secret: {{ env = "NAME" }} or {{ file = "/run/secrets/..." }}'
            )
        if not value:
            raise _WrongError(": is empty")
        return Secret(value)
    if text:
        try:
            value = from_text(value, hint)
        except ValueError as error:
            raise _WrongError(f": found {shown(value)}, wanted {error}") from None
    try:
        made = structure(value, hint)
    except Exception as error:
        raise _WrongError(*(f"{inside}: {said}" for inside, said in leaves(error))) from None
    if isinstance(made, Path):
        # In the file as its writer meant it, wherever the run was started; else as the shell would.
        return made.expanduser() if given.text else around.folder / made.expanduser()
    return made


def variable_of(path: str) -> str:
    """The environment variable of a key's path: ``source.talroo.base_url`` -> ``PENSTOCK_SOURCE__TALROO__BASE_URL``."""
    return ENVIRONMENT + "__".join(folded(part) for part in path.split("."))


def folded(name: str) -> str:
    """A name as it stands in an environment variable."""
    return name.replace("-", "_").upper()


def _referred(table: Mapping[str, Any], path: str, around: SectionContext, notices: list[str]) -> str:
    """The text that ``{ env = "NAME" }`` and its kin refer to."""
    kinds = ["env", "file", *around.secrets]
    kind, reference = next(iter(table.items())) if len(table) == 1 else ("", None)
    if kind not in kinds or not isinstance(reference, str) or not reference:
        meant = did_you_mean(kind, kinds) if kind and kind not in kinds else ""
        shapes = " or ".join(f'{{ {known} = "..." }}' for known in kinds)
        raise _WrongError(f": found a table with {', '.join(table) or 'nothing'}, wanted {shapes}.{meant}".rstrip("."))
    if kind == "env":
        value = around.environ.get(reference)
        if not value:
            raise _WrongError(f": the environment variable {reference} is {'not set' if value is None else 'empty'}")
        return value
    if kind == "file":
        return _secret_file(around.folder / Path(reference).expanduser(), path, notices)
    try:
        found = around.secrets[kind](reference)
    except LookupError as error:
        raise _WrongError(f": {kind} has no {shown(reference)}: {error.args[0] if error.args else error}") from None
    except Exception as error:
        raise _WrongError(f": {kind} failed at {shown(reference)}: {type(error).__name__}: {error}") from None
    if not isinstance(found, str):
        raise _WrongError(f": {kind} gave {sort_of(found)} for {shown(reference)}, wanted text")
    return found


def _secret_file(path: Path, key: str, notices: list[str]) -> str:
    """The file's text without one newline at its end."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            value = file.read().decode()
    except OSError as error:
        raise _WrongError(f": the file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _WrongError(f": the file {path} is not UTF-8 text") from None
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        notices.append(f"{path}, read for {key}, is open to other users of this machine; chmod 600 closes it")
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise _WrongError(f": the file {path} is empty")
    return value
