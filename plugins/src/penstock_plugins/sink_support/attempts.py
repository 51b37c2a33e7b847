"""
Calls that may fail: their results or errors, and what was opened before is closed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")


class _Closable(Protocol):
    def close(self) -> object: ...


def attempt(call: Callable[[], T]) -> T | Exception:
    """The result of a call, or its error."""
    try:
        return call()
    except Exception as error:
        return error


@contextmanager
def closed_on_error(opened: _Closable) -> Iterator[None]:
    try:
        yield
    except BaseException:
        opened.close()
        raise
