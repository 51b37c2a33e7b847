"""
A run: its jobs (one per source and target), their commits, and the history of targets.

The modules: ``context`` (what the jobs share), ``runner`` (a run from its start to its report), ``source`` (one job),
``commit`` (its results into the target), ``measures`` (those that went), ``divided`` (a run of several processes),
``check`` and ``history``.
"""
