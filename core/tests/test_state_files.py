"""
Locks of small files with state.
"""

from pathlib import Path

import pytest
from penstock._util import files


def test_a_lock_is_exclusive(tmp_path: Path) -> None:
    """
    A second handle of the same process waits, too.
    """

    def give_up() -> None:
        raise TimeoutError

    with files.exclusive(tmp_path / "lock", give_up):
        with pytest.raises(TimeoutError), files.exclusive(tmp_path / "lock", give_up):
            pass
    with files.exclusive(tmp_path / "lock", give_up):
        pass
