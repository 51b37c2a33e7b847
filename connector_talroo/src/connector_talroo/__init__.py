"""
The Talroo connector: one click report per advertiser and day. What it offers is imported only when a hook is called.
"""

from penstock import ConnectorPlugin

plugin = ConnectorPlugin("connector_talroo.source:CONNECTOR", name="talroo")
