"""
Which plugins are installed, and how their code is run without trusting it.
"""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from types import FrameType
from typing import TypeVar

from attrs import frozen

GROUP = "penstock"

# What a plugin's module may do when it is imported or asked: anything, sys.exit() included.
FAILURES = (Exception, SystemExit)

Load = Callable[[], object]
"""Imports a plugin: gives its module, or the object that its entry point names."""

T = TypeVar("T")


@frozen(order=True)
class Plugin:
    """A plugin and the distribution it came with; for a plugin given as an object, its name stands for both."""

    distribution: str
    version: str
    name: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


def installed() -> Iterator[tuple[Plugin, Load]]:
    """The plugins that entry points name, by name; nothing of them is imported yet."""
    if any(map(os.path.isfile, sys.path)):  # an archive, which only its importer can look into
        from importlib import metadata

        for point in sorted(metadata.entry_points(group=GROUP), key=lambda point: point.name):
            dist = point.dist
            yield Plugin(dist.name if dist else point.value, dist.version if dist else "", point.name), point.load
        return
    for plugin, value in sorted(entry_points(), key=lambda found: found[0].name):
        yield plugin, partial(_loaded, value)


def entry_points() -> Iterator[tuple[Plugin, str]]:
    """
    The entry points in the folders of ``sys.path``, each with its value (module, or module:object).

    What importlib.metadata would find, but for half of its time, which is that of importing it. Of two installations
    of one distribution the first on the path counts.
    """
    seen: set[str] = set()
    for folder in dict.fromkeys(sys.path):
        try:
            names = sorted(os.listdir(folder or "."))  # noqa: PTH208  pathlib takes three times as long
        except OSError:
            continue
        for name in names:
            stem, _, suffix = name.rpartition(".")
            distribution = stem.partition("-")[0].lower()
            if suffix not in ("dist-info", "egg-info") or distribution in seen:
                continue
            seen.add(distribution)
            said = _text_in(folder, name, "entry_points.txt")
            if f"[{GROUP}]" not in said:
                continue
            about = _text_in(folder, name, "METADATA") or _text_in(folder, name, "PKG-INFO")
            facts = dict(re.findall(r"^(Name|Version): *(\S+)", about.partition("\n\n")[0], re.MULTILINE))
            section = ""
            for line in map(str.strip, said.splitlines()):
                if line.startswith("["):
                    section = line.strip("[] ")
                elif section == GROUP and "=" in line and not line.startswith(("#", ";")):
                    point, _, value = map(str.strip, line.partition("="))
                    yield Plugin(facts.get("Name", distribution), facts.get("Version", ""), point), value


def _text_in(*path: str) -> str:
    try:
        with open(os.path.join(*path), encoding="utf-8", errors="replace") as file:  # noqa: PTH118, PTH123
            return file.read()
    except OSError:
        return ""


def _loaded(value: str) -> object:
    """What ``module`` or ``module:object.attribute`` names; requirements in brackets do not count."""
    module, _, path = value.partition("[")[0].partition(":")
    found: object = import_module(module.strip())
    for name in filter(None, path.strip().split(".")):
        found = getattr(found, name)
    return found


def given(plugins: Iterable[object]) -> Iterator[tuple[Plugin, Load]]:
    """Plugins that are there as objects, each under its own name."""
    for plugin in plugins:
        name = str(getattr(plugin, "__name__", type(plugin).__name__))
        yield Plugin(name, "", name), lambda plugin=plugin: plugin  # type: ignore[misc]


def guarded(call: Callable[[], T]) -> T:
    """
    What a plugin's code gives. A KeyboardInterrupt (or the like) that it raises itself becomes a RuntimeError, so that
    the plugin is broken; a Ctrl-C that comes meanwhile stays one.
    """
    pressed = False

    def press(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    watched = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    try:
        if watched:
            signal.signal(signal.SIGINT, press)
    except ValueError:  # not in the main thread, where no Ctrl-C arrives either
        watched = False
    try:
        return call()
    except FAILURES:
        raise
    except BaseException as error:
        if pressed:
            raise
        raise RuntimeError(f"it raised {describe_error(error)}") from error
    finally:
        if watched:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def describe_error(error: BaseException) -> str:
    """An error's class and text, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
