"""
The plan of a run: its streams and accounts, and the partitions that are not final. ``plan`` has the values, ``planner``
makes them.
"""
