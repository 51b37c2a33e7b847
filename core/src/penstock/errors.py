"""
Errors: each message names who is at fault, what was seen, and what to do next.

Every error a user can meet is a :class:`PenstockError`; its text is one paragraph, masked, and its class decides the
exit code. Anything else that reaches the command line is a defect of penstock and is reported as one.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Self

from penstock.names import source_line
from penstock.redact import clip, mask


def sentences(*texts: str) -> str:
    """
    The texts as sentences of one text; empty ones are left out. Each but the last ends with one stop, or with its own
    question mark; the last one stays as it is.
    """
    *former, last = [text for each in texts if (text := each.strip())] or [""]
    ended = (text if text.endswith("?") else f"{text.rstrip('.')}." for text in former)
    return " ".join([*ended, last])


class PenstockError(Exception):
    """
    The base of every error that is meant to be read by a user.

    ``source``, ``partition``, ``request``: the place where it occurred, as text, each None where it is not known. The
    code that raises an error gives the reason only; what it passes on its way adds the place (:meth:`at`).
    """

    exit_code: ClassVar[int] = 1

    sent: bool = True
    """
    Whether some of the request may have left in an attempt that failed; set by :meth:`at`. A write is repeated only if
    not.
    """

    source: str | None = None
    partition: str | None = None
    request: str | None = None

    def at(
        self,
        *,
        source: str | None = None,
        partition: object | None = None,
        request: object | None = None,
        sent: bool | None = None,
    ) -> Self:
        """A copy with its place, since one error may fail several partitions. A place that is known stays."""
        # Not copy.copy: it calls the constructor with ``args`` alone, and the one of ParkedError needs ``until``.
        placed = type(self).__new__(type(self), *self.args)
        placed.__dict__.update(self.__dict__)
        placed.__cause__, placed.__suppress_context__ = self.__cause__, self.__suppress_context__
        for name, value in (("source", source), ("partition", partition), ("request", request)):
            if value is not None and getattr(self, name) is None:
                setattr(placed, name, str(value))
        if sent is not None:
            placed.sent = sent
        return placed.with_traceback(self.__traceback__)

    def to_raise_again(self) -> Self:
        """
        A copy without a traceback. An error that is kept has frames as long as it lives, and more each time it is
        raised: so a copy is kept, and a copy of that is raised.
        """
        return self.at().with_traceback(None)

    @property
    def without_place(self) -> str:
        """The reason alone, which is equal for one cause in many places."""
        return mask(super().__str__())

    def __str__(self) -> str:
        place = ".".join(str(value) for value in (self.source, self.partition) if value is not None)
        return mask(in_place(super().__str__(), place, self.request))


def in_place(reason: str, place: str, request: object | None) -> str:
    """The text of an error: its reason, after its source and partition, and before its request."""
    text = f"{place}: {reason}" if place else reason
    return sentences(text, f"Request: {request}") if request is not None else text


class UsageError(PenstockError):
    """The command line, or the call, requests something that cannot be done."""

    exit_code = 2


class ConfigError(UsageError):
    """
    The configuration cannot be used. ``problems``: all of them, each with file, key, value found and value expected.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))

    @property
    def as_list(self) -> str:
        """The message for people: several problems are their number and a list."""
        if len(self.problems) == 1:
            return str(self)
        lines = "".join(f"\n  - {problem}" for problem in str(self).split("\n"))
        return f"{len(self.problems)} problems in the configuration:{lines}"


def one_error(errors: Iterable[PenstockError], problems: Iterable[str] = ()) -> PenstockError:
    """One error for several: the only one itself, else a ConfigError with each problem once."""
    errors, problems = list(errors), list(problems)
    if len(errors) == 1 and not problems:
        return errors[0]
    texts = [text for error in errors for text in (error.problems if isinstance(error, ConfigError) else [str(error)])]
    return ConfigError(list(dict.fromkeys([*texts, *problems])))


class PluginError(UsageError):
    """
    A plugin that the run needs is broken, missing, or claims a name that another one claims too. ``missing``: nothing
    of that name is installed, not even broken.
    """

    def __init__(self, *args: object, missing: bool = False) -> None:
        self.missing = missing
        super().__init__(*args)


def check_returned(function: Any, value: Any, types: Any, write: str) -> Any:
    """Return ``value`` if it is one of ``types``; else raise :func:`wrong_return`."""
    if isinstance(value, types):
        return value
    raise wrong_return(function, value, write)


def wrong_return(function: Any, value: Any, write: str) -> PluginError:
    """The error of a plugin whose function returned ``value``. ``write``: the correct return expression."""
    owner, name = getattr(function, "__self__", None), getattr(function, "__name__", type(function).__name__)
    called = "a lambda" if name == "<lambda>" else name if owner is None else f"{type(owner).__name__}.{name}"
    seen = "nothing" if value is None else f"{type(value).__name__} ({clip(repr(value), 60)})"
    return PluginError(f"{called} ({source_line(function)}) returned {seen}; write return {write}.")


