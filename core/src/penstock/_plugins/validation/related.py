"""
The problems of the other streams that a stream names: its parent, the one that it is derived from, the lister of its
accounts.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import get_args

from penstock._plugins.validation.columns import ColumnsOf, no_column
from penstock._plugins.validation.declared import kind_of
from penstock.connector import Stream
from penstock.model import Kind
from penstock.names import did_you_mean

KINDS: tuple[str, ...] = get_args(Kind)


def problems_in_named_streams(stream: Stream, others: Mapping[str, Stream], columns_of_all: ColumnsOf) -> Iterator[str]:
    """The other streams that it names, and their columns."""
    needed: list[tuple[str, str, Collection[str]]] = []
    if stream.parent is not None:
        needed.append(("parent", stream.parent.stream, stream.parent.columns))
        if not isinstance(stream.parent.columns, tuple):
            yield f'parent: columns is {kind_of(stream.parent.columns)}; write a tuple, columns=("id",)'
            return
    if stream.accounts_from is not None:
        if not (isinstance(stream.accounts_from, tuple) and len(stream.accounts_from) == 2):
            yield f'accounts_from is {stream.accounts_from!r}; write accounts_from=("stream", "column")'
            return
        yield from _problems_in_lister(stream, others, *stream.accounts_from)
        lister, column = stream.accounts_from
        needed.append(("accounts_from", lister, (column,)))
        if stream.zone_from is not None and lister in others:  # else the problem is one of accounts_from
            needed.append(("zone_from", lister, (stream.zone_from,)))
    if stream.derived is not None:
        needed.append(("derived", stream.derived.stream, (stream.derived.column, *stream.derived.stamps.values())))
    for what, name, columns in needed:
        named = others.get(name)
        if name == stream.name:
            yield f"{what} names the stream itself"
        elif named is None:
            yield f"{what} names the stream {name!r}, which does not exist.{did_you_mean(name, others)}"
        elif named.not_built:
            yield f"{what} names the stream {name!r}, which is not built"
        elif named.derived is not None:
            yield f"{what} names the stream {name!r}, which is derived itself; name {named.derived.stream!r}"
        elif (existing := columns_of_all[name]) is not None and named.extra_columns is None:
            yield from (f"{what}: {no_column(named, column, existing)}" for column in columns if column not in existing)
    yield from _problems_in_parent(stream, others, columns_of_all)


def _problems_in_lister(stream: Stream, others: Mapping[str, Stream], name: str, column: str) -> Iterator[str]:
    """What the stream that lists its accounts must be: read whole, in one piece, and named for one of its columns."""
    lister = others.get(name)
    if lister is not None and (lister.kind != "snapshot" or lister.account is not None):
        divided = f"divided by {lister.account}" if lister.account is not None else f"of kind {lister.kind!r}"
        yield f"accounts_from names the stream {name!r}, which is {divided}; name a snapshot without account"
    for named in others.values():
        if named.accounts_from is not None and named.accounts_from[0] == name and named.accounts_from[1] != column:
            yield (
                f"accounts_from names the column {column!r} of {name}, and {named.name} names "
                f"{named.accounts_from[1]!r}; streams that are divided by one list name the same column"
            )
            return


def _problems_in_parent(stream: Stream, others: Mapping[str, Stream], columns_of_all: ColumnsOf) -> Iterator[str]:
    """The fields that it must share with its parent, or with the stream that it is derived from."""
    if stream.parent is not None and stream.parent.stream in others:
        parent = others[stream.parent.stream]
        if "snapshot" not in (stream.kind, parent.kind) and stream.kind != parent.kind and parent.kind in KINDS:
            yield (
                f"kind is {stream.kind!r}, and that of its parent {parent.name} is {parent.kind!r}; a child with days "
                f"is requested by its parent's rows of the same days, so write {parent.kind!r}"
            )
        if (stream.account is None) != (parent.account is None):
            yield (
                f"account is {stream.account!r}, and that of its parent {stream.parent.stream} is {parent.account!r}; "
                "a child is divided by accounts as its parent is"
            )
    if stream.derived is None or stream.derived.stream not in others:
        return
    cut_from = others[stream.derived.stream]
    if cut_from.kind != stream.kind:
        yield f"kind is {stream.kind!r}; it is derived from {cut_from.name}, so write {cut_from.kind!r}"
    columns = columns_of_all[cut_from.name]
    nested = columns.get(stream.derived.column) if columns is not None else None
    if nested is not None and nested.type != "json":
        seen = f"the column {nested.name} of {cut_from.name} is a {nested.type} column"
        yield f"derived: {seen}; it must be nested (Json)"
    for what, name, of_parent in (("account", stream.account, cut_from.account), ("day", stream.day, cut_from.day)):
        if name is not None and name != of_parent:
            yield f"{what} is {name!r}; it is derived from {cut_from.name}, whose {what} is {of_parent!r}: leave it out"
    if cut_from.kind == "changes":
        held = (*cut_from.partition_columns, *stream.derived.stamps.values())
        yield from (
            f"derived: stamps lacks {name!r} of the key of {cut_from.name}, by which the rows of a record that is read "
            "again are replaced: add it"
            for name in cut_from.key
            if name not in held
        )
