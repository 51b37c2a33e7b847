"""
File systems as tests need them: soon full, or without the case of names.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A file system of this size (``2m``) at ``place``, an empty directory. Skips a test that may not mount any."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def resize(place: Path, size: str) -> None:
    """Another size for a :func:`small_disk`."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all space that is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return filler


@contextmanager
def ignored_case(*directories: Path) -> Iterator[None]:
    """
    Directories that look as on a file system that ignores case: the mark that penstock leaves in each of them is
    found under its name in capitals, too.
    """
    links = [directory / ".PENSTOCK" for directory in directories]
    for link in links:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(".penstock")
    yield
    for link in links:
        link.unlink()
