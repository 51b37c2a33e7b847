"""
Finding plugins, checking their declarations, and looking them up by name.

A plugin is the module or object that an entry point of the group ``penstock`` names. A broken plugin (import error,
unknown hook, wrong signature, exception in a hook, value of the wrong type) is listed with its distribution and the
reason; all other plugins work. A name that two plugins offer is used from neither. An error names both
if a command needs it.
"""

import inspect
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pluggy
from attrs import field, frozen

import penstock
from penstock import hookspecs
from penstock._plugins.built_in import COMMANDS
from penstock._plugins.validation import problems_in_actions, problems_in_connector, problems_in_streams
from penstock.actions import Action
from penstock.commands.declaration import Command
from penstock.connector import Connector, ConnectorPlugin, Registration, Sandbox, Stream
from penstock.errors import PluginError, UsageError
from penstock.events import Event
from penstock.model import Batch
from penstock.names import did_you_mean
from penstock.protocols import Named
from penstock.records import SHADOWED
from penstock.redact import mask
from penstock.sinks import SinkKind

GROUP = "penstock"

ComponentKind = Literal["authenticator", "paginator", "poller", "decoder", "encoder"]
COMPONENT_KINDS: tuple[ComponentKind, ...] = ("authenticator", "paginator", "poller", "decoder", "encoder")

# Hooks that offer values under a name, each with the type of the values and the word for one in messages.
_OFFERS: Mapping[str, tuple[type, str]] = {
    "penstock_sources": (Connector, "connector"),
    "penstock_sinks": (SinkKind, "sink"),
    "penstock_secrets": (Mapping, "kind of secret"),
    "penstock_sandboxes": (Sandbox, "sandbox"),
    "penstock_commands": (Command, "command"),
    "penstock_engines": (Registration, "engine"),
    **{f"penstock_{kind}s": (Registration, kind) for kind in COMPONENT_KINDS},
    "penstock_record_streams": (Stream, "stream"),
    "penstock_actions": (Action, "action"),
}

_CALLED_PER_CONNECTOR = ("penstock_record_streams", "penstock_actions")

_FIELD_OF_HOOK: Mapping[str, str] = {
    "penstock_sources": "name",
    "penstock_record_streams": "streams",
    "penstock_actions": "actions",
    "penstock_sandboxes": "sandbox",
}

# What stands between a plugin's own code and an error: the standard library, and what this module is made of.
_FOREIGN = sys.stdlib_module_names | {
    *("penstock", "penstock_plugins", "pluggy", "attr", "attrs", "cattrs", "msgspec", "urllib3", "click", "rich"),
    *("psycopg", "pyarrow", "duckdb", "distributed"),
}

# Exceptions of a plugin's code that make the plugin broken. KeyboardInterrupt ends the command.
_FAILURES = (Exception, SystemExit)

