"""
The libraries of the optional extras: imported when they are needed, with one error where they are missing.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from penstock import UsageError


@contextmanager
def installed(extra: str) -> Iterator[None]:
    """Raise UsageError that names the extra, if a library that is imported inside is missing or does not load."""
    try:
        yield
    except ImportError as error:
        raise UsageError(
            f"{error.name or extra} is not installed here, or does not load ({error}). Run: pip install "
            f"'penstock-plugins[{extra}]'"
        ) from error
