"""
The files of a target as query engines read them: the recipes of docs/targets.md, and the data packages.

Needs the dependency groups ``readers`` and ``spark`` (make test-all installs them).
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from command_in_subprocess import configure, finished
from penstock.sandbox.server import serve
from providers import CONVERTR, PROVIDERS, TALROO, TODAY, Provider

pytestmark = pytest.mark.large

TARGETS = Path(__file__).parents[1] / "docs" / "targets.md"
RECIPES = re.findall(r"<!-- readers -->\n```python\n(# (\w+).*?)```", TARGETS.read_text(), re.DOTALL)


AS_ROWS: dict[str, Callable[[Any], list[dict[str, Any]]]] = {
    "DuckDB": lambda found: [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()],
    "Polars": lambda found: found.collect().to_dicts(),
    "pyarrow": lambda found: found.to_pylist(),
    "pandas": lambda found: found.to_dict("records"),
}


def delivered(folder: Path, provider: Provider, targets: Sequence[str] = ("jsonl:data", "csv:csv")) -> Any:
    """The provider's imitation, after its records were delivered to the targets."""
    with serve() as server:
        app = provider.make(server.base_url, TODAY)
        server.app = app
        configure(folder, provider, server.base_url)
        days = provider.window(TODAY)
        window = ("--since", str(days[0]), "--until", str(days[-1]), "--streams", ",".join(provider.streams))
        for target in targets:
            code, output = finished(folder, "run", provider.name, "--to", target, *window)
            assert code == 0, output
    return app


def in_spark(recipe: str) -> list[dict[str, Any]]:
    """The rows of a recipe in a process of its own: Spark leaves a Java process and sockets until its Python ends."""
    pytest.importorskip("pyspark", reason="needs the dependency group spark")
    if shutil.which("java") is None:
        pytest.skip("Spark needs a Java runtime (Debian: apt-get install openjdk-17-jre-headless)")
    show = "import json; print(json.dumps([row.asDict() for row in clicks.collect()], default=str))"
    environ = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", f"{recipe}\n{show}"], env=environ, stdout=subprocess.PIPE, check=True, timeout=800
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return [{**row, "price_amount": Decimal(row["price_amount"])} for row in rows]


@pytest.mark.parametrize(
    ("recipe", "name"), RECIPES, ids=[f"{name}-{number}" for number, (_, name) in enumerate(RECIPES)]
)
def test_a_recipe_of_the_guide_reads_every_click(recipe: str, name: str, working_directory: Path) -> None:
    """
    Each recipe gives all clicks, with text for ids, a date for the day and the exact sum of the money.
    """
    app = delivered(working_directory, TALROO, ("jsonl:data", "csv:csv", "parquet:parquet"))
    truth = [row for rows in TALROO.expected(app, TALROO.window(TODAY)).values() for row in rows]

    if name == "Spark":
        rows = in_spark(recipe)
    else:
        scope: dict[str, Any] = {}
        exec(recipe, scope)
        rows = AS_ROWS[name](scope["clicks"])

    assert len(rows) == len(truth)
    assert {row["advertiser_id"] for row in rows} == set(app.advertisers)
    assert all(str(row["report_date"])[:10] in {str(day) for day in TALROO.window(TODAY)} for row in rows)
    assert sum(row["price_amount"] for row in rows) == sum(Decimal(row["price"]) for row in truth) / 100


@pytest.mark.parametrize("provider", [TALROO, CONVERTR], ids=lambda one: one.name)
@pytest.mark.parametrize("target", ["data", "csv"])
def test_every_data_package_is_valid(provider: Provider, target: str, tmp_path: Path) -> None:
    """
    frictionless finds every file of a package, and each record as its schema declares it.
    """
    import frictionless

    delivered(tmp_path, provider)
    packages = sorted((tmp_path / target).rglob("datapackage.json"))
    reports = [frictionless.validate(str(package)) for package in packages]
    read = sum(task.stats["rows"] for report in reports for task in report.tasks)

    assert len(packages) == 1
    assert [report.flatten(["type", "message"]) for report in reports] == [[]]
    assert read == sum(len(file.read_text().splitlines()) for file in (tmp_path / "data").rglob("data.jsonl")) > 0


