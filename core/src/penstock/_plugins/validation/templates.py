"""
The problems of the templates of ``path``, ``params`` and ``json``.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from penstock._plugins.validation.declared import kind_of
from penstock.connector import SLICE_VALUES, Parent, Stream
from penstock.errors import sentences
from penstock.names import did_you_mean
from penstock.templates import EPOCH_FORMATS, json_placeholders, placeholder_formats, placeholders

_NO_LINKS = attrs.fields(Parent).links.default


def problems_in_templates(stream: Stream, settings: type | None) -> Iterator[str]:
    """The names in the templates of ``path``, ``params`` and ``json``."""
    parent = stream.parent
    texts = {"path": stream.path} | {f"params[{name!r}]": value for name, value in stream.params.items()}
    if wrong := [(place, value) for place, value in texts.items() if not isinstance(value, str)]:
        yield from (f'{place} is {kind_of(value)}; write a text, "{value}"' for place, value in wrong)
        return
    placed_names = [(place, name, False) for place, template in texts.items() for name in placeholders(template)]
    if stream.json is not None:
        placed_names += json_placeholders(stream.json)
        if not stream.path or stream.requests is not None:
            yield "json is the body of the request that path names; write path=, and no requests="
    for place, template in (("path", stream.path), ("params", stream.params), ("json", stream.json)):
        yield from (f"{place} names {{{name}:{format_}}}, {wrong}" for name, format_, wrong in _wrong_formats(template))
    if parent is not None and stream.path and parent.per_request != 1:
        parent_columns = [(place, repeated) for place, name, repeated in placed_names if name in parent.columns]
        if not parent_columns or not all(repeated for _, repeated in parent_columns):
            single = next((place for place, repeated in parent_columns if not repeated), "path")
            yield (
                f"{single} takes one parent row, and per_request is {parent.per_request}; name the column in a list of "
                "one element of json, or write requests="
            )
    names = {name for _, name, _ in placed_names}
    if stream.days_per_request not in (0, 1) and names & {"since", "start"} and not names & {"until", "end"}:
        yield (
            "its requests name the first day only, and days_per_request is more than 1; name {until} or {end}, too, or "
            "leave days_per_request out; if the provider returns all later days without it, write requests="
        )
    if parent is None or parent.links is _NO_LINKS:  # else the names that links gives a row are not known
        yield from _unknown_names(stream, settings, [(place, name) for place, name, _ in placed_names])


def _unknown_names(stream: Stream, settings: type | None, placed_names: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The names in templates (``placed_names``: place and name) that no request of the stream has a value for."""
    parent = stream.parent
    fields = {field.name: field for field in attrs.fields(settings)} if settings is not None else {}
    for place, name in placed_names:
        if parent is not None and name in parent.columns:
            continue
        if name in SLICE_VALUES:
            if (stream.account if name == "account" else stream.day) is None:
                yield f"{place} names {{{name}}}, and the stream has no {'account' if name == 'account' else 'day'}"
        elif name in fields:
            if "Secret" in str(fields[name].type):
                yield f"{place} names the secret {name}; the authenticator sends it, not a template"
        elif settings is not None and not hasattr(settings, name):
            names = (*SLICE_VALUES, *fields, *(parent.columns if parent is not None else ()))
            meant = did_you_mean(name, names)
            blanks = f"Braces of the provider's own have blanks: {{ {name} }}" if place.startswith("json") else ""
            yield sentences(f"{place} names {{{name}}}, which is no value of a request", meant, blanks)


def _wrong_formats(template: Any) -> Iterator[tuple[str, str, str]]:
    """Name and format of the days and times of a template that would not be written as meant, and what to write."""
    for name, format_ in placeholder_formats(template):
        if format_ in EPOCH_FORMATS and name in ("since", "until"):
            moment = {"since": "start", "until": "end"}[name]
            yield name, format_, f"which is a day and no time; write {{{moment}:{format_}}}"
        elif name in ("since", "until", "start", "end") and format_ not in EPOCH_FORMATS and "%" not in format_:
            examples = ["%Y-%m-%d"] if name in ("since", "until") else ["%Y-%m-%dT%H:%M:%S", *EPOCH_FORMATS]
            meant = " or ".join(f"{{{name}:{example}}}" for example in examples)
            yield name, format_, f"whose format has no % and would be sent as it is; write {meant}"
