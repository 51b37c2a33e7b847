"""
Engines: where the shards of a divided run are carried out. ``processes`` of this machine; or workers of a Dask cluster
(``dask``), which write to the coordinator through ``dask_queues``.
"""
