"""
The read of one slice: its pages and reports are decoded, counted and passed to the writers of its partitions.
"""
