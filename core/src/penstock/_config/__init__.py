"""
The configuration: ``penstock.toml``, ``--set`` and the environment, checked and made into settings classes.

A value may come from three places; the later one wins: the file, the environment
(``PENSTOCK_SOURCE__TALROO__CUSTOMER_SECRET``), the command line (``--set source.talroo.base_url=...``). What comes
from the file has TOML's types and is taken strictly (``"5"`` is no number); what comes as text is read according to
the type that is wanted.

Every problem is found before anything is said: an error lists them all, each with its place, the key's path, what
was found and what is wanted.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from penstock._config.checked import Checked, Offers, RawValue, Section, SectionContext, check_section, variable_of
from penstock._config.convert import sample
from penstock._config.sections import Pipeline, pipelines, read
from penstock._config.targets import findable, passwords_in, shown_target
from penstock._util.text import did_you_mean, shown
from penstock.errors import ConfigError, PenstockError
from penstock.redact import Secret
from penstock.sinks import SinkKind

__all__ = [
    "DEFAULT_FILE",
    "Checked",
    "Config",
    "Offers",
    "Pipeline",
    "SinkChoice",
    "load",
    "sample",
    "shown_target",
    "variable_of",
]

DEFAULT_FILE = Path("penstock.toml")


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

    path: Path | None = None  # None: no file, everything comes from the environment and --set
    folder: Path = Path()
    sources: Mapping[str, Section] = field(factory=dict)
    sinks: Mapping[str, Section] = field(factory=dict)
    pipelines: Mapping[str, Pipeline] = field(factory=dict)
    problems: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(factory=dict, repr=False)  # for { env = "NAME" }

    @property
    def where(self) -> str:
        """What messages name as the place of a key that is missing."""
        return str(self.path) if self.path else "configuration"

    def connector_of(self, source: str) -> str:
        """The name of the source's connector: its key ``connector``, else its own name."""
        return self._word("source", source, "connector", self.sources.get(source, {})) or source

    def source(self, name: str, offers: Offers) -> Checked:
        """
        The settings of this source, an instance of its connector's class. Raises ConfigError with every problem.

        A source that is nowhere mentioned exists if a connector of its name does: all its keys may have defaults.
        """
        if name not in self.sources and self.sources:
            self._check_connector(name, offers)
        connector = offers.connector(self.connector_of(name))
        keys = {key: given for key, given in self.sources.get(name, {}).items() if key != "connector"}
        around = evolve(self._around(f"source.{name}", "connector", offers), listing=f"penstock init {connector.name}")
        try:
            return check_section(connector.settings, keys, around, self.problems)
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
            near = did_you_mean(name, [*self.pipelines, *self.sources])
            defined = f" There are {self._names()}." if self.pipelines or self.sources else ""
            raise ConfigError(f"{self.where}: no pipeline or source {name!r}.{near}{defined}")
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
            ending = Path(text.removesuffix(".gz")).suffix.removeprefix(".")
            meant = f' Did you mean "{ending}:{text}"?' if ending in schemes else did_you_mean(text, self.sinks)
            raise ConfigError([*self.problems, f"{named_by} {text!r}: wanted {named}{ways}, or - for stdout.{meant}"])
        kind = offers.sink(scheme)
        if text != "-" and (text == scheme or text == f"{scheme}:"):
            raise ConfigError([*self.problems, f"sink {text!r}: a place is missing, such as {scheme}:data"])
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
        checked = check_section(kind.settings, keys, self._around(f"sink.{name}", "kind", offers), self.problems)
        return SinkChoice(
            kind=kind,
            settings=checked.settings,
            shown=name,
            remembered=None if kind.scheme == "-" else name,
            notices=checked.notices,
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
        keys = {key: RawValue(value, where) for key, value in values.items()} | dict(self.sources.get(source, {}))
        return evolve(self, sources={**self.sources, source: keys})

    def _around(self, path: str, further: str, offers: Offers) -> SectionContext:
        """Where a section stands; ``further`` is the key that says whose settings the others are."""
        return SectionContext(
            path=path,
            where=self.where,
            folder=self.folder,
            environ=self.environ,
            secrets=offers.secrets(),
            further=(further,),
        )

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

    def _names(self) -> str:
        """What may be read: ``the pipeline daily and the sources a, b``."""
        kinds = (("pipeline", self.pipelines), ("source", self.sources))
        return " and ".join(
            f"the {kind}{'s' if len(names) > 1 else ''} {', '.join(names)}" for kind, names in kinds if names
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
                    f"{self.where}: no source or pipeline {name!r}, nor a connector of that name."
                    f"{near} There are {self._names()}.{said}",
                ]
            ) from None


def load(path: Path | None, sets: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> Config:
    """
    Read the file, the environment and the ``--set`` options.

    ``path`` None means ``./penstock.toml``, which may be absent; a file that was named may not. Raises ConfigError when
    the file cannot be read as TOML; all else that is wrong is told together with what the command needs.
    """
    problems: list[str] = []
    file = path if path is not None else DEFAULT_FILE if DEFAULT_FILE.exists() else None
    sections = read(file, sets, environ or {}, problems)
    made = pipelines(sections, str(file) if file is not None else "configuration", problems)
    return Config(
        path=file,
        folder=file.parent if file is not None else Path(),
        sources=sections["source"],
        sinks=sections["sink"],
        pipelines=made,
        problems=tuple(problems),
        environ=environ or {},
    )
