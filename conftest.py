"""
The connectors' directories bear the names of their packages. The packages are imported here, before any test is
collected: pytest would otherwise take each directory for a package of that name, and hide the real one.
"""

import importlib

for _name in ("talroo", "joveo", "targetcircle", "convertr", "sensis"):
    importlib.import_module(f"connector_{_name}")
