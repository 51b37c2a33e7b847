"""
The offers of plugins, looked up by name.

A plugin is the module or object that an entry point of the group ``penstock`` names. A broken plugin (import error,
unknown hook, wrong signature, exception in a hook, value of the wrong type) is listed with its distribution and the
reason; all other plugins work. A name that two plugins offer is used from neither. An error names both
if a command needs it.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from importlib import metadata
from operator import attrgetter
from typing import Any

import pluggy

from penstock._plugins.built_in import COMMANDS
from penstock._plugins.loading import LoadedPlugins
from penstock._plugins.offers import (
    CALLED_PER_CONNECTOR,
    OFFERED_BY_HOOK,
    Broken,
    ComponentKind,
    Offer,
    Offers,
    Plugin,
    named_values,
)
from penstock._plugins.plugin_errors import FAILURES, NO_SINKS, describe_error, how_to_mend, options_of, sink_hint
from penstock._plugins.validation.actions import problems_in_actions
from penstock._plugins.validation.connectors import problems_in_connector
from penstock._plugins.validation.streams import problems_in_streams
from penstock.actions import Action
from penstock.commands.declaration import Command
from penstock.connector import Connector, Registration, Sandbox, Stream
from penstock.errors import PluginError, UsageError
from penstock.events import Event
from penstock.model import Batch
from penstock.names import did_you_mean
from penstock.protocols import Named
from penstock.records import ColumnType
from penstock.redact import mask
from penstock.sinks import SinkKind

_logger = logging.getLogger("penstock")


class Registry:
    """
    The offers of all plugins. The results of a hook are kept.

    ``plugins``: objects with hook functions, in place of the installed plugins. ``strict``: a broken plugin raises.
    """

    def __init__(self, plugins: Iterable[object] | None = None, *, strict: bool = False) -> None:
        self._plugins = LoadedPlugins(plugins)
        self._cache: dict[tuple[str, str], Offers] = {}
        self._warned: set[Plugin] = set()
        self._lock = threading.RLock()  # several threads of a Python program may share a registry
        if strict and (broken := self.broken()):
            listed = "\n".join(f"{fault.plugin}: {fault.reason}" for fault in broken)
            raise PluginError(f"broken plugins are not tolerated (--strict-plugins):\n{listed}")

    # --- what is there ----------------------------------------------------------------------------------------------

    def connectors(self) -> dict[str, Connector]:
        """The connectors that can be used, by name, in alphabetical order."""
        return self._values("penstock_sources")

    def connector(self, name: str) -> Connector:
        """The connector of this name. Raises PluginError with the nearest name and the installed ones."""
        connector: Connector = self._connector(name).value
        return connector

    def origin(self, connector: str) -> Plugin:
        """The plugin that offers this connector."""
        return self._connector(connector).plugin

    def streams(self, connector: str) -> tuple[Stream, ...]:
        """
        All streams offered for this connector, in the order in which its plugins list them.

        Raises PluginError when the connector's own plugin fails, or two streams have one name.
        """
        return self._all_of(connector, "penstock_record_streams")

    def actions(self, connector: str) -> tuple[Action, ...]:
        """All writes offered for this connector. Raises as :meth:`streams` does."""
        return self._all_of(connector, "penstock_actions")

    def sinks(self) -> dict[str, SinkKind]:
        """The sinks that can be used, by name, in alphabetical order."""
        return self._values("penstock_sinks")

    def sink(self, name: str) -> SinkKind:
        """The sink of this name or scheme. Raises PluginError."""
        by_scheme = {kind.scheme: sink_name for sink_name, kind in self.sinks().items()}
        sink_kind: SinkKind = self._offer("penstock_sinks", by_scheme.get(name, name)).value
        return sink_kind

    def components(self, kind: ComponentKind) -> dict[str, Registration]:
        """The named components of this kind."""
        return self._values(f"penstock_{kind}s")

    def component(self, kind: ComponentKind, component: Named) -> Any:
        """The component of this name, made with its options. Raises PluginError."""
        offer = self._offer(f"penstock_{kind}s", component.name)
        try:
            return offer.value.factory(**component.options)
        except UsageError:  # such as: the library that it needs is not installed
            raise
        except Exception as error:
            options = options_of(offer.value.factory)
            unknown = sorted(component.options.keys() - options)
            why = (
                f"it has no option {unknown[0]!r}.{did_you_mean(unknown[0], options)}" if options and unknown else error
            )
            raise PluginError(
                f"the {kind} {component.name!r} of {offer.plugin} cannot be made with the options "
                f"{sorted(component.options)}: {why}"
            ) from error

    def secrets(self) -> dict[str, Callable[[str], str]]:
        """Kinds of reference to a secret, besides ``env`` and ``file``."""
        return self._values("penstock_secrets")

    def sandboxes(self) -> dict[str, Sandbox]:
        """The local imitations of providers, by connector."""
        return self._values("penstock_sandboxes")

    def sandbox(self, connector: str) -> Sandbox:
        """The local imitation of this connector's provider. Raises PluginError."""
        sandbox: Sandbox = self._offer("penstock_sandboxes", connector).value
        return sandbox

    def commands(self) -> dict[str, Command]:
        """The commands of the command line that plugins offer."""
        return self._values("penstock_commands")

    def engine(self, name: str) -> Registration:
        """The engine of this name. Raises PluginError."""
        engine: Registration = self._offer("penstock_engines", name).value
        return engine

    def versions(self, connectors: Iterable[str]) -> dict[str, str]:
        """The distributions that read these connectors, penstock's own and those of all working plugins among them."""
        plugins = [self.origin(name) for name in connectors]
        plugins += [plugin for plugin in self._plugins if plugin.distribution.startswith("penstock")]
        versions = {plugin.distribution: plugin.version for plugin in plugins if plugin.version}
        return dict(sorted({"penstock-core": metadata.version("penstock-core"), **versions}.items()))

    def batch_hooks(self) -> tuple[Callable[[Batch], Batch | None], ...]:
        """
        Functions that change a batch before the sink, in the order in which they are applied.

        Each raises PluginError when its hook raises, or returns anything but a batch with the same columns.
        """
        return self._batch_hooks

    @cached_property
    def _batch_hooks(self) -> tuple[Callable[[Batch], Batch | None], ...]:
        return tuple(_batch_hook(plugin, call) for plugin, call in self._plugins.callers("penstock_batch"))

    def event(self, event: Event) -> None:
        """Pass an event of a run to every follower. An exception is logged (once per plugin) and changes nothing."""
        for plugin, call in self._followers:
            try:
                call(event=event)
            except FAILURES as error:
                level = logging.DEBUG if plugin in self._warned else logging.WARNING
                self._warned.add(plugin)
                _logger.log(level, "%s: penstock_event failed: %s", plugin, mask(describe_error(error)))

    @cached_property
    def _followers(self) -> tuple[tuple[Plugin, Callable[..., Any]], ...]:
        """
        What follows the events of a run: a plugin's function itself, where pluggy would pass it the event and nothing
        else. There are two events of each partition.
        """
        followers: list[tuple[Plugin, Callable[..., Any]]] = []
        for plugin, caller in self._plugins.callers("penstock_event"):
            first, *wrappers = caller.get_hookimpls()
            is_direct = not wrappers and first.argnames == ("event",)
            followers.append((plugin, first.function if is_direct else caller))
        return tuple(followers)

    @property
    def not_loaded(self) -> tuple[Broken, ...]:
        """The plugins that cannot be imported or have a hook that cannot be called, so that none of it is used."""
        return self._plugins.not_loaded

    def broken(self) -> tuple[Broken, ...]:
        """Everything that is not used, with its reason. Calls all hooks of all plugins."""
        for hook in OFFERED_BY_HOOK:
            if hook not in CALLED_PER_CONNECTOR:
                self._offers(hook)
        sources = self._offers("penstock_sources")
        for name in (*sources.usable, *sources.clashes):
            self._offers("penstock_record_streams", name)
            self._offers("penstock_actions", name)
        return tuple(sorted({*self._plugins.broken, *self._plugins.without_entry_point, *self._unknown_sandboxes()}))

    def _unknown_sandboxes(self) -> Iterator[Broken]:
        """The sandboxes of connectors that no plugin offers. Where a plugin is broken, its connector may be missing."""
        sources = self._offers("penstock_sources")
        for name, offer in self._offers("penstock_sandboxes").usable.items():
            connectors = {*sources.usable, *sources.clashes}
            if name not in connectors and offer.plugin not in {fault.plugin for fault in self._plugins.broken}:
                meant = did_you_mean(name, connectors)
                yield Broken(offer.plugin, f"it offers the sandbox of {name!r}, which is no connector here.{meant}")

    # --- lookup -----------------------------------------------------------------------------------------------------

    def _values(self, hook: str) -> dict[str, Any]:
        return {name: offer.value for name, offer in sorted(self._offers(hook).usable.items())}

    def _connector(self, name: str) -> Offer:
        """The connector of this name, for which no plugin that states another name is imported. Raises PluginError."""
        connectors = self._offers("penstock_sources", name).usable
        return connectors[name] if name in connectors else self._offer("penstock_sources", name)

    def _all_of(self, connector: str, hook: str) -> tuple[Any, ...]:
        plugin = self.origin(connector)
        offers = self._offers(hook, connector)
        if reasons := [broken.reason for broken in offers.failed if broken.plugin == plugin]:
            raise PluginError(how_to_mend(plugin, reasons))
        for name in offers.clashes:
            self._offer(hook, name, connector)
        return tuple(offer.value for offer in offers.usable.values())

    def _offer(self, hook: str, name: str, source: str = "") -> Offer:
        """The offer of this name. Raises PluginError with the reason why there is none."""
        offers = self._offers(hook, source)
        what = f"{source} {OFFERED_BY_HOOK[hook][1]}".strip()
        if name in offers.usable:
            return offers.usable[name]
        if name in offers.clashes:
            plugins = sorted({str(plugin) for plugin in offers.clashes[name]})
            by = f"twice by {plugins[0]}" if len(plugins) == 1 else f"by {' and by '.join(plugins)}"
            raise PluginError(
                f"the {what} {name!r} is offered {by}; none of them is used, since one could receive what is meant "
                "for the other. Uninstall the one that you do not need."
            )
        suspects = [
            fault
            for fault in (*self._plugins.broken, *offers.failed, *self._plugins.without_entry_point)
            if _is_named_for(fault.plugin.distribution, name) or self._plugins.stated_name(fault.plugin) == name
        ]
        if suspects:
            raise PluginError(
                f"the {what} {name!r} is missing because {suspects[0].plugin} is broken: {suspects[0].reason}"
            )
        meant = did_you_mean(name, offers.usable)
        installed = f" Installed: {', '.join(sorted(offers.usable))}." if offers.usable else ""
        hint = ""
        if what == "connector" and not meant:
            hint = " A connector is a package of its own, installed beside penstock."
            if broken := ", ".join(sorted({str(fault.plugin) for fault in (*self._plugins.broken, *offers.failed)})):
                hint += f" Broken: {broken}; `penstock connectors` shows the reasons."
        elif what == "sink" and not meant:
            hint = sink_hint(self.sinks().values(), name) or " `penstock connectors` shows what each takes."
            if not offers.usable:
                hint = f" {NO_SINKS}"
        elif what == "sandbox" and name in self._offers("penstock_sources").usable:
            hint = f" {self.origin(name)} has no local imitation of its provider."
        raise PluginError(f"no {what} named {name!r} is installed.{meant}{installed}{hint}", missing=True)

    # --- the offers of a hook ---------------------------------------------------------------------------------------

    def _offers(self, hook: str, source: str = "") -> Offers:
        with self._lock:
            if (hook, source) not in self._cache:
                self._cache[hook, source] = self._collect(hook, source)
            return self._cache[hook, source]

    def _collect(self, hook: str, source: str) -> Offers:
        """Call a hook of all plugins, check what they offer, and leave out the names that several offer."""
        offers: list[tuple[str, Offer]] = []
        failed: list[Broken] = []
        for plugin, call in self._plugins.callers(hook):
            if hook == "penstock_sources" and source and self._plugins.stated_name(plugin) not in ("", source):
                continue
            values, faults = self._call(hook, source, plugin, call)
            offers += [(name, Offer(value, plugin)) for name, value in values]
            failed += faults
        if hook == "penstock_sources" or hook in CALLED_PER_CONNECTOR:
            failed += self._validate(hook, source, offers)
            refused = {fault.plugin for fault in failed}
            offers = [(name, offer) for name, offer in offers if offer.plugin not in refused]
        return self._without_clashes(hook, offers, failed)

    def _call(
        self, hook: str, source: str, plugin: Plugin, call: pluggy.HookCaller
    ) -> tuple[list[tuple[str, Any]], list[Broken]]:
        """The named values that one plugin offers, and why others of it are not used."""
        try:
            results = call(source=source) if hook in CALLED_PER_CONNECTOR else call()
            values = named_values(results, OFFERED_BY_HOOK[hook][0])
        except FAILURES as error:
            what = self._plugins.failed_function(plugin, hook)
            reason = f"{what}: {describe_error(error)}{self._plugins.wrapping_plugins(hook)}"
            return [], [self._plugins.add_broken(plugin, reason, error)]
        faults = []
        if hook == "penstock_sources" and not values:
            faults.append("penstock_sources returned no source; write return [Connector(...)]")
        if hook == "penstock_commands":
            taken = [name for name, _ in values if name in COMMANDS]
            faults += [f"the command {name!r} is one of penstock's own; rename it" for name in taken]
            values = [(name, value) for name, value in values if name not in COMMANDS]
        return values, [self._plugins.add_broken(plugin, reason) for reason in faults]

    def _without_clashes(self, hook: str, offers: Iterable[tuple[str, Offer]], failed: Iterable[Broken]) -> Offers:
        """The offers by name. A name with several offers is not used, and each of their plugins counts as broken."""
        by_name: dict[str, list[Offer]] = {}
        for name, offer in offers:
            by_name.setdefault(name, []).append(offer)
        clashes = {name: tuple(offer.plugin for offer in group) for name, group in by_name.items() if len(group) > 1}
        for name, plugins in clashes.items():
            for plugin in plugins:
                others = sorted({str(other) for other in plugins if other != plugin}) or ["itself, twice"]
                what = f"{OFFERED_BY_HOOK[hook][1]} {name!r}"
                self._plugins.add_broken(plugin, f"the {what} is also offered by {', '.join(others)}; none is used")
        usable = {name: group[0] for name, group in by_name.items() if name not in clashes}
        return Offers(usable, clashes, tuple(failed))

    def _validate(self, hook: str, source: str, offers: Iterable[tuple[str, Offer]]) -> list[Broken]:
        """The problems of connectors, or of one connector's streams or actions. Their plugin offers none of them."""
        by_plugin: dict[Plugin, list[Any]] = {}
        by_name: dict[str, Any] = {}
        for name, offer in offers:
            by_plugin.setdefault(offer.plugin, []).append(offer.value)
            by_name.setdefault(name, offer.value)
        connector = None if hook == "penstock_sources" else self._offers("penstock_sources", source).usable.get(source)
        settings = connector.value.settings if connector is not None else None
        broken: list[Broken] = []
        for plugin, values in by_plugin.items():
            try:
                problems = self._problems_in(hook, values, by_name, settings)
            except Exception as error:  # a field holds a value of a type that the checks do not expect
                reason = f"what {hook} offers cannot be used: {describe_error(error)}"
                broken.append(self._plugins.add_broken(plugin, reason, error))
            else:
                broken += [self._plugins.add_broken(plugin, problem) for problem in problems]
        return broken

    def _problems_in(
        self, hook: str, values: list[Any], by_name: Mapping[str, Any], settings: type | None
    ) -> Iterable[str]:
        if hook == "penstock_sources":
            return [problem for connector in values for problem in problems_in_connector(connector)]
        if hook == "penstock_actions":
            return problems_in_actions(values)
        return problems_in_streams(values, by_name, settings, self.component)


