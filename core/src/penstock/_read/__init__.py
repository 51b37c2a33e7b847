"""
One slice read: its pages and reports, decoded, counted and handed to the writers of its partitions.
"""
