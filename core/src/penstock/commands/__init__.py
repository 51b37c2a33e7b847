"""
What plugins with commands use: the declaration of a command, durations, signals, closed pipes, and files that are
written whole.

The modules: ``declaration``, ``durations`` and ``process``.
"""
