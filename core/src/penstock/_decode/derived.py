"""
Derived streams: the elements of a nested column of the parent's rows, as a page of their own.
"""

from collections.abc import Mapping
from itertools import accumulate, chain, repeat

from msgspec import Raw, ValidationError

from penstock._decode.codecs import DICTS, LISTS, NO_ELEMENTS, NULL, RAWS, array_of
from penstock._decode.page import Elements, RawPage, values_of
from penstock.connector import Stream
from penstock.model import EXACT_JSON
from penstock.records import Column
from penstock.sinks import Layout


def columns_of_derived(child: Stream, parent: Layout, parent_columns: Mapping[str, Column]) -> tuple[Column, ...]:
    """The stamped columns (the parent's partition first), then those of the record class."""
    names = {column.name for column in child.columns}
    front = [
        Column(
            name=name,
            type=parent_columns[theirs].type,
            zone=parent_columns[theirs].zone,
            personal=parent_columns[theirs].personal,
            description=f"{theirs} of the row in {parent.stream}",
        )
        for name, theirs in stamps_of(child, parent).items()
        if name not in names
    ]
    return (*front, *child.columns)


def stamps_of(child: Stream, parent: Layout) -> dict[str, str]:
    """The stamps: the derived stream's column -> the parent's column."""
    assert child.derived is not None
    return {**{name: name for name in parent.partition_columns}, **child.derived.stamps}


def elements_of(page: RawPage, column: Column, stamps: Mapping[str, str]) -> Elements:
    """The elements of the column over all rows of ``page``, with their paths in the body."""
    values = values_of(page.rows, column.name)
    if not set(map(type, values)) <= {Raw}:
        values = [
            value if isinstance(value, Raw) else NO_ELEMENTS if value is None else Raw(EXACT_JSON.encode(value))
            for value in values
        ]
    try:
        lists = LISTS.decode(array_of(values))
    except ValidationError:
        lists = list(map(_as_list, values))
    lengths = list(map(len, lists))

    def path(index: int) -> str:
        outer, number = page.elements.locate(page.positions[index])
        return f"{outer}[{number}].{column.member or column.name}"

    return Elements(
        data=array_of(chain.from_iterable(lists)),
        starts=list(accumulate(lengths, initial=0)),
        path=path,
        stamps={
            name: list(chain.from_iterable(map(repeat, values_of(page.rows, theirs), lengths)))
            for name, theirs in stamps.items()
        },
    )


def _as_list(value: Raw) -> list[Raw]:
    """
    The elements of a value that should be an array. Null and ``{}`` have none. An object of objects is an array with
    indices, as PHP prints one. Any other value is a single element, which is rejected if it is no object.
    """
    first = bytes(memoryview(value)[:1])
    if first == b"[":
        return list(RAWS.many.decode(value))
    if value == NULL:
        return []
    if first == b"{":
        members = list(DICTS.one.decode(value).values())
        if all(bytes(memoryview(member)[:1]) == b"{" for member in members):
            return members
    return [value]
