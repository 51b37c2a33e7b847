"""Waiting for what another thread or process does."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def eventually(look: Callable[[], Value], seconds: float = 100.0) -> Value:
    """The first true value that ``look`` returns. The bound is generous: it ends a test that would hang."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := look():
            return value
        time.sleep(0.01)
    raise AssertionError(f"it did not happen within {seconds:g} seconds")
