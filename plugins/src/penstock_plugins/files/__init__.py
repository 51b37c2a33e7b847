"""
Sinks of files: a directory, a single file, standard output.

The modules:
- ``kinds``: settings
- ``sink``, ``target``: a directory as configured, and opened for one source
- ``locks``: of a source
- ``source_files``: places, drafts and renames
- ``disk``: safe file operations
- ``codec``: the interface of the formats
- ``jsonl``, ``csv``, ``parquet``: the formats
- ``commit``: the writer of a partition, and the commit of several
- ``account_files``, ``merge``: a stream of changes
- ``ledger``: the ledger beside the files
- ``datapackage``: what the files are
- ``verify``, ``erase``: the commands of these names
- ``coordination``: several machines
- ``migration``: targets of development versions
- ``single``, ``stdout``: sinks without a directory
"""
