"""
penstock: carry records from reporting APIs to files or Postgres, and events back to their providers.

``__init__.pyi`` lists the public names. Each is imported from its module on first use, so that ``import penstock``
stays quick for the command line and for the scan of plugins.
"""

import ast
import importlib
import pkgutil
from functools import cache
from typing import Any

import pluggy

__version__ = "0.1.0"

hookspec = pluggy.HookspecMarker("penstock")
hookimpl = pluggy.HookimplMarker("penstock")


@cache
def public_names() -> dict[str, str]:
    """The public names, each with the module that defines it: the imports in ``__init__.pyi``, in its order."""
    stub = ast.parse(pkgutil.get_data(__name__, "__init__.pyi") or b"")
    found = (node for node in stub.body if isinstance(node, ast.ImportFrom))
    return {alias.name: str(node.module) for node in found for alias in node.names}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    module = None if name.startswith("_") else public_names().get(name)
    if module is None:
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(["__version__", "hookimpl", "hookspec", *public_names()])
