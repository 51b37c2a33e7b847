"""
Filters: a provider's own request parameters, which a source configures in a table per stream.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from attrs import frozen

from penstock.names import did_you_mean

Filters = Mapping[str, Mapping[str, Any]]
"""Stream -> name of the provider's parameter -> value."""

FilterCheck = Callable[[Any, str, str, Any], Iterable[str]]
"""(settings, stream, name, value) -> the problems of one documented filter, one text each."""


def known_filters(
    documented: Mapping[str, Collection[str]], check: FilterCheck = lambda settings, stream, name, value: ()
) -> Callable[[Any, Any, Filters], None]:
    """
    A validator of a settings key that holds filters: each stream and name must be in ``documented``.

    ``documented``: stream -> the names that the provider's document lists. ``check`` adds the problems of a value.
    The validator raises one ValueError with all problems, each with the nearest documented name. The key has
    ``affects_data``.
    """
    return KnownFilters(documented, check)


@frozen
class KnownFilters:
    """See :func:`known_filters`."""

    documented: Mapping[str, Collection[str]]
    check: FilterCheck

    def __call__(self, settings: Any, attribute: Any, filters: Filters) -> None:
        problems = list(filter_problems(filters, self.documented))
        for stream, table in filters.items():
            for name in table if isinstance(table, Mapping) else ():
                if name in self.documented.get(stream, ()):
                    found = self.check(settings, stream, name, table[name])
                    problems += (f'{stream}."{name}": {problem}' for problem in found)
        if problems:
            raise ValueError("; ".join(problems))


def filter_problems(filters: Filters, documented: Mapping[str, Collection[str]]) -> Iterator[str]:
    """The streams and names of ``filters`` that are not documented, one text each."""
    for stream, table in filters.items():
        if stream not in documented:
            yield f"{stream}: no stream of this name takes filters.{_meant(stream, documented)}"
        elif not isinstance(table, Mapping):
            yield f"{stream}: expected a table of names and values, found {table!r}"
        else:
            unknown = (name for name in table if name not in documented[stream])
            yield from (
                f'{stream}."{name}": no documented filter.{_meant(name, documented[stream])}' for name in unknown
            )


def _meant(name: str, known: Iterable[str]) -> str:
    return did_you_mean(name, known) or f" There are {', '.join(sorted(known))}"
