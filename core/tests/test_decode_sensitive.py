"""
Secrets, personal data and excluded columns are in no row and no rejected record.
"""

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from decoding import SENSITIVE, Lead, RowBuilder, an_array, cleaner, compiled, decode_one, written
from penstock.errors import ConfigError
from penstock.model import Items
from penstock.records import Column, column, columns_of, personal, record, secret
from penstock.redact import Secret


@pytest.mark.parametrize("nested", ["raw", "plain"])
@pytest.mark.parametrize(
    ("include_personal", "gone", "kept"),
    [(True, ["t0ken", "h4sh", "s3cret"], ["ann@", "Leeds"]), (False, ["t0ken", "h4sh", "s3cret", "ann@", "Leeds"], [])],
    ids=["with personal data", "without"],
)
@pytest.mark.parametrize("fits", [True, False], ids=["delivered", "rejected"])
def test_secrets_and_personal_data_do_not_leave(
    fits: bool, include_personal: bool, gone: list[str], kept: list[str], nested: Any
) -> None:
    """
    A secret, alone or inside a nested part, leaves in no column and no rejected record; personal data by choice.
    """
    shape = compiled(Lead, include_personal=include_personal, nested=nested)
    decoded = decode_one(shape, an_array(SENSITIVE if fits else {**SENSITIVE, "id": None}))

    seen = json.dumps(written(decoded), default=str) if fits else decoded.batch.rejected[0].raw
    assert len(decoded.batch) == fits
    assert [text for text in gone if text in seen] == []
    assert [text for text in kept if text in seen] == kept
    assert "token" not in {one.name for one in shape.layout.columns}


@pytest.mark.parametrize(
    "element",
    [
        {"id": None, "data": [[{"name": "hash", "value": "h4sh"}]]},
        {"id": None, "data": {"0": [{"name": "hash", "value": "h4sh", "more": "h4sh"}]}},
        {"id": None, "data": {"hash": "h4sh"}},
        {"id": None, "more": [{"deep": {"name": "hash", "value": "h4sh"}}]},
        {"id": None, "more": {"token": "h4sh", "secret": {"x": "h4sh"}}},
        [[{"name": "hash", "value": "h4sh"}, {"id": "a", "token": "h4sh"}]],
        {"id": None, "data": [{"key": "hash", "val": "h4sh"}]},
        {"id": None, "more": [{"label": "token", "content": ["h4sh"]}]},
        {"id": None, "data": [["hash", "h4sh"]]},
        {"id": None, "data": {"Hash": "h4sh", "TOKEN": "h4sh"}},
        {"id": None, "data": '[{"name": "hash", "value": "h4sh"}]'},
        '{"id": "a", "token": "h4sh"}',
    ],
    ids=[
        "one more array",
        "a map",
        "by its name",
        "in another member",
        "secret members elsewhere",
        "in no object",
        "by another label",
        "a secret column by a label",
        "pairs as arrays",
        "in another case",
        "JSON in a text",
        "JSON in place of the element",
    ],
)
def test_secrets_are_masked_at_every_depth_of_a_rejected_record(element: Any) -> None:
    """
    Member names, and name and value pairs, are found in every shape of the element.
    """
    (rejected,) = decode_one(compiled(Lead), an_array(element)).batch.rejected

    assert "h4sh" not in rejected.raw


@record()
class Linked:
    id: str
    link_hash: str | None = secret(member="linkHash")


@record()
class Open:
    """Without a secret of its own."""

    id: str
    data: Any
    free: Any


@record()
class Granted:
    id: str
    grant: str | None = column(path="auth.id")
    token: str | None = secret(path="auth.token")
    email: str | None = personal(path="auth.email")


@pytest.mark.parametrize("nested", ["raw", "plain"])
@pytest.mark.parametrize("include_personal", [True, False], ids=["with personal data", "without"])
@pytest.mark.parametrize(
    "auth",
    [
        [{"id": "g", "token": "t0ken", "email": "ann@"}],
        {"id": {"token": "t0ken", "email": "ann@", "id": "g"}},
        json.dumps({"id": "g", "token": "t0ken", "email": "ann@"}),
    ],
    ids=["an array", "one object more", "JSON in a text"],
)
def test_secrets_are_masked_in_a_kept_value_that_does_not_fit(auth: Any, include_personal: bool, nested: Any) -> None:
    """
    Where columns are read inside of an object and something else came, ``_extra`` holds it without its secrets.
    """
    shape = compiled(Granted, key="id", include_personal=include_personal, nested=nested)
    decoded = decode_one(shape, an_array({"id": "a", "auth": auth}))

    seen = json.dumps(written(decoded), default=str)
    assert decoded.unread_values > 0
    assert "g" in str(written(decoded)[0]["_extra"]["auth.id"])
    assert "t0ken" not in seen
    assert ("ann@" in seen) == include_personal


