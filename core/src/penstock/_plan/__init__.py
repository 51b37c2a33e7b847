"""
The plan of a run: the partitions of its streams that are not final. No network.

- ``planner``: the slices of a stream; it joins the other modules
- ``selection`` and ``accounts``: the streams, columns and accounts of a job
- ``window``: the days that are requested and that the provider serves
- ``ledger_query``: what a plan reads from the target
- ``partition_planner`` and ``finality``: why a partition is read; when a read is final
- ``dependencies``: streams that need the rows of others
- ``division``: the shards of a run of several processes
- ``read_job`` and ``plan``: the values: the job that is planned, slices, planned partitions
"""
