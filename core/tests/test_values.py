"""
Classes whose comparisons and text are shared: they behave as attrs' own do.
"""

from typing import Any

import attrs
import pytest
from penstock import values


def a_pair_of(define: Any, **options: Any) -> Any:
    """A class made by either library, with an attribute that is neither compared nor shown."""

    @define(kw_only=True, **options)
    class Pair:
        left: int
        right: tuple[str, ...] = ()
        aside: int = attrs.field(default=0, eq=False, repr=False)

    return Pair


@pytest.fixture(params=[True, False], ids=["frozen", "mutable"])
def classes(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    name = "frozen" if request.param else "define"
    return a_pair_of(getattr(values, name)), a_pair_of(getattr(attrs, name))


def test_text_is_what_attrs_writes(classes: tuple[Any, Any]) -> None:
    """
    A value shows its attributes but those that say they are not to be shown.
    """
    ours, theirs = classes

    assert repr(ours(left=1, right=("a",), aside=7)) == repr(theirs(left=1, right=("a",), aside=7))


@pytest.mark.parametrize(
    ("other", "equal"),
    [({"left": 1}, True), ({"left": 1, "aside": 7}, True), ({"left": 2}, False), ({"left": 1, "right": ("a",)}, False)],
    ids=["same", "differs aside", "first differs", "second differs"],
)
def test_values_compare_by_their_attributes(classes: tuple[Any, Any], other: Any, equal: bool) -> None:
    """
    Two values of a class are equal when the attributes that count are.
    """
    for cls in classes:
        assert (cls(left=1) == cls(**other)) is equal


def test_values_of_two_classes_are_never_equal() -> None:
    """
    Classes with the same attributes are still two.
    """
    assert a_pair_of(values.frozen)(left=1) != a_pair_of(values.frozen)(left=1)


def test_frozen_values_are_keys() -> None:
    """
    Equal frozen values are one key; those that may change are none.
    """
    frozen, mutable = a_pair_of(values.frozen), a_pair_of(values.define)

    assert len({frozen(left=1), frozen(left=1, aside=3), frozen(left=2)}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(mutable(left=1))


def test_identity_where_it_is_asked_for() -> None:
    """
    ``eq=False``: each is equal to itself only, and may be a key.
    """
    cls = a_pair_of(values.define, eq=False)
    one = cls(left=1)

    assert one != cls(left=1)
    assert {one: 1}[one] == 1


def test_a_value_that_holds_itself_can_be_shown() -> None:
    """
    A circle ends in dots.
    """

    @values.define
    class Node:
        next: Any = None

    node = Node()
    node.next = node

    assert "..." in repr(node)
