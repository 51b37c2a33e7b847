"""
The values that plugins offer by hooks: a plugin, its offers by name, and Broken, an offer that cannot be used.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from attrs import field, frozen

from penstock.actions import Action
from penstock.commands.declaration import Command
from penstock.connector import Connector, Registration, Sandbox, Stream
from penstock.sinks import SinkKind

ComponentKind = Literal["authenticator", "paginator", "poller", "decoder", "encoder"]
COMPONENT_KINDS: tuple[ComponentKind, ...] = ("authenticator", "paginator", "poller", "decoder", "encoder")

# Hooks that offer values under a name, each with the type of the values and the word for one in messages.
OFFERED_BY_HOOK: Mapping[str, tuple[type, str]] = {
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

CALLED_PER_CONNECTOR = ("penstock_record_streams", "penstock_actions")


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


class Offers(NamedTuple):
    """The results of one hook, by name. ``clashes``: names with more than one offer; ``failed``: what was refused."""

    usable: Mapping[str, Offer]
    clashes: Mapping[str, tuple[Plugin, ...]]
    failed: tuple[Broken, ...] = ()


def named_values(results: Iterable[Any], type_: type) -> list[tuple[str, Any]]:
    """The named values in the results of a hook, one result per implementation. Raises TypeError."""
    if type_ is Mapping:
        return [named for result in results for named in _named_in_mapping(result)]
    return [named for result in results for named in _named_in_list(result, type_)]


def _named_in_mapping(result: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(result, Mapping):
        raise TypeError(f"it returned {type(result).__name__}; write a mapping")
    return result.items()


def _named_in_list(result: Any, type_: type) -> Iterable[tuple[str, Any]]:
    if isinstance(result, type_):
        raise TypeError(f"one {type_.__name__} in place of a list; write [{type_.__name__}(...)]")
    for value in result:
        if not isinstance(value, type_):
            raise TypeError(f"it offers {type(value).__name__}; write {type_.__name__}(...)")
        name = value.connector if isinstance(value, Sandbox) else getattr(value, "name", None)
        if not isinstance(name, str) or not name:
            raise TypeError(f"it offers {type(value).__name__} without a name")
        yield name, value