@pytest.mark.parametrize("target", ["data", "csv"])
def test_plain_hive_partitioning_works(target: str, tmp_path: Path) -> None:
    """
    pyarrow reads a stream's directory as it stands: the rows' own columns, and the directories' beside them.
    """
    import pyarrow.dataset

    app = delivered(tmp_path, TALROO)
    truth = [row for rows in TALROO.expected(app, TALROO.window(TODAY)).values() for row in rows]
    format_ = "json" if target == "data" else "csv"
    found = pyarrow.dataset.dataset(tmp_path / target / "talroo" / "clicks", format=format_, partitioning="hive")

    assert found.count_rows() == len(truth)
    assert {"advertiser_id", "by_advertiser_id", "report_date", "by_report_date"} <= set(found.schema.names)


# DuckDB's, Polars' and pandas' names of the types of columns.
TYPES = {
    "text": ("VARCHAR", "String", "string"),
    "integer": ("BIGINT", "Int64", "int64"),
    "decimal": ("DECIMAL(38,9)", "Decimal(precision=38, scale=9)", "decimal128(38, 9)"),
    "boolean": ("BOOLEAN", "Boolean", "bool"),
    "date": ("DATE", "Date", "date32[day]"),
    "aware": ("TIMESTAMP WITH TIME ZONE", "Datetime(time_unit='us', time_zone='UTC')", "timestamp[us, tz=UTC]"),
    "naive": ("TIMESTAMP", "Datetime(time_unit='us', time_zone=None)", "timestamp[us]"),
    "json": ("VARCHAR", "String", "string"),
}


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_parquet_has_the_declared_types_in_every_reader(provider: Provider, tmp_path: Path) -> None:
    """
    DuckDB, Polars, pyarrow.dataset and pandas read each stream: every record that JSON lines hold, in the types that
    the stream declares, without a word about them.
    """
    import duckdb
    import pandas
    import polars
    import pyarrow.dataset
    import pyarrow.parquet

    delivered(tmp_path, provider, ("jsonl:data", "parquet:parquet"))
    streams = sorted(path.name for path in (tmp_path / "parquet" / provider.name).iterdir() if path.is_dir())
    assert set(provider.streams) <= set(streams)
    for stream in streams:
        place = tmp_path / "parquet" / provider.name / stream
        files = sorted(place.rglob("data.parquet"))
        lines = [
            json.loads(line)
            for file in (tmp_path / "data" / provider.name / stream).rglob("data.jsonl")
            for line in file.read_text().splitlines()
        ]
        declared = [
            (one["name"], one.get("zone", "aware")[:5] if one["type"] == "datetime" else one["type"])
            for one in json.loads(pyarrow.parquet.read_metadata(files[0]).metadata[b"penstock.columns"])
        ]
        expected = [[name, *TYPES["naive" if type_ == "not s" else type_]] for name, type_ in declared]

        in_duckdb = duckdb.sql(f"select * from read_parquet('{place}/**/*.parquet', hive_partitioning = false)")
        in_polars = polars.read_parquet(f"{place}/**/*.parquet", hive_partitioning=False)
        in_pyarrow = pyarrow.dataset.dataset(files).to_table()
        in_pandas = pandas.concat(pandas.read_parquet(file, dtype_backend="pyarrow") for file in files)

        types = [
            in_duckdb.columns,
            map(str, in_duckdb.types),
            map(str, in_polars.dtypes),
            map(str, in_pyarrow.schema.types),
        ]
        assert list(map(list, zip(*types, strict=True))) == expected
        assert [str(one).removesuffix("[pyarrow]") for one in in_pandas.dtypes] == [one[3] for one in expected]
        rows = [len(in_duckdb.fetchall()), len(in_polars), in_pyarrow.num_rows, len(in_pandas)]
        assert rows == [len(lines)] * 4
        texts = [name for name, type_ in declared if type_ == "text"]
        assert in_polars.select(texts).sort(texts).to_dicts() == sorted(
            ({name: one[name] for name in texts} for one in lines),
            key=lambda one: [(one[name] is not None, one[name] or "") for name in texts],
        )
