"""
The interface of engines: where the shards of a divided run are carried out.

An engine starts workers, carries messages between them and the coordinator, and notices a worker that dies. It divides
nothing, knows no source, and sees no secret, except for the tokens in replies: see :attr:`Engine.carries_secrets`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from attrs import field, frozen

GRACE_S = 30.0

Message = Mapping[str, Any]
"""JSON-like data."""


@frozen(kw_only=True)
class Assignment:
    """
    The shard of a run for one worker. It can be pickled, holds no secret, and prints none.

    ``number``: of the shard; the first is 1. ``sources``: what it reads of. ``task``: for the function that does the
    work.
    """

    number: int
    run_id: str
    sources: tuple[str, ...]
    task: Any = field(repr=False, default=None)


class Channel(Protocol):
    """
    A worker's channel to the coordinator. Methods may be called from any thread; they raise OSError once it is cut.
    """

    def send(self, message: Message) -> None:
        """Pass a message to :meth:`Coordinator.received`; messages of one worker arrive in their order."""

    def request(self, message: Message) -> Message:
        """The reply of :meth:`Coordinator.reply`. It may take as long as a login."""


Work = Callable[[Assignment, Channel], Message]
"""
Carries out an assignment in a worker, and returns its result. It can be pickled. What it raises is a defect, or an
assignment that this worker must not begin.
"""

Trial = Callable[[], None]
"""Raises an error, of penstock's or another, where the process that calls it cannot be a worker. It can be pickled."""


class Coordinator(Protocol):
    """The process that divided the run. Its methods may be called from any thread."""

    @property
    def over(self) -> bool:
        """Whether the run is to end: stopped, or past its deadline. Workers learn it from a reply, and end soon."""

    def received(self, number: int, message: Message) -> None:
        """Called with each message of a worker."""

    def reply(self, number: int, message: Message) -> Message:
        """The reply to a request of a worker."""

    def done(self, number: int, result: Message) -> None:
        """A worker has carried out its assignment."""

    def lost(self, number: int, reason: str) -> None:
        """An assignment will not be carried out; ``reason``: why, in a phrase."""


class Engine(Protocol):
    """
    The place where assignments are carried out. A plugin offers its factory by ``penstock_engines``: ``factory(address,
    workers)``, with the text after the name and colon of ``--engine NAME:ADDRESS``, and ``--workers`` (None: as the
    engine decides).
    """

    @property
    def workers(self) -> int:
        """The number of assignments that it carries out at once. Raises UsageError where nobody can."""

    @property
    def carries_secrets(self) -> bool:
        """Whether messages are private to the processes of this run, so that one token can serve all workers."""

    @property
    def is_local(self) -> bool:
        """Whether all workers run on this machine, with its files and its environment."""

    def check(self, trial: Trial) -> None:
        """Call ``trial`` on every worker. Raises UsageError, with the worker's name and the reason, where it raises."""

    def run(self, assignments: Sequence[Assignment], work: Work, coordinator: Coordinator) -> None:
        """
        Carry out all assignments, each by one worker at a time, and return when each is done or lost. An assignment
        whose worker died may be given to another one. Once the coordinator is over, none is begun, and after
        ``GRACE_S`` those that are left are lost.
        """

    def close(self) -> None:
        """Called once, after the last of the other methods."""
