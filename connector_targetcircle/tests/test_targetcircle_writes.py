"""
The write of Target Circle's imitation over real HTTP.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from imitation_targetcircle import TargetCircle
from penstock.sandbox.server import Server, serve
from write_bench import a_bench

pytestmark = pytest.mark.slow

TODAY = date(2026, 3, 2)


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as made:
        yield made
        assert made.errors == []


def test_ad_codes_come_with_the_receipt(server: Server, working_directory: Path, capsys: Any) -> None:
    """
    The ad codes that a write creates are in its receipt.
    """
    app = TargetCircle(server.base_url, TODAY)
    bench = a_bench("targetcircle", app, server, working_directory, capsys, allow_writes=True)
    slug = next(slug for slug in app.slugs() if app.ads_of(slug))

    code, receipts, _ = bench.act(
        *("targetcircle", "generate_ad_codes", "type=text", f"offer={slug}", "adInventory=11c26b", f'ads=["9m{slug}"]')
    )

    assert code == 0, receipts
    assert receipts[0]["answer"][0]["clickUrl"] == f"https://c.trackmytarget.example/9m{slug}"
