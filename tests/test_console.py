"""The console in a real Chromium, over a whole daemon with a scripted engine and some thousand episodes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Route, expect, sync_playwright

from agent.http.keys import create
from agent.recalibrate import in_force_for
from console_fakes import HOSTILE
from console_service import Served, served
from day_fakes import ScriptedEngine
from policies.drift import Alarm

pytestmark = pytest.mark.browser
VIEWS = ("now", "skills", "thresholds", "episodes", "adapters")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
CONTROLS = "a[href], button:not(:disabled), select, input, textarea, summary"
Theme = Literal["light", "dark"]
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path, "Chromium is missing: `apt-get install chromium`, or leave these tests out with -m 'not browser'"
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield one
        one.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("console")) as one:
        yield one


@pytest.fixture
def opened(browser: Browser, site: Served) -> Iterator[Open]:
    """Opens a view; afterwards nothing may have been said on the browser's console, nor asked of another host."""
    pages: list[Page] = []
    said: list[str] = []
    asked: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            said.append(message.text)

    def open_view(view: str, theme: Theme = "light") -> Page:
        page = browser.new_page(viewport={"width": 1360, "height": 860}, color_scheme=theme)
        page.set_default_timeout(20_000)
        page.on("console", heard)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{site.url}/console/#/{view}")
        pages.append(page)
        return page

    yield open_view
    for page in pages:
        page.close()
    assert said == []
    assert [url for url in asked if not url.startswith(site.url)] == []


def status(site: Served) -> Any:
    return httpx.get(f"{site.url}/api/status").json()


def who_answers(site: Served, text: str = "What is 3 + 5?") -> str:
    body = {"model": "secondnature", "messages": [{"role": "user", "content": text}]}
    return str(httpx.post(f"{site.url}/v1/chat/completions", json=body).json()["secondnature"]["system"])


def confirm(page: Page, button: str, why: str = "tried in a test") -> None:
    """Answer the question that the page asks before a change."""
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Why, for the record").fill(why)
    dialog.get_by_role("button", name=button, exact=True).click()
    expect(dialog).to_have_count(0)


def ready(page: Page, view: str) -> Locator:
    """What only appears once the view's figures were drawn."""
    sign = {
        "now": page.get_by_text("Share of System 1").first,
        "skills": page.get_by_role("table", name="Forgetting matrix"),
        "thresholds": page.get_by_role("table", name="What this threshold would have done"),
        "episodes": page.get_by_role("table", name="Episodes, the newest first"),
        "adapters": page.get_by_role("table", name="Checks of the gate"),
    }[view]
    expect(sign).to_be_visible()
    return sign


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_loads_without_a_word_on_the_console(opened: Open, view: str, theme: Theme) -> None:
    page = opened(view, theme)
    ready(page, view)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(246, 246, 243)", "dark": "rgb(20, 23, 27)"}[theme]
    expect(page.locator("nav a[aria-current=page]")).to_have_text(view.capitalize())
    assert page.locator("#fault").is_hidden()
    expect(page.locator("main canvas")).to_have_count({"now": 1, "skills": 2, "thresholds": 2}.get(view, 0))


def test_the_slider_redraws_from_the_log(opened: Open, site: Served) -> None:
    page = opened("thresholds")
    ready(page, "thresholds")
    page.get_by_label("Skill", exact=True).select_option("sums")
    expect(page.locator("#exact")).to_have_value("0.85")
    before, told = page.locator("main canvas").first.screenshot(), page.locator("#readout").inner_text()
    slider = page.get_by_role("slider", name="Threshold")
    slider.focus()
    for _ in range(16):
        slider.press("ArrowRight")
    expect(page.locator("#exact")).to_have_value("0.93")
    assert page.locator("#readout").inner_text() != told
    assert page.locator("main canvas").first.screenshot() != before
    found = httpx.get(f"{site.url}/api/whatif", params={"skill": "sums"}, timeout=60).json()
    expect(page.locator("#in-force")).to_contain_text(found["in_force"]["says"])
    point = min(found["points"], key=lambda p: abs(p["threshold"] - 0.93))
    expect(page.locator("#readout")).to_contain_text(f"{100 * (1 - point['escalated']):.1f} %")
    page.get_by_label("Log of").select_option("base")
    expect(page.locator("#apply")).to_be_disabled()  # a threshold belongs to the adapter that answers


