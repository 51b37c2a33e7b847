"""
A plugin with the engine of docs/hooks.md: parts of a run as threads of this process, where a test needs no kill.
"""

import re
from pathlib import Path

_PAGE = (Path(__file__).parents[3] / "docs" / "hooks.md").read_text()
_SECTION = _PAGE.partition("## penstock_engines\n")[2]
_EXAMPLE = re.search(r"```python\n(.*?)```", _SECTION, re.DOTALL)
assert _EXAMPLE is not None
exec(compile(_EXAMPLE[1], "docs/hooks.md", "exec"))
