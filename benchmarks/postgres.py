"""
The Postgres of the tests, for benchmarks.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "helpers" / "postgres"))

from postgres_server import NoPostgresError, server

__all__ = ["NoPostgresError", "server"]
