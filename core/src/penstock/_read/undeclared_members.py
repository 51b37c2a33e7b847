"""
Members of an answer that state that there is more than what was read, and that neither envelope nor paginator names.

Only a note comes of it, for the author of the connector: it changes no row, no count and no exit code. The words are
those of public APIs, such as GraphQL connections (``pageInfo``), AWS, Google, Stripe and Slack. A word that is missing
here costs a note.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from penstock._decode.masks import folded
from penstock.envelope import Envelope
from penstock.model import Page
from penstock.protocols import BodyDecoder, Paginator
from penstock.report_files import ReportFile

LISTINGS_SEARCHED = 5
"""
Listings of a stream that are searched in a run, until one brings a note: each costs a plain read of its last body. More
than one, since the first account or day often has one page or no records, and then no member that leads further.
"""

_LARGEST = 1 << 20  # bytes of a body that is read

# Names of members, folded.
_NEXT = frozenset(
    {"endcursor", "next", "nextpage", "nextcursor", "nexttoken", "nextpagetoken", "nextlink", "nexturl", "cursor"}
)
_MORE = frozenset({"hasmore", "hasnext", "hasnextpage", "more"})
_TOTAL = frozenset({"total", "totalcount", "totalitems", "totalresults", "totalrecords"})
_OF_PAGES = frozenset({"meta", "metadata", "pagination", "paging", "page", "pageinfo", "links"})


def undeclared_members(decoder: BodyDecoder, paginator: Paginator, page: Page, *, counted: bool) -> str:
    """
    A note about the members of the last page of a listing that name a further page, state a larger total, or errors
    beside the data, and that neither envelope nor paginator reads, and about a total that the envelope names and no
    page states (``counted``: one did); "" if there is nothing to note.
    """
    envelope = Envelope(items=decoder.items) if isinstance(decoder, ReportFile) else decoder
    if not isinstance(envelope, Envelope) or page.response.size > _LARGEST:
        return ""
    if (members := page.response.members()) is None:  # the body is an array
        return ""
    around = _around(members, envelope.items)
    read = {*envelope.items, *envelope.paths, *_texts_of(paginator)}
    undeclared = {
        path: value
        for path, value in around.items()
        if value and path not in read and path.partition(".")[0] not in read
    }
    is_last = any(value is False for path, value in around.items() if _folded(path) in _MORE)
    further = [path for path in undeclared if _folded(path) in (_MORE if is_last else _MORE | _NEXT)]
    totals = {path: value for path, value in undeclared.items() if _folded(path) in _TOTAL}
    notes = [_note_of_total(envelope, page, totals, counted=counted), _note_of_further(further)]
    if "errors" in undeclared:
        notes.append(
            "the answer has errors beside the records, which nothing reads. If they mean that records are missing, "
            "declare a judge: judge=graphql_judge for GraphQL"
        )
    return "; ".join(filter(None, notes))


def _note_of_total(envelope: Envelope, page: Page, totals: Mapping[str, Any], *, counted: bool) -> str:
    """``totals``: the members that state a total and that nothing reads."""
    if envelope.total and page.listed and not counted:
        there_is = f"; there is {next(iter(totals))}" if totals else ""
        return (
            f"the envelope names total={' or '.join(map(repr, envelope.total))}, which is not in the answer, so the "
            f"number of records was not checked{there_is}. Correct the path"
        )
    for path, total in totals.items():
        if type(total) is int and total > page.listed:
            return (
                f"the answer states {path} {total}, {page.listed} records came, and nothing reads it. If it counts the "
                f'records, name it in the envelope, total="{path}"'
            )
    return ""


def _note_of_further(members: Sequence[str]) -> str:
    """``members``: those that name a further page and that nothing reads."""
    if not members:
        return ""
    return (
        f"the last page has {', '.join(members)}, which nothing reads. If it leads to another page, records are "
        f'missing: declare a paginator, such as named("cursor", member="{members[0]}"). If not, name it in the '
        f'envelope, head=("{members[0]}",)'
    )


def _texts_of(paginator: Any) -> Iterator[str]:
    """The options of a paginator that may name a member."""
    for field in attrs.fields(type(paginator)) if attrs.has(type(paginator)) else ():
        if isinstance(value := getattr(paginator, field.name), str):
            yield value


def _around(members: Mapping[str, Any], items: Iterable[str]) -> dict[str, Any]:
    """
    The members around the items, by path: those of the body, of the objects that lead to the items, and of the objects
    in each of these that describe a page, such as ``data.orders.pageInfo``.
    """
    objects = {"": members}
    for path in items:
        prefix, inner = "", members
        for name in path.split(".")[:-1]:
            if not isinstance(inner.get(name), dict):
                break
            prefix, inner = f"{prefix}{name}.", inner[name]
            objects[prefix] = inner
    for prefix, outer in list(objects.items()):
        for name, value in outer.items():
            if isinstance(value, dict) and _folded(name) in _OF_PAGES:
                objects[f"{prefix}{name}."] = value
    return {f"{prefix}{name}": value for prefix, inner in objects.items() for name, value in inner.items()}


def _folded(path: str) -> str:
    """The last name of a path."""
    return folded(path.rpartition(".")[2])
