"""
Members of an answer that state something about the whole listing, and that nothing reads.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from penstock.envelope import Envelope
from penstock.model import Page
from penstock.protocols import Paginator
from penstock.report_files import ReportFile

LISTINGS = 5
"""Listings of a stream that are searched in a run: each costs a plain read of its last body."""

_LARGEST = 1 << 20  # bytes of a body that is read

_NEXT = frozenset(
    {"endcursor", "next", "nextpage", "nextcursor", "nexttoken", "nextpagetoken", "nextlink", "nexturl", "cursor"}
)
_MORE = frozenset({"hasmore", "hasnext", "hasnextpage", "more", "moreresults"})
_TOTAL = frozenset({"total", "totalcount", "totalitems", "totalresults", "totalrecords", "recordcount"})
_AROUND = frozenset({"meta", "metadata", "pagination", "paging", "page", "pageinfo", "links"})


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
    members = page.response.members()
    if members is None:
        return ""
    read = {*envelope.items, *envelope.paths, *_texts_of(paginator)}
    stated = dict(_stated(members, envelope.items))
    unread = [path for path in stated if path not in read and path.partition(".")[0] not in read]
    counts = [path for path in unread if _folded(path) in _TOTAL]
    notes = []
    is_unchecked = bool(envelope.total and page.listed and not counted)
    if is_unchecked:
        notes.append(_missing_total(envelope.total, counts))
    if leads := [path for path in unread if _folded(path) in _NEXT | _MORE]:
        notes.append(_further_page(leads))
    totals = [] if is_unchecked else [path for path in counts if _exceeds(stated[path], page.listed)]
    if totals:
        notes.append(_larger_total(totals[0], stated[totals[0]], page))
    if "errors" in unread:
        notes.append(_ERRORS_BESIDE)
    return "; ".join(notes)


_ERRORS_BESIDE = (
    "the answer has errors beside the records, which nothing reads. If they mean that records are missing, "
    "declare a judge: judge=graphql_judge for GraphQL"
)


def _missing_total(paths: Sequence[str], counts: Sequence[str]) -> str:
    return (
        f"the envelope names total={' or '.join(map(repr, paths))}, which is not in the answer, so the "
        f"number of records was not checked{f'; there is {counts[0]}' if counts else ''}. Correct the path"
    )


def _further_page(leads: Sequence[str]) -> str:
    return (
        f"the last page has {', '.join(leads)}, which nothing reads. If it leads to another page, records are "
        f'missing: declare a paginator, such as named("cursor", member="{leads[0]}"). If not, name it in the '
        f'envelope, head=("{leads[0]}",)'
    )


def _larger_total(path: str, total: Any, page: Page) -> str:
    return (
        f"the answer states {path} {total}, {page.listed} records came, and nothing reads it. If it counts the "
        f'records, name it in the envelope, total="{path}"'
    )


def _texts_of(paginator: Any) -> Iterator[str]:
    """The options of a paginator that may name a member."""
    for field in attrs.fields(type(paginator)) if attrs.has(type(paginator)) else ():
        if isinstance(value := getattr(paginator, field.name), str):
            yield value


def _stated(members: Mapping[str, Any], items: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """The members around the items that state something: paths and values."""
    for at, inner in _around(members, items):
        is_last = any(value is False for name, value in inner.items() if _folded(name) in _MORE)
        for name, value in inner.items():
            leads = _folded(name) in _NEXT and not is_last
            if value and (leads or _folded(name) in _MORE | _TOTAL or (name == "errors" and not at)):
                yield f"{at}{name}", value


def _around(members: Mapping[str, Any], items: Iterable[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """
    The objects around the items, each with the start of its members' paths: the body, those that lead to the items, and
    in each of these the ones that describe a page, such as ``data.orders.pageInfo``.
    """
    outer = {"": members}
    for path in items:
        at, inner = "", members
        for name in path.split(".")[:-1]:
            value = inner.get(name)
            if not isinstance(value, dict):
                break
            at, inner = f"{at}{name}.", value
            outer[at] = inner
    for at, inner in outer.items():
        yield at, inner
        for name, value in inner.items():
            if isinstance(value, dict) and _folded(name) in _AROUND:
                yield f"{at}{name}.", value


def _folded(path: str) -> str:
    return path.rpartition(".")[2].lower().replace("_", "").replace("-", "")


def _exceeds(value: Any, listed: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > listed
