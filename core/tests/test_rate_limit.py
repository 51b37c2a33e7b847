"""
The rate limit of a source: evenly spaced starts over all threads, and pauses of the whole source.
"""

import threading
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st
from penstock._fetch.limits import RateLimit
from penstock.errors import StoppedError
from penstock.testing import FakeClock


@given(
    rate=st.floats(0.1, 1000),
    gaps=st.lists(st.floats(0, 5), min_size=2, max_size=30),
)
def test_starts_are_spaced(rate: float, gaps: list[float]):
    """
    Two requests do not start closer together than the rate allows, whenever they are made.
    """
    clock = FakeClock()
    rate_limit = RateLimit(clock, rate)
    starts = []
    for gap in gaps:
        clock.advance(gap)
        rate_limit.wait_turn()
        starts.append(clock.monotonic())

    assert all(later - earlier >= 1 / rate - 1e-6 for earlier, later in pairwise(starts))


def test_an_idle_source_starts_no_burst():
    """
    After a minute without a request, the next requests are spaced as before.
    """
    clock = FakeClock()
    rate_limit = RateLimit(clock, 2.0)
    rate_limit.wait_turn()
    clock.advance(60)
    clock.slept.clear()

    for _ in range(3):
        rate_limit.wait_turn()

    assert clock.slept == [0.5, 0.5]


def test_without_a_rate_no_request_waits():
    """
    Without a rate, no request waits.
    """
    clock = FakeClock()
    for _ in range(5):
        RateLimit(clock).wait_turn()

    assert clock.slept == []


@pytest.mark.parametrize("rate", [None, 100.0], ids=["no rate", "rate"])
def test_a_cool_down_delays_all_requests(rate: float | None):
    """
    During a cool-down no request starts; a shorter one that begins meanwhile does not end it.
    """
    clock = FakeClock()
    rate_limit = RateLimit(clock, rate)
    rate_limit.cool_down(30)
    rate_limit.cool_down(5)

    rate_limit.wait_turn()

    assert clock.monotonic() >= 30


def test_threads_share_one_rate():
    """
    Ten threads of a source start as many requests per second as one thread.
    """
    clock = FakeClock()
    began = clock.monotonic()
    rate_limit = RateLimit(clock, 100.0)
    starts: list[float] = []

    def work() -> None:
        for _ in range(3):
            rate_limit.wait_turn()
            starts.append(clock.monotonic())

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(starts) == 30
    assert clock.monotonic() - began >= 29 / 100.0 - 1e-6


def test_a_stop_ends_the_wait():
    """
    The end of a run ends every wait for the rate limit.
    """
    clock = FakeClock()
    rate_limit = RateLimit(clock, 1.0)
    rate_limit.cool_down(3600)
    clock.stop.set()

    with pytest.raises(StoppedError):
        rate_limit.wait_turn()
