"""
The SQL of the documentation runs on what a run leaves in Postgres.
"""

import re
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import time_machine
from connector_run import sandbox_of
from penstock import Project, Secret
from penstock.sandbox.server import serve
from postgres_server import server as postgres

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[1] / "docs"
NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
BLOCK = re.compile(r"^```sql\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("page", "heading"), [("targets", "Postgres"), ("postgres", "Query the ledger")])
def test_the_queries_of_a_page_run(page: str, heading: str) -> None:
    """
    Each has rows, or none where it looks for what should not be.
    """
    section = (DOCS / f"{page}.md").read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    statements = [one for text in BLOCK.findall(section) for one in text.split(";") if one.strip()]
    assert statements
    with time_machine.travel(NOW, tick=True), postgres().database() as dsn, serve() as web:
        sandbox = sandbox_of("talroo")
        web.app = sandbox.make(web.base_url, NOW.date())
        settings = sandbox.source(web.base_url)
        settings["customer_secret"] = Secret(settings["customer_secret"])
        project = Project({"source": {"talroo": settings}, "sink": {}, "pipeline": {}})

        result = project.run("talroo", to=dsn, since="2026-11-15")

        assert result.exit_code == 0
        with psycopg.connect(dsn) as connection:
            for statement in statements:
                rows = connection.execute(statement.encode()).fetchall()
                empty = "having p.rows <> count" in statement or "restatements" in statement
                assert bool(rows) is not empty, statement
