"""
Fixtures of several files of the plugins' tests.
"""

import psycopg
import pytest
from postgres_statements import PostgresStatements


@pytest.fixture
def postgres_statements(monkeypatch: pytest.MonkeyPatch) -> PostgresStatements:
    """What the connections to Postgres that the test opens execute."""
    found = PostgresStatements()
    monkeypatch.setattr(psycopg, "connect", found.connect)
    return found


@pytest.fixture
def no_small_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every partition comes into Postgres like a large one: by COPY, not as a parameter of a statement."""
    monkeypatch.setattr("penstock_plugins.postgres.rows.SMALL_ROWS", -1)


@pytest.fixture(params=["small", "copied"])
def small_or_copied(request: pytest.FixtureRequest) -> None:
    """Each test twice: its partitions come into Postgres as they do, and like large ones."""
    if request.param == "copied":
        request.getfixturevalue("no_small_partitions")
