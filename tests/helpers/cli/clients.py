"""
The clients of other tools (Singer, Airbyte, dlt, Dagster, ...), each in an environment of its own below
``.integrations``.
"""

import fcntl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[3]


UV = ROOT / ".tools" / "bin" / "uv"


ENVIRONMENTS = ROOT / ".integrations"


# For libraries that import penstock: the packages of this repository, and what sets the clock of a process.
OWN = ("time-machine", *(f"-e{ROOT / name}" for name in ("core", "plugins", "connector_talroo", "connector_convertr")))


# Name -> requirements. Where a client fails with what is newest, the reason is behind it.
CLIENTS: Mapping[str, tuple[str, ...]] = {
    "target-jsonl": ("target-jsonl==0.1.4", "setuptools<80"),  # singer-python 5.8 imports pkg_resources
    "meltanolabs-target-csv": ("meltanolabs-target-csv==0.5.0",),
    "meltanolabs-target-postgres": ("meltanolabs-target-postgres==0.8.1",),
    "pipelinewise-target-postgres": ("pipelinewise-target-postgres==2.1.2",),
    "target-duckdb": ("target-duckdb==0.8.0",),
    "singer-tools": ("singer-tools==0.4.1",),
    "singer-sdk": ("singer-sdk==0.54.9", "pytest"),
    "meltano": ("meltano==4.4.1",),
    "airbyte": ("airbyte==0.71.3",),
    "airbyte-cdk": ("airbyte-cdk[dev]==7.39.1",),
    "airflow": ("apache-airflow==3.3.2", *OWN),
    "dagster": ("dagster==1.13.28", *OWN),
    "dlt": ("dlt[duckdb]==1.31.0", *OWN),
    "prefect": ("prefect==3.8.8", "fastapi>=0.139,<0.150", *OWN),  # fastapi 0.165 breaks prefect's server
}


# No client takes more than half a minute on a quiet machine: this ends what hangs, however busy the machine is.
HANGS_S = 1800


QUICKLY = {"PENSTOCK_SOURCE__TALROO__REQUESTS_PER_SECOND": "500", "PENSTOCK_SOURCE__TALROO__CONCURRENCY": "4"}


def client(name: str) -> Path:
    """The directory of the client's programs; it is installed when it is not there, or another version is."""
    place, requirements = ENVIRONMENTS / name, "\n".join(CLIENTS[name])
    made = place / "requirements"
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of the same test run may install it
        if not made.exists() or made.read_text() != requirements:
            for words in (
                ["venv", "-q", "--clear", "--python", sys.executable, str(place)],
                # The workspace compiles what it installs; a client runs a few of its modules, once.
                ["pip", "install", "-q", "--no-compile", "--python", str(place / "bin" / "python"), *CLIENTS[name]],
            ):
                subprocess.run([str(UV), *words], check=True, timeout=HANGS_S)
            made.write_text(requirements)
    return place / "bin"
