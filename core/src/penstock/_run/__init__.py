"""
A run: its jobs (one per source and target), their commits, and the history of targets.
"""