# Python's words for mistakes with what penstock declares.
_UNEXPECTED = re.compile(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'")
_UNNAMED = re.compile(r"(\w+)(?:\.__init__)?\(\) takes \d+ positional arguments? but \d+ (?:was|were) given")
_NONE_OR_NONE = "unsupported operand type(s) for |: 'NoneType' and 'NoneType'"
_NOT_OFFERED = re.compile(r"cannot import name '(\w+)' from 'penstock'")

_logger = logging.getLogger("penstock")


class Plugin(NamedTuple):
    """A plugin and its distribution. For a plugin given as an object, its name stands for both."""

    distribution: str
    version: str
    name: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


@frozen(order=True)
class Broken:
    """A plugin, or one of its offers, that is not used. ``details`` is the traceback, where there is one."""

    plugin: Plugin
    reason: str
    details: str = field(default="", repr=False, eq=False)


class Offer(NamedTuple):
    """A value that a plugin offers under a name."""

    value: Any
    plugin: Plugin


class _Offers(NamedTuple):
    """The results of one hook, by name. ``clashes``: names with more than one offer; ``failed``: what was refused."""

    usable: Mapping[str, Offer]
    clashes: Mapping[str, tuple[Plugin, ...]]
    failed: tuple[Broken, ...] = ()


class Registry:
    """
    The offers of all plugins. The results of a hook are kept.

    ``plugins``: objects with hook functions, in place of the installed plugins. ``strict``: a broken plugin raises.
    """

    def __init__(self, plugins: Iterable[object] | None = None, *, strict: bool = False) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._plugins: dict[str, Plugin] = {}  # by the name under which the manager knows it
        self._broken: list[Broken] = []
        self._cache: dict[tuple[str, str], _Offers] = {}
        self._warned: set[Plugin] = set()
        self._lock = threading.RLock()  # several threads of a Python program may share a registry
        self._installed = plugins is None
        if plugins is None:
            for point in sorted(metadata.entry_points(group=GROUP), key=lambda point: point.name):
                self._load(_plugin_of(point), point)
        else:
            for module in plugins:
                name = str(getattr(module, "__name__", type(module).__name__))
                self._register(Plugin(name, "", name), module)
        if strict and (broken := self.broken()):
            listed = "\n".join(f"{fault.plugin}: {fault.reason}" for fault in broken)
            raise PluginError(f"broken plugins are not tolerated (--strict-plugins):\n{listed}")

    # --- what is there ----------------------------------------------------------------------------------------------

    def connectors(self) -> dict[str, Connector]:
        """The connectors that can be used, by name, in alphabetical order."""
        return self._values("penstock_sources")

    def connector(self, name: str) -> Connector:
        """The connector of this name. Raises PluginError with the nearest name and the installed ones."""
        found: Connector = self._connector(name).value
        return found

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
        by_scheme = {kind.scheme: known for known, kind in self.sinks().items()}
        found: SinkKind = self._offer("penstock_sinks", by_scheme.get(name, name)).value
        return found

    def components(self, kind: ComponentKind) -> dict[str, Registration]:
        """The named components of this kind."""
        return self._values(f"penstock_{kind}s")

    def component(self, kind: ComponentKind, named: Named) -> Any:
        """The component ``named``, made with its options. Raises PluginError."""
        offer = self._offer(f"penstock_{kind}s", named.name)
        try:
            return offer.value.factory(**named.options)
        except UsageError:  # such as: the library that it needs is not installed
            raise
        except Exception as error:
            known = _options_of(offer.value.factory)
            strange = sorted(named.options.keys() - known)
            why = f"it has no option {strange[0]!r}.{did_you_mean(strange[0], known)}" if known and strange else error
            raise PluginError(
                f"the {kind} {named.name!r} of {offer.plugin} cannot be made with the options "
                f"{sorted(named.options)}: {why}"
            ) from error

    def secrets(self) -> dict[str, Callable[[str], str]]:
        """Kinds of reference to a secret, besides ``env`` and ``file``."""
        return self._values("penstock_secrets")

    def sandboxes(self) -> dict[str, Sandbox]:
        """The local imitations of providers, by connector."""
        return self._values("penstock_sandboxes")

    def sandbox(self, connector: str) -> Sandbox:
        """The local imitation of this connector's provider. Raises PluginError."""
        found: Sandbox = self._offer("penstock_sandboxes", connector).value
        return found

    def commands(self) -> dict[str, Command]:
        """The commands of the command line that plugins offer."""
        return self._values("penstock_commands")

    def engine(self, name: str) -> Registration:
        """The engine of this name. Raises PluginError."""
        found: Registration = self._offer("penstock_engines", name).value
        return found

    def versions(self, connectors: Iterable[str]) -> dict[str, str]:
        """The distributions that read these connectors, penstock's own and those of all working plugins among them."""
        plugins = [self.origin(name) for name in connectors]
        plugins += [plugin for plugin in self._plugins.values() if plugin.distribution.startswith("penstock")]
        found = {plugin.distribution: plugin.version for plugin in plugins if plugin.version}
        return dict(sorted({"penstock-core": metadata.version("penstock-core"), **found}.items()))

    def batch_hooks(self) -> tuple[Callable[[Batch], Batch | None], ...]:
        """
        Functions that change a batch before the sink, in the order in which they are applied.

        Each raises PluginError when its hook raises, or returns anything but a batch with the same columns.
        """
        return self._batch_hooks

    @cached_property
    def _batch_hooks(self) -> tuple[Callable[[Batch], Batch | None], ...]:
        return tuple(_batch_hook(plugin, call) for plugin, call in self._callers_by_plugin("penstock_batch"))

    def event(self, event: Event) -> None:
        """Pass an event of a run to every follower. An exception is logged (once per plugin) and changes nothing."""
        for plugin, call in self._followers:
            try:
                call(event=event)
            except Exception as error:
                level = logging.DEBUG if plugin in self._warned else logging.WARNING
                self._warned.add(plugin)
                _logger.log(level, "%s: penstock_event failed: %s", plugin, mask(describe_error(error)))

    @cached_property
    def _followers(self) -> tuple[tuple[Plugin, pluggy.HookCaller], ...]:
        return tuple(self._callers_by_plugin("penstock_event"))

    def broken(self) -> tuple[Broken, ...]:
        """Everything that is not used, with its reason. Calls all hooks of all plugins."""
        for hook in _OFFERS:
            if hook not in _CALLED_PER_CONNECTOR:
                self._offers(hook)
        sources = self._offers("penstock_sources")
        for name in (*sources.usable, *sources.clashes):
            self._offers("penstock_record_streams", name)
            self._offers("penstock_actions", name)
        return tuple(sorted({*self._broken, *self._without_entry_point, *self._strange_sandboxes()}))

    def _strange_sandboxes(self) -> Iterator[Broken]:
        """The sandboxes of connectors that no plugin offers. Where a plugin is broken, its connector may be missing."""
        sources = self._offers("penstock_sources")
        for name, offer in self._offers("penstock_sandboxes").usable.items():
            known = {*sources.usable, *sources.clashes}
            if name not in known and offer.plugin not in {fault.plugin for fault in self._broken}:
                meant = did_you_mean(name, known)
                yield Broken(offer.plugin, f"it offers the sandbox of {name!r}, which is no connector here.{meant}")

    @cached_property
    def _without_entry_point(self) -> tuple[Broken, ...]:
        """Installed distributions called ``connector-...`` that require penstock and have no entry point for it."""
        if not self._installed:
            return ()
        return tuple(
            Broken(
                Plugin(dist.name, dist.version, dist.name),
                "it has no entry point, so its connector is not found; write in its pyproject.toml "
                f'[project.entry-points.penstock] {_module_of(dist.name)} = "{_module_of(dist.name)}:plugin", and '
                "install it again",
            )
            for dist in metadata.distributions()
            if dist.name.lower().replace("_", "-").startswith("connector-")
            and any(require.startswith("penstock") for require in dist.requires or ())
            and not dist.entry_points.select(group=GROUP)
        )

    # --- lookup -----------------------------------------------------------------------------------------------------

    def _values(self, hook: str) -> dict[str, Any]:
        return {name: offer.value for name, offer in sorted(self._offers(hook).usable.items())}

    def _connector(self, name: str) -> Offer:
        """The connector of this name, for which no plugin that states another name is imported. Raises PluginError."""
        stated = self._offers("penstock_sources", name).usable
        return stated[name] if name in stated else self._offer("penstock_sources", name)

    def _all_of(self, connector: str, hook: str) -> tuple[Any, ...]:
        own = self.origin(connector)
        offers = self._offers(hook, connector)
        if reasons := [broken.reason for broken in offers.failed if broken.plugin == own]:
            raise PluginError(_advice(own, reasons))
        for name in offers.clashes:
            self._offer(hook, name, connector)
        return tuple(offer.value for offer in offers.usable.values())

    def _offer(self, hook: str, name: str, source: str = "") -> Offer:
        """The offer of this name. Raises PluginError with the reason why there is none."""
        offers = self._offers(hook, source)
        what = f"{source} {_OFFERS[hook][1]}".strip()
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
            for fault in (*self._broken, *offers.failed, *self._without_entry_point)
            if _is_named_for(fault.plugin.distribution, name) or self._stated_name(fault.plugin) == name
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
            if broken := ", ".join(sorted({str(fault.plugin) for fault in (*self._broken, *offers.failed)})):
                hint += f" Broken: {broken}; `penstock connectors` shows the reasons."
        elif what == "sink" and not meant:
            hint = sink_hint(self.sinks().values(), name) or " `penstock connectors` shows what each takes."
        elif what == "sandbox" and name in self._offers("penstock_sources").usable:
            hint = f" {self.origin(name)} has no local imitation of its provider."
        raise PluginError(f"no {what} named {name!r} is installed.{meant}{installed}{hint}")

    # --- loading ----------------------------------------------------------------------------------------------------

    def _load(self, plugin: Plugin, point: metadata.EntryPoint) -> None:
        try:
            module = point.load()
        except _FAILURES as error:
            self._break(plugin, f"it cannot be imported: {describe_error(error)}", error)
        else:
            self._register(plugin, ConnectorPlugin(module) if isinstance(module, Connector) else module)

    def _register(self, plugin: Plugin, module: object) -> None:
        if self._manager.is_registered(module):  # the same module under two entry points
            return
        if reason := self._hook_problem(module):
            self._break(plugin, reason)
            return
        name = f"{plugin.distribution}:{plugin.name}:{len(self._plugins)}"
        self._plugins[name] = plugin
        try:
            self._manager.register(module, name=name)
        except pluggy.PluginValidationError as error:
            if self._manager.is_registered(module):  # pluggy before 1.7 keeps the functions before the wrong one
                self._manager.unregister(module)
            _, argument, text = describe_error(error).rpartition("Argument")
            self._break(plugin, f"the arguments of a hook function are not those of the hook: {argument}{text}", error)

    def _hook_problem(self, module: object) -> str:
        """Why the hook functions of this module cannot be used; empty if they can."""
        hooks = [name for name in vars(hookspecs) if name.startswith("penstock_")]
        found = [name for name in dir(module) if name.startswith("penstock_")]
        if not found:
            return (
                f"it names {_shown(module)}, which has no hook function; name a ConnectorPlugin(...), or what has some"
            )
        for name in found:
            options = self._manager.parse_hookimpl_opts(module, name)
            if isinstance(module, type) and inspect.isfunction(inspect.getattr_static(module, name)):
                return f"it names {_shown(module)}; name an object of it, such as plugin = {module.__name__}(...)"
            if options is None:
                if name in hooks and inspect.isroutine(getattr(module, name)):
                    return f"{name} lacks the mark @penstock.hookimpl"
            elif name not in hooks and not options.get("optionalhook"):
                return f"it implements {name}, which is not a hook.{did_you_mean(name, hooks)}"
            elif name == "penstock_batch" and (options.get("wrapper") or options.get("hookwrapper")):
                return "penstock_batch cannot be a wrapper: each plugin receives the result of the one before it"
        return ""

    def _callers_by_plugin(self, hook: str) -> Iterator[tuple[Plugin, pluggy.HookCaller]]:
        """Each plugin that implements ``hook``, with a caller for this plugin only, inside all wrappers."""
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        plain = [impl for impl in implementations if not (impl.wrapper or impl.hookwrapper)]
        for implementation in sorted(plain, key=lambda implementation: self._plugins[implementation.plugin_name]):
            others = [other.plugin for other in plain if other.plugin is not implementation.plugin]
            yield self._plugins[implementation.plugin_name], self._manager.subset_hook_caller(hook, others)

    def _wrapping_plugins(self, hook: str) -> str:
        """The plugins whose wrappers run around a hook, for the message of a failure that may be theirs."""
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        wrappers = [impl for impl in implementations if impl.wrapper or impl.hookwrapper]
        names = sorted({str(self._plugins[wrapper.plugin_name]) for wrapper in wrappers})
        return f" (the hook is wrapped by {' and '.join(names)})" if names else ""

    def _module(self, plugin: Plugin) -> Any:
        """What the plugin's entry point names; None for one that cannot be imported."""
        names = (name for name, known in self._plugins.items() if known is plugin)
        return self._manager.get_plugin(next(names, ""))

    def _stated_name(self, plugin: Plugin) -> str:
        """The name of the plugin's connector, if it is known before the connector is imported."""
        module = self._module(plugin)
        return module.name if isinstance(module, ConnectorPlugin) else ""

    def _failed_function(self, plugin: Plugin, hook: str) -> str:
        """What failed in a hook: the function, or what its author declared in place of one."""
        declared = _declaration(self._module(plugin), hook)
        return f"{declared} cannot be used" if declared else f"{hook} failed"

    def _offers(self, hook: str, source: str = "") -> _Offers:
        with self._lock:
            if (hook, source) not in self._cache:
                self._cache[hook, source] = self._collect(hook, source)
            return self._cache[hook, source]

    def _collect(self, hook: str, source: str) -> _Offers:
        type_, what = _OFFERS[hook]
        offers: dict[str, list[Offer]] = {}
        failed: list[Broken] = []
        for plugin, call in self._callers_by_plugin(hook):
            if hook == "penstock_sources" and source and self._stated_name(plugin) not in ("", source):
                continue
            try:
                found = _named_values(call(source=source) if hook in _CALLED_PER_CONNECTOR else call(), type_)
            except _FAILURES as error:
                failed.append(
                    self._break(
                        plugin,
                        f"{self._failed_function(plugin, hook)}: {describe_error(error)}{self._wrapping_plugins(hook)}",
                        error,
                    )
                )
                continue
            if hook == "penstock_sources" and not found:
                failed.append(self._break(plugin, "penstock_sources returned no source; write return [Connector(...)]"))
            for name, value in found:
                if type_ is Command and name in COMMANDS:
                    failed.append(self._break(plugin, f"the command {name!r} is one of penstock's own; rename it"))
                    continue
                offers.setdefault(name, []).append(Offer(value, plugin))
        if hook == "penstock_sources" or hook in _CALLED_PER_CONNECTOR:
            failed += self._validate(hook, source, offers)
            refused = {fault.plugin for fault in failed}
            kept = {
                name: [offer for offer in several if offer.plugin not in refused] for name, several in offers.items()
            }
            offers = {name: several for name, several in kept.items() if several}
        clashes = {name: tuple(offer.plugin for offer in several) for name, several in offers.items() if several[1:]}
        for name, plugins in clashes.items():
            for plugin in plugins:
                others = sorted({str(other) for other in plugins if other != plugin}) or ["itself, twice"]
                self._break(plugin, f"the {what} {name!r} is also offered by {', '.join(others)}; none is used")
        usable = {name: several[0] for name, several in offers.items() if name not in clashes}
        return _Offers(usable, clashes, tuple(failed))

    def _validate(self, hook: str, source: str, offers: Mapping[str, Sequence[Offer]]) -> list[Broken]:
        """The problems of connectors, or of one connector's streams or actions. Their plugin offers none of them."""
        by_plugin: dict[Plugin, list[Any]] = {}
        for offer in (offer for several in offers.values() for offer in several):
            by_plugin.setdefault(offer.plugin, []).append(offer.value)
        connector = None if hook == "penstock_sources" else self._offers("penstock_sources", source).usable.get(source)
        settings = connector.value.settings if connector is not None else None
        all_ = {name: several[0].value for name, several in offers.items()}
        broken: list[Broken] = []
        for plugin, values in by_plugin.items():
            try:
                if hook == "penstock_sources":
                    problems = [problem for value in values for problem in problems_in_connector(value)]
                elif hook == "penstock_actions":
                    problems = problems_in_actions(values)
                else:
                    problems = problems_in_streams(values, all_, settings, self.component)
            except Exception as error:  # a field holds a value of a type that the checks do not expect
                broken.append(self._break(plugin, f"what {hook} offers cannot be used: {describe_error(error)}", error))
            else:
                broken += [self._break(plugin, problem) for problem in problems]
        return broken

    def _break(self, plugin: Plugin, reason: str, error: BaseException | None = None) -> Broken:
        details = "" if error is None else mask("".join(traceback.format_exception(error)))
        text = "" if error is None else describe_error(error)
        meant = _probable_meaning(error)
        stop = "." if meant.startswith(" ") else ""
        broken = Broken(plugin, mask(f"{reason}{place_in_plugin(error)}{stop}{meant}"), details)
        # A module that cannot be imported fails in every hook, and is reported once.
        if not any(fault.plugin == plugin and text and mask(text) in fault.reason for fault in self._broken):
            self._broken.append(broken)
        return broken


def sink_hint(kinds: Iterable[SinkKind], product: str) -> str:
    """
    The sinks whose summary names a product, such as BigQuery, as a hint; empty if there is none. An ordinary word of a
    summary, such as files, is no product.
    """
    word = re.compile(rf"\b{re.escape(product)}\b", re.IGNORECASE)
    return "".join(
        f" Write --to {kind.example}, which takes {kind.summary}."
        for kind in kinds
        if any(not found[0].islower() for found in word.finditer(kind.summary))
    )


def _plugin_of(point: metadata.EntryPoint) -> Plugin:
    """The plugin that an entry point names."""
    if point.dist is None:
        return Plugin(point.value, "", point.name)
    about = point.dist.metadata  # each access parses the file, with its README
    return Plugin(about["Name"], about["Version"], point.name)


def _shown(module: Any) -> str:
    """What an entry point names, in words."""
    if inspect.ismodule(module):
        return f"the module {module.__name__}"
    if isinstance(module, type):
        return f"the class {module.__name__}"
    return f"a {type(module).__name__}" if module is not None else "None"


def _declaration(module: Any, hook: str) -> str:
    """What of a connector's declaration a hook reads; empty for a hook function that an author wrote."""
    member = _FIELD_OF_HOOK.get(hook)
    if member is None or getattr(type(module), hook) is not getattr(ConnectorPlugin, hook, None):
        return ""
    try:
        connector = next(iter(module.penstock_sources()))
    except _FAILURES:
        return f'ConnectorPlugin("{module.declared}")'
    return f"connector {connector.name}: {member}"


def describe_error(error: BaseException) -> str:
    """An error's class and text, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def place_in_plugin(error: BaseException | None) -> str:
    """File and line of a plugin's own code in which an error arose, in parentheses; empty where none did."""
    frames = [] if error is None else list(traceback.walk_tb(error.__traceback__))
    for frame, line in reversed(frames):
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] not in _FOREIGN:
            return f" ({Path(frame.f_code.co_filename).name}, line {line})"
    return ""


