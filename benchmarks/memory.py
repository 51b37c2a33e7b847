"""
Whether memory stays flat: the peak of a run over few records, and of one over a hundred times as many.

The provider is imitated in a process of its own, which makes its bodies as they are requested. Each run is a process,
too, and its peak is Linux's VmHWM. Run it with the Python of an environment that holds penstock-core,
penstock-plugins[postgres] and connector-bench::

    VENV/bin/python benchmarks/memory.py [--to jsonl csv postgresql] [--streams clicks jobs] [--many 10000000]
"""

import argparse
import re
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from postgres import server
from table import penstock, provider

CLICKS_PER_DAY = 20_000


def peak_mib(pid: int) -> float:
    found = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def read(stream: str, records: int, to: str) -> tuple[float, float]:
    """(peak MiB, seconds) of one run; ``to`` is the name of a sink for files, or a DSN."""
    folder = Path(tempfile.mkdtemp(prefix="memory-"))
    place = to if "://" in to else f"{to}:{folder / 'o'}"
    try:
        with provider("--endless", "--jobs", str(records)) as url:
            command = penstock(url, stream, place, days=records // CLICKS_PER_DAY)
            began, peak = time.monotonic(), 0.0
            run = subprocess.Popen([*command, "--set", "source.bench.max_pages=1000000"], cwd=folder)
            while run.poll() is None:
                with suppress(OSError):
                    peak = max(peak, peak_mib(run.pid))
                time.sleep(0.02)
        if run.wait() != 0:
            raise SystemExit(f"{' '.join(command)}: exit {run.returncode}")
        return peak, time.monotonic() - began
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--to", nargs="+", default=["jsonl", "csv", "postgresql"], metavar="KIND")
    words.add_argument("--streams", nargs="+", default=["clicks", "jobs"])
    words.add_argument("--few", type=int, default=100_000)
    words.add_argument("--many", type=int, default=10_000_000)
    given = words.parse_args()
    print(f"| Stream, sink | MiB at {given.few:,} | MiB at {given.many:,} | more | records/s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for stream in given.streams:
        for kind in given.to:
            with ExitStack() as stack:
                to = stack.enter_context(server().database()) if kind == "postgresql" else kind
                few, _ = read(stream, given.few, to)
                many, seconds = read(stream, given.many, to)
            peaks = f"{few:.0f} | {many:.0f} | {many - few:+.0f}"
            print(f"| {stream}, {kind} | {peaks} | {given.many / seconds:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
