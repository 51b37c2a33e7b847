"""
Temporary files that hold what is too large for memory.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from penstock.errors import PenstockError


@contextmanager
def temporary_file_errors() -> Iterator[None]:
    """Turn an error of a temporary file, be it one of SQLite, into one that names the remedy."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise PenstockError(
            f"a temporary file cannot be written: {getattr(error, 'strerror', None) or error}. Free some space in the "
            "directory of temporary files, or set TMPDIR to another one; then run again."
        ) from error
