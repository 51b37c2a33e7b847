"""
The Joveo connector. What it offers is imported only when a hook is called.

The modules: ``config`` (settings), ``endpoints`` (the path of each operation), ``source`` (credentials, responses, what
is assumed), ``streams`` with their ``records``, ``reports`` and ``paging``, ``actions`` and ``sandbox``.
"""

from penstock import ConnectorPlugin

plugin = ConnectorPlugin("connector_joveo.source:CONNECTOR", name="joveo")