def defect(error: Exception, connector: str, what_now: str) -> PluginError:
    """An unforeseen error as that of a connector or of penstock: with its place, and what to do or to expect."""
    return PluginError(
        f"{type(error).__name__}: {error}{place_in_plugin(error)}. This is a defect of the connector {connector} or of "
        f"penstock, not of your configuration. {what_now}"
    )


def _probable_meaning(error: BaseException | None) -> str:
    """What an author probably meant who misspelt a name of penstock's or left out names of arguments."""
    text = str(error)
    if found := _UNEXPECTED.search(text):
        return did_you_mean(found[2], _options_of(getattr(penstock, found[1], object)))
    if (found := _UNNAMED.search(text)) and hasattr(penstock, found[1]):
        example = "@record(kind=..., key=...)" if found[1] == "record" else f"{found[1]}(name=..., ...)"
        return f"; write its arguments by name: {example}"
    if found := _NOT_OFFERED.search(text):
        return did_you_mean(found[1], dir(penstock))
    if isinstance(error, NameError) and error.name in dir(penstock):
        return f"; write from penstock import {error.name}"
    if _NONE_OR_NONE in text:  # date: date | None = None
        return f"; {SHADOWED}"
    return ""


def _advice(plugin: Plugin, reasons: Sequence[str]) -> str:
    """The reasons why a plugin is not used, and what its author and its users can do."""
    listed = (
        f"{reasons[0].rstrip('.')}{'' if reasons[0].endswith('?') else '.'} "
        if len(reasons) == 1
        else "".join(f"\n  - {reason}" for reason in reasons) + "\n"
    )
    return (
        f"{plugin} is broken: {listed}If you wrote it, correct that (`penstock connectors --debug` shows all details). "
        f"Otherwise install another version of {plugin.distribution} and report the fault to its publisher."
    )


