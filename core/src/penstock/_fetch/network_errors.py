"""
The messages of failed attempts: what urllib3, http.client and sockets raise, as the reason after the host's name.
"""

import http.client
import ssl
from collections.abc import Callable
from typing import Any

from urllib3 import exceptions as failures

from penstock._fetch.body import NotWholeError
from penstock.redact import mask

BASE_URL_SETTING = "base_url (or the setting that has this host name)"


def reason_of(error: Exception, *, connect_s: float, timeout_s: float, setting: str = BASE_URL_SETTING) -> str:
    """
    The reason of a failure, as the text that follows the host's name. ``setting``: the name of the setting that has the
    address. Raises an error that is none of the network.

    The texts of urllib3 and of sockets may hold the URL, so they are not part of it.
    """
    if isinstance(error, failures.ProxyError):
        return _proxy_reason(error)
    error = _innermost(error)
    if isinstance(error, failures.ConnectTimeoutError) and not isinstance(error, failures.NewConnectionError):
        return f"did not take a connection within {connect_s:g} s; {_check(setting)}"
    if isinstance(error, (failures.ReadTimeoutError, TimeoutError)):
        return f"sent nothing for {timeout_s:g} s (timeout_s)"
    for type_, reason in _REASONS:
        if isinstance(error, type_):
            return reason(error, setting)
    raise error


def _check(setting: str) -> str:
    return f"check {setting}, proxy, and the network of the machine that runs penstock"


def _innermost(error: Exception) -> Exception:
    """The error that urllib3 wrapped."""
    while isinstance(error, (failures.ProtocolError, failures.SSLError)):
        inner = next((arg for arg in error.args if isinstance(arg, Exception)), None)
        if inner is None:
            break
        error = inner
    return error


def _proxy_reason(error: failures.ProxyError) -> str:
    text = str(error.original_error)
    if isinstance(error.original_error, failures.NewConnectionError):
        text = text.partition("): ")[2] or text  # without the name of a class
    return f"cannot be reached through the proxy ({mask(text)}); check proxy and its credentials"


def _new_connection_reason(error: failures.NewConnectionError, setting: str) -> str:
    cause = error.__cause__
    detail = f" ({cause.strerror})" if isinstance(cause, OSError) and cause.strerror else ""
    return f"could not be connected to{detail}; {_check(setting)}"


def _tls_reason(error: ssl.SSLError, setting: str) -> str:
    if error.reason == "WRONG_VERSION_NUMBER":
        return f"answers without TLS at this port; check scheme and port of {setting}"
    return f"broke the TLS connection ({error.reason or 'no reason given'})"


def _length_reason(error: http.client.IncompleteRead, setting: str) -> str:
    if error.expected is None:
        return "cut its response inside a chunk or between two chunks"
    got = int(error.partial) if isinstance(error, failures.IncompleteRead) else len(error.partial)
    return f"cut its response after {got:,} of {got + error.expected:,} bytes"


# In this order: the first type that the error is of. The functions are called with the error and the setting.
_REASONS: tuple[tuple[Any, Callable[[Any, str], str]], ...] = (
    (NotWholeError, lambda error, setting: str(error)),
    (failures.NameResolutionError, lambda error, setting: f"is not known to the name service; {_check(setting)}"),
    (failures.NewConnectionError, _new_connection_reason),
    (
        failures.EmptyPoolError,
        lambda error, setting: "was not requested, since no connection became free; lower concurrency",
    ),
    (failures.InvalidHeader, lambda error, setting: "contradicts itself about the length of its body"),
    (ssl.SSLError, _tls_reason),
    (http.client.RemoteDisconnected, lambda error, setting: "closed the connection without a response"),
    (http.client.IncompleteRead, _length_reason),  # urllib3's is one, too
    (ConnectionError, lambda error, setting: f"broke the connection ({error.strerror or 'reset'})"),
    # ValueError: http.client on a chunk of negative length
    (
        (http.client.HTTPException, ValueError),
        lambda error, setting: f"answered with something that is not HTTP ({type(error).__name__})",
    ),
    (OSError, lambda error, setting: f"could not be reached ({error.strerror or type(error).__name__})"),
    (
        failures.HTTPError,
        lambda error, setting: f"could not be requested ({type(error).__name__}); check {setting} and proxy",
    ),
)
