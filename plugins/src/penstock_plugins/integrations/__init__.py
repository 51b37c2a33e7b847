"""
Integrations: penstock as a part of other tools, and other tools as a part of penstock.

- ``singer``, ``airbyte``: the commands, which share ``message_run`` (a run whose output is messages)
- ``singer_target``: any Singer target as a sink, with its settings in ``singer_kind``
- ``dlt``, ``dagster``: functions for Python programs
- ``messages``, ``singer_messages``: records as messages of JSON
- ``stream_schema``: a stream in the terms of other tools
- ``state_ledger``: the ledger of a run whose state another tool stores
"""
