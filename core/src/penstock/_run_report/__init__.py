"""
The report of a run.

- ``report``: its counts, its errors and its exit code
- ``lines``: what of it is printed
- ``log``: the log of one source in it
"""
