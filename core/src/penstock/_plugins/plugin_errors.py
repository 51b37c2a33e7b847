"""
Messages about plugins: an error in the words of its author, its place in the plugin's own code, and what to do. An
unforeseen exception of a plugin's code becomes an error that names the plugin.
"""

import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from penstock._plugins.offers import Plugin
from penstock.errors import PenstockError, PluginError, SinkError, sentences
from penstock.names import source_line
from penstock.records import SHADOWED
from penstock.sinks import SinkKind

GROUP = "penstock"
"""The entry-point group of plugins."""

NO_SINKS = "No sink is installed. In a checkout of penstock: pip install ./plugins"

_NO_THREAD = "can't start new thread"

FAILURES = (Exception, SystemExit)
"""
What counts as a failure of an author's code. ``sys.exit`` there must not end a command, perhaps with exit code 0, nor
the thread of a request. KeyboardInterrupt ends the command.
"""

FORESEEN = (PenstockError, OSError, MemoryError, RecursionError)
"""Errors that keep their class: they are described already, or are no defect of a plugin."""

_DESCRIBED = (PenstockError, MemoryError)  # of a sink; its OSError would be taken for the connector's

# penstock and the plugins that are released with it stand between a plugin's own code and an error.
_RELEASED_TOGETHER = ("penstock", "penstock_plugins")

_INSTALLED = {"site-packages", "dist-packages"}

# Python's words where a column has the name of its type: date: date | None = None
_NONE_OR_NONE = "unsupported operand type(s) for |: 'NoneType' and 'NoneType'"


def describe_error(error: BaseException) -> str:
    """An error's class and text, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def place_in_plugin(error: BaseException | None) -> str:
    """File and line of a plugin's own code in which an error arose, in parentheses; empty where none did."""
    place = _origin(error)
    return "" if place is None else f" ({place.file.name}, line {place.line})"


def class_in_plugin(cls: type) -> str:
    """A class with its file and line, and the installed distributions that have its package."""
    distributions = _distributions().get(cls.__module__.partition(".")[0], [])
    return f"{cls.__name__} ({', '.join((source_line(cls), *distributions))})"


def package_at_fault(error: BaseException) -> str:
    """The package of the plugin in whose own code an error arose; otherwise "a plugin"."""
    place = _origin(error)
    return "a plugin" if place is None else place.package


class _Place(NamedTuple):
    package: str
    file: Path
    line: int


def _origin(error: BaseException | None) -> _Place | None:
    """Where in a plugin's own code an error arose; None where it did not arise in any."""
    frames = [] if error is None else list(traceback.walk_tb(error.__traceback__))
    for frame, line in reversed(frames):
        package, file = str(frame.f_globals.get("__name__", "")).partition(".")[0], Path(frame.f_code.co_filename)
        if not _is_of_a_library(package, file):
            return _Place(package, file, line)
    return None


def _is_of_a_library(package: str, file: Path) -> bool:
    """Whether code is of the standard library, of penstock, or of an installed distribution that is no plugin."""
    if package in sys.stdlib_module_names or package in _RELEASED_TOGETHER:
        return True
    if _INSTALLED.isdisjoint(file.parts):  # an author's own, whatever other distributions have a package of its name
        return False
    distributions = _distributions().get(package, [])
    return bool(distributions) and _plugin_distributions().isdisjoint(distributions)


@cache
def _distributions() -> dict[str, list[str]]:
    """Package -> the installed distributions that have it. Some 0.3 s, so for a message only."""
    return dict(metadata.packages_distributions())


@cache
def _plugin_distributions() -> frozenset[str]:
    return frozenset(point.dist.name for point in metadata.entry_points(group=GROUP) if point.dist is not None)


def defect(error: BaseException, connector: str, what_now: str) -> PenstockError:
    """
    An unforeseen error as that of a connector or of penstock: with its place, and what to do or to expect. A process
    without memory or threads is no defect.
    """
    if isinstance(error, MemoryError) or _NO_THREAD in str(error):
        return PenstockError(
            f"{describe_error(error)}: this process has no memory, or no thread, left. Raise its limits (container, "
            f"ulimit, systemd's TasksMax), or lower concurrency of the source. {what_now}"
        )
    place = place_in_plugin(error)
    at_fault = f"the connector {connector}" if place else f"penstock or of the connector {connector}"
    return PluginError(
        f"{describe_error(error)}{place}. This is a defect of {at_fault}, not of your configuration. {what_now}"
    )


@contextmanager
def connector_errors(name: str) -> Iterator[None]:
    """Turn an unforeseen exception of a connector's code into a PluginError that names the connector."""
    try:
        yield
    except FORESEEN:
        raise
    except FAILURES as error:
        raise _unforeseen("connector", name, error) from error


@contextmanager
def sink_errors(kind: str, *, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn an exception of a sink's code into the error of :func:`sink_error`. ``passing``: classes that stay."""
    try:
        yield
    except passing:
        raise
    except FAILURES as error:
        raise_sink_error(error, kind)


def raise_sink_error(error: BaseException, kind: str) -> NoReturn:
    """Raise an exception of a sink's code as :func:`sink_error` states it."""
    if isinstance(error, _DESCRIBED):
        raise error
    raise sink_error(error, kind) from error


def sink_error(error: BaseException, kind: str) -> BaseException:
    """
    An exception of a sink's code as an error that names the kind of sink: a SinkError where the operating system
    refused something, such as on a full disk, else a PluginError. PenstockError and MemoryError stay.
    """
    if isinstance(error, _DESCRIBED):
        return error
    if not isinstance(error, OSError):
        return _unforeseen("sink", kind, error)
    refused = SinkError(
        f"the sink {kind} failed with {describe_error(error)}{place_in_plugin(error)}. Remove the cause and run again"
    )
    refused.__cause__ = error
    return refused


def _unforeseen(what: str, name: str, error: BaseException) -> PluginError:
    plugin_error = PluginError(
        f"the {what} {name} failed with {describe_error(error)}{place_in_plugin(error)}. This is a defect of the "
        f"{what} or of penstock, not of your configuration: report it to the {what}'s publisher, with the traceback "
        "that --debug prints"
    )
    plugin_error.__cause__ = error
    return plugin_error


def probable_meaning(error: BaseException | None) -> str:
    """The mistake behind a message of Python that does not state it; empty for any other message."""
    return f"Probably, {SHADOWED}" if _NONE_OR_NONE in str(error) else ""


def how_to_mend(plugin: Plugin, reasons: Sequence[str]) -> str:
    """The reasons why a plugin is not used, and what its author and its users can do."""
    advice = (
        "If you wrote it, correct that (`penstock connectors --debug` shows all details). Otherwise install another "
        f"version of {plugin.distribution} and report the fault to its publisher."
    )
    if len(reasons) == 1:
        return sentences(f"{plugin} is broken: {reasons[0]}", advice)
    reason_lines = "".join(f"\n  - {reason}" for reason in reasons)
    return f"{plugin} is broken: {reason_lines}\n{advice}"


def options_of(factory: Callable[..., Any]) -> frozenset[str]:
    """The options that a component takes; none where it takes any, or where they are not known."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return frozenset()
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return frozenset() if takes_any else frozenset(parameters)


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
