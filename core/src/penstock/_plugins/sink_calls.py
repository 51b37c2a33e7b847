"""
Sinks and targets of plugins: opened, and checked for the attributes of their protocols. A defect names the class.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from penstock._plugins.plugin_errors import class_in_plugin, sink_errors
from penstock.errors import PluginError, wrong_return
from penstock.ledger_interface import Ledger
from penstock.sinks import BaseSink, BaseTarget, Sink, Target


def check_sink(sink: Sink) -> None:
    """Raises PluginError for a sink that lacks an attribute of :class:`penstock.sinks.Sink`."""
    _check(sink, Sink, BaseSink)


def open_target(sink: Sink, method: Callable[..., Target], *arguments: Any, **options: Any) -> Target:
    """
    The target that ``method``, such as ``open``, of a sink returns. Raises PluginError for a defect of the sink, and
    for a target that lacks an attribute.
    """
    with sink_errors(type(sink).__name__):
        target = method(*arguments, **options)
        if target is None:
            raise wrong_return(method, target, "the opened target")
        _check_target(target)
    return target


def open_readonly(sink: Sink, source: str) -> Target | None:
    """See :meth:`penstock.sinks.Sink.open_readonly`. Raises as :func:`open_target` does."""
    with sink_errors(type(sink).__name__):
        target = sink.open_readonly(source)
        if target is not None:
            _check_target(target, unused=("begin",))
    return target


def has_own(extended: Target | Ledger, method: str) -> bool:
    """Whether a target or a ledger has a method of its own, in place of the default of its base."""
    own = getattr(extended, method)
    defaults = [getattr(base, method, None) for base in (BaseTarget, Ledger)]
    return getattr(own, "__func__", own) not in defaults


def _check_target(target: Target, unused: Sequence[str] = ()) -> None:
    """Raises PluginError, and closes the target, where it or its ledger lacks an attribute that is used."""
    try:
        _check(target, Target, BaseTarget, unused)
        if target.ledger is not None:
            _check(target.ledger, Ledger, Ledger)
            if hasattr(target.ledger, "fail") and not has_own(target.ledger, "fail_all"):  # decision 72
                raise PluginError(
                    f"{class_in_plugin(type(target.ledger))} has fail, which nothing calls any more. Write fail_all, "
                    "which records all failures, or none"
                )
    except PluginError:
        with suppress(Exception):  # it may lack close()
            target.close()
        raise


def _check(extended: object, protocol: type, base: type, unused: Sequence[str] = ()) -> None:
    names = [name for name in vars(protocol) if not name.startswith("_") and name not in unused]
    lacking = [name for name in names if _lacks(extended, name, protocol, base)]
    if lacking:
        raise PluginError(
            f"{class_in_plugin(type(extended))} lacks {', '.join(lacking)}. If you wrote it: extend "
            f"penstock.{base.__name__}, and write what has no default there. Otherwise report this to its publisher"
        )


def _lacks(extended: object, name: str, protocol: type, base: type) -> bool:
    """Whether it has no such attribute, or only that of the protocol, which has neither a body nor a value."""
    of_class = getattr(type(extended), name, None)
    if of_class is None:
        return not hasattr(extended, name)
    return base is not protocol and of_class is vars(protocol)[name]
