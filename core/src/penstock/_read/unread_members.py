"""
Members of an answer that state that there is more than what was read, and that nothing reads.

Only a note comes of it, for the author of the connector: it changes no row, no count and no exit code. The words are
those of public APIs, such as GraphQL connections (``pageInfo``), AWS, Google, Stripe and Slack. A word that is missing
here costs a note.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from penstock.envelope import Envelope
from penstock.model import Page
from penstock.protocols import Paginator
from penstock.report_files import ReportFile

LISTINGS = 5
"""
Listings of a stream that are searched in a run, until one brings a note: each costs a plain read of its last body. More
than one, since the first account or day often has one page or no records, and then no member that leads further.
"""

_LARGEST = 1 << 20  # bytes of a body that is read

# Names of members, in lower case and without _ and -.
_NEXT = frozenset(
    {"endcursor", "next", "nextpage", "nextcursor", "nexttoken", "nextpagetoken", "nextlink", "nexturl", "cursor"}
)
_MORE = frozenset({"hasmore", "hasnext", "hasnextpage", "more"})
_TOTAL = frozenset({"total", "totalcount", "totalitems", "totalresults", "totalrecords"})
_OF_PAGES = frozenset({"meta", "metadata", "pagination", "paging", "page", "pageinfo", "links"})


def unread_members(envelope: Any, paginator: Paginator, page: Page, *, counted: bool) -> str:
    """
    A note about the members of the last page of a listing that name a further page, state a larger total, or errors
    beside the data, and that neither envelope nor paginator reads, and about a total that the envelope names and no
    page states (``counted``: one did); "" if there is nothing to note.
    """
    if isinstance(envelope, ReportFile):
        envelope = Envelope(items=envelope.items)
    if not isinstance(envelope, Envelope) or page.response.size > _LARGEST:
        return ""
    if (members := page.response.members()) is None:  # the body is an array
        return ""
    around = _around(members, envelope.items)
    read = {*envelope.items, *envelope.paths, *_texts_of(paginator)}
    unread = {
        path: value
        for path, value in around.items()
        if value and path not in read and path.partition(".")[0] not in read
    }
    is_last = any(value is False for path, value in around.items() if _folded(path) in _MORE)
    further = [path for path in unread if _folded(path) in (_MORE if is_last else _MORE | _NEXT)]
    totals = [path for path in unread if _folded(path) in _TOTAL]
    larger = [path for path in totals if type(unread[path]) is int and unread[path] > page.listed]
    notes = []
    if envelope.total and page.listed and not counted:
        notes.append(
            f"the envelope names total={' or '.join(map(repr, envelope.total))}, which is not in the answer, so the "
            f"number of records was not checked{f'; there is {totals[0]}' if totals else ''}. Correct the path"
        )
    elif larger:
        notes.append(
            f"the answer states {larger[0]} {unread[larger[0]]}, {page.listed} records came, and nothing reads it. If "
            f'it counts the records, name it in the envelope, total="{larger[0]}"'
        )
    if further:
        notes.append(
            f"the last page has {', '.join(further)}, which nothing reads. If it leads to another page, records are "
            f'missing: declare a paginator, such as named("cursor", member="{further[0]}"). If not, name it in the '
            f'envelope, head=("{further[0]}",)'
        )
    if "errors" in unread:
        notes.append(
            "the answer has errors beside the records, which nothing reads. If they mean that records are missing, "
            "declare a judge: judge=graphql_judge for GraphQL"
        )
    return "; ".join(notes)


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
    return path.rpartition(".")[2].lower().replace("_", "").replace("-", "")