def test_applying_changes_the_service_and_undo_takes_it_back(opened: Open, site: Served) -> None:
    assert who_answers(site) == "system1"
    page = opened("thresholds")
    ready(page, "thresholds")
    page.get_by_label("Skill", exact=True).select_option("sums")
    expect(page.locator("#exact")).to_have_value("0.85")
    page.locator("#exact").fill("0.95")
    page.locator("#exact").press("Tab")
    page.locator("#apply").click()
    expect(page.get_by_role("dialog").get_by_role("button", name="Apply")).to_be_disabled()  # without a reason
    page.keyboard.press("Escape")
    assert status(site)["thresholds"]["sums"] == 0.85
    page.locator("#apply").click()
    confirm(page, "Apply", "too many complaints")
    expect(page.get_by_role("table", name="History of thresholds")).to_contain_text("too many complaints")
    assert status(site)["thresholds"]["sums"] == 0.95
    assert who_answers(site) == "system2"
    page.locator("#undo").click()
    page.get_by_role("dialog").get_by_role("button", name="Undo", exact=True).click()
    expect(page.locator("#undo")).to_be_disabled()
    assert status(site)["thresholds"]["sums"] == 0.85
    assert who_answers(site) == "system1"


def test_apply_waits_for_the_reply_of_the_skill_that_was_chosen_last(opened: Open) -> None:
    page = opened("thresholds")
    ready(page, "thresholds")
    held: list[Route] = []
    page.route("**/api/whatif?skill=differences*", lambda route: held.append(route))  # no built-in is taken
    page.get_by_label("Skill", exact=True).select_option("differences")
    expect(page.locator("#apply")).to_be_disabled()
    page.get_by_role("slider", name="Threshold").press("ArrowRight")
    expect(page.locator("#apply")).to_be_disabled()  # what is shown is not of the skill that is chosen
    page.get_by_label("Skill", exact=True).select_option("sums")
    expect(page.locator("#exact")).to_have_value("0.85")
    expect(page.locator("#apply")).to_be_enabled()
    shown = page.locator("#readout").inner_text()
    with page.expect_response("**/api/whatif?skill=differences*"):
        held[0].continue_()
    page.wait_for_timeout(200)
    assert page.locator("#readout").inner_text() == shown  # the late reply changes nothing
    expect(page.locator("#exact")).to_have_value("0.85")


def test_apply_is_refused_where_another_adapter_answers_by_now(browser: Browser, site: Served) -> None:
    day, before = site.day, site.day.pointer.now
    page = browser.new_page()  # of its own: the browser's console tells of a refusal
    page.set_default_timeout(20_000)
    page.goto(f"{site.url}/console/#/thresholds")
    ready(page, "thresholds")
    page.get_by_label("Skill", exact=True).select_option("sums")
    expect(page.locator("#exact")).to_have_value("0.85")
    changes = len(day.memory.threshold_history())
    day.pointer.flip(replace(before, adapter=site.adapters[0]))  # as a night does while the page is open
    try:
        page.locator("#apply").click()
        confirm(page, "Apply", "looks good")
        expect(page.locator("#apply")).to_be_disabled()
        expect(page.get_by_text("answers now; look at its log")).to_be_visible()
        assert len(day.memory.threshold_history()) == changes
    finally:
        day.pointer.flip(before)
        page.close()


def test_a_moved_threshold_is_told_with_what_was_certified_in_both_views(opened: Open, site: Served) -> None:
    day, adapter = site.day, site.adapters[1].name
    history = day.memory.threshold_history()  # what another test applied and took back is in it too
    decided = next(c for c in history if (c.skill, c.adapter, c.undone_at) == ("sums", adapter, None))
    before = day.pointer.now
    kept = {"change": decided.id, "threshold": 0.8623, "alarm": Alarm(audits=7, disagreements=1).to_json()}
    day.memory.set_watch(adapter, "sums", kept)
    day.pointer.flip(in_force_for(day, before.adapter))
    says = "System 1 answers from 0.8623; 0.850 was certified; 7 audits since, 1 of them disagreeing"
    try:
        page = opened("now")
        row = page.get_by_role("table", name="Thresholds in force").get_by_role("row", name="sums")
        expect(row).to_contain_text(says)
        expect(row).to_contain_text("0.862")
        page = opened("thresholds")
        ready(page, "thresholds")
        page.get_by_label("Skill", exact=True).select_option("sums")
        expect(page.locator("#in-force")).to_contain_text(says)
        expect(page.locator("#exact")).to_have_value("0.8623")
    finally:
        day.memory.set_watch(adapter, "sums", kept | {"change": 0})  # of no decision: it does not count
        day.pointer.flip(before)


def test_a_rollback_rolls_back_and_a_promotion_promotes(opened: Open, site: Served) -> None:
    older, newer = (adapter.name for adapter in site.adapters)
    page = opened("adapters")
    ready(page, "adapters")
    page.locator("#rollback").click()
    confirm(page, "Roll back")
    expect(page.get_by_role("row", name=older)).to_contain_text("live")
    assert status(site)["adapter"] == older
    page.get_by_role("link", name=newer).click()
    page.get_by_role("button", name="Promote…").click()
    confirm(page, "Promote")
    expect(page.get_by_role("row", name=newer)).to_contain_text("live")
    assert status(site)["adapter"] == newer
    assert isinstance(site.day.engine, ScriptedEngine)
    assert list(site.day.engine.loaded) == [newer]


