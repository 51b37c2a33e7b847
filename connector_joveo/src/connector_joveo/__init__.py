"""The joveo connector."""

from penstock import ConnectorPlugin

plugin = ConnectorPlugin("connector_joveo.source:CONNECTOR", name="joveo")
