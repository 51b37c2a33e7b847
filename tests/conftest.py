"""
Makes ``worlds``, what these tests share, importable under that name.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
