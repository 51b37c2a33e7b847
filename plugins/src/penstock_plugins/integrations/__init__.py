"""
Integrations: penstock as a part of other tools, and other tools as a part of penstock.

The modules: ``singer`` and ``airbyte`` (commands, which share ``command`` and ``messages``), ``singer_target`` (any
Singer target as a sink), ``singer_messages`` (of both), ``dlt`` and ``dagster`` (functions for Python programs),
``deliveries`` (the rows for dlt), ``bookmarks`` (the state that a tool stores) and ``schema`` (a stream in the terms of
other tools).
"""
