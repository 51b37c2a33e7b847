"""
The Python API: :class:`penstock.Project`, the results of its methods, and the modules that it is built from.
"""
