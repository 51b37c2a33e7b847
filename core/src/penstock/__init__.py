"""
penstock: carry records from reporting APIs to files or Postgres, and events back to their providers.

A plugin imports ``hookimpl`` from here and its values from :mod:`penstock.declare`, :mod:`penstock.record`,
:mod:`penstock.model` and :mod:`penstock.parts`. Nothing heavy is imported by this module: ``penstock --help``
and the scan for plugins come through here.
"""

import pluggy

__version__ = "0.1.0"

hookspec = pluggy.HookspecMarker("penstock")
hookimpl = pluggy.HookimplMarker("penstock")

__all__ = ["__version__", "hookimpl", "hookspec"]
