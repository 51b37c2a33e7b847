"""
Masking: a secret is found in every encoding of a response, and before a text is shortened.
"""

import base64
import copy
import html
import json
import pickle
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from penstock import redact
from penstock.model import Response
from penstock.redact import Secret, clip, mask
from penstock.testing.secrets import secrets_apart
from python_calls import calls_of

SECRET = "S3+c/r\"e't&<k>=  ö{}p:@w\\\\x😀"  # every sign that some encoder changes


@pytest.fixture(autouse=True, params=[0, 2 * redact.FEW_SECRETS], ids=["alone", "among many"])
def _only_these(request: pytest.FixtureRequest) -> Iterator[None]:
    with secrets_apart():
        for number in range(request.param):
            Secret(f"another-secret-{number:04}")
        yield


def test_a_secret_is_never_pickled() -> None:
    """
    A secret is pickled neither for another process nor for a copy: the pickle would hold it in clear.
    """
    for use in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            use(Secret("sesame-open"))


def numeric(text: str) -> str:
    """As the templates of Go and of Python's markup libraries escape."""
    return "".join(f"&#{ord(sign)};" if sign in "+\"'=&<>" else sign for sign in text)


def every_unit(text: str, escape: str) -> str:
    """Every unit of UTF-16, escaped."""
    units = text.encode("utf-16-be").hex()
    return "".join(escape.format(int(units[at : at + 4], 16)) for at in range(0, len(units), 4))


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(SECRET, id="plain"),
        pytest.param(" ".join(SECRET.split()), id="with single blanks, as a message shows it"),
        pytest.param(quote(SECRET, safe=""), id="percent"),
        pytest.param(quote(SECRET, safe="").lower().replace("s3", "S3"), id="percent in lower case"),
        pytest.param(quote(SECRET, safe="@:'+="), id="percent by an encoder that spares some"),
        pytest.param(quote(quote(quote(SECRET))), id="percent three times"),
        pytest.param(quote(json.dumps(SECRET)), id="JSON in a query"),
        pytest.param(json.dumps(json.dumps(SECRET)), id="JSON in JSON"),
        pytest.param(html.escape(SECRET), id="HTML"),
        pytest.param(html.escape(html.escape(SECRET)), id="HTML twice"),
        pytest.param(numeric(SECRET), id="HTML by numbers"),
        pytest.param(html.escape(SECRET).encode("ascii", "xmlcharrefreplace").decode(), id="HTML in ASCII"),
        pytest.param(html.escape(SECRET).replace("&#x27;", "&#039;"), id="HTML of PHP"),
        pytest.param(repr(SECRET), id="repr"),
        pytest.param(ascii(SECRET), id="ascii"),
        pytest.param(repr(SECRET.encode()), id="repr of bytes"),
        pytest.param(SECRET.replace('"', '""'), id="CSV"),
        pytest.param(SECRET.replace("'", "''"), id="SQL"),
        pytest.param(SECRET.encode().decode("latin-1"), id="read as Latin-1"),
        pytest.param(SECRET.encode("ascii", "replace").decode(), id="written as ASCII"),
        pytest.param("".join(f"%{byte:02X}" for byte in SECRET.encode()), id="percent, every character"),
        pytest.param("".join(f"%25{byte:02x}" for byte in SECRET.encode()), id="percent twice, every character"),
        pytest.param(SECRET.replace("S3", "S%33").replace("c", "%63"), id="percent, some letters"),
        pytest.param("".join(f"\\x{byte:02x}" for byte in SECRET.encode()), id="repr of bytes, every character"),
        pytest.param(every_unit(SECRET, "\\u{:04x}"), id="JSON, every character"),
        pytest.param(json.dumps(every_unit(SECRET, "\\u{:04X}")), id="JSON in JSON, every character"),
        pytest.param("".join(f"&#{ord(sign)};" for sign in SECRET), id="HTML by numbers, every character"),
        pytest.param("".join(f"&amp;#x{ord(sign):X};" for sign in SECRET), id="HTML twice, every character"),
        pytest.param(SECRET.encode().hex(), id="hexadecimal"),
        pytest.param(SECRET.encode().hex().upper(), id="hexadecimal in upper case"),
        *(
            pytest.param(
                quote(base64.b64encode(b"x" * shift + SECRET.encode()).decode(), safe=""), id=f"base64 {shift}"
            )
            for shift in range(3)
        ),
    ],
)
def test_a_secret_is_found_in_every_form(form: str) -> None:
    """
    Between other words, what is left of the secret is at most what base64 shares with its neighbours.
    """
    Secret(SECRET)

    left = mask(f"before {form} after")

    assert "***" in left
    assert len(left) <= len("before *** after") + 10


