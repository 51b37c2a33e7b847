"""
The installed plugins: imported, registered with pluggy, and called one by one.

pluggy calls all plugins of a hook at once, and ends with the first error. Here a broken plugin affects no other:
it is listed with its reason.
"""

import inspect
import traceback
from collections.abc import Iterable, Iterator
from functools import cached_property
from importlib import metadata
from typing import Any

import pluggy

from penstock import hookspecs
from penstock._plugins.offers import Broken, Plugin
from penstock._plugins.plugin_errors import FAILURES, GROUP, describe_error, place_in_plugin, probable_meaning
from penstock.connector import Connector, ConnectorPlugin
from penstock.errors import sentences
from penstock.names import did_you_mean
from penstock.redact import mask

_FIELD_OF_HOOK: dict[str, str] = {
    "penstock_sources": "name",
    "penstock_record_streams": "streams",
    "penstock_actions": "actions",
    "penstock_sandboxes": "sandbox",
}


class LoadedPlugins:
    """
    The plugins of this process, and what is broken of them.

    ``given``: objects with hook functions, in place of the installed plugins.
    """

    def __init__(self, modules: Iterable[object] | None = None) -> None:
        self.broken: list[Broken] = []
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._plugins: dict[str, Plugin] = {}  # by the name under which the manager knows it
        self._installed = modules is None
        if modules is None:
            for point in sorted(metadata.entry_points(group=GROUP), key=lambda point: point.name):
                self._load(_plugin_of(point), point)
        else:
            for module in modules:
                name = str(getattr(module, "__name__", type(module).__name__))
                self._register(Plugin(name, "", name), module)
        self.not_loaded = tuple(self.broken)

    def __iter__(self) -> Iterator[Plugin]:
        return iter(self._plugins.values())

    def add_broken(self, plugin: Plugin, reason: str, error: BaseException | None = None) -> Broken:
        """Record that a plugin, or one of its offers, is not used; ``error``: what its code raised."""
        details = "" if error is None else mask("".join(traceback.format_exception(error)))
        text = "" if error is None else describe_error(error)
        where = place_in_plugin(error)
        broken = Broken(plugin, mask(sentences(f"{reason}{where}", probable_meaning(error))), details)
        # A module that cannot be imported fails in every hook, and is reported once.
        if not any(fault.plugin == plugin and text and mask(text) in fault.reason for fault in self.broken):
            self.broken.append(broken)
        return broken

    @cached_property
    def without_entry_point(self) -> tuple[Broken, ...]:
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

    # --- import and registration ------------------------------------------------------------------------------------

    def _load(self, plugin: Plugin, point: metadata.EntryPoint) -> None:
        try:
            module = point.load()
        except FAILURES as error:
            self.add_broken(plugin, f"it cannot be imported: {describe_error(error)}", error)
        else:
            self._register(plugin, ConnectorPlugin(module) if isinstance(module, Connector) else module)

    def _register(self, plugin: Plugin, module: object) -> None:
        if self._manager.is_registered(module):  # the same module under two entry points
            return
        if reason := self._hook_problem(module):
            self.add_broken(plugin, reason)
            return
        name = f"{plugin.distribution}:{plugin.name}:{len(self._plugins)}"
        self._plugins[name] = plugin
        try:
            self._manager.register(module, name=name)
        except pluggy.PluginValidationError as error:
            if self._manager.is_registered(module):  # pluggy before 1.7 keeps the functions before the wrong one
                self._manager.unregister(module)
            _, argument, text = describe_error(error).rpartition("Argument")
            self.add_broken(
                plugin, f"the arguments of a hook function are not those of the hook: {argument}{text}", error
            )

    def _hook_problem(self, module: object) -> str:
        """Why the hook functions of this module cannot be used; empty if they can."""
        hooks = [name for name in vars(hookspecs) if name.startswith("penstock_")]
        functions = [name for name in dir(module) if name.startswith("penstock_")]
        if not functions:
            return (
                f"it names {_shown(module)}, which has no hook function; name a ConnectorPlugin(...), or what has some"
            )
        for name in functions:
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

    # --- calls ------------------------------------------------------------------------------------------------------

    def callers(self, hook: str) -> Iterator[tuple[Plugin, pluggy.HookCaller]]:
        """Each plugin that implements ``hook``, with a caller for this plugin only, inside all wrappers."""
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        plain = [impl for impl in implementations if not (impl.wrapper or impl.hookwrapper)]
        for implementation in sorted(plain, key=lambda implementation: self._plugins[implementation.plugin_name]):
            others = [other.plugin for other in plain if other.plugin is not implementation.plugin]
            yield self._plugins[implementation.plugin_name], self._manager.subset_hook_caller(hook, others)

    def wrapping_plugins(self, hook: str) -> str:
        """The plugins whose wrappers run around a hook, for the message of a failure that may be theirs."""
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        wrappers = [impl for impl in implementations if impl.wrapper or impl.hookwrapper]
        names = sorted({str(self._plugins[wrapper.plugin_name]) for wrapper in wrappers})
        return f" (the hook is wrapped by {' and '.join(names)})" if names else ""

    def _module(self, plugin: Plugin) -> Any:
        """What the plugin's entry point names; None for one that cannot be imported."""
        names = (name for name, loaded in self._plugins.items() if loaded is plugin)
        return self._manager.get_plugin(next(names, ""))

    def stated_name(self, plugin: Plugin) -> str:
        """The name of the plugin's connector, if it is known before the connector is imported."""
        module = self._module(plugin)
        return module.name if isinstance(module, ConnectorPlugin) else ""

    def failed_function(self, plugin: Plugin, hook: str) -> str:
        """What failed in a hook: the function, or what its author declared in place of one."""
        declared = _declaration(self._module(plugin), hook)
        return f"{declared} cannot be used" if declared else f"{hook} failed"


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
    if member is None or getattr(type(module), hook, None) is not getattr(ConnectorPlugin, hook, None):
        return ""
    try:
        connector = next(iter(module.penstock_sources()))
    except FAILURES:
        return f'ConnectorPlugin("{module.declared}")'
    return f"connector {connector.name}: {member}"


def _module_of(distribution: str) -> str:
    return distribution.lower().replace("-", "_")
