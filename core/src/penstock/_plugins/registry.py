"""
Finding plugins, checking what they say, and answering by name.

A plugin is whatever an entry point of the group ``penstock`` names. One that is broken (it cannot be imported,
implements a hook that does not exist, raises when it is asked, offers something else than the hook wants) is listed
with its distribution and the reason, and harms nothing else. A name that two plugins claim belongs to neither:
whoever needs it gets an error that names both.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import pluggy
from attrs import field, frozen

from penstock import hookspecs
from penstock._plugins.loading import FAILURES, GROUP, Load, Plugin, describe_error, given, guarded, installed
from penstock._util.text import did_you_mean
from penstock.actions import Action
from penstock.connector import Connector, Registration, Stream
from penstock.errors import PluginError
from penstock.model import Batch
from penstock.protocols import Named
from penstock.redact import mask
from penstock.sandbox.app import Sandbox
from penstock.sinks import SinkKind

PartKind = Literal["authenticator", "paginator", "poller", "decoder"]
PART_KINDS: tuple[PartKind, ...] = ("authenticator", "paginator", "poller", "decoder")


@frozen(order=True)
class Broken:
    """A plugin, or a part of what it offers, that is not used. ``details`` is the traceback, where there is one."""

    plugin: Plugin
    reason: str
    details: str = field(default="", repr=False, eq=False)


@frozen
class Offer:
    """Something a plugin offers under a name."""

    value: Any
    plugin: Plugin


@frozen
class _Offers:
    """What all plugins offer of one sort; ``claimed`` holds the names that more than one offer has."""

    sound: dict[str, Offer]
    claimed: dict[str, tuple[Plugin, ...]]
    failed: tuple[Broken, ...] = ()


class Registry:
    """
    Every plugin's offers, asked for once and remembered.

    ``plugins``: objects with hook functions, instead of what is installed. ``strict``: any broken plugin is an error.
    """

    def __init__(self, plugins: Iterable[object] | None = None, *, strict: bool = False) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._trial = pluggy.PluginManager(GROUP)
        for manager in (self._manager, self._trial):
            manager.add_hookspecs(hookspecs)
        self._hooks = {name for name in vars(hookspecs) if name.startswith("penstock_")}
        self._plugins: dict[int, Plugin] = {}
        self._broken: list[Broken] = []
        self._asked: dict[tuple[str, str], _Offers] = {}
        self._followers: list[tuple[Plugin, pluggy.HookCaller]] | None = None
        self._complained: set[Plugin] = set()
        for plugin, load in installed() if plugins is None else given(plugins):
            self._register(plugin, load)
        if strict and (broken := self.broken()):
            raise PluginError(
                "broken plugins are not tolerated (--strict-plugins):\n"
                + "\n".join(f"{one.plugin}: {one.reason}" for one in broken)
            )

    # --- what is there ----------------------------------------------------------------------------------------------

    def connectors(self) -> dict[str, Connector]:
        """The connectors that can be used, by name, in alphabetical order."""
        return {name: offer.value for name, offer in sorted(self._sources().sound.items())}

    def connector(self, name: str) -> Connector:
        """The connector of this name; raises PluginError, naming the nearest and how to install it."""
        found: Connector = self._need(self._sources(), name, "connector").value
        return found

    def origin(self, connector: str) -> Plugin:
        """Which plugin offers this connector."""
        return self._need(self._sources(), connector, "connector").plugin

    def streams(self, connector: str) -> tuple[Stream, ...]:
        """
        Every stream offered for this connector, in the order its plugins list them.

        Raises PluginError when the connector's own plugin fails at it, or two offers have one name.
        """
        return self._all_of(connector, "penstock_record_streams", Stream, "stream")

    def actions(self, connector: str) -> tuple[Action, ...]:
        """Every write offered for this connector; raises as :meth:`streams` does."""
        return self._all_of(connector, "penstock_actions", Action, "action")

    def sinks(self) -> dict[str, SinkKind]:
        """The outputs that can be used, by name, in alphabetical order."""
        return {name: offer.value for name, offer in sorted(self._sinks().sound.items())}

    def sink(self, name: str) -> SinkKind:
        """The output of this name, or of this scheme; raises PluginError."""
        offers = self._sinks()
        for known, offer in offers.sound.items():
            if offer.value.scheme == name and known not in offers.claimed:
                name = known
        found: SinkKind = self._need(offers, name, "sink").value
        return found

    def parts(self, kind: PartKind) -> dict[str, Registration]:
        """The parts of this kind that a stream or source may name."""
        return {name: offer.value for name, offer in sorted(self._parts(kind).sound.items())}

    def part(self, kind: PartKind, named: Named) -> Any:
        """The part that ``named`` asks for, made with its options; raises PluginError."""
        offer = self._need(self._parts(kind), named.name, kind)
        try:
            return offer.value.factory(**named.options)
        except Exception as error:
            raise PluginError(
                f"the {kind} {named.name!r} of {offer.plugin} cannot be made with the options "
                f"{sorted(named.options)}: {error}"
            ) from error

    def secrets(self) -> dict[str, Callable[[str], str]]:
        """Kinds of reference to a secret, besides ``env`` and ``file``."""
        return {name: offer.value for name, offer in sorted(self._secrets().sound.items())}

    def sandboxes(self) -> dict[str, Sandbox]:
        """The local imitations, by connector."""
        return {name: offer.value for name, offer in sorted(self._sandboxes().sound.items())}

    def sandbox(self, connector: str) -> Sandbox:
        """The imitation of this connector's provider; raises PluginError."""
        found: Sandbox = self._need(self._sandboxes(), connector, "sandbox").value
        return found

    def batch_hooks(self) -> tuple[Callable[[Batch], Batch | None], ...]:
        """
        What changes a batch before the sink, in the order in which they are applied.

        A hook that raises, or returns something else than a batch with the same columns, raises PluginError.
        """
        return tuple(_batch_hook(plugin, call) for plugin, call in self._callers("penstock_batch"))

    def event(self, event: Mapping[str, Any]) -> None:
        """Tell every follower of runs; what one raises is logged, once for each plugin, and changes nothing."""
        if self._followers is None:
            self._followers = list(self._callers("penstock_event"))
        for plugin, call in self._followers:
            try:
                call(event=event)
            except Exception as error:
                self._complain(plugin, error)

    def broken(self) -> tuple[Broken, ...]:
        """Everything that is not used, and why. Asks every plugin for all it has."""
        self._sinks()
        self._secrets()
        self._sandboxes()
        for kind in PART_KINDS:
            self._parts(kind)
        for name in (*self._sources().sound, *self._sources().claimed):
            self._listed("penstock_record_streams", Stream, "stream", source=name)
            self._listed("penstock_actions", Action, "action", source=name)
        return tuple(sorted(set(self._broken)))

    # --- how it is found --------------------------------------------------------------------------------------------

    def _sources(self) -> _Offers:
        return self._listed("penstock_sources", Connector, "connector")

    def _sinks(self) -> _Offers:
        return self._listed("penstock_sinks", SinkKind, "sink")

    def _sandboxes(self) -> _Offers:
        return self._listed("penstock_sandboxes", Sandbox, "sandbox")

    def _parts(self, kind: PartKind) -> _Offers:
        return self._listed(f"penstock_{kind}s", Registration, kind)

    def _secrets(self) -> _Offers:
        return self._listed("penstock_secrets", Mapping, "kind of secret")

    def _all_of(self, connector: str, hook: str, wanted: type, what: str) -> tuple[Any, ...]:
        own = self.origin(connector)
        offers = self._listed(hook, wanted, what, source=connector)
        if reasons := [broken.reason for broken in offers.failed if broken.plugin == own]:
            raise PluginError(_broken_for(own, reasons))
        for name in offers.claimed:
            self._need(offers, name, f"{connector} {what}")
        return tuple(offer.value for offer in offers.sound.values())

    def _need(self, offers: _Offers, name: str, what: str) -> Offer:
        if name in offers.claimed:
            who = sorted({str(plugin) for plugin in offers.claimed[name]})
            twice = f"twice by {who[0]}" if len(who) == 1 else f"by {' and by '.join(who)}"
            raise PluginError(
                f"the {what} {name!r} is offered {twice}; none of them is used, since one could receive what is meant "
                "for the other. Uninstall the one that you do not want."
            )
        if name in offers.sound:
            return offers.sound[name]
        suspects = [one for one in (*self._broken, *offers.failed) if _names(one.plugin.distribution, name)]
        if suspects:
            raise PluginError(
                f"the {what} {name!r} is missing because {suspects[0].plugin} is broken: {suspects[0].reason}"
            )
        installed = f" Installed: {', '.join(sorted(offers.sound))}." if offers.sound else ""
        meant = did_you_mean(name, offers.sound)
        hint = ""
        if what == "connector" and not meant:
            hint = " A connector is a package of its own"
            hint += f": pip install connector-{name}" if name.isidentifier() else ", such as connector-talroo"
        elif what == "sandbox":
            hint = f" connector-{name} brings no local imitation of its provider"
        raise PluginError(f"no {what} named {name!r} is installed.{meant}{installed}{hint}".rstrip(".") + ".")

    def _register(self, plugin: Plugin, load: Load) -> None:
        try:
            module = guarded(load)
        except FAILURES as error:
            self._break(plugin, f"it cannot be imported: {describe_error(error)}", error)
            return
        if id(module) in self._plugins:
            return  # the same module under two entry points
        reason = self._wrong_hooks(module)
        if reason:
            self._break(plugin, reason)
            return
        try:
            # pluggy keeps half of what it refuses, so it is asked on trial.
            self._trial.register(module)
        except FAILURES as error:
            said = describe_error(error).rpartition("Argument")
            self._break(plugin, f"a hook function does not take what the hook gives: {''.join(said[1:])}", error)
            return
        self._plugins[id(module)] = plugin
        self._manager.register(module, name=f"{plugin.distribution}:{plugin.name}:{len(self._plugins)}")

    def _wrong_hooks(self, module: object) -> str:
        """Why this module's hooks cannot be used; nothing when they can."""
        for name in dir(module):
            if not name.startswith("penstock_"):
                continue
            function = getattr(module, name, None)
            options = self._manager.parse_hookimpl_opts(module, name)
            if options is None:
                if name in self._hooks and inspect.isroutine(function):
                    return f"{name} lacks the mark @penstock.hookimpl"
            elif name not in self._hooks and not options.get("optionalhook"):
                return f"it implements {name}, which is no hook.{did_you_mean(name, self._hooks)}"
            elif name == "penstock_batch" and (options.get("wrapper") or options.get("hookwrapper")):
                return "penstock_batch cannot be a wrapper: it is given what the plugin before it returned"
        return ""

    def _callers(self, hook: str) -> Iterator[tuple[Plugin, pluggy.HookCaller]]:
        """Each plugin that implements ``hook``, with a caller that reaches it (inside all wrappers) and no other."""
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        plain = [impl for impl in implementations if not (impl.wrapper or impl.hookwrapper)]
        for impl in sorted(plain, key=lambda impl: self._plugins[id(impl.plugin)]):
            others = [other.plugin for other in plain if other.plugin is not impl.plugin]
            yield self._plugins[id(impl.plugin)], self._manager.subset_hook_caller(hook, others)

    def _ask(
        self, hook: str, plugin: Plugin, call: pluggy.HookCaller, arguments: Mapping[str, str], wanted: type
    ) -> list[tuple[str, Any]]:
        """What one plugin offers; where a wrapper of the hook is what fails, the wrapper is broken and left out."""
        try:
            return _checked(call(**arguments), wanted)
        except FAILURES as error:
            implementations = getattr(self._manager.hook, hook).get_hookimpls()
            wrappers = [impl.plugin for impl in implementations if impl.wrapper or impl.hookwrapper]
            if not wrappers:
                raise
            others = [known for known in self._manager.get_plugins() if self._plugins[id(known)] != plugin]
            found = _checked(self._manager.subset_hook_caller(hook, others)(**arguments), wanted)
            for wrapper in wrappers:
                self._break(self._plugins[id(wrapper)], f"its wrapper of {hook} failed: {describe_error(error)}", error)
            return found

    def _listed(self, hook: str, wanted: type, what: str, *, source: str = "") -> _Offers:
        key = (hook, source)
        if key in self._asked:
            return self._asked[key]
        arguments = {"source": source} if source else {}
        offers: dict[str, list[Offer]] = {}
        failed: list[Broken] = []
        for plugin, call in self._callers(hook):
            try:
                found = guarded(partial(self._ask, hook, plugin, call, arguments, wanted))
            except FAILURES as error:
                failed.append(self._break(plugin, f"{hook} failed: {describe_error(error)}", error))
                continue
            for name, value in found:
                offers.setdefault(name, []).append(Offer(value, plugin))
        if source:
            failed += self._mistaken(hook, source, offers)
        claimed = {name: tuple(offer.plugin for offer in several) for name, several in offers.items() if several[1:]}
        for name, plugins in claimed.items():
            for plugin in plugins:
                others = sorted({str(other) for other in plugins if other != plugin}) or ["itself, twice"]
                self._break(plugin, f"the {what} {name!r} is also offered by {', '.join(others)}; none is used")
        sound = {name: several[0] for name, several in offers.items() if name not in claimed}
        self._asked[key] = _Offers(sound, claimed, tuple(failed))
        return self._asked[key]

    def _mistaken(self, hook: str, source: str, offers: dict[str, list[Offer]]) -> list[Broken]:
        """What is wrong with what was declared for a connector; who made a mistake offers nothing of it."""
        from penstock._plugins.validation import mistakes_in_actions, mistakes_in_streams

        by_plugin: dict[Plugin, list[Any]] = {}
        for offer in (offer for several in offers.values() for offer in several):
            by_plugin.setdefault(offer.plugin, []).append(offer.value)
        connector = self._sources().sound.get(source)
        settings = connector.value.settings if connector is not None else None
        others = {name: several[0].value for name, several in offers.items()}
        broken: list[Broken] = []
        for plugin, values in by_plugin.items():
            try:
                if hook == "penstock_actions":
                    mistakes = mistakes_in_actions(values)
                else:
                    mistakes = mistakes_in_streams(values, others, settings, self.part)
            except Exception as error:  # a value of a type that nobody thought of
                broken.append(self._break(plugin, f"what {hook} offers cannot be used: {describe_error(error)}", error))
                continue
            broken += [self._break(plugin, mistake) for mistake in mistakes]
        for one in {broken.plugin for broken in broken}:
            for name, several in list(offers.items()):
                offers[name] = [offer for offer in several if offer.plugin != one]
                if not offers[name]:
                    del offers[name]
        return broken

    def _break(self, plugin: Plugin, reason: str, error: BaseException | None = None) -> Broken:
        import traceback

        details = "" if error is None else mask("".join(traceback.format_exception(error)))
        broken = Broken(plugin, mask(reason), details)
        self._broken.append(broken)
        return broken

    def _complain(self, plugin: Plugin, error: Exception) -> None:
        import logging

        level = logging.DEBUG if plugin in self._complained else logging.WARNING
        self._complained.add(plugin)
        logging.getLogger("penstock").log(level, "%s: penstock_event failed: %s", plugin, mask(describe_error(error)))


def _broken_for(plugin: Plugin, reasons: Sequence[str]) -> str:
    """Everything that keeps a plugin from being used, what its author can do, and what everybody else can."""
    listed = f"{reasons[0]}. " if len(reasons) == 1 else "".join(f"\n  - {reason}" for reason in reasons) + "\n"
    return (
        f"{plugin} is broken: {listed}If you wrote it, correct that (`penstock connectors --debug` shows all that is "
        f"known); else install another version of {plugin.distribution}, and tell who publishes it."
    )


def _checked(results: Any, wanted: type) -> list[tuple[str, Any]]:
    """The named values in a hook's results (one for each implementation that was reached)."""
    found: list[tuple[str, Any]] = []
    for result in results:
        if wanted is Mapping:
            if not isinstance(result, Mapping):
                raise TypeError(f"it returned {type(result).__name__} where a mapping is wanted")
            found.extend(result.items())
            continue
        for value in result:
            if not isinstance(value, wanted):
                raise TypeError(f"it offers {type(value).__name__} where {wanted.__name__} is wanted")
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


def _names(distribution: str, name: str) -> bool:
    return name.replace("_", "-").lower() in distribution.replace("_", "-").lower().split("connector-")[-1:]
