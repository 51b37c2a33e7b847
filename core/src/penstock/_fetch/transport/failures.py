"""
What goes wrong on the network, and how it is said: who is at fault, what was seen, what to do next.

The four errors here travel inside this package only; :func:`explained` makes of them, and of those of the socket, TLS
and HTTP, the errors that everyone else knows.
"""

import socket

from penstock._fetch.origin import host_of, shown
from penstock.errors import BoundExceededError, ConfigError, PenstockError, TransportError
from penstock.model import Request
from penstock.redact import mask

CONNECT_S = 10.0  # at most: a connection under way cannot be interrupted, and a stop must not take longer than this


class OverdueError(Exception):
    """The attempt's time is used up."""


class TooLargeError(Exception):
    """The body is larger than allowed; the text says in which form, if not as sent."""


class CutError(Exception):
    """The answer is not whole, or not what its headers say; the text continues "HOST ..."."""


class UnsendableError(Exception):
    """The request holds what HTTP has no room for."""


def explained(
    error: Exception, url: str, request: Request, *, timeout_s: float, total_s: float, max_body: int
) -> PenstockError:
    """
    The error of an attempt in our words. Texts of other libraries may hold the URL, and so are never shown.

    An error that has no meaning on the network is raised as it is: it is a defect.
    """
    host = host_of(url)
    if isinstance(error, OverdueError):
        return BoundExceededError(
            f"{host} had not finished its answer after {total_s:g} s ({shown(request)}). If it is that slow, raise "
            f"timeout_s (an attempt may take {total_s / timeout_s:g} times as long), or ask for fewer days at once."
        )
    if isinstance(error, TooLargeError):
        return BoundExceededError(
            f"{host} sends more than {max_body / (1 << 20):g} MiB{error} ({shown(request)}). If that is right, raise "
            "max_body_mib or ask for fewer days at once."
        )
    if isinstance(error, UnsendableError):
        return ConfigError(f"{shown(request)} cannot be sent: {error}.")
    return TransportError(f"{host} {_reason(error, timeout_s)} ({shown(request)}).")


def _reason(error: Exception, timeout_s: float) -> str:
    """What the host did, after its name."""
    import http.client
    import ssl

    import urllib3.exceptions as of_urllib3

    if isinstance(error, CutError):
        return str(error)
    if isinstance(error, of_urllib3.NameResolutionError):
        return not_connected(socket.gaierror(), timeout_s)
    if isinstance(error, of_urllib3.NewConnectionError):  # before what it is a kind of: a refusal took no time
        return not_connected(error.__cause__, timeout_s)
    if isinstance(error, of_urllib3.ConnectTimeoutError):
        return not_connected(TimeoutError(), timeout_s)
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"showed a certificate that is not trusted ({error.verify_message}); if a proxy of your organisation sits "
            "in between, name its CA in ca_file"
        )
    if isinstance(error, ssl.SSLError):
        return f"broke the TLS connection ({error.reason or 'no reason given'})"
    if isinstance(error, TimeoutError):
        return f"sent nothing for {timeout_s:g} s (timeout_s)"
    if isinstance(error, http.client.RemoteDisconnected):
        return "closed the connection without an answer"
    if isinstance(error, ConnectionError):
        return f"broke the connection ({error.strerror or 'reset'})"
    if isinstance(error, http.client.HTTPException):
        return f"answered with something that is not HTTP ({type(error).__name__})"
    if isinstance(error, OSError) and "Tunnel" in str(error):
        return f"cannot be reached through the proxy ({mask(str(error))}); check proxy and its credentials"
    if isinstance(error, OSError):
        return f"could not be reached ({error.strerror or type(error).__name__})"
    if isinstance(error, (of_urllib3.HTTPError, UnicodeError)):
        return f"could not be asked ({type(error).__name__}); check base_url and proxy"
    raise error


def not_connected(cause: BaseException | None, timeout_s: float) -> str:
    """Why there is no connection, after the name of the host."""
    if isinstance(cause, socket.gaierror):
        seen = "is not known to the name service"
    elif isinstance(cause, TimeoutError):
        seen = f"did not take a connection within {min(timeout_s, CONNECT_S):g} s"
    else:
        detail = f" ({cause.strerror})" if isinstance(cause, OSError) and cause.strerror else ""
        seen = f"could not be connected to{detail}"
    return f"{seen}; check base_url, proxy and this host's network"
