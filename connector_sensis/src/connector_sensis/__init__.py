"""
The Sensis connector: it sends usage events and reads nothing. What it offers is imported only when a hook is called.
"""

from penstock import ConnectorPlugin

plugin = ConnectorPlugin("connector_sensis.source:CONNECTOR", name="sensis")
