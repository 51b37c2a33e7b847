"""
A run: one job per source and target, and its commits.

- ``runner``: begins the run, runs the tasks of its jobs in one scheduler, and ends it
- ``job_run``: what one job does: its tasks, and what follows the end of each
- ``reader_factory``: the reader of each slice
- ``commit``: results in order, in groups, into the target
- ``replacement``: whether the rows of a read may replace the former ones
- ``failures`` and ``refusals``: partitions that failed; credentials and accounts that the provider refuses
- ``listed_accounts``: accounts that the provider lists itself
- ``missing_measures``: measures that the provider stopped sending
- ``context``: what the jobs of a run share
- ``divided``: a run of several processes
"""
