"""
The plan of a run: its streams and accounts, and the partitions that are not final.

The modules: ``job_plan`` plans a job, ``planner`` each of its streams: the requested partitions (``account_views``,
``requested_days``, ``window``), those of them that are read (``open_partitions``) and their ``slices``.
``ledger_query`` reads what the target has; ``reasons``, ``finality`` and ``clock_bounds`` have the rules; ``families``
has the streams that are read together. ``plan`` has the values; ``selection`` selects streams and columns,
``dependencies`` orders streams, ``division`` divides a run.
"""
