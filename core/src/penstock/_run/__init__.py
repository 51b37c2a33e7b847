"""
A run: its jobs (one per source and target), their commits, and the targets used before.

The modules: ``context`` (the jobs, and what they share), ``runner`` (a run from its start to its report), ``job_run``
(one job). The reads of a job: ``slice_tasks`` (what is read after what) with ``listed_accounts`` (those that the
provider lists), ``refusals`` (of credentials and accounts), ``readers`` and ``pending_reports``. Its commits:
``commit`` (results into the target) with ``commit_order`` (days of changes), ``commit_group`` (small partitions),
``lost_measures`` (those that disappeared), ``failures`` and ``run_record`` (in the ledger). ``divided`` (a run of
several processes) and ``worker`` (one of these), ``worker_messages`` (between them), ``shared_targets`` (the targets
that such a run shares), ``check`` (of credentials), ``used_targets`` (those of former runs).
"""
