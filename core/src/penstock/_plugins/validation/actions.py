"""
The problems of the writes that a plugin offers.
"""

from collections.abc import Iterable, Iterator
from typing import get_args

from penstock._plugins.validation.declared import named_twice
from penstock.actions import Action, FieldType, Place
from penstock.templates import placeholders

PLACES: tuple[str, ...] = get_args(Place)
FIELD_TYPES: tuple[str, ...] = get_args(FieldType)


def problems_in_actions(actions: Iterable[Action]) -> list[str]:
    """The problems of these actions, in the order of the actions."""
    actions = list(actions)
    problems = named_twice("action", [action.name for action in actions])
    return problems + [
        f"action {action.name}: {problem}" for action in actions for problem in _problems_in_action(action)
    ]


def _problems_in_action(action: Action) -> Iterator[str]:
    if action.not_built:
        return
    names = {field.name: field for field in action.fields}
    # Where the settings decide the path (endpoint), the declared one is documentation only.
    in_path = set(placeholders(action.path)) if action.endpoint is None else set[str]()
    for name in sorted(in_path - names.keys()):
        example = f'Field(name={name!r}, place="path", ...)'
        yield f"path {action.path!r} contains {{{name}}}, which is no field; add {example}"
    for field in action.fields:
        if field.place not in PLACES:
            yield f"field {field.name}: place {field.place!r} is none of {', '.join(PLACES)}"
        if field.type not in FIELD_TYPES:
            yield f"field {field.name}: type {field.type!r} is none of {', '.join(FIELD_TYPES)}"
        if field.name in in_path and not (field.place == "path" and field.required):
            yield f'field {field.name}: it is in the path; write place="path" and required=True'
        if field.place == "path" and field.name not in in_path and action.endpoint is None:
            yield f"field {field.name}: path {action.path!r} does not name it; write {{{field.name}}} there"
    taken: dict[str, str] = {}
    for field in action.fields:
        for spelling in {field.name, field.member, *field.aliases}:
            if (other := taken.setdefault(spelling, field.name)) != field.name:
                yield f"field {field.name}: {spelling!r} is also a name of the field {other}"
    yield from named_twice("field", [field.name for field in action.fields])
    if action.rows_per_request < 1:
        yield f"rows_per_request is {action.rows_per_request}; write 1 or more"
    if action.rows_member and not action.bulk:
        yield f"rows_member is {action.rows_member!r}, and a body has one row; write rows_per_request=100"
    if action.most_values is not None:
        repeated, name = names.get(action.most_values.field), action.most_values.field
        if repeated is None or not repeated.repeated:
            yield f"most_values names the field {name!r}, which is no repeated one; write repeated=True"
