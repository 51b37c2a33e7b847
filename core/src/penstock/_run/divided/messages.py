"""
The messages of a divided run as values: what a worker sends to the coordinator, what it requests, and the replies.

An engine carries them as JSON-like data, each with its ``kind``; see :data:`penstock.engines.Message`.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from penstock.engines import Message
from penstock.engines.calls import Failure
from penstock.errors import ParkedError
from penstock.redact import mask

# --- what a worker sends ----------------------------------------------------------------------------------------------


class RunEvent(msgspec.Struct, frozen=True, tag_field="kind", tag="event"):
    """An event of the worker's run, for all that follow the run."""

    event: dict[str, Any]


class CooledDown(msgspec.Struct, frozen=True, tag_field="kind", tag="cool_down"):
    """The provider throttles: nobody requests anything of the source for so many seconds."""

    source: str
    seconds: float


class Parked(msgspec.Struct, frozen=True, tag_field="kind", tag="parked"):
    """The provider states a long wait: the run requests nothing more of the source."""

    source: str
    reason: str
    until: datetime
    request: str | None

    @classmethod
    def of(cls, source: str, error: ParkedError) -> "Parked":
        return cls(source, error.without_place, error.until, None if error.request is None else mask(error.request))

    @property
    def error(self) -> ParkedError:
        return ParkedError(self.reason, self.until).at(request=self.request)


class CredentialsWorked(msgspec.Struct, frozen=True, tag_field="kind", tag="credentials_worked"):
    """The provider accepted a request with the credentials of an account, or, with ``owner`` None, of the source."""

    source: str
    owner: str | None


# --- what a worker requests, and the replies --------------------------------------------------------------------------


class StateRequest(msgspec.Struct, frozen=True, tag_field="kind", tag="state"):
    """The state of the run; the reply is a :class:`RunState`."""


class OpenRequest(msgspec.Struct, frozen=True, tag_field="kind", tag="open"):
    """Open a source whose target the coordinator has, before anything else; the reply is a :class:`Lease`."""

    source: str


class TargetRequest(msgspec.Struct, frozen=True, tag_field="kind", tag="target", omit_defaults=True):
    """
    A request to the coordinator's target; the reply is a :class:`TargetReply`. ``lease``: see :class:`Lease`.
    Without a ``text``: for the next piece of the reply to the last request.
    """

    lease: int
    text: str | None = None


class GrantRequest(msgspec.Struct, frozen=True, tag_field="kind", tag="grant"):
    """A token of a source's account; the reply is a :class:`GrantReply`. ``used``: the one that was refused."""

    source: str
    account: str | None
    used: str | None


class WorkingCredentialsRequest(msgspec.Struct, frozen=True, tag_field="kind", tag="working_credentials"):
    """Whether any worker sent :class:`CredentialsWorked` of these; the reply is a :class:`WorkingCredentialsReply`."""

    source: str
    owner: str | None


class WorkingCredentialsReply(msgspec.Struct, frozen=True):
    """Whether the provider accepted a request with the credentials, in this run."""

    work: bool


class RunState(msgspec.Struct, frozen=True):
    """``stop``: the run is to end. ``cooling_down``: by source, for how many seconds nobody requests anything of it."""

    stop: bool
    cooling_down: dict[str, float]
    parked: dict[str, Parked]


class Lease(msgspec.Struct, frozen=True):
    """The right of one worker to a source, by its number. It ends when another worker opens the source for it."""

    number: int


class TargetReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    A piece of the reply of the coordinator's target; ``more`` pieces follow. Else ``wait``: the reply is not ready;
    ``replaced``: the lease has ended; ``failure``: what the target raised.
    """

    text: str | None = None
    more: bool = False
    wait: bool = False
    replaced: bool = False
    failure: Failure | None = None


class GrantReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    A token that is valid for ``life_s`` seconds (None: not known). Else ``parked``: nothing more is requested of the
    source; or the ``failure`` of the login.
    """

    token: str = ""
    life_s: float | None = None
    parked: Parked | None = None
    failure: Failure | None = None

    def __repr__(self) -> str:
        return "GrantReply(...)"  # without the token


class ShardResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result of a shard: its report, see :meth:`RunReport.as_data`; or why there is none."""

    report: dict[str, Any] | None = None
    failed: str = ""


Sent = RunEvent | CooledDown | Parked | CredentialsWorked
Requested = StateRequest | OpenRequest | TargetRequest | GrantRequest | WorkingCredentialsRequest

_R = TypeVar("_R")


def message_of(value: msgspec.Struct) -> Message:
    """A value as an engine carries it."""
    message: Message = msgspec.to_builtins(value)
    return message


def sent_of(message: Message) -> Sent:
    """What a worker sent."""
    value: Sent = msgspec.convert(message, Sent)
    return value


def requested_of(message: Message) -> Requested:
    """What a worker requests."""
    value: Requested = msgspec.convert(message, Requested)
    return value


def reply_to(request: Callable[[Message], Message], value: Requested, reply: type[_R]) -> _R:
    """The reply to a request that ``request`` carries."""
    return msgspec.convert(request(message_of(value)), reply)