class TargetError(UsageError):
    """The target cannot be used as it is: unwritable, not penstock's, or written by a newer penstock."""


class LockHeldError(PenstockError):
    """Another run writes the same source to the same target. ``run_id``: of that run; None where it is not known."""

    exit_code = 6

    def __init__(self, *args: object, run_id: str | None = None) -> None:
        self.run_id = run_id
        super().__init__(*args)


class DeadlineReachedError(PenstockError):
    """The user's deadline is reached; the next run reads the remaining partitions."""

    exit_code = 4


class ParkedError(PenstockError):
    """
    The provider states a wait that is longer than ``throttle_wait_s``: nothing more is requested from the source, and
    what is left is for a run after ``until`` (aware).
    """

    exit_code = 4

    def __init__(self, message: str, until: datetime) -> None:
        self.until = until
        super().__init__(message)


class StoppedError(PenstockError):
    """Ctrl-C or SIGTERM."""

    exit_code = 130


class WorkerLostError(PenstockError):
    """A worker of a divided run ended before its work was done. What it committed stays."""


class OutputClosedError(PenstockError):
    """The reader of standard output closed it (``penstock run ... --to - | head``). The run ends without an error."""

    exit_code = 0


class SinkError(PenstockError):
    """The target failed while it was written: disk full, connection lost, a value it cannot hold."""


class ProviderError(PenstockError):
    """
    The provider, or a proxy in between, failed or sent an invalid response. ``seen``: what happened. ``advice``: what
    to do, in sentences; it is not shown while penstock itself does what helps, such as to log in again.
    """

    seen: str = ""
    advice: str = ""

    def __init__(self, seen: object = "", advice: object = "") -> None:
        # Any object, since an author may pass on the error of a library.
        self.seen, self.advice = str(seen), str(advice)
        super().__init__(sentences(self.seen, self.advice))


class AuthenticationError(ProviderError):
    """The provider refused the credentials."""

    exit_code = 3


class ForbiddenError(AuthenticationError):
    """
    The provider refused a request (403) with credentials that it may take for others. It fails the account that was
    requested; where no request with these credentials is accepted, they are refused.
    """


class TransportError(ProviderError):
    """No whole response arrived: no connection, reset, time-out, a body cut short or not decompressible."""


class UntrustedError(ProviderError):
    """The provider's certificate is not trusted. The request is not retried."""


class NotReadyError(ProviderError):
    """The provider took the request and has no result yet (202)."""


class ServerError(ProviderError):
    """The provider reports a failure of its own: a 5xx status, or its equivalent in the body."""


class ThrottledError(ProviderError):
    """
    The provider throttles: too many requests. Where it states a wait of hours, no lower rate avoids that, and ``seen``
    is shown without ``advice``.
    """


class RefusedError(ProviderError):
    """The provider understood the request and refuses it."""


class BrokenBodyError(ProviderError):
    """The body is not readable: malformed or truncated JSON, HTML, invalid UTF-8, no items in the envelope."""


class WrongFormatError(BrokenBodyError):
    """A whole body of another format or shape than declared. No attempt will change that, so none follows."""


class BoundExceededError(ProviderError):
    """A bound that protects this process was reached: body size, nesting, time, number of pages."""


class ForeignOriginError(ProviderError):
    """A response points to another host, or from https to http; credentials do not follow."""


class InconsistentReadError(ProviderError):
    """
    The responses of one read contradict each other, for example since the provider's data changed meanwhile. The read
    is repeated a bounded number of times; for an error of any other class it is not.
    """

    def when_repeated(self, reads: int) -> ProviderError:
        """The error to report after so many reads, when no further one is made."""
        repeated = type(self)(
            self.without_place,
            f"It was read {reads} times. Nothing was replaced; the next run tries again. If it persists, report it to "
            "the author of the connector, with a recording (penstock run --record DIR).",
        )
        return repeated.at(source=self.source, partition=self.partition, request=self.request)


class PagingError(InconsistentReadError):
    """A page or link is repeated, a page is missing, or the pages do not end."""


class CountMismatchError(InconsistentReadError):
    """The provider's own count disagrees with what arrived."""


class BrokenPageError(InconsistentReadError):
    """A response that was accepted cannot be decoded, or belongs to days that were not requested."""


class RejectedRecordsError(ProviderError):
    """Records were read that could not be decoded; the caller did not allow that."""

    exit_code = 5


class ReportError(ProviderError):
    """An asynchronous report failed, vanished, or was not ready in time."""
