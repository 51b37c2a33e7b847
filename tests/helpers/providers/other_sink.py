"""
Sinks of another author, whose classes extend no base class.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

from attrs import define, evolve, field
from penstock import Project, SinkKind, hookimpl
from penstock.sandbox.server import Server
from penstock_plugins.files.kinds import JSONL
from project_shop import PLUGINS, Stopped, config


def other(name: str, own: Any = None, lacks: Collection[str] = (), **attributes: Any) -> Any:
    """
    An object whose class has this name and no base class. It has the public attributes of ``own`` but those that it
    ``lacks``, and ``attributes`` in their place.
    """
    public = {one: getattr(own, one) for one in dir(own) if not one.startswith("_") and one not in lacks}
    return type(name, (SimpleNamespace,), {})(**{**public, **attributes})


@define(eq=False)
class OtherSinks:
    """
    A plugin with the kind ``other``: files as ``jsonl`` writes them, by classes of another author.

    ``sink``, ``target`` and ``ledger``: their attributes in place of those of ``jsonl``; of the last two by what
    ``jsonl`` has opened. ``run_ids``: of the runs that opened a target.
    """

    sink: dict[str, Any] = field(factory=dict)
    target: Callable[[Any], dict[str, Any]] = lambda own: {}
    ledger: Callable[[Any], dict[str, Any]] = lambda own: {}
    run_ids: list[str] = field(factory=list)

    @hookimpl
    def penstock_sinks(self) -> Iterable[SinkKind]:
        return [evolve(JSONL, name="other", scheme="other", open=lambda settings: self._sink(JSONL.open(settings)))]

    def _sink(self, own: Any) -> Any:
        def open_target(source: str, run_id: str, *arguments: Any, **options: Any) -> Any:
            self.run_ids.append(run_id)
            return self._target(own.open(source, run_id, *arguments, **options))

        def open_readonly(source: str) -> Any:
            target = own.open_readonly(source)
            return None if target is None else self._target(target)

        return other("OtherSink", own, open=open_target, open_readonly=open_readonly, **self.sink)

    def _target(self, own: Any) -> Any:
        ledger = other("OtherLedger", own.ledger, **self.ledger(own.ledger))
        return other("OtherTarget", own, **{"ledger": ledger, **self.target(own)})


def project_of(
    sinks: OtherSinks, server: Server, folder: Path, more: Mapping[str, Any] = MappingProxyType({}), **pipelines: Any
) -> Project:
    """The project of the shop whose sink ``files`` is of the kind ``other``, with ``more`` sinks and pipelines."""
    values = config(server, folder)
    values["sink"]["files"]["kind"] = "other"
    values["sink"] |= more
    values["pipeline"] |= pipelines
    return Project(values, plugins=(*PLUGINS, sinks), environ={}, clock=Stopped)
