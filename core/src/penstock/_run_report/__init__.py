"""
The report of a run and its exit code (``report``), and the log of one source in it (``log``).
"""
