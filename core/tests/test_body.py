"""Bodies, read from answers made to harm who reads them."""

import io
import tracemalloc
from http.client import HTTPMessage
from types import SimpleNamespace
from typing import Any

import pytest
from penstock._fetch.transport.body import read_body
from penstock._fetch.transport.failures import TooLargeError

LIMIT = 1 << 20


class Received(io.BytesIO):
    """The receiving side of a socket."""

    waits = True


def answer(body: bytes, **headers: str) -> Any:
    message = HTTPMessage()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return SimpleNamespace(
        status=200,
        headers=message,
        will_close=False,
        fp=io.BufferedReader(Received(body)),
    )


def test_a_length_of_five_thousand_digits_is_too_much() -> None:
    """
    A number that Python itself refuses to read is a body that is too large, and no defect.
    """
    with pytest.raises(TooLargeError):
        read_body(answer(b"", content_length="9" * 5000), "GET", LIMIT)


def test_small_chunks_take_no_more_memory_than_their_body() -> None:
    """
    However finely a provider cuts its body, what is held of it is about its size.
    """
    reply = answer(b"2\r\nab\r\n" * 200_000 + b"0\r\n\r\n", transfer_encoding="chunked")
    tracemalloc.start()
    try:
        body, reusable = read_body(reply, "GET", LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert body == b"ab" * 200_000
    assert reusable
    assert peak < 4 * len(body)
