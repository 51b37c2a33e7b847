"""
The connectors' directories bear the names of their packages. The packages are imported here, before any test is
collected: pytest would otherwise take each directory for a package of that name, and hide the real one.
"""

import importlib

import pytest
from penstock import redact

for _name in ("talroo", "joveo", "targetcircle", "convertr", "sensis"):
    importlib.import_module(f"connector_{_name}")


@pytest.fixture(autouse=True)
def _secrets_of_this_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's secrets ("token") end with it: in the texts of the next one they are words like any other."""
    known = redact._Known()
    known._forms |= redact._known._forms
    monkeypatch.setattr(redact, "_known", known)
