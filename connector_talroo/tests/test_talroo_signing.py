"""
The ticket: what is signed, with what, and what is sent.
"""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from connector_talroo.config import TalrooSettings
from connector_talroo.source import CONNECTOR, Ticket, click_report
from penstock import Request, Secret, encode_query

MADE = json.loads((Path(__file__).parent / "fixtures" / "ticket_vectors.json").read_text())
NOW = datetime(2019, 8, 12, 13, 52, 6, 900_000, UTC)  # 1565617926900 ms, the time in the vectors


def vectors(serializer: str = "jquery") -> list[Any]:
    """The cases of one of the libraries, or of both."""
    return [
        pytest.param(vector, id=f"{vector['case'][0]}-{vector['serializer']}")
        for vector in MADE["vectors"]
        if vector["serializer"].startswith(serializer)
    ]


authenticator: Any = CONNECTOR.authenticator


def settings(**more: Any) -> TalrooSettings:
    given: dict[str, Any] = {
        "customer_reference": "637573746f6d65722e3430",
        "customer_secret": Secret(MADE["secret"]),
        "advertiser_ids": ("2112",),
    }
    return TalrooSettings(**{**given, **more})


def a_report(**more: Any) -> Request:
    return click_report(settings(**more), "2112", date(2019, 5, 1), date(2019, 5, 1))


@pytest.mark.parametrize("vector", vectors())
def test_a_query_is_signed_as_the_provider_s_libraries_sign_it(vector: dict[str, Any]) -> None:
    """
    The ticket of a string is that of the provider's sample code.
    """
    assert Ticket(key=b"Jobs2CareersDemo").ticket(vector["canonical"]) == vector["ticket"]


@pytest.mark.parametrize("vector", vectors("jquery-3.2.1"))
def test_a_query_is_written_as_the_provider_s_libraries_write_it(vector: dict[str, Any]) -> None:
    """
    Order kept, every character escaped or left alone as by the library version that the sample code names.
    """
    params = [(name, value) for name, value in vector["params"] if name != "timestamp"]
    signed = Ticket(key=b"Jobs2CareersDemo").sign(Request(url="https://talroo.example/", params=params), NOW, None)

    assert signed.full_url == f"https://talroo.example/?{vector['url_query']}"


@pytest.mark.parametrize("vector", vectors("jquery-2.2.4"))
def test_where_the_two_libraries_differ_the_configuration_is_refused(vector: dict[str, Any]) -> None:
    """
    Older versions write a blank as "+". No value that the configuration lets through is written in two ways.
    """
    params = dict(vector["params"])
    if encode_query(vector["params"]) == vector["canonical"]:
        settings(customer_reference=params["customer_reference"], advertiser_ids=(params["advertiser_id"],))
    else:
        with pytest.raises(ValueError, match="letters, digits"):
            settings(customer_reference=params["customer_reference"], advertiser_ids=(params["advertiser_id"],))


def test_the_vectors_hold_a_case_where_the_libraries_differ() -> None:
    """
    At least one vector has a value that libraries encode in different ways.
    """
    assert [
        vector["case"][0] for vector in MADE["vectors"] if encode_query(vector["params"]) != vector["canonical"]
    ] == ["D"]


def test_a_report_is_requested_in_the_documented_order() -> None:
    """
    The whole URL of the first vector, byte for byte: timestamp behind the action, ticket last.
    """
    signed = authenticator(settings()).sign(a_report(), NOW, None)

    assert signed.full_url == f"https://www.jobs2careers.com/reporting/?{MADE['vectors'][0]['url_query']}"


def test_every_attempt_has_its_own_time_and_ticket() -> None:
    """
    Signing again replaces stamp and ticket, also of a request that had some.
    """
    ticket = authenticator(settings())
    first = ticket.sign(a_report(), NOW, None)
    again = ticket.sign(first, NOW + timedelta(milliseconds=1), None)

    assert again.param("timestamp") == "1565617926901"
    assert again == ticket.sign(a_report(), NOW + timedelta(milliseconds=1), None)
    assert again.param("ticket") != first.param("ticket")


def test_a_secret_in_hex_is_the_key_as_bytes() -> None:
    """
    A secret in hex gives the ticket of its bytes; read as text it does not.
    """
    spelled = Secret(MADE["secret"].encode().hex())
    as_text = authenticator(settings()).sign(a_report(), NOW, None)

    in_hex = authenticator(settings(customer_secret=spelled, secret_encoding="hex")).sign(a_report(), NOW, None)
    misread = authenticator(settings(customer_secret=spelled)).sign(a_report(), NOW, None)

    assert in_hex == as_text
    assert misread.param("ticket") != as_text.param("ticket")


def test_a_shown_request_cannot_be_used() -> None:
    """
    In a message, the ticket and the customer's reference are masked; the rest of the request can be read.
    """
    shown = str(authenticator(settings()).sign(a_report(), NOW, None))

    assert shown == (
        "GET https://www.jobs2careers.com/reporting/?customer_reference=***&advertiser_id=2112&action=get_clicks"
        "&timestamp=1565617926900&start=2019-05-01&end=2019-05-01&ticket=***"
    )


def test_the_explanation_is_the_signed_string_without_secrets() -> None:
    """
    The explanation of a signature is the signed string, without secrets, for a comparison with the provider's.
    """
    ticket = authenticator(settings())

    assert ticket.explain(a_report(), NOW) == (
        "customer_reference=***&advertiser_id=2112&action=get_clicks&timestamp=1565617926900"
        "&start=2019-05-01&end=2019-05-01"
    )
    assert MADE["secret"] not in repr(ticket)
