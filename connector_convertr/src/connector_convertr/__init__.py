"""
The Convertr connector: leads, campaigns, campaign publishers and campaign jobs of one Convertr enterprise.
"""

from penstock import ConnectorPlugin

plugin = ConnectorPlugin("connector_convertr.source:CONNECTOR", name="convertr")
