"""
The plan of a run: its streams and accounts, and the partitions that are not final.

The modules: ``plan`` (its values), ``planner`` (makes them), ``selection`` (of streams and columns), ``dependencies``
(between streams), ``window`` (the requested days), ``finality`` (of readings), ``division`` (of a run into parts).
"""
