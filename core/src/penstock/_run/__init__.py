"""
A run: the job of each source, its commits and its history.
"""