def test_other_texts_stay_as_they_are() -> None:
    """
    Nothing is masked that only resembles a secret.
    """
    Secret(SECRET)
    text = f"{SECRET[:-1]} {SECRET[1:-2]} {SECRET.swapcase()} S3 c r e t %53%33 \\u0053&#51;"

    assert mask(text) == text


def test_a_short_password_is_found_in_basic_credentials() -> None:
    """
    Six letters, as a proxy repeats them in base64 with the user's name in front.
    """
    Secret("hunter")

    for user in ("u", "us", "use"):
        assert "***" in mask(base64.b64encode(f"{user}:hunter".encode()).decode())


def test_a_secret_that_is_no_text_is_kept_all_the_same() -> None:
    """
    Bytes of the environment that are no UTF-8 arrive as half characters, which no encoder takes.
    """
    assert Secret("ab\udcff\udcfecd") == Secret("ab\udcff\udcfecd")
    assert mask("it was ab\udcff\udcfecd.") == "it was ***."


@pytest.mark.parametrize("sign", ["\\", "%25", "&amp;", " ", "?", "'", "%20", "&#0", "\\n"])
def test_no_text_takes_long(sign: str) -> None:
    """
    A text of 100,000 signs that nearly match is through in a moment, however the secret is made.
    """
    for value in ("é  \\'&%ab", "\\\\\\é é é'", "    a    b  c", "''''''''''''x"):
        Secret(value)
    begun = time.process_time()

    mask(sign * (100_000 // len(sign)))

    assert time.process_time() - begun < 5


def test_a_text_is_masked_before_it_is_cut() -> None:
    """
    A cut through the middle of a secret shows none of it.
    """
    Secret("Hunter2Zebra")

    assert "Hunt" not in clip("x" * 10 + "Hunter2Zebra", 16)


@pytest.mark.parametrize("blanks", [1190, 65_530])
def test_a_body_is_masked_before_it_is_cut(blanks: int) -> None:
    """
    However many blanks a provider puts before the secret it repeats, a message quotes no half of it.
    """
    Secret("Hunter2Zebra")
    body = b"no:" + b" " * blanks + b"Hunter2Zebra"

    text = Response(status=400, body=body + b" " * 10, received_at=datetime(2026, 3, 1, tzinfo=UTC)).text()

    assert "Hunt" not in text
    assert text.startswith("no:")


@pytest.mark.parametrize("link", ["https://files.example/a.zip", "https:\\/\\/files.example\\/a.zip"])
def test_a_signed_link_in_a_body_is_shown_without_its_query(link: str) -> None:
    """
    Whoever has the link gets the report. The same holds for a slash that JSON escapes.
    """
    body = f'{{"url": "{link}?sig=abc&exp=1", "state": "done?"}}'.encode()

    text = Response(status=200, body=body, received_at=datetime(2026, 3, 1, tzinfo=UTC)).text()

    assert text == f'{{"url": "{link}?***", "state": "done?"}}'


def test_old_signatures_are_forgotten() -> None:
    """
    Signatures are many: the latest are masked, and the memory does not grow.
    """
    for number in range(1000):
        redact.mask_temporarily(f"{number:064x}")

    assert mask(f"ticket={999:064x}") == "ticket=***"
    assert mask(f"ticket={1:064x}") == f"ticket={1:064x}"


@pytest.mark.parametrize("change", [str.upper, str.lower], ids=["upper", "lower"])
@pytest.mark.parametrize("value", ["9f86d081884c7d659a2feaa0c55ad015", "9F86D081-884c-7d65-9a2f-eaa0c55ad015"])
def test_hexadecimal_digits_are_masked_in_either_case(value: str, change: Any) -> None:
    """
    A provider may repeat a key or a signature in another case than it was sent in.
    """
    Secret(value)
    redact.mask_temporarily(value.replace("9", "8"))

    assert mask(f"the key {change(value)} is unknown") == "the key *** is unknown"
    assert mask(f"ticket={change(value.replace('9', '8'))}&n=1") == "ticket=***&n=1"


def test_a_text_is_searched_for_the_secrets_that_it_may_have() -> None:
    """
    Three hundred accounts with credentials of their own: a text costs no more than with fifty, since no pattern of all
    their secrets is made, nor tried.
    """

    def cost_among(secrets: int) -> int:
        word = f"token-of-{secrets:04}"
        text = f"https://api.example/v1/rows?token={word}-000012&day=2026-01-01"
        masked: list[str] = []
        with secrets_apart():
            for number in range(secrets):
                Secret(f"{word}-{number:06}")
            cost = calls_of(lambda: masked.extend(map(mask, ("nothing", text))))
            masked.append(mask("x" * 200_000 + text))
        shown = text.replace(f"{word}-000012", "***")
        assert masked == ["nothing", shown, "x" * 200_000 + shown]
        return cost

    cost_among(40)  # makes what all patterns share
    assert cost_among(300) <= cost_among(50) + 10