def _options_of(factory: Callable[..., Any]) -> frozenset[str]:
    """The options that a component takes; none where it takes any, or where they are not known."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return frozenset()
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return frozenset() if takes_any else frozenset(parameters)


def _named_values(results: Any, type_: type) -> list[tuple[str, Any]]:
    """The named values in the results of a hook, one result per implementation."""
    found: list[tuple[str, Any]] = []
    for result in results:
        if type_ is Mapping:
            if not isinstance(result, Mapping):
                raise TypeError(f"it returned {type(result).__name__}; write a mapping")
            found.extend(result.items())
            continue
        if isinstance(result, type_):
            raise TypeError(f"one {type_.__name__} in place of a list; write [{type_.__name__}(...)]")
        for value in result:
            if not isinstance(value, type_):
                raise TypeError(f"it offers {type(value).__name__}; write {type_.__name__}(...)")
            name = value.connector if isinstance(value, Sandbox) else getattr(value, "name", None)
            if not isinstance(name, str) or not name:
                raise TypeError(f"it offers {type(value).__name__} without a name")
            found.append((name, value))
    return found


def _batch_hook(plugin: Plugin, call: pluggy.HookCaller) -> Callable[[Batch], Batch | None]:
    def change(batch: Batch) -> Batch | None:
        try:
            results = call(batch=batch)
        except Exception as error:
            raise PluginError(
                f"{plugin}: penstock_batch failed: {describe_error(error)}. Uninstall or correct it."
            ) from error
        changed = results[-1] if results else None
        if changed is not None and not (isinstance(changed, Batch) and changed.layout is batch.layout):
            raise PluginError(f"{plugin}: penstock_batch must return a batch with the layout it was given, or nothing.")
        return changed

    return change


def _module_of(distribution: str) -> str:
    return distribution.lower().replace("-", "_")


def _is_named_for(distribution: str, name: str) -> bool:
    """Whether a distribution's name, after ``connector-``, contains ``name``."""
    return name.replace("_", "-").lower() in distribution.replace("_", "-").lower().split("connector-")[-1:]
