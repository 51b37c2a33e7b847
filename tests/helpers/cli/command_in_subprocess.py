"""
The command line in a process of its own, at the tests' own day, and the ``penstock.toml`` that it reads.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from penstock.testing.conformance import QUICK
from providers import Provider, then

# The day of the process is the tests' own: no test depends on the calendar. The monotonic clock stays the real one.
MAIN = f"""
import sys
sys.modules["pytest"] = None  # else time_machine imports it, which takes longer than a run
import time_machine
del sys.modules["pytest"]
time_machine.travel({then().now().isoformat()!r}, tick=True).start()
from penstock._cli import main
sys.exit(main())
"""


def toml(values: Mapping[str, Any]) -> str:
    """The lines of a table; JSON's texts, numbers and lists are TOML's, too."""

    def written(value: Any) -> str:
        if isinstance(value, Mapping):
            return "{ " + ", ".join(f"{json.dumps(name)} = {written(one)}" for name, one in value.items()) + " }"
        return json.dumps(value, ensure_ascii=False)

    return "".join(f"{name} = {written(value)}\n" for name, value in values.items())


def configure(folder: Path, provider: Provider, base_url: str, **more: Any) -> Path:
    """``penstock.toml`` in ``folder``, with the provider's source in it."""
    path = folder / "penstock.toml"
    values = {**provider.settings, **QUICK, "timeout_s": 5.0, **more, "base_url": base_url}
    path.write_text(f"[source.{provider.name}]\n{toml(values)}")
    return path


def command(
    folder: Path, *words: str, environ: Mapping[str, str] | None = None, before: Callable[[], None] = lambda: None
) -> "subprocess.Popen[bytes]":
    """``penstock WORDS`` started in ``folder`` at noon of ``TODAY``; ``before`` runs in the child."""

    def in_the_child() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job starts with it ignored
        before()

    return subprocess.Popen(
        [sys.executable, "-c", MAIN, *words],
        cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": "error", **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=in_the_child,
    )


def finished(folder: Path, *words: str) -> tuple[int, str]:
    """Exit code of ``penstock WORDS``, and what it printed on stderr."""
    process = command(folder, *words)
    _, printed = process.communicate(timeout=120)
    return process.returncode, printed.decode()
