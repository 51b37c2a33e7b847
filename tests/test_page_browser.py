"""
The page in a real browser: the system's Chromium, driven by Playwright. Skipped where either is absent.
"""

import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from generated_ledger import LARGE, NOW, SMALL, GeneratedLedger
from penstock.sandbox.server import serve
from penstock_plugins.status_page.command import PageServer
from penstock_plugins.status_page.content import content
from penstock_plugins.status_page.render import render

pytestmark = pytest.mark.large

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
DESK: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}}
HOSTILE = "</script><img src=x onerror=alert(1)>"

Opened = Any  # a page of Playwright
Opens = Callable[..., Opened]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium, such as Debian's package chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: the dependency group browser")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opens(browser: Any, tmp_path: Path) -> Iterator[Opens]:
    """Opens a world's page from a file; fails at the end if it requested, logged or raised anything."""
    requests: list[str] = []
    faults: list[str] = []
    contexts = []

    def open_(world: GeneratedLedger, *, url: str | None = None, at: datetime | None = NOW, **options: Any) -> Opened:
        if url is None:
            file = tmp_path / "page.html"
            file.write_text(render(content(world.facts())), encoding="utf-8")
            url = file.as_uri()
        context = browser.new_context(**{**DESK, **options})
        contexts.append(context)
        page = context.new_page()
        if at is not None:
            page.clock.set_fixed_time(at)
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.goto(url)
        page.wait_for_selector("section.source")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert faults == []
    assert len(requests) == len(contexts), f"a page loads nothing but itself: {requests}"


def is_focused(page: Opened, selector: str) -> bool:
    return bool(page.evaluate("(selector) => document.activeElement.matches(selector)", selector))


def test_a_click_on_a_day_shows_its_reading(opens: Opens) -> None:
    """
    State, counts, sums, the error with what to do, and the command that reads the day again; Escape closes it.
    """
    page = opens(SMALL)

    page.locator("tr.account td.s-failed").first.click()

    panel = page.locator("#panel")
    assert panel.is_visible()
    text = panel.inner_text()
    assert "The last try failed; rows and sums are those of the last good reading." in text
    assert "Act only if the same failure returns" in text
    assert "penstock run talroo --to warehouse --streams clicks --accounts" in " ".join(text.split())
    page.keyboard.press("Escape")
    assert not panel.is_visible()
    assert is_focused(page, "td.s-failed")


def test_a_restated_day_shows_amounts_before_and_after(opens: Opens) -> None:
    """
    Each change with its difference; the list of the source shows the same.
    """
    page = opens(SMALL)

    page.locator("tr.account td.s-restated").first.click()

    row = page.locator("#panel table.list tr", has_text="spend").first.locator("td")
    name, before, after, difference = row.all_inner_texts()
    assert (name, difference) == ("spend", "+1.11")
    page.locator("summary", has_text="Restated").first.click()
    listed = page.locator("section.source").first.locator("table.list").first.inner_text()
    assert before in listed
    assert after in listed


def test_a_day_of_all_accounts_lists_them(opens: Opens) -> None:
    """
    The worst first; each leads to its own day, and from there to the days beside it.
    """
    page = opens(SMALL)

    page.locator("tr.stream td.s-failed").first.click()
    lines = page.locator("#panel table.list tr")
    assert "failed" in lines.first.inner_text()
    lines.first.locator("button").click()
    assert "failed." in page.locator("#panel .state").inner_text()
    day = page.locator("#panel h2 + p").inner_text()
    page.locator("#panel button", has_text="Day after").click()
    assert page.locator("#panel h2 + p").inner_text() != day


def test_restatements_and_new_members_are_shown_apart_from_problems(opens: Opens) -> None:
    """
    Restated months with their amounts, and members that no column holds; the search narrows it, too.
    """
    page = opens(LARGE)

    first = page.locator("#news details").first
    assert "restated" in first.inner_text()
    first.locator("summary").click()
    assert "penstock changes" in " ".join(first.locator("code").inner_text().split())
    page.fill("#search", "costperhire")
    shown = page.locator("#news details:visible").all_inner_texts()
    assert len(shown) == 4
    assert all("costPerHire, remote" in one for one in shown)
    page.fill("#search", "client-1010")
    assert not page.locator("#news").is_visible()


def test_days_of_several_accounts_are_counted_as_partitions(opens: Opens) -> None:
    """
    Two failed days of two accounts each are four partitions.
    """
    texts = opens(LARGE).locator("#problems .where").all_text_contents()

    several = [text for text in texts if text.endswith(" accounts")]
    assert any(" partitions, " in text for text in several)
    assert not [text for text in several if " days, " in text or " day, " in text]


