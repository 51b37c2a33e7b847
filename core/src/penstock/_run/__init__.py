"""
A run: its jobs (one per source and target), their commits, and the history of targets.

The modules: ``context`` (the jobs, and what they share), ``runner`` (a run from its start to its report), ``source``
(one job), ``source_report`` (its part of the report), ``accounts`` (those that the provider lists), ``refusals`` (of
credentials and accounts), ``commit`` (results into the target), ``measures`` (those that went), ``divided`` (a run of
several processes), ``check`` and ``history``.
"""
