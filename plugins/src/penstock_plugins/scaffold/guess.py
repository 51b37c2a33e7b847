"""
A guessed column, and the record class of a sample.
"""

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

from penstock_plugins.scaffold.code import literal

Kind = Literal["str", "int", "Decimal", "bool", "date", "datetime", "Json"]


@frozen(kw_only=True)
class Guess:
    """One column: its name, type, options, and what is to be reviewed."""

    name: str
    member: str
    type: Kind
    call: str = "column"  # the function that declares it, with its arguments
    path: str = ""
    options: Mapping[str, Any] = field(factory=dict)
    nullable: bool = False
    notes: tuple[str, ...] = ()
    within: str = ""  # the object of each record that has the member

    @property
    def format(self) -> str:
        """The form of a day or a time, as ``column(format=...)`` takes it."""
        return str(self.options.get("format", ""))

    def line(self) -> str:
        """Its line in the record class."""
        path, options = self.path, dict(self.options)
        if self.within and self.call == "money":
            path = f"{self.within}.{path or self.member}"
            options |= {"currency": f"{self.within}.{options['currency']}"} if "currency" in options else {}
        elif self.within:
            options = {"path": f"{self.within}.{options.pop('member', self.member)}", **options}
        named = [f"{name}={literal(value)}" for name, value in options.items()]
        arguments = ", ".join([*([literal(path)] if path else []), *named])
        default = f"{self.call}({arguments})" if arguments or self.call != "column" else ""
        if self.type == "Json" and not default:
            default = "None"
        annotation = f"{self.name}: {self.type}{' | None' if self.nullable and self.type != 'Json' else ''}"
        notes = f"  # review: {'; '.join(self.notes)}" if self.notes else ""
        return annotation + (f" = {default}" if default else "") + notes


@frozen(kw_only=True)
class Guesses:
    """The record class of a sample. ``key`` are columns; none: the rows get a hash of ``hashed``."""

    columns: tuple[Guess, ...]
    camel: bool
    key: tuple[str, ...]
    hashed: tuple[str, ...]
    day: Guess | None

    def column(self, name: str) -> Guess:
        return next(column for column in self.columns if column.name == name)
