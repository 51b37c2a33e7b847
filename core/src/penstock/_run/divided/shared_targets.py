"""
Requests of workers to targets that the coordinator of a divided run has open; see :class:`penstock.sinks.Staging`.

A worker opens each of its sources before it does anything else. What it requests afterwards carries the number of its
lease, so that the requests of a worker are refused whose shard another one has taken over.

A worker requests a long reply in pieces, and one that is not ready again: its channel is silent for seconds at most.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import count

from attrs import define, field

from penstock._run.divided.messages import Lease, TargetReply, TargetRequest, reply_to
from penstock.engines import Message
from penstock.engines.calls import Failure
from penstock.errors import StoppedError
from penstock.sinks import Coordinating

WAIT_S = 2.0
PIECE = 1 << 20  # characters of a message
REPLACED = "another worker has taken over this shard of the run, or the run has ended"


@define(eq=False, kw_only=True)
class _LeasedTarget:
    """A source that one worker leases. ``reply``: of its last request; ``sent``: the characters of it that it has."""

    source: str
    shard: int
    reply: "Future[str]" = field(factory=Future)
    sent: int = 0


@define(eq=False, repr=False)
class SharedTargets:
    """The coordinator's side. A target is used by one thread at a time, those of two sources at once."""

    targets: Mapping[str, Coordinating]  # by source
    _leases: dict[int, _LeasedTarget] = field(factory=dict, init=False)  # those that are valid, by number
    _numbers: "count[int]" = field(factory=lambda: count(1), init=False)
    _threads: dict[str, ThreadPoolExecutor] = field(init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    @_threads.default
    def _default_threads(self) -> dict[str, ThreadPoolExecutor]:
        return {source: ThreadPoolExecutor(1, thread_name_prefix=f"target of {source}") for source in self.targets}

    def open(self, shard: int, source: str) -> Lease:
        """A new lease. It ends those of the same source that earlier workers of the shard had."""
        with self._lock:
            self._end(
                [number for number, lease in self._leases.items() if (lease.shard, lease.source) == (shard, source)]
            )
            number = next(self._numbers)
            self._leases[number] = _LeasedTarget(source=source, shard=shard)
        return Lease(number)

    def end(self, shard: int) -> None:
        """The shard is lost: its leases end."""
        with self._lock:
            self._end([number for number, lease in self._leases.items() if lease.shard == shard])

    def _end(self, numbers: list[int]) -> None:
        for number in numbers:
            del self._leases[number]

    def reply(self, request: TargetRequest) -> TargetReply:
        """
        A piece of the reply to a worker's request.
        """
        number = request.lease
        leased = self._leases.get(number)
        if leased is None:
            return TargetReply(replaced=True)
        if request.text is not None:
            leased.sent = 0
            try:
                leased.reply = self._threads[leased.source].submit(self._reply_to_request, number, request.text)
            except RuntimeError:  # the run ends
                return TargetReply(replaced=True)
        wait([leased.reply], timeout=WAIT_S)
        if number not in self._leases:
            return TargetReply(replaced=True)
        if not leased.reply.done():
            return TargetReply(wait=True)
        error = leased.reply.exception()
        if isinstance(error, Exception):
            return TargetReply(failure=Failure.of(error))
        text = leased.reply.result()
        piece = text[leased.sent : leased.sent + PIECE]
        leased.sent += len(piece)
        return TargetReply(piece, more=leased.sent < len(text))

    def _reply_to_request(self, number: int, text: str) -> str:
        leased = self._leases.get(number)
        if leased is None:  # ended while the request waited for another one
            raise StoppedError(REPLACED)
        return self.targets[leased.source].reply(text)

    def close(self) -> None:
        """No request is carried out any more. Returns when the targets are free."""
        with self._lock:
            self._leases.clear()
        for thread in self._threads.values():
            thread.shutdown(cancel_futures=True)


@define(eq=False, repr=False)
class TargetChannel:
    """
    A worker's side of one source. ``lease``: its number. ``send``: passes a message to the coordinator, and returns
    its reply.
    """

    lease: int
    send: Callable[[Message], Message]
    on_lease_end: Callable[[str], None]  # called with the reason where the lease has ended

    def request(self, text: str) -> str:
        """The reply of the coordinator's target. Raises what it raised; StoppedError where another worker took over."""
        reply = reply_to(self.send, TargetRequest(self.lease, text), TargetReply)
        pieces: list[str] = []
        while True:
            if reply.replaced:
                self.on_lease_end(REPLACED)
                raise StoppedError(REPLACED)
            if reply.failure is not None:
                raise reply.failure.error
            pieces.append(reply.text or "")
            if not (reply.wait or reply.more):
                return "".join(pieces)
            reply = reply_to(self.send, TargetRequest(self.lease), TargetReply)
