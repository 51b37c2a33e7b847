"""
The configuration: ``penstock.toml``, ``--set`` and the environment, checked and made into settings classes.

A value may come from three places; the later one wins: the file, the environment
(``PENSTOCK_SOURCE__TALROO__CUSTOMER_SECRET``), the command line (``--set source.talroo.base_url=...``). What comes
from the file has TOML's types and is taken strictly (``"5"`` is no number); what comes as text is read according to
the type that is wanted.

Every problem is found before anything is said: an error lists them all, each with its place, the key's path, what
was found and what is wanted.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from penstock.config.settle import ENVIRONMENT, Around, Given, Offers, Section, Settled, folded, settle, variable_of
from penstock.config.targets import findable, passwords_in, shown_target
from penstock.config.values import listed, sample, toml
from penstock.config.words import did_you_mean, shown
from penstock.declare import SinkKind
from penstock.errors import ConfigError, PenstockError
from penstock.redact import Secret
from penstock.values import evolve, field, frozen

__all__ = [
    "DEFAULT_FILE",
    "Config",
    "Offers",
    "Pipeline",
    "Settled",
    "SinkChoice",
    "did_you_mean",
    "load",
    "sample",
    "shown_target",
    "variable_of",
]

DEFAULT_FILE = Path("penstock.toml")
SECTIONS = ("source", "sink", "pipeline")
PIPELINE_KEYS = ("source", "streams", "sink")

# Names become directories and database schemas, and parts of environment variables.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")

Sections = dict[str, dict[str, dict[str, Given]]]


@frozen(kw_only=True)
class Pipeline:
    """A named source -> sink. ``streams`` None: those that are on by default."""

    name: str
    sources: tuple[str, ...]
    sink: str
    streams: tuple[str, ...] | None = None


@frozen(kw_only=True)
class SinkChoice:
    """
    Where records go. ``shown`` is what messages say, without passwords.

    ``remembered``: a text that finds the target again, without a password; None for one that keeps nothing (stdout).
    """

    kind: SinkKind
    settings: Any
    shown: str
    remembered: str | None
    notices: tuple[str, ...] = ()


@frozen(kw_only=True)
class Config:
    """
    What was found, section by section, not yet made into settings: a run needs only the sources that it names, and
    the secret of another one may be absent here. ``problems`` stand for the whole and come with every error.
    """

    path: Path | None  # None: no file, everything comes from the environment and --set
    folder: Path
    sources: Mapping[str, Section]
    sinks: Mapping[str, Section]
    pipelines: Mapping[str, Pipeline]
    problems: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(factory=dict, repr=False)  # for { env = "NAME" }

    @property
    def where(self) -> str:
        return str(self.path) if self.path else "configuration"

    def connector_of(self, source: str) -> str:
        """The name of the source's connector: its key ``connector``, else its own name."""
        return self._word("source", source, "connector", self.sources.get(source, {})) or source

    def source(self, name: str, offers: Offers) -> Settled:
        """
        The settings of this source, an instance of its connector's class. Raises ConfigError with every problem.

        A source that is nowhere mentioned exists if a connector of its name does: all its keys may have defaults.
        """
        if name not in self.sources and self.sources:
            self._check_connector(name, offers)
        connector = offers.connector(self.connector_of(name))
        keys = {key: given for key, given in self.sources.get(name, {}).items() if key != "connector"}
        around = Around(
            path=f"source.{name}",
            where=self.where,
            folder=self.folder,
            environ=self.environ,
            secrets=offers.secrets(),
            further=("connector",),
            listing=f"penstock init {connector.name}",
        )
        try:
            return settle(connector.settings, keys, around, self.problems)
        except ConfigError as error:
            if name in self.sources:
                raise
            absent = f"{self.path} has" if self.path else f"there is no {DEFAULT_FILE} here, so there is"
            raise ConfigError(
                [f"{absent} no [source.{name}]; `penstock init {connector.name}` prints one", *error.problems]
            ) from None

    def pipeline(self, name: str) -> Pipeline:
        """Raises ConfigError when there is none of this name."""
        if self.problems:
            raise ConfigError(self.problems)
        if self.path is None and not self.pipelines:
            raise ConfigError(
                f"no pipeline {name!r}: there is no {DEFAULT_FILE} here; go to its directory, name it with --config, "
                "or write a first one: penstock init CONNECTOR > penstock.toml"
            )
        if name not in self.pipelines:
            defined = f" There are: {', '.join(self.pipelines)}." if self.pipelines else ""
            raise ConfigError(f"{self.where}: no pipeline {name!r}.{did_you_mean(name, self.pipelines)}{defined}")
        return self.pipelines[name]

    def sink_for(self, text: str, offers: Offers, named_by: str = "sink") -> SinkChoice:
        """
        The sink that ``text`` means: a name from the file, or ``jsonl:DIR``, ``csv:DIR``, ``postgresql://...``, ``-``.
        ``named_by``: where the text stands, for a message.
        """
        if text in self.sinks:
            return self._sink_named(text, offers)
        for password in passwords_in(text):
            Secret(password)  # from here on it is masked wherever it turns up
        scheme, colon, _ = text.partition(":")
        schemes = {name for kind in offers.sinks().values() for name in (kind.scheme, kind.name)}
        if scheme not in schemes and not colon:
            ways = ", ".join(sorted(f"{kind.scheme}:..." for kind in offers.sinks().values() if kind.scheme != "-"))
            named = f"a sink of {self.where} ({', '.join(self.sinks)}), " if self.sinks else ""
            raise ConfigError(
                [
                    *self.problems,
                    f"{named_by} {text!r}: wanted {named}{ways}, or - for stdout.{did_you_mean(text, self.sinks)}",
                ]
            )
        if text != "-" and (text == scheme or text == f"{scheme}:"):
            raise ConfigError([*self.problems, f"sink {text!r}: a place is missing, such as {scheme}:data"])
        kind = offers.sink(scheme)
        try:
            settings = kind.parse(text)
        except PenstockError:
            raise
        except (ValueError, TypeError) as error:
            raise ConfigError([*self.problems, f"sink {shown_target(text)!r}: {error}"]) from None
        if self.problems:
            raise ConfigError(self.problems)
        notices: tuple[str, ...] = ()
        if any(passwords_in(text)):
            notices = (
                f"the password in {shown_target(text)} can be seen in the process list and in the shell's history; a "
                'sink in the file with { env = "NAME" } keeps it out of both',
            )
        return SinkChoice(
            kind=kind,
            settings=settings,
            shown=shown_target(text),
            remembered=None if kind.scheme == "-" else findable(text),
            notices=notices,
        )

    def _sink_named(self, name: str, offers: Offers) -> SinkChoice:
        keys = {key: given for key, given in self.sinks[name].items() if key != "kind"}
        kind_name = self._word("sink", name, "kind", self.sinks[name]) or name
        if "kind" not in self.sinks[name] and name not in offers.sinks():
            kinds = " or ".join(f'"{known}"' for known in offers.sinks())
            raise ConfigError([*self.problems, f"{self.where}: sink.{name}.kind is missing; write kind = {kinds}"])
        kind = offers.sink(kind_name)
        around = Around(
            path=f"sink.{name}",
            where=self.where,
            folder=self.folder,
            environ=self.environ,
            secrets=offers.secrets(),
            further=("kind",),
        )
        settled = settle(kind.settings, keys, around, self.problems)
        return SinkChoice(
            kind=kind,
            settings=settled.settings,
            shown=name,
            remembered=None if kind.scheme == "-" else name,
            notices=settled.notices,
        )

    def stray(self, sources: Iterable[str], sinks: Iterable[str] = ()) -> tuple[str, ...]:
        """
        Problems with ``--set`` options that reach nothing: of a source or sink that is neither in the file nor used.
        """
        used = {"source": set(sources), "sink": set(sinks)}
        problems = []
        for section, present in (("source", self.sources), ("sink", self.sinks)):
            for name, keys in present.items():
                if name not in used[section] and keys and all(given.where == "--set" for given in keys.values()):
                    others = [other for other in (*present, *used[section]) if other != name]
                    meant = did_you_mean(name, others)
                    problems.append(f"--set {section}.{name}.{next(iter(keys))}: no {section} {name!r} here.{meant}")
        return tuple(problems)

    def with_values(self, source: str, values: Mapping[str, Any], where: str) -> "Config":
        """The same with these keys of a source, typed as TOML would hold them; what is already there wins."""
        keys = {key: Given(value, where) for key, value in values.items()} | dict(self.sources.get(source, {}))
        return evolve(self, sources={**self.sources, source: keys})

    def _word(self, section: str, name: str, key: str, keys: Section) -> str | None:
        given = keys.get(key)
        if given is None or (isinstance(given.value, str) and given.value):
            return None if given is None else str(given.value)
        raise ConfigError(
            [
                *self.problems,
                f"{given.at(f'{section}.{name}.{key}')}: found {shown(given.value)}, wanted a name in quotes",
            ]
        )

    def _check_connector(self, name: str, offers: Offers) -> None:
        """A name that is neither a source here nor a connector: more likely a slip than something to install."""
        try:
            offers.connector(name)
        except PenstockError as error:
            near = did_you_mean(name, [*self.sources, *self.pipelines])
            said = "" if str(error).startswith("no connector named") else f" ({error})"
            raise ConfigError(
                [
                    *self.problems,
                    f"{self.where}: no source {name!r}, nor a connector of that name."
                    f"{near} There are: {', '.join(self.sources)}.{said}",
                ]
            ) from None


