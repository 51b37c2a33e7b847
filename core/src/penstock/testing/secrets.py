"""
The secrets of one test, apart from those of others.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from penstock import redact


@contextmanager
def secrets_apart(*, keep: bool = False) -> Iterator[None]:
    """
    A secret that is made in this context is masked only within it. ``keep``: those that were made before are masked
    there, too.
    """
    former, known = redact._known, redact._Known()
    for value in former._values if keep else ():
        known.add(value)
    redact._known = known
    try:
        yield
    finally:
        redact._known = former
