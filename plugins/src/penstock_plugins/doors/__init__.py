"""
Doors: penstock as a part of other tools, and other tools as a part of penstock.

Singer and Airbyte are commands (``singer``, ``airbyte``, on ``command`` and ``messages``), any Singer target is a sink
(``singer_target``), dlt and Dagster are functions for Python programs (``dlt``, on
``deliveries``; ``dagster``). ``bookmarks`` is the state that a tool stores, ``schema`` a stream in terms of others.
"""
