"""
Requests of Dask workers to the coordinator of a run, and its replies, through Dask queues.

One queue has the requests of all workers; each worker has a queue of its own for the replies, whose name is the
``reply_to`` of its requests. The scheduler passes the messages on unread (``to_serialize``): its log at debug level
states every message that it reads, and over TLS a reply may hold a token.

Dask may drop a message. A request without a reply is sent again with the same ``id``; the coordinator carries it out
once, and sends its reply again.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import uuid4

import distributed
from attrs import define, field
from distributed.protocol import to_serialize
from penstock.engines import Coordinator, Message

POLL_S = 0.1
LOST_AFTER_S = 5.0  # without a connection to the scheduler, the shards are lost to the coordinator
RESEND_S = 7.0  # without a reply, a request is sent again: Dask drops what a busy process did not take within its bound
SILENT_S = 30.0  # a busy machine pauses a process for seconds; Dask's own connections have this bound
GRANT_S = 300.0  # for a reply: a login may be retried for a while
# What Dask raises, apart from OSError, when a connection ends during a call: asyncio's cancellation, RuntimeError of a
# closed loop, KeyError of a queue that a restarted scheduler does not have, ...
DISCONNECTED = (Exception, asyncio.CancelledError)


@define(eq=False, repr=False, kw_only=True)
class RequestServer:
    """
    The coordinator's end of the queues. ``pool``: its threads carry out the requests, of which one may take as long as
    a login. It is shut down when the server is closed.
    """

    client: distributed.Client
    coordinator: Coordinator
    requests: distributed.Queue
    pool: ThreadPoolExecutor
    begun: set[int] = field(factory=set, init=False)  # shards of which a request came
    reply_queues: dict[str, distributed.Queue] = field(factory=dict, init=False)
    _last: dict[str, tuple[int, str]] = field(factory=dict, init=False)  # by reply_to: a request's id, and its reply

    def serve_next(self) -> bool:
        """Take one request, if one comes within a moment. Returns whether the scheduler was there."""
        try:
            received = self.requests.get(timeout=POLL_S, callback_timeout=POLL_S + LOST_AFTER_S)
        except TimeoutError:
            return True
        except DISCONNECTED:
            time.sleep(POLL_S)
            return False
        self._take(json.loads(received))
        return True

    def _take(self, request: Message) -> None:
        self.begun.add(request["number"])
        last, reply = self._last.get(request["reply_to"], (0, ""))
        if request["id"] > last:
            self._last[request["reply_to"]] = (request["id"], "")
            for message in request["sent"]:
                self.coordinator.received(request["number"], message)
            self.pool.submit(self._reply_to_request, request)
        elif request["id"] == last and reply:  # it was sent again
            self.pool.submit(self._send, request["reply_to"], reply)

    def _reply_to_request(self, request: Message) -> None:
        reply = self.coordinator.reply(request["number"], request["message"])
        text = json.dumps({"id": request["id"], "reply": reply})
        self._last[request["reply_to"]] = (request["id"], text)
        self._send(request["reply_to"], text)

    def _send(self, reply_to: str, text: str) -> None:
        with suppress(*DISCONNECTED):  # without a scheduler there is nobody to reply to
            # Made once: Dask keeps a queue until it was closed as often as it was made.
            if reply_to not in self.reply_queues:
                self.reply_queues[reply_to] = distributed.Queue(reply_to, client=self.client)
            self.reply_queues[reply_to].put(to_serialize(text), callback_timeout=SILENT_S)

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        for queue in (self.requests, *self.reply_queues.values()):
            with suppress(Exception):
                queue.close()


@define(eq=False, repr=False, kw_only=True)
class QueueChannel:
    """
    The worker's end: see :class:`penstock.engines.Channel`. What is sent travels with the next request, since the
    state of the run is requested several times a second.
    """

    number: int
    reply_to: str
    requests: distributed.Queue
    replies: distributed.Queue
    is_wanted: Callable[[], bool]
    _sent: list[Message] = field(factory=list, init=False)
    _last_id: int = field(default=0, init=False)
    _requesting: threading.Lock = field(factory=threading.Lock, init=False)
    _sending: threading.Lock = field(factory=threading.Lock, init=False)

    @classmethod
    def open(
        cls, client: distributed.Client, name: str, number: int, *, is_wanted: Callable[[], bool]
    ) -> "QueueChannel":
        """``name``: of the requests' queue; ``number``: of the shard."""
        reply_to = f"{name}-{number}-{uuid4().hex}"
        return cls(
            number=number,
            reply_to=reply_to,
            requests=distributed.Queue(name, client=client),
            replies=distributed.Queue(reply_to, client=client),
            is_wanted=is_wanted,
        )

    def send(self, message: Message) -> None:
        with self._sending:
            self._sent.append(message)

    def unsent(self) -> list[Message]:
        """Take what no request took along yet."""
        with self._sending:
            messages, self._sent = self._sent, []
        return messages

    def request(self, message: Message) -> Message:
        with self._requesting:
            self._last_id += 1
            envelope = {"number": self.number, "reply_to": self.reply_to, "id": self._last_id}
            text = json.dumps({**envelope, "sent": self.unsent(), "message": message})
            end = time.monotonic() + (GRANT_S if message["kind"] == "grant" else SILENT_S)
            try:
                while True:
                    self.requests.put(to_serialize(text), callback_timeout=SILENT_S)
                    if (reply := self._reply(min(end, time.monotonic() + RESEND_S))) is not None:
                        return reply
                    if time.monotonic() >= end:
                        raise TimeoutError("it is silent")
            except DISCONNECTED as error:
                raise OSError(f"the coordinator does not reply: {error}") from None

    def _reply(self, end: float) -> Message | None:
        """The reply to the last request; None: it did not come until ``end``."""
        while True:
            if not self.is_wanted():
                raise OSError("the coordinator is gone")
            try:
                message = json.loads(self.replies.get(timeout=1.0, callback_timeout=SILENT_S))
            except TimeoutError:
                if time.monotonic() >= end:
                    return None
                continue
            if message["id"] == self._last_id:  # else one that came too late
                reply: Message = message["reply"]
                return reply

    def close(self) -> None:
        for queue in (self.requests, self.replies):
            with suppress(Exception):
                queue.close()