@pytest.mark.parametrize("nested", ["raw", "plain"])
@pytest.mark.parametrize("fits", [True, False], ids=["a page that fits", "a page read one by one"])
@pytest.mark.parametrize(
    "more",
    [
        {"wrap": {"token": "t0ken"}},
        {"Token": "t0ken"},
        {"fields": [{"name": "token", "value": "t0ken"}]},
        {"wrap": '{"token": "t0ken"}'},
        {"wrap": [[{"name": "hash", "value": "t0ken"}]]},
    ],
    ids=["inside of another", "in another case", "a pair", "JSON in a text", "a selected pair"],
)
def test_secrets_are_masked_in_unknown_members(more: Any, fits: bool, nested: Any) -> None:
    """
    A secret that the provider moves into a member that nobody declared does not leave in ``_extra``.
    """
    page = an_array({"id": "a", "saved": None if fits else "?", "size": 1.10, **more}, {"id": "b"}, {"id": "c", "u": 1})
    rows = written(decode_one(compiled(Lead, nested=nested), page))

    assert "t0ken" not in json.dumps(rows, default=str)
    assert rows[0]["_extra"].keys() >= {"size", *more}
    assert "_extra" not in rows[1]
    assert rows[2]["_extra"] == {"u": 1}


@pytest.mark.parametrize("nested", ["raw", "plain"])
@pytest.mark.parametrize("fits", [True, False], ids=["a page that fits", "a page read one by one"])
@pytest.mark.parametrize(
    "more", [{"token": "{}"}, {"u": {"w": ["x {}"]}}, {"size": "{}"}], ids=["whole", "deep", "unfit"]
)
def test_a_secret_of_the_configuration_is_masked_in_extra(more: Any, fits: bool, nested: Any) -> None:
    """
    A provider that adds the account's token to its records: under any name, since its value is known.
    """

    @record(kind="snapshot", key="id")
    class Plain:
        id: str
        size: int | None = None
        saved: date | None = None

    known = Secret('a "token" of the account')
    escaped = json.dumps(known.reveal())[1:-1]
    page = json.dumps([{"id": "a", "saved": None if fits else "?", **more}, {"id": "b", "u": 1}]).replace("{}", escaped)

    rows = written(decode_one(compiled(Plain, nested=nested), an_array(*json.loads(page))))

    assert known.reveal() not in str([str(row) for row in rows])
    assert escaped not in json.dumps(rows, default=str)
    assert rows[0]["_extra"].keys() >= more.keys()
    assert rows[1]["_extra"] == {"u": 1}


@pytest.mark.parametrize("nested", ["raw", "plain"])
def test_a_selected_secret_is_removed_at_every_depth(nested: Any) -> None:
    """
    A secret that is selected by a value is removed from what is delivered, also inside of one more array.
    """
    decoded = decode_one(
        compiled(Lead, nested=nested),
        an_array({"id": "a", "data": [[{"name": "hash", "value": "h4sh"}, {"name": "city", "value": "Leeds"}]]}),
    )

    assert written(decoded)[0]["data"] == [[{"name": "city", "value": "Leeds"}]]


@pytest.mark.parametrize("nested", ["raw", "plain"])
@pytest.mark.parametrize(
    "data",
    [
        {"hash": "h4sh"},
        {"name": "hash", "value": "h4sh"},
        [{"name": "Hash", "value": "h4sh"}],
        '[{"name": "hash", "value": "h4sh"}]',
        {"of": {"TOKEN": "h4sh", "link_hash": "h4sh", "LinkHash": ["h4sh"]}},
        [{"t\\u006fken": "h4sh"}],
    ],
    ids=["a map", "one object", "another case", "JSON in a text", "secrets of columns, also of others", "escaped"],
)
def test_secrets_are_masked_in_json_columns_of_any_shape(data: Any, nested: Any) -> None:
    """
    Neither another shape nor another place than the declared one delivers a secret, be it of another stream.
    """
    columns = columns_of(Linked)
    raw = json.dumps({"id": "a", "data": data, "more": data, "free": data}).replace("\\\\u", "\\u")
    page = Items(raw=b"[" + raw.encode() + b"]", format="array")

    rows = written(decode_one(compiled(Open, key="id", nested=nested, secrets=[*columns, *columns_of(Lead)]), page))

    assert "h4sh" not in json.dumps(rows, default=str)
    assert rows[0].keys() >= {"data", "free", "_extra"}


@pytest.mark.parametrize("nested", ["raw", "plain"])
@pytest.mark.parametrize(
    ("data", "kept"),
    [
        ([{"name": "city", "value": "Leeds"}], [{"name": "city"}]),
        ({"0": {"name": "city", "value": "Leeds"}}, {"0": {"name": "city"}}),
        (
            [{"name": "city", "Value": "Leeds", "more": {"value": "Leeds"}}],
            [{"name": "city", "Value": "***", "more": {"value": "***"}}],
        ),
        ({"city": "Leeds"}, "***"),
        ({"name": "city", "value": "Leeds"}, "***"),
        (["Leeds"], "***"),
        ([["city", "Leeds"]], "***"),
        ('[{"value": "Leeds"}]', "***"),
        (None, None),
    ],
    ids=["declared", "a map", "moved", "by its name", "one object", "texts", "pairs", "JSON in a text", "null"],
)
def test_personal_members_do_not_leave_in_another_shape(data: Any, kept: Any, nested: Any) -> None:
    """
    Without personal data, what has another shape than the declared one is masked, by name or whole.
    """
    shape = compiled(Lead, include_personal=False, nested=nested)

    rows = written(decode_one(shape, an_array({"id": "a", "data": data})))

    assert rows[0].get("data") == kept


