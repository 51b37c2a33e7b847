"""
Calls of an object's methods from another process, as JSON text: arguments and results by the methods' type hints.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime
from decimal import Decimal
from functools import cache, cached_property, partialmethod
from inspect import Signature, isfunction, signature
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
from attrs import frozen
from cattrs import Converter

from penstock import errors
from penstock.errors import PenstockError, SinkError
from penstock.redact import mask

RoundTrip = Callable[[str], str]
"""Passes a request to another process and returns its reply. Raises what was raised there."""


@frozen
class Failure:
    """
    An error on its way to another process, masked. ``kind``: the name of its class; ``source``, ``partition`` and
    ``request``: its place.
    """

    kind: str
    reason: str
    source: str | None = None
    partition: str | None = None
    request: str | None = None

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """An error of a plugin's class is one of the nearest class of penstock; any other a SinkError that names it."""
        if isinstance(error, PenstockError):
            kind = next(class_ for class_ in type(error).__mro__ if vars(errors).get(class_.__name__) is class_)
            place = (None if value is None else mask(value) for value in (error.source, error.partition, error.request))
            return cls(kind.__name__, error.without_place, *place)
        advice = "Remove the cause and run again." if isinstance(error, OSError) else "This is a defect of the sink."
        return cls(SinkError.__name__, mask(f"{type(error).__name__}: {error}. {advice}"))

    @property
    def error(self) -> PenstockError:
        kind = getattr(errors, self.kind, SinkError)
        try:
            error: PenstockError = kind(self.reason)
        except TypeError:  # its class takes more than a reason
            error = SinkError(self.reason)
        return error.at(source=self.source, partition=self.partition, request=self.request)


@frozen
class _Method:
    name: str
    function: Callable[..., Any]

    @cached_property
    def signature(self) -> Signature:
        return signature(self.function)

    @cached_property
    def hints(self) -> dict[str, Any]:
        return get_type_hints(self.function)


class Calls:
    """
    The public methods of protocols, except for those of ``without``. Values are attrs classes, named tuples, dates,
    times, decimals, texts, numbers, and mappings and sequences of these.
    """

    def __init__(self, *protocols: type, without: Iterable[str] = ()) -> None:
        self._methods = {
            name: _Method(name, function)
            for protocol in protocols
            for name, function in vars(protocol).items()
            if isfunction(function) and not name.startswith("_") and name not in without
        }

    def remote(self, round_trip: RoundTrip) -> Any:
        """An object with these methods. Each call is a round trip."""
        methods = {name: partialmethod(_call, round_trip, method) for name, method in self._methods.items()}
        return type("Remote", (), methods)()

    def reply(self, by: Any, request: str) -> str:
        """The reply to a request: the result of a method of ``by``. Raises what the method raises."""
        name, arguments_by_name = msgspec.json.decode(request)
        hints = self._methods[name].hints
        arguments = {key: _converter().structure(value, hints[key]) for key, value in arguments_by_name.items()}
        result = getattr(by, name)(**arguments)
        return _text(list(result.items()) if _has_keys_of_a_class(hints["return"]) else result)


def _call(_: object, round_trip: RoundTrip, method: _Method, /, *values: Any, **keywords: Any) -> Any:
    _self, *arguments = method.signature.bind(None, *values, **keywords).arguments.items()
    reply = round_trip(_text((method.name, dict(arguments))))
    return _converter().structure(msgspec.json.decode(reply), method.hints["return"])


def _text(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=list).decode()  # a list of an iterator


def _has_keys_of_a_class(hint: Any) -> bool:
    """Whether it is a dict that no JSON object can be."""
    return get_origin(hint) is dict and get_args(hint)[0] is not str


@cache
def _converter() -> Converter:
    """msgspec makes no instance of a class with a cached hash."""
    converter = Converter()
    iterables: tuple[Any, ...] = (Iterable, Iterator)
    converter.register_structure_hook(type(None), lambda value, _: value)
    converter.register_structure_hook(datetime, lambda text, _: datetime.fromisoformat(text))
    converter.register_structure_hook(date, lambda text, _: date.fromisoformat(text))
    converter.register_structure_hook(Decimal, lambda text, _: Decimal(text))

    def listed(values: Any, hint: Any) -> Any:
        element_type: Any = get_args(hint)[0]
        return [converter.structure(value, element_type) for value in values]

    def mapped(pairs: Any, hint: Any) -> Any:
        key, value_type = get_args(hint)
        return {converter.structure(name, key): converter.structure(value, value_type) for name, value in pairs}

    converter.register_structure_hook_func(lambda hint: get_origin(hint) in iterables, listed)
    converter.register_structure_hook_func(_has_keys_of_a_class, mapped)
    return converter
