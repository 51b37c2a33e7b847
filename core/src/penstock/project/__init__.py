"""
The results of the Python API, :class:`penstock.Project`: ``results``, and ``delivered``, which joins changes and adds
them up.
"""
