"""
Sinks that write files: a directory of one file per partition, a single file, standard output.
"""