def test_search_narrows_streams_accounts_and_problems(opens: Opens) -> None:
    """
    Words are parts of names, or states; a word that nothing has is stated; without words all is back.
    """
    page = opens(SMALL)
    rows = page.locator("tr.account:visible")
    everything = page.locator("tr.stream:visible").count()

    page.keyboard.press("/")
    page.keyboard.type("northwind job_stats")
    assert [one.strip().split("\n")[0] for one in rows.locator("th").all_inner_texts()] == ["Northwind Staffing"]
    assert page.locator("#found").inner_text() == "1 account in 1 stream"
    page.fill("#search", "truncated")
    assert rows.count() == page.locator("tr.account:visible:has(td.s-truncated)").count() > 0
    page.fill("#search", "2026-11-03")
    assert page.locator("tr.ticks td.sought").count() == page.locator("section.source").count()
    page.fill("#search", "nobody")
    assert rows.count() == 0
    assert 'Nothing has "nobody"' in page.locator("#found").inner_text()
    page.fill("#search", "")
    assert page.locator("tr.stream:visible").count() == everything


def test_everything_is_reached_by_keyboard(opens: Opens) -> None:
    """
    Arrows move from day to day and from account to account, Home and End to the ends; the focus is seen, and what is
    focused has a name; Enter shows the day.
    """
    page = opens(SMALL)
    page.locator('section.source td.cell[tabindex="0"]').first.focus()

    def cell() -> tuple[int, int]:
        row, column = page.evaluate("[document.activeElement.parentElement.rowIndex, document.activeElement.cellIndex]")
        return row, column

    row, column = cell()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert cell() > (row, column + 1)
    assert cell()[1] == column + 1
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("clicks, 2112, ")
    assert page.locator("#tip").is_visible()
    page.keyboard.press("End")
    assert cell()[1] == SMALL.days
    outline = page.evaluate("getComputedStyle(document.activeElement).outline")
    assert "solid" in outline
    assert "3px" in outline
    page.keyboard.press("Home")
    assert cell()[1] == 1
    page.keyboard.press("Enter")
    assert page.locator("#panel").is_visible()
    assert is_focused(page, "#panel")
    page.keyboard.press("Tab")
    assert is_focused(page, "#panel .close")
    page.keyboard.press("Enter")
    assert is_focused(page, "td.cell")
    assert page.locator('section.source >> nth=0 >> td.cell[tabindex="0"]').count() == 1
    page.locator("tr.stream button").first.focus()
    page.keyboard.press("Space")
    assert page.locator("tr.stream button").first.get_attribute("aria-expanded") == "false"


