"""
The messages for libraries of extras that are not installed.
"""

import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("target", "modules", "command"),
    [
        ("postgresql://localhost/x", ["psycopg"], r"pip install 'psycopg\[binary\]>=[^ ]+'"),
        ("duckdb:x.duckdb", ["duckdb", "pyarrow"], "pip install 'duckdb>=[^ ]+' 'pyarrow>=[^ ]+'"),
        ("parquet:x", ["pyarrow"], "pip install 'pyarrow>=[^ ]+'"),
    ],
)
def test_a_missing_library_is_named_as_pip_installs_it(target: str, modules: list[str], command: str) -> None:
    """
    A missing library is named, and not the extra alone: penstock may be from a checkout, and its name in no index. Of
    an extra with several libraries the first that is needed is named, and all of them are in the command.
    """
    program = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({modules!r}))
sys.argv[1:] = ["status", "--to", {target!r}]
runpy.run_module("penstock", run_name="__main__", alter_sys=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert re.search(f"({'|'.join(modules)}) is not installed here.*Run: {command}$", done.stderr.strip()), done.stderr
