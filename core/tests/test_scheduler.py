"""The scheduler: order, concurrency, pauses, stop and deadline, with calls that need no network."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from attrs import define, field
from penstock._fetch.call import Answered, Call, CallResult, Pause, Steps
from penstock._fetch.limits import Deadline
from penstock._fetch.scheduler import ReadAhead, Scheduler, Task
from penstock._util.clock import Clock
from penstock.errors import DeadlineReachedError, StoppedError, TransportError
from penstock.model import Request, Response
from penstock.testing import FakeClock
from penstock.verdicts import Accept


def a_call(name: str) -> Call:
    return Call(request=Request(url=f"http://localhost/{name}"), decoder=None)


def an_answer(call: Call, size: int = 1) -> CallResult:
    return Answered(call, Response(status=200, body=b"x" * size, received_at=datetime.now(UTC)), Accept())


def name_of(result: CallResult | None) -> str:
    assert result is not None
    return result.call.request.url.rpartition("/")[2]


@define(eq=False)
class FakeClient:
    """Answers after a while; remembers how many calls were under way at once, and in which order they came."""

    concurrency: int = 2
    delay_s: Callable[[str], float] = lambda name: 0.0
    size: int = 1
    most: int = 0
    came: list[str] = field(factory=list)
    _under_way: int = 0
    _lock: threading.Lock = field(factory=threading.Lock)

    def fetch(self, call: Call) -> CallResult:
        name = call.request.url.rpartition("/")[2]
        with self._lock:
            self.came.append(name)
            self._under_way += 1
            self.most = max(self.most, self._under_way)
        time.sleep(self.delay_s(name))
        with self._lock:
            self._under_way -= 1
        return an_answer(call, self.size)


def test_outcomes_come_in_the_order_of_the_calls():
    """
    A reading gets its results in the order of its calls, however late the first one is.
    """
    client, got = FakeClient(concurrency=4, delay_s=lambda name: 0.05 if name == "0" else 0.0), []

    def reading() -> Steps[None]:
        calls = tuple(a_call(str(number)) for number in range(8))
        got.append(name_of((yield calls)))
        while len(got) < len(calls):
            got.append(name_of((yield ())))

    scheduler = Scheduler(Clock())
    scheduler.add([Task(client, reading)])

    assert scheduler.run() is None
    assert got == [str(number) for number in range(8)]
    assert client.most > 1


def test_calls_added_later_come_before_those_already_waiting():
    """
    Pages that follow a first page are handed over before the next listing's first page.
    """
    got = []

    def reading() -> Steps[None]:
        got.append(name_of((yield (a_call("a1"), a_call("b1")))))
        got.append(name_of((yield (a_call("a2"), a_call("a3")))))
        got.extend([name_of((yield ())), name_of((yield ()))])

    scheduler = Scheduler(Clock())
    scheduler.add([Task(FakeClient(), reading)])
    scheduler.run()

    assert got == ["a1", "a2", "a3", "b1"]


def test_the_number_of_untaken_responses_is_bounded():
    """
    A reading that is slower than its provider has at most twice the client's requests ahead of it.
    """
    client, ahead = FakeClient(concurrency=3, delay_s=lambda name: 0.02 if name == "0" else 0.0), []

    def reading() -> Steps[None]:
        calls = tuple(a_call(str(number)) for number in range(20))
        for place in range(20):
            yield (calls if place == 0 else ())
            time.sleep(0.01)
            ahead.append(len(client.came) - place - 1)

    scheduler = Scheduler(Clock())
    scheduler.add([Task(client, reading)])
    scheduler.run()

    assert len(client.came) == 20
    assert 3 <= max(ahead) <= 6


def test_no_more_calls_at_once_than_the_client_allows():
    """
    Readings of one client share its threads.
    """
    client = FakeClient(concurrency=3, delay_s=lambda name: 0.01)

    def reading() -> Steps[None]:
        for number in range(3):
            yield (a_call(str(number)),)

    scheduler = Scheduler(Clock())
    scheduler.add([Task(client, reading) for _ in range(10)])
    scheduler.run()

    assert client.most == 3
    assert len(client.came) == 30


def test_a_thread_begins_another_reading_only_where_none_has_a_call():
    """
    Readings end in the order in which they began; while one is resumed, the thread makes a call of the next one.
    """
    client = FakeClient(concurrency=1)

    def reading(name: str) -> Callable[[], Steps[None]]:
        def steps() -> Steps[None]:
            yield (a_call(f"{name}1"),)
            yield (a_call(f"{name}2"),)

        return steps

    scheduler = Scheduler(Clock())
    scheduler.add([Task(client, reading(name)) for name in "abcd"])
    scheduler.run()

    assert client.came == ["a1", "b1", "a2", "b2", "c1", "d1", "c2", "d2"]


def test_a_pause_holds_no_thread():
    """
    While one reading waits for its report, another uses the only thread.
    """
    client, ended = FakeClient(concurrency=1), []

    def waits() -> Steps[None]:
        yield (a_call("submit"),)
        yield Pause(0.2)
        yield (a_call("poll"),)

    def works() -> Steps[None]:
        for number in range(5):
            yield (a_call(f"page{number}"),)

    scheduler = Scheduler(Clock())
    scheduler.add(
        [
            Task(client, waits, on_end=lambda error: ended.append("waits")),
            Task(client, works, on_end=lambda error: ended.append("works")),
        ]
    )
    scheduler.run()

    assert ended == ["works", "waits"]


def test_the_size_of_untaken_bodies_is_bounded():
    """
    Reading ahead stops at the bound in bytes, also while threads are idle.
    """
    client, unread = FakeClient(concurrency=8, size=1000), list[int]()
    scheduler = Scheduler(Clock(), read_ahead=ReadAhead(3000))

    def reading() -> Steps[None]:
        calls = tuple(a_call(str(number)) for number in range(40))
        for place in range(40):
            yield (calls if place == 0 else ())
            time.sleep(0.002)
            unread.append(len(client.came) - place - 1)

    scheduler.add([Task(client, reading)])
    scheduler.run()

    assert len(client.came) == 40
    assert max(unread) <= 8  # the first calls are made before any size is known


def test_an_error_ends_its_reading_only():
    """
    The error of one reading reaches its task; the others go on.
    """
    errors: list[BaseException | None] = []

    def fails() -> Steps[None]:
        yield (a_call("x"),)
        raise TransportError("gone")

    def works() -> Steps[None]:
        yield (a_call("y"),)

    scheduler = Scheduler(Clock())
    scheduler.add([Task(FakeClient(), fails, on_end=errors.append), Task(FakeClient(), works, on_end=errors.append)])

    assert scheduler.run() is None
    assert sorted(type(error).__name__ for error in errors) == ["NoneType", "TransportError"]


def test_a_task_starts_when_its_predecessor_is_over():
    """
    ``after`` holds a task back until its key was released; a task that is added later starts at once.
    """
    order: list[str] = []
    scheduler = Scheduler(Clock())

    def reads(name: str) -> Callable[[], Steps[None]]:
        def steps() -> Steps[None]:
            order.append(name)
            yield (a_call(name),)

        return steps

    def over(error: BaseException | None) -> None:
        scheduler.release("rows")
        scheduler.add([Task(FakeClient(), reads("late"), after="rows")])

    scheduler.add([Task(FakeClient(), reads("child"), after="rows"), Task(FakeClient(), reads("parent"), on_end=over)])
    scheduler.run()

    assert order[0] == "parent"
    assert sorted(order[1:]) == ["child", "late"]


def test_a_task_starts_after_one_of_a_client_that_was_added_meanwhile():
    """
    A task that ends without a call may add tasks of another client, as the last one of a source does where another
    source waits: the one that others wait for is the first of them.
    """
    order: list[str] = []
    scheduler, other = Scheduler(Clock()), FakeClient()

    def reads(name: str) -> Callable[[], Steps[None]]:
        def steps() -> Steps[None]:
            order.append(name)
            yield (a_call(name),)

        return steps

    def ends_at_once() -> Steps[None]:
        order.append("without a call")
        return
        yield ()

    def over(error: BaseException | None) -> None:
        parent = Task(other, reads("parent"), on_end=lambda error: scheduler.release("rows"))
        scheduler.add([Task(other, reads("child"), after="rows"), parent])

    scheduler.add([Task(FakeClient(), ends_at_once, on_end=over)])
    scheduler.run()

    assert order == ["without a call", "parent", "child"]


def test_a_task_whose_key_is_never_released_starts_last():
    """
    A task whose key is not released starts after all others, to report why it cannot be read; the run does not hang.
    """
    order: list[str] = []

    def fails() -> Steps[None]:
        order.append("orphan")
        raise TransportError("its parent was not read")
        yield ()

    def works() -> Steps[None]:
        yield (a_call("x"),)
        order.append("works")

    errors: list[BaseException | None] = []
    scheduler = Scheduler(Clock())
    scheduler.add([Task(FakeClient(), fails, after="rows", on_end=errors.append), Task(FakeClient(), works)])

    assert scheduler.run() is None
    assert order == ["works", "orphan"]
    assert [type(error) for error in errors] == [TransportError]


class Counted(Task):
    """A task that counts how often the scheduler looks at it."""

    looks = 0

    def __getattribute__(self, name: str) -> object:
        if name == "client":
            Counted.looks += 1
        return super().__getattribute__(name)


@pytest.mark.parametrize("after", [None, "rows"], ids=["queued", "blocked"])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_cost_of_an_answer_does_not_depend_on_waiting_tasks(after: str | None, concurrency: int):
    """
    With ten times as many tasks, each is looked at as often as before.
    """

    def reading() -> Steps[None]:
        yield (a_call("x"),)

    def looks_for(number: int) -> float:
        Counted.looks = 0
        client, scheduler = FakeClient(concurrency=concurrency), Scheduler(Clock())
        scheduler.add([Counted(client, reading, after=after) for _ in range(number)])
        scheduler.add([Task(client, reading, on_end=lambda error: scheduler.release("rows"))])
        scheduler.run()
        assert len(client.came) == number + 1
        return Counted.looks / number

    # Each task's threads finish in an order that varies, hence not exactly equal.
    assert looks_for(2000) < 1.5 * looks_for(200) + 2


@pytest.mark.parametrize("how", ["stop", "deadline"])
def test_the_end_is_detected_while_a_call_hangs(how: str):
    """
    A stop or a deadline ends the run within a tick, also while a response is outstanding. Every task gets the error.
    """
    clock, errors, over_now = FakeClock(), [], threading.Event()

    def hang(name: str) -> float:
        if how == "stop":
            clock.stop.set()
        else:
            clock.advance(1)
        over_now.wait(100)
        return 0.0

    def reading() -> Steps[None]:
        yield (a_call("slow"),)

    client = FakeClient(delay_s=hang)
    scheduler = Scheduler(clock, Deadline.after(clock, 0.3 if how == "deadline" else None))
    scheduler.add([Task(client, reading, on_end=errors.append) for _ in range(3)])
    over = scheduler.run()
    over_now.set()

    assert isinstance(over, StoppedError if how == "stop" else DeadlineReachedError)
    assert [type(error) for error in errors] == [type(over)] * 3


@pytest.mark.parametrize("how", ["stop", "deadline"])
def test_the_answer_to_a_submission_under_way_is_handed_over_at_the_end(how: str):
    """
    A stop or a deadline waits for the answers to submissions, and for no others. What a reading requests next is not
    sent.
    """
    clock, got = Clock(), []
    client = FakeClient(concurrency=3, delay_s=lambda name: 20.0 if name == "page" else 0.6)

    def submission(name: str) -> Steps[None]:
        got.append(name_of((yield (a_call(name)._replace(submits=True),))))
        yield (a_call("page"),)

    def page() -> Steps[None]:
        got.append(name_of((yield (a_call("page"),))))

    scheduler = Scheduler(clock, Deadline.after(clock, 0.3 if how == "deadline" else None))
    scheduler.add([Task(client, lambda: submission("a")), Task(client, lambda: submission("b")), Task(client, page)])
    if how == "stop":
        threading.Timer(0.3, clock.stop.set).start()
    scheduler.run()

    assert sorted(got) == ["a", "b"]
    assert sorted(client.came) == ["a", "b", "page"]


def test_the_loop_is_not_idle_between_responses_that_come_soon(monkeypatch: pytest.MonkeyPatch):
    """
    With one request at a time, what waits for the loop to be idle is not done after each response.
    """
    idle: list[bool] = []

    def reading() -> Steps[None]:
        yield (a_call("a"),)

    monkeypatch.setattr("penstock._fetch.scheduler.SOON_S", 60.0)
    scheduler = Scheduler(Clock())
    scheduler.add([Task(FakeClient(concurrency=1), reading) for _ in range(5)])

    assert scheduler.run(idle=lambda: idle.append(True)) is None
    assert idle == []


def test_the_loop_is_idle_before_a_response_that_comes_late(monkeypatch: pytest.MonkeyPatch):
    """
    Work that waits for the loop to be idle is done while a provider takes its time.
    """
    idle = threading.Event()

    class Late(FakeClient):
        def fetch(self, call: Call) -> CallResult:
            assert idle.wait(60)
            return an_answer(call)

    def reading() -> Steps[None]:
        yield (a_call("a"),)

    monkeypatch.setattr("penstock._fetch.scheduler.SOON_S", 0.001)
    scheduler = Scheduler(Clock())
    scheduler.add([Task(Late(concurrency=1), reading)])

    assert scheduler.run(idle=idle.set) is None
    assert idle.is_set()
