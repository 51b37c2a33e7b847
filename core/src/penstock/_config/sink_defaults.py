"""
The defaults of sinks, targets and ledgers: which a target has, also where its class extends no base class.
"""

from penstock.ledger_interface import Ledger
from penstock.sinks import BaseSink, BaseTarget, Target


def add_sink_defaults(sink: object) -> None:
    """Give the class of a sink the attributes of ``BaseSink`` that it lacks."""
    # The documentation of development versions had sinks without a base class: decision 72.
    _add_defaults(sink, BaseSink)


def add_target_defaults(target: Target | None) -> None:
    """Give the classes of a target and of its ledger the attributes of their bases that they lack."""
    if target is None:
        return
    _add_defaults(target, BaseTarget)
    if target.ledger is not None:
        _add_defaults(target.ledger, Ledger)


def has_own(target: Target, method: str) -> bool:
    """Whether a target has a method of its own, in place of the default of ``BaseTarget``."""
    own = getattr(target, method, None)
    return own is not None and getattr(own, "__func__", own) is not getattr(BaseTarget, method)


def _add_defaults(extended: object, base: type) -> None:
    cls = type(extended)
    for name, default in vars(base).items():
        if not name.startswith("_") and not hasattr(cls, name) and not hasattr(extended, name):
            setattr(cls, name, default)
