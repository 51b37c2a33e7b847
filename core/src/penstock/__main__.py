"""
``python -m penstock``: the command line.
"""

import sys

from penstock._cli import script

sys.exit(script())
