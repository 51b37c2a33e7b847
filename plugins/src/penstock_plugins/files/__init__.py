"""
Sinks of files: a directory, a single file, standard output.

A directory, in the order in which a run uses the modules: ``kinds`` (settings), ``sink`` (as configured) and ``target``
(opened for one source), ``locks``, ``source_files`` (places, drafts and renames), ``disk``; the formats ``codec``,
``jsonl``, ``csv`` and ``parquet``; ``commit`` (partitions), ``account_files`` and ``merge`` (a stream of changes),
``ledger``, ``datapackage`` (what the files are). Commands of their own: ``verify`` and ``erase``. Further:
``coordination`` (several machines), ``migration`` (targets of earlier versions). Without a directory: ``single`` (one
file) and ``stdout``.
"""
