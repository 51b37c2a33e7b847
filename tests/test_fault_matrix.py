"""
Every reading connector behind every fault: what passes leaves the provider's rows, what does not leaves whole
partitions or none, and reports why.
"""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from attrs import evolve
from connector_run import RunReport
from penstock import SandboxRequest, SandboxResponse
from penstock.sandbox import FAULTS, with_faults
from penstock.sandbox.fault_effects import Effect, FaultContext, bomb, drip, huge, status
from penstock.sandbox.faults import Fault
from penstock.sandbox.server import serve
from penstock.testing.conformance import TODAY, Key, Row, Rows, delivered_to, noon_of
from penstock.testing.memory import MemorySink
from providers import JOVEO, PROVIDERS, TALROO, Provider, bag

pytestmark = pytest.mark.slow

PARKS = "throttled_hours"
TRANSIENT = sorted(name for name, fault in FAULTS.items() if fault.kind == "transient" and name != PARKS)
# Faults that end by the timeout of a request. A loaded machine answers other requests late: no shorter than it must be.
TIMEOUTS_S = {"slow": 1.0, "stall": 1.0, "stall_in_body": 1.0, "drip": 0.25, "drip_head": 0.25}

# Faults that end an attempt before any judge of a connector sees an answer: what follows is the same for all providers.
# Each is tried with a plain read and with reports on demand; with the others in make test-all.
TRANSPORT = {
    "bomb",
    "corrupt_gzip",
    "cut_between_chunks",
    "cut_chunk",
    "cut_gzip",
    "cut_head",
    "huge",
    "huge_chunked",
    "length_too_long",
    "length_too_short",
    "no_http",
    "reset_in_body",
    "silent_close",
    "two_lengths",
}

# The fault has nothing to bite on, or is none, for providers whose links nobody follows.
HARMLESS = {"circular_link", "foreign_link", "plain_link", "duplicate_member", "ids_change_type"}

# One value of a page is no JSON, or nested without end: its body is refused with this error.
REFUSED = {
    "invalid_utf8": "BrokenBodyError",
    "not_a_number": "BrokenBodyError",
    "infinity": "BrokenBodyError",
    "deep": "BoundExceededError",
}
# Talroo sends numbers as text, so that these faults change nothing there.
WITHOUT_NUMBERS = ["infinity", "not_a_number"]

# One record of a page is bad: the exit code, the errors, and whether records are rejected and values unread.
SPOILT = {
    ("bad_record", "talroo"): (5, set[str](), True, False),
    ("bad_record", "convertr"): (5, set[str](), True, False),
    ("bad_record", "joveo"): (5, set[str](), True, False),
    # The page of offers is refused: one of its elements is no object.
    ("bad_record", "targetcircle"): (1, {"WrongFormatError"}, True, False),
    ("too_large_number", "talroo"): (0, set[str](), False, False),
    ("too_large_number", "convertr"): (5, set[str](), True, False),
    ("too_large_number", "joveo"): (5, set[str](), False, True),
    ("too_large_number", "targetcircle"): (5, set[str](), True, True),
}

# Streams whose rows are cut from, or requested by, rows that were rejected: they miss more than one row a record.
CUT_FROM_OTHERS = {"lead_data", "campaign_publisher_bands", "campaign_details", "offer_details"}

# The errors, and how the process ends.
EXPECTED_ERRORS = {
    "unauthorized": (3, {"AuthenticationError"}),
    # The latter two: a child whose parent was not read, and a login.
    "forbidden": (None, {"ForbiddenError", "ProviderError", "AuthenticationError"}),
    "foreign_redirect": (1, {"ForeignOriginError", "RefusedError", "ProviderError"}),
    "plain_redirect": (1, {"ForeignOriginError", "RefusedError", "ProviderError"}),
    "circular_redirect": (1, {"BoundExceededError", "RefusedError", "ProviderError"}),
}


def first_times(effect: Effect, times: int) -> Effect:
    """The effect, ``times`` times: for a fault that takes seconds each time."""
    left = [times]

    def bounded(context: FaultContext) -> SandboxResponse | None:
        if left[0] <= 0:
            return None
        left[0] -= 1
        return effect(context)

    return bounded


def is_later_page(request: SandboxRequest) -> bool:
    """Whether a page is requested that has one before it."""
    return int(parse_qs(request.query).get("page", ["1"])[0]) > 1


