"""
The libraries of the optional extras: imported when they are needed, with one error where they are missing.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

from penstock import UsageError


@contextmanager
def installed(extra: str) -> Iterator[None]:
    """Raises UsageError that names the libraries, if one that is imported inside is missing or does not load."""
    try:
        yield
    except ImportError as error:
        libraries = " ".join(f"'{library}'" for library in _libraries_of(extra) or [f"penstock-plugins[{extra}]"])
        raise UsageError(
            f"{error.name or extra} is not installed here, or does not load ({error}). It is of the extra {extra} of "
            f"penstock-plugins. Run: pip install {libraries}"
        ) from error


def _libraries_of(extra: str) -> list[str]:
    """The libraries of an extra, as pip takes them: right for a checkout, too, whose extras no package index has."""
    of_extra = re.compile(rf"""\s*;.*extra == ["']{extra}["']""")
    try:
        requirements = metadata.requires("penstock-plugins") or ()
    except metadata.PackageNotFoundError:  # a path of modules
        requirements = ()
    return [of_extra.split(requirement)[0] for requirement in requirements if of_extra.search(requirement)]
