"""
Airflow, Dagster and Prefect: the examples of docs/python.md, each with the real scheduler (``make integrations``).

A scheduler keeps the machine's clock, and so do the provider and the days of these tests.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from clients import HANGS_S, QUICKLY, ROOT, client
from imitation_talroo import TalrooSandbox
from penstock.sandbox.server import Server, serve
from time_machine import escape_hatch

pytestmark = pytest.mark.integrations

EXAMPLES = dict(
    re.findall(
        r"^<!-- integrations -->\n```python\n# (\S+)\n(.*?)^```",
        (ROOT / "docs" / "python.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
)


def now() -> datetime:
    return escape_hatch.datetime.datetime.now(UTC)


@define
class Place:
    """A directory with a configuration and the examples, and a provider."""

    folder: Path
    server: Server
    app: Any

    def configure(self, name: str = "penstock.toml", **more: str) -> None:
        values = {
            "base_url": self.server.base_url,
            "customer_reference": "637573746f6d65722e3430",
            "customer_secret": "Jobs2CareersDemo",
            **more,
        }
        keys = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
        advertisers = json.dumps(list(self.app.advertisers))
        (self.folder / name).write_text(
            f"[source.talroo]\n{keys}advertiser_ids = {advertisers}\nretries = 0\n"
            f"start = {now().date() - timedelta(days=2)}\n"
            f'[sink.files]\nkind = "jsonl"\npath = {json.dumps(str(self.folder / "data"))}\n'
        )

    def states(self, scheduler: str, code: str, configurations: Sequence[str]) -> list[str]:
        """
        The state of a run while another one holds the source, then with each configuration: all in one process of the
        scheduler, which takes long to start. ``code`` defines ``state()``, which runs the example.
        """
        (self.folder / "states.py").write_text(STATES.replace("CODE", code.strip()))
        programs = client(scheduler)
        environ = {
            **os.environ,
            **QUICKLY,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "AIRFLOW_HOME": str(self.folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.folder / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "DAGSTER_HOME": str(self.folder),
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PYTHONPATH": f"{self.folder}:{self.folder / 'dags'}",
        }
        done = subprocess.run(
            [str(programs / "python"), "states.py", *configurations],
            cwd=self.folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=HANGS_S,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-4000:]}"
        found: list[str] = json.loads(done.stdout.strip().splitlines()[-1])
        return found

    def delivered(self) -> set[str]:
        return {
            json.loads(line)["click_id"]
            for file in (self.folder / "data").rglob("data.jsonl")
            for line in file.read_text().splitlines()
        }

    def clicks(self) -> set[str]:
        days = [now().date() - timedelta(days=number) for number in (1, 2)]
        return {
            row["click_id"]
            for advertiser in self.app.advertisers
            for day in days
            for row in self.app.truth("clicks", advertiser_id=advertiser, report_date=day)
        }


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with serve() as server:
        server.app = app = TalrooSandbox(server.base_url, now().date())
        app.now = now
        made = Place(tmp_path, server, app)
        for name, text in EXAMPLES.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text.replace("/srv/reports", str(tmp_path)))
        made.configure()
        yield made


STATES = """
import json, shutil, sys
from contextlib import ExitStack
from pathlib import Path
from penstock_plugins.files.jsonl import JsonLines
from penstock_plugins.files.sink import FileSink

end = ExitStack()
CODE

other = FileSink(directory=Path("data"), codec=JsonLines()).open("talroo", "another-run")
found = [state()]
other.close()
for name in sys.argv[1:]:
    shutil.copy(name, "penstock.toml")
    found.append(state())
end.close()
print(json.dumps(found))
"""
AIRFLOW = """
import subprocess
for words in (["db", "migrate"], ["dags", "reserialize"]):
    subprocess.run(["airflow", *words], check=True, capture_output=True)
from penstock_daily import daily

def state():
    return " ".join(f"{one.task_id} {one.state}" for one in daily.test().get_task_instances())
"""
DAGSTER = """
import dagster as dg
from penstock_assets import defs

def state():
    result = dg.materialize(list(defs.assets), instance=dg.DagsterInstance.ephemeral(), raise_on_error=False)
    events = result.get_asset_materialization_events()
    rows = [str(one.materialization.metadata["dagster/row_count"].value) for one in events]
    retries = [one for one in result.all_events if one.event_type_value == "STEP_UP_FOR_RETRY"]
    return " ".join(["success" if result.success else "failure", *rows, *(["retried"] if retries else [])])
"""
PREFECT = f"""
from prefect.testing.utilities import prefect_test_harness
from penstock_flow import penstock_daily
end.enter_context(prefect_test_harness(server_startup_timeout={HANGS_S}))

def state():
    (found,) = penstock_daily(return_state=True).result(raise_on_failure=False)
    return found.name
"""

Case = tuple[str, str, Callable[[int], str], str, str]
CASES: list[Case] = [
    ("airflow", AIRFLOW, lambda rows: "deliver success", "deliver skipped", "deliver failed"),
    ("dagster", DAGSTER, lambda rows: f"success {rows}", "success", "failure"),
    ("prefect", PREFECT, lambda rows: "Completed", "Skipped", "Failed"),
]


@pytest.mark.parametrize(("name", "code", "success", "skipped", "failed"), CASES, ids=[case[0] for case in CASES])
def test_a_task_ends_as_its_run_does(
    place: Place, name: str, code: str, success: Callable[[int], str], skipped: str, failed: str
) -> None:
    """
    A run whose source another run writes is skipped; one that delivers all is a success; refused credentials, and a
    configuration that is wrong, fail without a retry, which would take ten minutes five times.
    """
    place.configure("right.toml")
    place.configure("refused.toml", customer_secret="wrong")
    place.configure("unknown.toml", customer_secrets="wrong")

    states = place.states(name, code, ["right.toml", "refused.toml", "unknown.toml"])

    assert states == [skipped, success(len(place.clicks())), failed, failed]
    assert place.delivered() == place.clicks() != set()


def test_every_example_is_run() -> None:
    """
    The page has the three of them.
    """
    assert list(EXAMPLES) == ["dags/penstock_daily.py", "penstock_assets.py", "penstock_flow.py"]
