"""
The command line in this process: ``main(["run", ...], plugins=..., environ=...)`` returns the exit code.
"""

from penstock._cli import main

__all__ = ["main"]
