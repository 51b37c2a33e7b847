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
    if wrong := [(what, value) for what, value in texts.items() if not isinstance(value, str)]:
        yield from (f'{what} is {kind_of(value)}; write a text, "{value}"' for what, value in wrong)
        return
    named = [(what, name, False) for what, template in texts.items() for name in placeholders(template)]
    if stream.json is not None:
        named += json_placeholders(stream.json)
        if not stream.path or stream.requests is not None:
            yield "json is the body of the request that path names; write path=, and no requests="
    for what, template in (("path", stream.path), ("params", stream.params), ("json", stream.json)):
        yield from (f"{what} names {{{name}:{format_}}}, {wrong}" for name, format_, wrong in _wrong_formats(template))
    if parent is not None and stream.path and parent.per_request != 1:
        of_parent = [(what, repeated) for what, name, repeated in named if name in parent.columns]
        if not of_parent or not all(repeated for _, repeated in of_parent):
            single = next((what for what, repeated in of_parent if not repeated), "path")
            yield (
                f"{single} takes one parent row, and per_request is {parent.per_request}; name the column in a list of "
                "one element of json, or write requests="
            )
    names = {name for _, name, _ in named}
    if stream.days_per_request not in (0, 1) and names & {"since", "start"} and not names & {"until", "end"}:
        yield (
            "its requests name the first day only, and days_per_request is more than 1; name {until} or {end}, too, or "
            "leave days_per_request out; if the provider returns all later days without it, write requests="
        )
    if parent is None or parent.links is _NO_LINKS:  # else the names that links gives a row are not known
        yield from _unknown_names(stream, settings, [(what, name) for what, name, _ in named])


def _unknown_names(stream: Stream, settings: type | None, named: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The names in templates (``named``: place and name) that no request of the stream has a value for."""
    parent = stream.parent
    fields = {field.name: field for field in attrs.fields(settings)} if settings is not None else {}
    for what, name in named:
        if parent is not None and name in parent.columns:
            continue
        if name in SLICE_VALUES:
            if (stream.account if name == "account" else stream.day) is None:
                yield f"{what} names {{{name}}}, and the stream has no {'account' if name == 'account' else 'day'}"
        elif name in fields:
            if "Secret" in str(fields[name].type):
                yield f"{what} names the secret {name}; the authenticator sends it, not a template"
        elif settings is not None and not hasattr(settings, name):
            names = (*SLICE_VALUES, *fields, *(parent.columns if parent is not None else ()))
            meant = did_you_mean(name, names)
            blanks = f"Braces of the provider's own have blanks: {{ {name} }}" if what.startswith("json") else ""
            yield sentences(f"{what} names {{{name}}}, which is no value of a request", meant, blanks)


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
