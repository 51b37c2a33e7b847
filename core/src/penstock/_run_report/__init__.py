"""
The report of a run (``report``), its exit code (``exit_codes``), and the log of one source in it (``log``).
"""