# --- reading --------------------------------------------------------------------------------------------------------


def load(path: Path | None, sets: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> Config:
    """
    Read the file, the environment and the ``--set`` options.

    ``path`` None means ``./penstock.toml``, which may be absent; a file that was named may not. Raises ConfigError when
    the file cannot be read as TOML; all else that is wrong is told together with what the command needs.
    """
    problems: list[str] = []
    sections: Sections = {section: {} for section in SECTIONS}
    file = path if path is not None else DEFAULT_FILE
    read = path is not None or file.exists()
    if read:
        _read_file(file, sections, problems)
    _read_environment(environ if environ is not None else {}, sections)
    _read_sets(sets, sections, problems)
    where = str(file) if read else "configuration"
    problems += [
        f"{where}: {section}.{name}: a name starts with a letter and has letters, digits, _ and - only, at most 63"
        for section in SECTIONS
        for name in sections[section]
        if not _NAME.fullmatch(name)
    ]
    pipelines = _pipelines(sections, where, problems)
    return Config(
        path=file if read else None,
        folder=file.parent if read else Path(),
        sources=sections["source"],
        sinks=sections["sink"],
        pipelines=pipelines,
        problems=tuple(problems),
        environ=environ or {},
    )


def _read_file(path: Path, sections: Sections, problems: list[str]) -> None:
    import tomllib

    try:
        text = path.read_bytes().decode("utf-8-sig")
        # Numbers with a point stay exact until their wanted type is known.
        found = tomllib.loads(text, parse_float=Decimal)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `penstock init CONNECTOR > {path}` writes a first one") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None
    for section, names in found.items():
        if section not in SECTIONS:
            meant = did_you_mean(section, SECTIONS)
            problems.append(
                f"{path}: {section}: unknown section.{meant} There are [source.NAME], [sink.NAME] and [pipeline.NAME]"
            )
            continue
        for name, keys in names.items() if isinstance(names, dict) else [("", names)]:
            if isinstance(keys, dict):
                sections[section][name] = {key: Given(value, str(path)) for key, value in keys.items()}
            else:
                dotted = f"{section}.{name}" if name else section
                problems.append(
                    f"{path}: {dotted}: found {shown(keys)}, wanted a section with a name, such as "
                    f"[{section}.{name or 'NAME'}]"
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
                f"--set {path}: wanted SECTION.NAME.KEY=VALUE, such as --set source.talroo.timeout_s=30; the sections "
                f"are {', '.join(SECTIONS)}"
            )
            continue
        _put(sections[parts[0]].setdefault(parts[1], {}), parts[2:], text.strip(), "--set")


def _put(keys: dict[str, Given], path: Sequence[str], text: str, where: str) -> None:
    """Put a text at a key, or at a key inside a table, whose other keys stay."""
    if len(path) == 1:
        keys[path[0]] = Given(text, where, text=True)
        return
    former = keys[path[0]].value if path[0] in keys and isinstance(keys[path[0]].value, dict) else {}
    table: dict[str, Any] = dict(former)
    keys[path[0]] = Given(table, where)
    for part in path[1:-1]:
        table[part] = dict(table[part]) if isinstance(table.get(part), dict) else {}
        table = table[part]
    table[path[-1]] = toml(text, text)


def _pipelines(sections: Mapping[str, Mapping[str, Section]], where: str, problems: list[str]) -> dict[str, Pipeline]:
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
        sinks = _names(keys, "sink", name, problems)
        for key, value in (("source", sources), ("sink", sinks)):
            if value is None and key not in keys:
                problems.append(f"{where}: pipeline.{name}.{key} is missing")
        if sinks is not None and len(sinks) != 1:
            problems.append(f"{keys['sink'].at(f'pipeline.{name}.sink')}: found a list, wanted one sink's name")
        if len(problems) == before and sources and sinks:
            made[name] = Pipeline(name=name, sources=sources, sink=sinks[0], streams=streams)
    return made


def _names(keys: Section, key: str, pipeline: str, problems: list[str]) -> tuple[str, ...] | None:
    given = keys.get(key)
    if given is None:
        return None
    value = given.value
    if given.text:
        value = listed(value)
    elif isinstance(value, str):
        value = [value]
    if isinstance(value, list) and value and all(isinstance(one, str) and one for one in value):
        doubled = [one for index, one in enumerate(value) if one in value[:index]]
        if not doubled:
            return tuple(value)
        problems.append(f"{given.at(f'pipeline.{pipeline}.{key}')}: {doubled[0]!r} is there twice")
        return None
    problems.append(f"{given.at(f'pipeline.{pipeline}.{key}')}: found {shown(value)}, wanted a name or a list of names")
    return None
