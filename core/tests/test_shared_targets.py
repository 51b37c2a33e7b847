"""
The targets of a coordinator, and the requests of workers to them.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest
from attrs import define, field
from penstock import SinkError, StoppedError
from penstock._run.divided import shared_targets
from penstock._run.divided.messages import TargetRequest, message_of
from penstock._run.divided.shared_targets import SharedTargets, TargetChannel
from penstock.engines import Message


@define(eq=False)
class Echo:
    """A target that replies with what it is sent. ``wait``: what it waits for before each reply."""

    heard: list[str] = field(factory=list)
    wait: threading.Event = field(factory=threading.Event)
    began: threading.Event = field(factory=threading.Event)

    def mark(self) -> str:
        return ""

    def reply(self, request: str) -> str:
        self.began.set()
        assert self.wait.wait(60)
        self.heard.append(request)
        if request == "fail":
            raise SinkError("the disk is full")
        return request


@pytest.fixture
def echo() -> Echo:
    target = Echo()
    target.wait.set()
    return target


@pytest.fixture
def shared(echo: Echo) -> Iterator[SharedTargets]:
    with closing(SharedTargets({"acme": echo})) as made:
        yield made


def channel(shared: SharedTargets, shard: int = 1, lost: list[str] | None = None) -> TargetChannel:
    def send(message: Message) -> Message:
        message = json.loads(json.dumps(message))
        return dict(json.loads(json.dumps(message_of(shared.reply(msgspec.convert(message, TargetRequest))))))

    return TargetChannel(shared.open(shard, "acme").number, send, (lost if lost is not None else []).append)


def test_a_long_reply_comes_in_pieces(shared: SharedTargets, echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    No message is longer than a piece, and the target carries the request out once.
    """
    monkeypatch.setattr(shared_targets, "PIECE", 10)
    worker = channel(shared)

    for text in ("", "x" * 10, "y" * 33):
        assert worker.request(text) == text
    assert echo.heard == ["", "x" * 10, "y" * 33]


def test_a_reply_that_takes_long_is_waited_for(
    shared: SharedTargets, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The worker's channel gets replies meanwhile.
    """
    monkeypatch.setattr(shared_targets, "WAIT_S", 0.01)
    echo.wait.clear()
    replies: list[Message] = []
    worker = channel(shared)

    def counted(message: Message) -> Message:
        replies.append(worker.send(message))
        if len(replies) == 4:
            echo.wait.set()
        return replies[-1]

    assert TargetChannel(worker.lease, counted, lambda reason: None).request("late") == "late"
    assert {"wait": True} in replies
    assert echo.heard == ["late"]


def test_an_error_of_the_target_is_raised_in_the_worker(shared: SharedTargets) -> None:
    """
    An error of the target keeps its class in the worker; the next request is carried out.
    """
    worker = channel(shared)

    with pytest.raises(SinkError, match="the disk is full"):
        worker.request("fail")
    assert worker.request("again") == "again"


def test_a_part_has_one_worker(shared: SharedTargets, echo: Echo) -> None:
    """
    From the moment in which another worker opens the source for a shard, no request of the former one reaches the
    target, also one that waits already. Workers of other shards go on.
    """
    lost: list[str] = []
    former, other = channel(shared, lost=lost), channel(shared, shard=2)
    former.request("first")
    echo.wait.clear()
    echo.began.clear()
    threads = [threading.Thread(target=other.request, args=("of another",))]
    threads[0].start()
    assert echo.began.wait(60)  # so that what follows waits for it
    refused: list[BaseException] = []

    def late() -> None:
        try:
            former.request("late")
        except StoppedError as error:
            refused.append(error)

    threads.append(threading.Thread(target=late))
    threads[1].start()
    latter = channel(shared)
    echo.wait.set()
    for thread in threads:
        thread.join(60)

    with pytest.raises(StoppedError, match="another worker has taken over"):
        former.request("later")
    assert latter.request("next") == "next"
    assert echo.heard == ["first", "of another", "next"]
    assert [str(error) for error in refused] == lost[:1]


def test_a_lost_part_and_a_run_that_ended_are_refused(shared: SharedTargets, echo: Echo) -> None:
    """
    Nothing reaches the target for a shard that is lost, nor after the last worker.
    """
    first, second = channel(shared), channel(shared, shard=2)
    assert (first.request("a"), second.request("b")) == ("a", "b")
    shared.end(1)
    with pytest.raises(StoppedError):
        first.request("c")
    assert second.request("d") == "d"
    shared.close()
    with pytest.raises(StoppedError):
        second.request("e")
    with pytest.raises(StoppedError):
        channel(shared).request("f")

    assert echo.heard == ["a", "b", "d"]