def fault_for(provider: Provider, name: str) -> Fault:
    """The fault as this provider would cause it, no larger than the test needs."""
    fault = FAULTS[name]
    if name in ("huge", "huge_chunked"):
        return evolve(fault, change=huge(3, chunked=name == "huge_chunked"))
    if name == "bomb":
        return evolve(fault, change=bomb(3))
    if name in ("drip", "drip_head"):
        # The whole attempt is bounded at ten times timeout_s, and that is waited for.
        return evolve(fault, change=first_times(drip(0.05, most_s=30, of_head=name == "drip_head"), 1))
    if name == "expired":
        # How a provider refuses a token that was good: Joveo with 403.
        return evolve(fault, change=status(403, "{}")) if provider.name == "joveo" else fault
    if name == "repeated_page":
        # A first page repeats nothing; what another day was answered may be on the same path.
        return evolve(fault, when=is_later_page)
    return fault


def read(provider: Provider, fault: Fault, folder: Path, **settings: Any) -> tuple[RunReport, Rows, Rows]:
    """One run behind a fault: its report, what was delivered, and what is true."""
    sink = MemorySink(folder / "ledger.sqlite")
    with serve() as server:
        app = provider.make(server.base_url, TODAY)
        server.app = with_faults(app, [fault], seed=1)
        report = provider.run(server.base_url, sink, clock=noon_of(pace=50), **settings)
        assert server.errors == []
        truth = provider.expected(app)
    return report, delivered_to(sink), truth


def differing(delivered: Mapping[Key, list[Row]], truth: Mapping[Key, list[Row]]) -> list[Key]:
    return [key for key, rows in delivered.items() if bag(rows) != bag(truth[key])]


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        pytest.param(
            name,
            provider,
            id=f"{name}-{provider.name}",
            # What ends by a timeout takes seconds.
            marks=pytest.mark.large
            if (name in TIMEOUTS_S and provider is not TALROO)
            or (name in TRANSPORT and provider not in (TALROO, JOVEO))
            else (),
        )
        for name in TRANSIENT
        for provider in PROVIDERS.values()
        # A fixed token that is refused is wrong: see the next test.
        if name != "expired" or provider.login
    ],
)
def test_a_transient_fault_changes_no_row(provider: Provider, name: str, tmp_path: Path) -> None:
    """
    A fault that ends when the request is repeated leaves exactly the provider's rows, and exit code 0.
    """
    fault = fault_for(provider, name)

    report, delivered, truth = read(provider, fault, tmp_path, timeout_s=TIMEOUTS_S.get(name, 3.0))

    assert report.errors == []
    assert report.exit_code == 0
    assert delivered.keys() == truth.keys()
    assert differing(delivered, truth) == []


@pytest.mark.parametrize("provider", [one for one in PROVIDERS.values() if not one.login], ids=lambda one: one.name)
def test_a_fixed_token_that_is_refused_is_final(provider: Provider, tmp_path: Path) -> None:
    """
    Where there is no login, a 401 is final: what was delivered before is whole, the rest is absent, exit code 3.
    """
    report, delivered, truth = read(provider, fault_for(provider, "expired"), tmp_path)

    assert report.exit_code == 3
    assert delivered.keys() < truth.keys()
    assert differing(delivered, truth) == []


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_a_wait_of_hours_parks_the_source(provider: Provider, tmp_path: Path) -> None:
    """
    Nothing fails, what is delivered is whole, and the rest is left with exit code 4.
    """
    report, delivered, truth = read(provider, fault_for(provider, PARKS), tmp_path)

    assert (report.exit_code, report.errors) == (4, [])
    assert "longer than throttle_wait_s" in report.parked[provider.name]
    assert delivered.keys() < truth.keys()
    assert differing(delivered, truth) == []


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
@pytest.mark.parametrize("name", sorted(EXPECTED_ERRORS))
def test_a_permanent_fault_ends_with_its_error(provider: Provider, name: str, tmp_path: Path) -> None:
    """
    A fault that stays ends with its own error and exit code; every partition is whole and right, or absent.
    """
    code, errors = EXPECTED_ERRORS[name]

    report, delivered, truth = read(provider, fault_for(provider, name), tmp_path)

    # The first request is answered. Where that was no login, the credentials are good for something.
    assert report.exit_code == ((3 if provider.login else 1) if code is None else code)
    assert {error["error"] for error in report.errors} <= errors
    assert report.errors
    assert delivered.keys() < truth.keys()
    assert differing(delivered, truth) == []


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_harmless_oddities_cost_no_row(provider: Provider, name: str, tmp_path: Path) -> None:
    """
    Links that are not followed, a member twice with one value, ids in another JSON type: all rows are delivered.
    """
    report, delivered, truth = read(provider, fault_for(provider, name), tmp_path)

    assert report.exit_code == 0, report.errors
    assert delivered.keys() == truth.keys()
    assert differing(delivered, truth) == []


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        pytest.param(name, provider, id=f"{name}-{provider.name}")
        for name in sorted(REFUSED)
        for provider in PROVIDERS.values()
        if provider.name != "talroo" or name not in WITHOUT_NUMBERS
    ],
)
def test_a_body_that_is_no_json_is_refused(name: str, provider: Provider, tmp_path: Path) -> None:
    """
    A body with one value that JSON does not have fails by name; what is delivered is whole.
    """
    report, delivered, truth = read(provider, fault_for(provider, name), tmp_path, retries=1, timeout_s=3.0)

    assert differing(delivered, truth) == []
    # A child whose parent failed is a ProviderError.
    assert {error["error"] for error in report.errors} - {"ProviderError"} == {REFUSED[name]}
    assert report.exit_code == 1
    assert delivered.keys() < truth.keys()