def _batch_hook(plugin: Plugin, call: pluggy.HookCaller) -> Callable[[Batch], Batch | None]:
    def change(batch: Batch) -> Batch | None:
        rows, former = len(batch), _places_of(batch)
        try:
            results = call(batch=batch)
        except FAILURES as error:
            raise PluginError(
                f"{plugin}: penstock_batch failed: {describe_error(error)}. Uninstall or correct it."
            ) from error
        changed = results[-1] if results else None
        if changed is not None and not (isinstance(changed, Batch) and changed.layout is batch.layout):
            raise PluginError(f"{plugin}: penstock_batch must return a batch with the layout it was given, or nothing.")
        after = batch if changed is None else changed  # rows may be changed in place
        if (left := len(after)) != rows:
            raise PluginError(
                f"{plugin}: penstock_batch made {left} of {rows} rows of {batch.layout.stream}. It may change "
                "values, and add or remove no row: leave rows out where the target is read. Uninstall or correct it."
            )
        places = _places_of(after)
        if wrong := next((name for name, place in places.items() if place != former[name]), None):
            raise PluginError(
                f"{plugin}: penstock_batch changed {wrong} of {batch.layout.stream}, by which its rows are found and "
                "replaced. It may change other values, and keys that stay distinct. Uninstall or correct it."
            )
        if wrong_value := next(_wrong_values(after), None):
            raise PluginError(f"{plugin}: penstock_batch {wrong_value}. Uninstall or correct it.")
        return changed

    return change


