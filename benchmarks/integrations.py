"""
The integrations against bare clients: CPU of whole processes that read the same jobs, in turns.

    python benchmarks/integrations.py [ROWS] [ROUNDS]

``make integrations`` installs the clients. The bare Singer tap is a loop around ``singer.write_record``, the bare dlt
source one that yields what ``json.load`` makes of a page; neither has types, checks or a state. Both dlt pipelines load
into DuckDB. Start-up is included, the provider not.
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path

from sizes import JOBS_PER_PAGE
from table import measured, provider

ROOT = Path(__file__).parents[1]
CLIENTS = ROOT / ".integrations"

BARE = f"""
import json, sys, urllib.request

def jobs():
    for page in range(1, int(sys.argv[2]) // {JOBS_PER_PAGE} + 1):
        with urllib.request.urlopen(f"{{sys.argv[1]}}/jobs?limit={JOBS_PER_PAGE}&page={{page}}") as response:
            yield json.load(response)["data"]
"""
OURS = f"""
import sys
sys.path.insert(0, {str(ROOT / "benchmarks" / "connector_bench" / "src")!r})
import connector_bench, penstock_plugins
"""
BARE_TAP = """
import singer
singer.write_schema("jobs", {"type": "object", "properties": {}}, ["id"])
for rows in jobs():
    for row in rows:
        singer.write_record("jobs", row)
"""
TAP = """
from penstock._cli import main
words = ["singer", "bench", "--config", "config.json", "--catalog", "catalog.json"]
sys.exit(main(words, plugins=[connector_bench, penstock_plugins], environ={}))
"""
BARE_SOURCE = """
import dlt
source = dlt.resource(jobs, primary_key="id", write_disposition="replace", max_table_nesting=0)
"""
SOURCE = """
import dlt
from penstock import Project
from penstock_plugins.integrations.dlt import dlt_source
project = Project({"source": {"bench": {"base_url": sys.argv[1]}}}, plugins=[connector_bench, penstock_plugins])
source = dlt_source(project, "bench", streams=["jobs"])
"""
LOAD = """
made = dlt.pipeline("bench", pipelines_dir=".", destination=dlt.destinations.duckdb("out.duckdb"), dataset_name="raw")
made.run(source)
with made.sql_client() as client:
    ((rows,),) = client.execute_sql("select count(*) from jobs")
assert rows == int(sys.argv[2]), rows
"""

# Integration -> the client's environment, the bare program, ours; each Python of its own has what its program imports.
INTEGRATIONS = {
    "singer": ((CLIENTS / "target-jsonl", BARE + BARE_TAP), (ROOT / ".venv", OURS + TAP)),
    "dlt": ((CLIENTS / "dlt", BARE + BARE_SOURCE + LOAD), (CLIENTS / "dlt", OURS + SOURCE + LOAD)),
}


def cpu_of(environment: Path, program: str, url: str, rows: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "config.json").write_text(json.dumps({"base_url": url}))
        selected = [{"breadcrumb": [], "metadata": {"selected": True}}]
        catalog = {"streams": [{"tap_stream_id": "jobs", "stream": "jobs", "schema": {}, "metadata": selected}]}
        (place / "catalog.json").write_text(json.dumps(catalog))
        command = [str(environment / "bin" / "python"), "-c", program, url, str(rows)]
        return measured(command, place).cpu_s


def main() -> None:
    rows, rounds = (int(word) for word in [*sys.argv[1:], *("100000", "5")[len(sys.argv) - 1 :]])
    with provider("--leads", "1", "--jobs", str(rows)) as url:
        for name, (bare, ours) in INTEGRATIONS.items():
            pairs = [(cpu_of(*bare, url, rows), cpu_of(*ours, url, rows)) for _ in range(rounds)]
            theirs, own = (1e6 * statistics.median(one) / rows for one in zip(*pairs, strict=True))
            ratio = statistics.median(ours / bare for bare, ours in pairs)
            print(f"{name:7} bare {theirs:6.1f} us of CPU a row, penstock {own:6.1f} us, {ratio:.2f} of it", flush=True)


if __name__ == "__main__":
    main()
