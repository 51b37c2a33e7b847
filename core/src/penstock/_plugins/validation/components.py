"""
The problems of the components that a stream names or holds: envelope, downloads, paginator, poller.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from penstock._plugins.plugin_errors import class_in_plugin
from penstock._plugins.validation.declared import kind_of
from penstock.errors import PluginError
from penstock.protocols import Named, SinglePage

Lookup = Callable[[Any, Named], object]
"""(kind of component, its name and options) -> the component; raises PluginError."""

_PAGES = tuple(name for name in vars(SinglePage) if not name.startswith("_"))
_REPORTS = ("handle", "poll", "state", "expired")
COMPONENTS: Mapping[str, tuple[Any, tuple[str, ...]]] = {  # field -> kind, required methods
    "envelope": ("decoder", ()),
    "downloads": ("decoder", ()),
    "paginator": ("paginator", _PAGES),
    "poller": ("poller", _REPORTS),
}

# Development versions (decision 72).
_FORMER_METHODS = {"capped": "reached_ceiling", "may_cap": "has_ceiling"}


def problems_in_component(name: str, value: Any, component: Lookup) -> Iterator[str]:
    """What is wrong with a component of a stream; ``name`` is its field. A function of the settings is not called."""
    kind, methods = COMPONENTS[name]
    if isinstance(value, Named):
        try:
            component(kind, value)
        except PluginError as error:
            yield f"{name}: {error}"
    elif isinstance(value, type):
        yield f"{name} is the class {value.__name__}; write {value.__name__}(...)"
    elif isinstance(value, str):
        meant = f'Envelope(items="{value}")' if name == "envelope" else f'named("{value}")'
        yield f"{name} is the text {value!r}; write {name}={meant}"
    elif value is not None and not (callable(value) or (methods and all(hasattr(value, method) for method in methods))):
        lacking = [method for method in methods if not hasattr(value, method)]
        lacks = f" without {', '.join(lacking)}" if lacking else ", which cannot be called"
        yield f"{name} is {kind_of(value)}{lacks}; see penstock.protocols for the methods of a {kind}"
    elif name == "paginator":
        yield from former_methods(value)


def former_methods(paginator: Any) -> Iterator[str]:
    """The methods by former names, which nothing calls: truncated rows would count as all."""
    for former, name in _FORMER_METHODS.items():
        if callable(getattr(paginator, former, None)):
            yield f"{class_in_plugin(type(paginator))} has {former}, which is {name} now: rename it"