def test_a_deliberate_skill_is_released(opened: Open, site: Served) -> None:
    page = opened("skills")
    ready(page, "skills")
    row = page.get_by_role("table", name="Skills under").get_by_role("row", name="weekdays")
    expect(row).to_contain_text("deliberate")
    row.get_by_role("button", name="Release…").click()
    confirm(page, "Release")
    expect(row).to_contain_text("practising")
    assert status(site)["deliberate"] == []


def test_what_was_said_is_shown_as_text(opened: Open, site: Served) -> None:
    page = opened("episodes")
    ready(page, "episodes")
    page.get_by_role("searchbox").fill("onerror")
    page.get_by_role("searchbox").press("Enter")
    page.get_by_role("button", name="Refresh").click()
    row = page.locator("tbody tr").first
    expect(page.locator("tbody tr")).to_have_count(1)
    assert row.locator("td.cut").all_inner_texts() == [HOSTILE, HOSTILE]
    row.click()
    expect(page.locator(".quote.from1").first).to_have_text(HOSTILE)
    assert page.locator("main img, main script").count() == 0
    assert page.title() == "Episodes · Second Nature"


def test_an_episode_shows_system_2s_tree_and_its_votes(opened: Open) -> None:
    page = opened("episodes")
    ready(page, "episodes")
    page.get_by_label("Answered by").select_option("system2")
    expect(page.locator("tbody .badge.system1")).to_have_count(0)
    page.locator("tbody tr").nth(3).click()
    tree = page.locator(".tree").first
    expect(tree).to_contain_text("#0 reason")
    expect(tree.locator("ul")).to_contain_text("#1 check")
    assert page.locator(".votes meter").count() >= 1
    page.get_by_role("button", name="Older").click()
    expect(page.locator("tbody tr")).to_have_count(100)


@pytest.mark.parametrize("view", VIEWS)
def test_the_keyboard_reaches_every_control(opened: Open, view: str) -> None:
    page = opened(view)
    ready(page, view)
    if view == "episodes":
        page.get_by_role("searchbox").fill("onerror")  # one row instead of fifty
        page.get_by_role("button", name="Refresh").click()
        expect(page.locator("tbody tr")).to_have_count(1)
    page.evaluate(f"document.querySelectorAll({CONTROLS!r}).forEach((one, i) => one.dataset.control = i)")
    visible = [one for one in page.locator("[data-control]").all() if one.is_visible()]
    wanted = {one.get_attribute("data-control") for one in visible}
    reached: set[str | None] = set()
    page.locator("body").focus()
    for _ in range(3 * len(wanted) + 10):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.dataset.control ?? null"))
    assert wanted - reached == set()


def test_keys_change_views_and_the_theme(opened: Open) -> None:
    page = opened("now")
    ready(page, "now")
    page.keyboard.press("3")
    ready(page, "thresholds")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.press("Escape")
    ready(page, "episodes")
    page.get_by_role("button", name="Refresh").focus()
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.closest('tbody') !== null")
    page.keyboard.press("t")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_running_nights_progress_is_shown(opened: Open, site: Served) -> None:
    night = site.daemon.night
    night.running = True
    night.progress("distil", 40, 120, "epoch 1 of 3")
    try:
        page = opened("now")
        expect(page.locator(".stages .now")).to_have_text("distil")
        expect(page.locator("main")).to_contain_text("epoch 1 of 3 (40 of 120")
        expect(page.get_by_role("button", name="Run the night now…")).to_be_disabled()
        night.progress("evaluate", 0, 1, "held-out questions")
        expect(page.locator(".stages .now")).to_have_text("evaluate")
    finally:
        night.progress("idle", 0, 0, "")
        night.running = False


def test_with_keys_the_browser_asks_for_one_and_the_page_takes_a_better_one(browser: Browser, tmp_path: Path) -> None:
    with served(tmp_path, 60) as one:
        better = create(one.day.memory, "operate").secret
        looking = create(one.day.memory, "audit").secret
        page = browser.new_page(http_credentials={"username": "key", "password": looking})
        page.goto(f"{one.url}/console/#/adapters")
        ready(page, "adapters")
        page.locator("#rollback").click()
        confirm(page, "Roll back")
        expect(page.get_by_role("alert")).to_contain_text("role 'operate'")
        assert status_of(one, better)["adapter"] == one.adapters[1].name
        page.locator("#key").click()
        page.get_by_label("Key", exact=True).fill(better)
        page.get_by_role("button", name="Use this key").click()
        page.wait_for_function("sessionStorage.getItem('secondnature.key') !== null")
        ready(page, "adapters")
        page.locator("#rollback").click()
        confirm(page, "Roll back")
        expect(page.get_by_role("row", name=one.adapters[0].name)).to_contain_text("live")
        assert status_of(one, better)["adapter"] == one.adapters[0].name
        page.close()


def status_of(one: Served, key: str) -> Any:
    return httpx.get(f"{one.url}/api/status", headers={"Authorization": f"Bearer {key}"}).json()
