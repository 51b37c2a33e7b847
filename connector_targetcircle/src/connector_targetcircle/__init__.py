"""
The Target Circle publisher API as a penstock plugin. What it offers is imported only when a hook is called.
"""

from penstock import ConnectorPlugin

plugin = ConnectorPlugin("connector_targetcircle.source:CONNECTOR", name="targetcircle")
