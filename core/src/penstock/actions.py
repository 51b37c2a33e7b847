"""
Declarations of writes to a provider: actions and their fields.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from attrs import Factory, field, frozen

from penstock.model import Receipt, Response
from penstock.names import as_names
from penstock.verdicts import StatusRule, Verdict, check_statuses

Place = Literal["path", "query", "header", "body", "whole_body"]
FieldType = Literal["text", "integer", "number", "boolean", "object", "list", "json"]

Values = Mapping[str, Any]
"""A row ready to be sent: field name -> typed value; absent ones have no entry."""

ActionJudge = Callable[[Response, Sequence[Values]], Sequence[Receipt] | Verdict | None]
"""
What the response means to the rows of its request: a receipt for each (``row``: its place in the request), or a
verdict.

``Refuse`` with a RefusedError refuses these rows, with any other error it ends the job, these rows unsent. ``Retry``
with a pause or a new grant means that nothing was captured; without, that the outcome is unknown.
None leaves it to the connector's judge and the status.
"""


@frozen(kw_only=True, eq=False, repr=False)
class Field:
    """
    One parameter of an action. ``name`` is snake_case, ``member`` the provider's spelling (default: the name); both
    are taken, and those of ``aliases``.

    ``whole_body``: the value is the body. ``repeated``: one or several values, sent under the same name each (query).
    """

    name: str
    member: str = field(default=Factory(lambda parameter: parameter.name, takes_self=True))
    place: Place = "body"
    type: FieldType = "text"
    required: bool = False
    repeated: bool = False
    choices: tuple[str, ...] = field(default=(), converter=as_names)
    aliases: tuple[str, ...] = field(default=(), converter=as_names)
    description: str = ""


@frozen(kw_only=True, eq=False, repr=False)
class MostValues:
    """
    Limits of a row with several values in the repeated field ``field``, which share one request.

    ``most`` values, each once, and ``most_url`` characters of the URL as sent.
    """

    field: str
    most: int
    most_url: int


@frozen(kw_only=True, eq=False, repr=False)
class Action:
    """
    One write to a provider. ``path`` is a template below ``base_url`` with fields in braces; ``endpoint`` gives method
    and path where they depend on the settings.

    ``rows_per_request``
        above 1: the body is a list with an object for each row, or for each object of the row's list ``body``.
    ``rows_member``
        the member of the body that has this list: ``{"inputs": [...]}``; default: the body is the list.
    ``open_body``
        the provider's document does not list every member, so the object in the parameter ``body`` is sent unchecked.
    ``prepare``
        raises ValueError for values that must not be sent.
    ``judge``, ``statuses``
        what a response means; both come before the connector's.
    ``repeatable``
        sending it twice is the same as once, so it is sent again after an unknown outcome.
    ``destroys``
        it needs ``--yes``.
    ``not_built``
        it is listed with this reason and never sent.
    """

    name: str
    summary: str
    method: str
    path: str
    endpoint: Callable[[Any], tuple[str, str]] | None = None
    fields: tuple[Field, ...] = ()
    rows_per_request: int = 1
    rows_member: str = ""
    most_values: MostValues | None = None
    open_body: bool = False
    prepare: Callable[[Any, Values], None] = lambda settings, values: None
    judge: ActionJudge | None = None
    statuses: Mapping[int, StatusRule] = field(factory=dict, validator=check_statuses)
    repeatable: bool = False
    destroys: bool = False
    not_built: str = ""

    @property
    def bulk(self) -> bool:
        """Whether the body is a list of objects, one or more for each row."""
        return self.rows_per_request > 1