_VALUES: dict[ColumnType, tuple[type, ...]] = {
    "text": (str,),
    "integer": (int,),
    "decimal": (Decimal, int),
    "boolean": (bool,),
    "date": (date,),
    "datetime": (datetime,),
}
"""The types of the values of a column in a row, beside None."""


def _wrong_values(batch: Batch) -> Iterator[str]:
    """What no value of a changed batch may be: of another type than its column, or null in the key."""
    for column in batch.layout.columns if batch.rows else ():
        for found in set(map(type, map(attrgetter(column.name), batch.rows))):
            is_null = found is type(None)
            if is_null and column.name in batch.layout.key:
                yield f"set {column.name} of {batch.layout.stream}, which is in the key, to None"
            elif not is_null and not issubclass(found, _VALUES.get(column.type, (object,))):
                expected = _VALUES[column.type][0].__name__
                yield f"set {column.name} of {batch.layout.stream} to a {found.__name__}; it takes {expected} or None"


def _places_of(batch: Batch) -> dict[str, Any]:
    """What no plugin may change: the values of the partition's columns, and how many keys there are."""
    layout = batch.layout
    places: dict[str, Any] = {name: list(map(attrgetter(name), batch.rows)) for name in layout.partition_columns}
    if layout.key:
        places["the key"] = len(set(map(attrgetter(*layout.key), batch.rows)))
    return places


def _is_named_for(distribution: str, name: str) -> bool:
    """Whether a distribution's name, after ``connector-``, contains ``name``."""
    return name.replace("_", "-").lower() in distribution.replace("_", "-").lower().split("connector-")[-1:]
