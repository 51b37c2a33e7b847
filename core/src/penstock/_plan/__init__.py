"""
What a run wants: its streams and accounts, and the partitions that are not final.
"""
