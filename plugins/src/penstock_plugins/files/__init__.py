"""
Sinks of files: a directory, a single file, standard output.

The modules, in the order in which a run uses them: ``sink`` (a directory as configured) and ``target`` (opened for one
source), ``locks``, ``source_files`` (places, drafts and renames), ``disk``; the formats ``codec``, ``jsonl``,
``csvfile`` and ``parquet``; ``commit`` (a partition), ``merged_files`` and ``merge`` (a stream of changes), ``ledger``,
``datapackage`` (what the files are). Commands of their own: ``verify`` and ``erase``. Further:
``staging`` (several machines), ``migration`` (targets of earlier versions), ``single`` (one file) and ``stdout``.
"""