@pytest.mark.parametrize("nested", ["raw", "plain"])
def test_a_row_that_is_called_as_a_secret_column_is_kept(nested: Any) -> None:
    """
    A name labels others only where a declared path selects it: a form field may be called "token".
    """
    data = [{"name": "token", "value": "1.10"}, {"id": "token", "more": {"b\u00e9": 11}}]

    rows = written(
        decode_one(
            compiled(Open, key="id", nested=nested, secrets=columns_of(Lead)), an_array({"id": "a", "data": data})
        )
    )

    assert rows[0]["data"] == data


@pytest.mark.parametrize(
    ("more", "kept"),
    [({}, True), ({"include_personal": False}, False), ({"include_personal": False, "extra": True}, True)],
    ids=["by default", "without personal data", "without, but extra"],
)
def test_unknown_members_may_be_personal(more: Any, kept: bool) -> None:
    """
    Without personal data, unknown members are named and not kept, delivered or rejected; ``extra`` keeps them.
    """
    page = an_array({"id": "a", "phone": "555"}, {"id": None, "phone": "555"}, ["555"])

    decoded = decode_one(compiled(Lead, **more), page)

    assert decoded.batch.unknown == ("phone",)
    assert ("_extra" in written(decoded)[0]) == kept
    assert ["555" in one.raw for one in decoded.batch.rejected] == [kept, False]  # without names, it might be a token


def test_the_column_of_unknown_members_may_be_left_out() -> None:
    """
    ``_extra`` may be excluded like any other column; what is unread is counted all the same.
    """
    shape = compiled(exclude=["_extra"])

    decoded = decode_one(shape, an_array({"clickId": "a", "jobId": "x", "new": 1}))

    assert "_extra" not in {one.name for one in shape.layout.columns} | written(decoded)[0].keys()
    assert (decoded.unread_values, decoded.batch.unknown) == (1, ("new",))


def test_excluded_columns_are_neither_delivered_nor_unknown() -> None:
    """
    A column left out by the configuration is gone from layout and rows, and money derived from it stays.
    """
    shape = compiled(exclude=("price", "clicks.offer", "other.spend"))

    decoded = decode_one(shape, an_array({"clickId": "a", "price": "100", "offer": {}, "spend": 1}))

    (row,) = written(decoded)
    assert {"price", "offer"} & (row.keys() | {one.name for one in shape.layout.columns}) == set()
    assert (row["price_amount"], row["spend"], decoded.batch.unknown) == (1, 1, ())


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: compiled(exclude=["click_id"]), id="the key"),
        pytest.param(lambda: compiled(account="advertiser_id", exclude=["advertiser_id"]), id="the account"),
        pytest.param(
            lambda: compiled(Lead, exclude=["saved"], needed_columns=["saved"]), id="what a child is requested by"
        ),
        pytest.param(lambda: compiled(Lead, key="email", include_personal=False), id="a personal key"),
        pytest.param(lambda: compiled(columns=[Column(name="price", type="integer", member="p")]), id="declared twice"),
    ],
)
def test_key_and_partition_columns_cannot_be_left_out(make: Callable[[], RowBuilder]) -> None:
    """
    A configuration that takes a key or partition column, or declares a column again, is refused.
    """
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("b", {"a": [{"n": "x", "v": 1}, {"n": "y", "v": 2}]}),
        ("a.v", {"a": [{"n": "x"}, {"n": "y"}], "b": {"c": 1}}),
        ("a.*.v", {"a": [{"n": "x"}, {"n": "y"}], "b": {"c": 1}}),
        ("a.[n=x]", {"a": [{"n": "y", "v": 2}], "b": {"c": 1}}),
        ("a[n=y].v", {"a": [{"n": "x", "v": 1}, {"n": "y"}], "b": {"c": 1}}),
        ("*.c", {"a": [{"n": "x", "v": 1}, {"n": "y", "v": 2}], "b": {}}),
        ("gone.c", {"a": [{"n": "x", "v": 1}, {"n": "y", "v": 2}], "b": {"c": 1}}),
    ],
)
def test_paths_into_nested_values(path: str, left: Any) -> None:
    """
    A path takes out a member, every one, or the elements that it selects; what is not there is no error.
    """
    value = {"a": [{"n": "x", "v": 1}, {"n": "y", "v": 2}], "b": {"c": 1}}

    assert cleaner([path])(value) == left
