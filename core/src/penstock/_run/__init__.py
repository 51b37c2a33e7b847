"""
A run: one job per source and target, and its commits. ``runner`` begins and ends it, ``job_run`` has what a job does.
"""