@pytest.mark.parametrize("name", WITHOUT_NUMBERS)
def test_a_fault_of_numbers_is_none_where_there_are_none(name: str, tmp_path: Path) -> None:
    """
    The fault finds no number in the body, which arrives as it was.
    """
    report, delivered, truth = read(TALROO, fault_for(TALROO, name), tmp_path, retries=1, timeout_s=3.0)

    assert (report.exit_code, report.errors, delivered.keys()) == (0, [], truth.keys())
    assert differing(delivered, truth) == []


@pytest.mark.parametrize(("name", "provider"), sorted(SPOILT))
def test_bad_record_is_rejected_alone(name: str, provider: str, tmp_path: Path) -> None:
    """
    A record that cannot be read is rejected and counted, and a value that cannot be read is null and counted; no other
    row is missing or other than it was sent.
    """
    code, errors, rejected, unread = SPOILT[name, provider]
    behind = PROVIDERS[provider]

    report, delivered, truth = read(behind, fault_for(behind, name), tmp_path, retries=1, timeout_s=3.0)

    assert report.exit_code == code, report.errors
    assert {error["error"] for error in report.errors} == errors
    assert (report.total("rejected") > 0, report.total("unread_values") > 0) == (rejected, unread)
    missing = 0
    for key, rows in delivered.items():
        lost = bag(truth[key]) - bag(rows)
        invented = bag(rows) - bag(truth[key])
        # A text column takes a number, as text; a column that may be null loses a value that it cannot hold.
        assert sum(invented.values()) <= sum(lost.values())
        if key[0] not in CUT_FROM_OTHERS:
            missing += len(truth[key]) - len(rows)
    assert missing <= report.total("rejected")


def test_an_answer_of_another_day_is_no_answer(tmp_path: Path) -> None:
    """
    A report of other days than those requested is requested again; its rows are not rejected.
    """
    provider = TALROO
    fault = evolve(FAULTS["repeated_page"], when=lambda request: "advertiser_id=2112" in request.query)
    sink = MemorySink(tmp_path / "ledger.sqlite")
    with serve() as server:
        app = provider.make(server.base_url, TODAY)
        server.app = with_faults(app, [fault], seed=1)
        report = provider.run(server.base_url, sink, advertiser_ids=["2112"])
        truth = {key: rows for key, rows in provider.expected(app).items() if key[1][0] == "2112"}

    delivered = delivered_to(sink)
    assert report.exit_code == 0, report.errors
    assert report.total("rejected") == 0
    assert delivered.keys() == truth.keys()
    assert differing(delivered, truth) == []
    assert report.total("requests") > len(truth)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_combined_transient_faults_change_no_row(provider: Provider, seed: int, tmp_path: Path) -> None:
    """
    Several transient faults before every request, in an order that the seed decides, change no row.
    """
    names = random.Random(seed).sample([name for name in TRANSIENT if name not in {*TIMEOUTS_S, "expired"}], 4)
    sink = MemorySink(tmp_path / "ledger.sqlite")
    with serve() as server:
        app = provider.make(server.base_url, TODAY)
        server.app = with_faults(app, [fault_for(provider, name) for name in names], seed=seed)
        report = provider.run(server.base_url, sink, timeout_s=3.0)
        truth = provider.expected(app)
    delivered = delivered_to(sink)
    assert report.exit_code == 0, (names, report.errors)
    assert delivered.keys() == truth.keys()
    assert differing(delivered, truth) == []
