"""
The report of a run, and the log of one source in it.
"""