CONTRAST = """
() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([red, green, blue]) => [red, green, blue].map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const color = parts(getComputedStyle(node).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement, style = getComputedStyle(node);
    if (!text.data.trim() || !node.offsetParent || parseFloat(style.fontSize) < 1 || node.closest(".unseen")) continue;
    const [one, other] = [light(parts(style.color)), light(behind(node))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)}: ${text.data.trim().slice(0, 40)} (${node.className})`);
  }
  return [...new Set(found)];
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read(opens: Opens, scheme: str) -> None:
    """
    Every text has a contrast of 4.5 to 1 to what is behind it (WCAG AA), with all parts open.
    """
    page = opens(SMALL, color_scheme=scheme)
    for summary in page.locator("summary:visible").all():
        summary.click()
    page.locator("tr.account td.s-failed").first.click()

    assert page.evaluate(CONTRAST) == []


def test_a_phone_shows_it_without_scrolling_sideways(opens: Opens) -> None:
    """
    360 pixels wide: the calendars scroll within themselves and begin at the latest day, and days are large enough to
    be touched.
    """
    page = opens(SMALL, **PHONE)

    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    cell = page.locator("tr.stream td.cell").last
    box = cell.bounding_box()
    assert 0 < box["x"] < 360 - box["width"]
    assert box["width"] >= 22
    assert page.locator("tr.account td.cell").first.bounding_box()["height"] >= 22
    cell.tap()
    assert page.locator("#panel").bounding_box()["width"] == 360


def test_a_print_has_all_days_in_their_colours(opens: Opens) -> None:
    """
    On an upright A4 page the calendars shrink until their last day fits, and colours and whole reasons are printed.
    """
    page = opens(LARGE)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 718, "height": 1000})

    ends = page.locator("tr.stream td.cell:last-child").evaluate_all(
        "(cells) => cells.map((cell) => cell.getBoundingClientRect().right)"
    )
    assert ends
    assert max(ends) < 718
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    assert not page.locator("#search").is_visible()
    styles = page.locator("td.cell, .swatch").evaluate_all(
        "(found) => found.map((one) => getComputedStyle(one).printColorAdjust)"
    )
    assert set(styles) == {"exact"}
    clipped = ".problem .why:not(.folded *)"
    assert page.locator(clipped).evaluate_all("(all) => all.every((one) => one.scrollHeight <= one.clientHeight + 1)")


@pytest.mark.parametrize("options", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("world", [SMALL, LARGE], ids=["few days", "many days"])
def test_the_legend_has_the_signs_of_the_calendar(
    opens: Opens, world: GeneratedLedger, options: dict[str, Any]
) -> None:
    """
    Letters where the days are wide enough for them, else patterns, in both.
    """
    page = opens(world, **options)
    look = """(node) => {
      const {fontSize, backgroundColor, backgroundImage} = getComputedStyle(node);
      return [fontSize === "0px" ? "" : node.textContent, backgroundColor, backgroundImage];
    }"""

    for state in ("failed", "missing", "truncated", "rejected"):
        cell = page.locator(f"tr.stream td.s-{state}, tr.account td.s-{state}").first
        assert page.locator(f"#legend .s-{state}").evaluate(look) == cell.evaluate(look), state


def test_a_day_without_a_reading_has_a_text(opens: Opens) -> None:
    """
    A day without a reading has a text on hover and on focus, as every other day; there is nothing to open.
    """
    page = opens(SMALL)
    cell = page.locator("tr.account td.s-none").first
    cell.hover()
    assert "no reading" in page.locator("#tip").inner_text()
    page.mouse.move(0, 0)
    page.keyboard.press("/")  # what was done last is a key: the focus is one of the keyboard
    cell.evaluate("(node) => node.focus()")
    assert cell.get_attribute("aria-label").endswith("no reading")
    assert "no reading" in page.locator("#tip").inner_text()
    page.keyboard.press("Enter")
    assert not page.locator("#panel").is_visible()


def test_names_cannot_become_elements(opens: Opens) -> None:
    """
    A hostile name of everything is text on the page, in the tip and in the panel.
    """
    world = evolve(SMALL, sources={HOSTILE: (HOSTILE,)}, accounts=(HOSTILE, "two"), target=HOSTILE)
    page = opens(world)

    page.locator("tr.account td.s-final").first.hover()
    assert HOSTILE in page.locator("#tip").inner_text()
    page.locator("tr.account td.s-final").first.click()
    assert HOSTILE in page.locator("#panel").inner_text()
    assert page.locator("img").count() == 0


def test_an_old_page_states_its_age(opens: Opens) -> None:
    """
    A file that is not made anew any more is not taken for today's; a new one has no such notice.
    """
    assert opens(SMALL).locator(".notice:visible").count() == 0
    old = opens(SMALL, at=NOW + timedelta(days=3, hours=1))
    assert old.locator(".notice:visible").inner_text().startswith("This page was made 3\u00a0d ago")


def test_the_served_page_is_the_same(opens: Opens) -> None:
    """
    One request, under the policy of its headers.
    """
    text = render(content(SMALL.facts()))
    with serve(PageServer(partial(str, text)), gzip=True) as server:
        page = opens(SMALL, url=server.base_url)
        page.locator("tr.account td.s-failed").first.click()
        assert [request.target for request in server.requests] == ["/"]


def test_sixty_accounts_of_twenty_streams_open_at_once(
    opens: Opens, record_property: Callable[[str, object], None]
) -> None:
    """
    60 accounts by 120 days by 20 streams. Only one stream is drawn with its accounts; a search opens five at most. The
    times are recorded, and not asserted: they are the machine's.
    """
    page = opens(LARGE, at=None)  # a set clock measures nothing

    timing = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    record_property("opened_ms", round(timing))
    print(f"opened in {timing:.0f} ms")
    assert page.locator("tr.stream").count() == 20
    assert page.locator("tr.account").count() == 60
    page.fill("#search", "client-1010")
    assert page.locator("tr.account:visible").count() == 5
    page.fill("#search", "")
    button = page.locator("tr.stream button").last
    if button.get_attribute("aria-expanded") == "false":
        button.click()
    assert page.locator("tr.account:visible").count() >= 60
