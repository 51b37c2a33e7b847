"""
Unforeseen exceptions of a plugin's code, as errors that name the plugin.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from penstock.errors import PenstockError, PluginError

_FORESEEN = (PenstockError, OSError, MemoryError, RecursionError)


@contextmanager
def connector_errors(name: str) -> Iterator[None]:
    """Turn an unforeseen exception of a connector's code into a PluginError that names the connector."""
    with _errors_of("connector", name):
        yield


@contextmanager
def sink_errors(kind: str) -> Iterator[None]:
    """Turn an unforeseen exception of a sink's code into a PluginError that names the kind of sink."""
    with _errors_of("sink", kind):
        yield


def sink_error(error: Exception, kind: str) -> Exception:
    """An exception of a sink's code: a PluginError that names the kind of sink, where it was not foreseen."""
    return error if isinstance(error, _FORESEEN) else _defect("sink", kind, error)


@contextmanager
def _errors_of(what: str, name: str) -> Iterator[None]:
    try:
        yield
    except _FORESEEN:
        raise
    except (Exception, SystemExit) as error:  # the reason is at FAILURES, which is imported late
        raise _defect(what, name, error) from error


def _defect(what: str, name: str, error: BaseException) -> PluginError:
    from penstock._plugins.plugin_errors import describe_error, place_in_plugin

    defect = PluginError(
        f"the {what} {name} failed with {describe_error(error)}{place_in_plugin(error)}. This is a defect of the "
        f"{what} or of penstock, not of your configuration: report it to the {what}'s publisher, with the traceback "
        "that --debug prints"
    )
    defect.__cause__ = error
    return defect
