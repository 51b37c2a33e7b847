"""
The messages for libraries of extras that are not installed.
"""

import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("target", "module", "command"),
    [
        ("postgresql://localhost/x", "psycopg", r"pip install 'psycopg\[binary\]>=[^ ]+'"),
        ("duckdb:x.duckdb", "duckdb", "pip install 'duckdb>=[^ ]+' 'pyarrow>=[^ ]+'"),
        ("parquet:x", "pyarrow", "pip install 'pyarrow>=[^ ]+'"),
    ],
)
def test_a_missing_library_is_named_as_pip_installs_it(target: str, module: str, command: str) -> None:
    """
    A missing library is named, and not the extra alone: penstock may be from a checkout, and its name in no index.
    """
    program = f"""
import sys
sys.modules[{module!r}] = None
from penstock._cli import main
sys.exit(main(["status", "--to", {target!r}]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert re.search(f"{module} is not installed here.*Run: {command}$", done.stderr.strip()), done.stderr
