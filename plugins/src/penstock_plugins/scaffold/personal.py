"""
Personal values and secrets of a sample: the names that look like theirs, and the invented values that replace them.
"""

import re
from decimal import Decimal
from itertools import cycle
from typing import Any
from urllib.parse import parse_qsl, unquote

from penstock import snake

SHORTEST_NUMBER = 5  # digits: shorter ones, such as a count of e-mails, name nobody

_PERSONAL = re.compile(
    r"(^|_)(e?mail|ip|phone|mobile|fax|(first|last|full|sur|user)_?name|birth\w*|address|street|post_?code|iban|ssn|"
    r"latitude|longitude|user_agent)(_|$)"
)
_SECRET = re.compile(r"(^|_)(password|passwd|secret|api_?key|access_token|refresh_token|authorization)(_|$)")
_GRANTS = re.compile(
    r"^(key|code|hash|sid)$|(^|_)(\w*(api|app|access|auth|private|subscription|client|user|account|dev|developer)_?key|"
    r"\w*token|sig|sign|\w*signature|\w*auth|\w*credentials?|pass|pw|pwd|ticket|hmac|jwt|session(_?id)?)(_|$)"
)
_OF_PAGES = re.compile(r"(^|_)(page|next|continuation|sync|start|cursor)_?token(_|$)")
_MAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(\.[\w-]{1,63}){1,8}")  # bounded: else a long text takes hours
_QUERY = re.compile(r"(?<=[?&#;])([^=&#;\s]+)=([^&#;\s]*)")
_LOGIN = re.compile(r"(?<=://)[^/?#\s]*@")


def is_personal(member: str) -> bool:
    """Whether a member of this name looks like personal data."""
    return _PERSONAL.search(snake(member)) is not None


def is_secret(member: str) -> bool:
    """Whether a member of this name looks like a credential."""
    return _SECRET.search(snake(member)) is not None


def is_granting(param: str) -> bool:
    """Whether a query parameter of this name may be a credential, or sign the request. A cursor of pages is none."""
    name = snake(unquote(param))
    return is_secret(name) or (_GRANTS.search(name) is not None and not _OF_PAGES.search(name))


def without_grants(text: str) -> str:
    """A text whose URLs have no login, and ``removed`` for each query parameter that may be a credential."""
    if "=" not in text and "@" not in text:
        return text
    text = _LOGIN.sub("", text)
    if not any(is_granting(name) for name, _ in parse_qsl(re.sub(r".*?[?#]", "", text, count=1))):
        return text
    return _QUERY.sub(lambda pair: f"{pair[1]}=removed" if is_granting(pair[1]) else pair[0], text)


def without_secrets(value: Any, replaced: dict[tuple[str, str], str], member: str = "") -> Any:
    """The value with invented personal values and secrets, nested ones too; equal values stay equal."""
    if isinstance(value, dict):
        return {name: without_secrets(inner, replaced, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [without_secrets(inner, replaced, member) for inner in value]
    return replaced_value(member, value, replaced)


def replaced_value(member: str, value: Any, replaced: dict[tuple[str, str], str]) -> Any:
    if isinstance(value, bool) or not value or not isinstance(value, (str, int, Decimal)):
        return value
    if is_personal(member) or is_secret(member):
        number = len(replaced) + 1
        if not isinstance(value, str):
            if sum(map(str.isdigit, str(value))) < SHORTEST_NUMBER:
                return value
            return type(value)(replaced.setdefault((member, str(value)), _other_digits(str(value), number)))
        return replaced.setdefault((member, value), _invented(snake(member), number, value))
    if not isinstance(value, str):
        return value

    def mail(match: "re.Match[str]") -> str:
        return replaced.setdefault(("", match[0]), f"person{len(replaced) + 1}@example.com")

    return _MAIL.sub(mail, without_grants(value))


def _invented(column: str, number: int, value: str) -> str:
    if "@" in value:
        return f"person{number}@example.com"
    if re.match(r"\d{4}-\d\d-\d\d", value):
        return f"1980-01-01{value[10:]}"
    if re.fullmatch(r"[\d.]+|[0-9a-fA-F:]+", value) and re.search(r"(^|_)ip(_|$)", column):
        return f"203.0.113.{number % 254 + 1}"
    if re.fullmatch(r"[\d.+ ()/-]+", value):  # a number: its form may matter
        return _other_digits(value, number)
    return f"{column} {number}"


def _other_digits(text: str, number: int) -> str:
    """The text with digits that do not depend on its own."""
    digits = cycle(str(number // 9**power % 9 + 1) for power in (3, 2, 1, 0))
    return re.sub(r"\d", lambda _: next(digits), text)
