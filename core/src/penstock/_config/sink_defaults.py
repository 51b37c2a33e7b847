"""
The defaults of sinks, targets and ledgers: which a target has, also where its class extends no base class.

The documentation of development versions had sinks without a base class (decision 72): all of this module is for them,
apart from ``open_readonly`` and ``has_own``.
"""

from collections.abc import Iterable

from penstock._plugins.plugin_errors import sink_errors
from penstock.ledger_interface import Ledger
from penstock.sinks import BaseSink, BaseTarget, Sink, Target

# Those that ledgers need not have. A ledger that lacks any other method would lose what it is to record.
_OF_LEDGERS = ("delivered_sums", "fail_all")


def add_sink_defaults(sink: object) -> None:
    """Give a sink the attributes of ``BaseSink`` that it lacks."""
    _add_defaults(sink, BaseSink, _public(BaseSink))


def open_readonly(sink: Sink, source: str) -> Target | None:
    """See :meth:`penstock.sinks.Sink.open_readonly`. A defect of the sink is a PluginError that names it."""
    with sink_errors(type(sink).__name__):
        target = sink.open_readonly(source)
    add_target_defaults(target)
    return target


def add_target_defaults(target: Target | None) -> None:
    """Give a target the attributes of ``BaseTarget`` that it lacks, and its ledger the optional methods."""
    if target is None:
        return
    _add_defaults(target, BaseTarget, _public(BaseTarget))
    if target.ledger is not None:
        _add_defaults(target.ledger, Ledger, _OF_LEDGERS)


def has_own(extended: Target | Ledger, method: str) -> bool:
    """Whether a target or a ledger has a method of its own, in place of the default of its base."""
    own = getattr(extended, method, None)
    defaults = [getattr(base, method, None) for base in (BaseTarget, Target, Ledger)]
    return own is not None and getattr(own, "__func__", own) not in defaults


def _public(base: type) -> Iterable[str]:
    return [name for name in vars(base) if not name.startswith("_")]


def _add_defaults(extended: object, base: type, names: Iterable[str]) -> None:
    cls = type(extended)
    for name in names:
        if not _lacks(extended, name):
            continue
        default = vars(base)[name]
        try:
            setattr(cls, name, default)
        except TypeError:  # a class that Python does not let change, such as that of a namespace or a module
            setattr(extended, name, default.__get__(extended, cls) if hasattr(default, "__get__") else default)


def _lacks(extended: object, name: str) -> bool:
    """A class that extends a protocol has the attributes of it, without a body or a value."""
    cls = type(extended)
    if hasattr(cls, name):
        return any(getattr(cls, name) is getattr(protocol, name, None) for protocol in (Sink, Target))
    return not hasattr(extended, name)
