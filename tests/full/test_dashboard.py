"""The dashboard in headless Chromium: it loads without an error, lives, survives hostile text, and can be read.

Needs Chromium on the machine (on Debian: apt-get install chromium); skipped with that reason where there is none.
"""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import sync_playwright

from headrace import App, RetryPolicy
from headrace.testing import MockBroker
from headrace.web import serve, serve_dashboard
from tests.unit.runtime.stage import playing

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Literal

    from playwright.sync_api import Browser, CDPSession, Page

    from headrace.web import Server


TOKEN = "a token of 32 characters, or more"
PAYLOAD = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
PARTITIONS = 512
UPDATE_MS = 100.0
UPDATES = 10
CONTRAST_MIN = 4.5
"""What WCAG asks for text of normal size."""
SCRIPT = Path(__file__).with_name("readable.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("Chromium is not installed (on Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            yield found
        finally:
            found.close()


@contextmanager
def looking(
    browser: Browser,
    server: Server,
    *,
    width: int = 1280,
    scheme: Literal["light", "dark"] = "light",
    expected: str = "nothing",
) -> Generator[Page]:
    """The page, open. Anything that the browser complains of fails the test, but for what is expected."""
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    try:
        page.on("console", lambda told: complaints.append(told.text) if told.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(server.url)
        page.wait_for_selector("#link.up")
        yield page
        assert [complaint for complaint in complaints if expected not in complaint] == []
    finally:
        page.close()


def fails(_record: Any) -> None:
    """With text that is somebody else's."""
    raise ValueError(PAYLOAD)


def test_it_loads_lives_and_shows_a_rebalance(browser: Browser) -> None:
    with (
        playing(lambda _record: None) as stage,
        serve(stage.app, 0) as server,
        looking(browser, server) as page,
    ):
        assert page.title().startswith("ok: group")
        stage.produce(25)
        page.wait_for_selector("text=25 in all")
        stage.client.inner.revoke(("orders", 0))
        page.wait_for_selector("#events >> text=partition revoked")
        stage.client.inner.give(("orders", 0))
        page.wait_for_selector("#partition-rows tr:nth-child(2)")
        page.wait_for_selector("#chart-rate polyline")


def test_red_is_shown_with_its_reason(browser: Browser) -> None:
    with (
        playing(lambda _record: None) as stage,
        serve(stage.app, 0) as server,
        looking(browser, server) as page,
    ):
        stage.client.mute.add(("orders", 1))
        stage.produce(partition=1)
        page.wait_for_selector("#verdict.stuck")
        assert "partition 1" in page.inner_text("#reasons .stuck")
        page.wait_for_selector("#stacks summary")
        stage.client.mute.clear()
        page.wait_for_selector("#verdict.ok")


def test_hostile_text_stays_text(browser: Browser) -> None:
    """From a handler's error, and in whatever field a state could ever have it."""
    with (
        playing(fails, subscribe={"retry": RetryPolicy(attempts_max=9, backoff_initial_s=20)}) as stage,
        serve(stage.app, 0) as server,
        looking(browser, server) as page,
    ):
        stage.produce()
        page.wait_for_selector("#failure-rows >> text=onerror")
        # Looked at in the same breath: the next true state replaces it within a second.
        seen = "[document.querySelector('#name').textContent, document.querySelectorAll('main img, main script').length]"
        assert page.evaluate(f"{SCRIPT}; hostile({json.dumps(PAYLOAD)}).then(() => {seen})") == [PAYLOAD, 0]
        page.wait_for_timeout(200)
        assert page.evaluate("window.hacked") is None


def test_a_hostile_key_stays_text(browser: Browser) -> None:
    with (
        playing(lambda _record: None) as stage,
        serve(stage.app, 0, show_records=True) as server,
        looking(browser, server, width=390) as page,
    ):
        stage.produce(2000, key=PAYLOAD.encode())
        page.wait_for_selector("#key-rows >> text=onerror")
        assert page.inner_text("#key-rows th") == PAYLOAD
        assert page.evaluate("window.hacked") is None
        assert page.locator("main img, main script").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_dead_letter_is_looked_into(browser: Browser) -> None:
    """From the list of failures and from that of dead letters; what is in it stays text, also on a phone."""
    with MockBroker(topics={"orders": 1, "orders.dead": 1}) as broker:
        app = App(broker.bootstrap_servers, "billing")
        app.subscribe("orders", retry=RetryPolicy(attempts_max=1), dead_letter="orders.dead")(fails)
        with (
            serve(app, 0, actions_token=TOKEN, show_records=True) as server,
            looking(browser, server, width=390, expected="404 (Not Found)") as page,
        ):
            app.start()
            broker.produce("orders", [(PAYLOAD.encode(), PAYLOAD.encode() + b"\x00")])
            page.fill("#look-token", TOKEN)
            page.click("#failure-rows >> text=orders[0]@0")
            page.wait_for_selector("#record-value >> text=onerror")
            assert page.inner_text("#record-value") == PAYLOAD + "\\x00"
            page.click("text=Newest dead letters of orders.dead")
            page.click("#letter-rows >> text=orders.dead[0]@0")
            page.wait_for_selector("#record-rows >> text=headrace-error-message")
            page.fill("#look-offset", "77")
            page.click("text=Show the record")
            page.wait_for_selector("#look-answer >> text=it ends at 1")
            assert page.locator("#record").is_hidden()
            assert page.evaluate("window.hacked") is None
            assert page.locator("main img, main script").count() == 0
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            assert page.evaluate(SCRIPT + "; nameless()") == []
            app.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_can_be_read(browser: Browser, width: int, scheme: Literal["light", "dark"]) -> None:
    """Nothing is wider than the page, texts stand out from what is behind them, pictures and fields have names."""
    retry = RetryPolicy(attempts_max=9, backoff_initial_s=20)
    with (
        playing(fails, subscribe={"retry": retry}, topics=40) as stage,
        serve(stage.app, 0, actions_token=TOKEN, show_records=True) as server,
        looking(browser, server, width=width, scheme=scheme) as page,
    ):
        stage.produce(2)
        page.wait_for_selector("#failure-rows >> text=onerror")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, dark.strip("rgb()").split(","))) < 384) is (scheme == "dark")
        assert page.evaluate(f"{SCRIPT}; faint({CONTRAST_MIN})") == []
        assert page.evaluate(SCRIPT + "; nameless()") == []


def test_512_partitions_are_drawn_within_a_tenth_of_a_second(
    browser: Browser, record_property: Callable[[str, object], None]
) -> None:
    """All rows shown, all numbers changed, layout included; time of the processor, since others share this machine."""
    with (
        playing(lambda _record: None, topics=PARTITIONS) as stage,
        serve(stage.app, 0) as server,
        looking(browser, server) as page,
    ):
        page.wait_for_selector(f"#heat i:nth-child({PARTITIONS})")
        page.click("#more")
        page.wait_for_selector(f"#partition-rows tr:nth-child({PARTITIONS})")
        meter = page.context.new_cdp_session(page)
        meter.send("Performance.enable", {"timeDomain": "threadTicks"})
        before = spent(meter)
        page.evaluate(f"{SCRIPT}; timed({UPDATES})")
        took = {name: 1000 * (total - before[name]) / UPDATES for name, total in spent(meter).items()}
        record_property("update of 512 partitions", f"{took}")
        assert 0 < took["TaskDuration"] < UPDATE_MS, took


def spent(meter: CDPSession) -> dict[str, float]:
    """Seconds of the page's thread so far, by what they went to."""
    wanted = ("TaskDuration", "ScriptDuration", "LayoutDuration", "RecalcStyleDuration")
    return {
        one["name"]: one["value"]
        for one in meter.send("Performance.getMetrics")["metrics"]
        if one["name"] in wanted
    }


def test_actions_need_the_token_and_reach_the_app(browser: Browser) -> None:
    with playing(lambda _record: None) as stage, serve(stage.app, 0, actions_token=TOKEN) as server:
        page = browser.new_page()
        try:
            page.goto(server.url)
            page.fill("#token", "a wrong one")
            page.fill("#action-topic", "orders")
            page.fill("#action-partition", "1")
            page.click("#action-form button")
            page.wait_for_selector("#action-answer >> text=refused: the token is wrong")
            assert not any(part.paused for part in stage.app.snapshot().engine.partitions)
            page.fill("#token", TOKEN)
            page.click("#action-form button")
            page.wait_for_selector("#action-answer >> text=asked for: pause")
            page.wait_for_selector("#partition-rows >> text=paused (user)")
        finally:
            page.close()


def test_several_apps_are_switched_between_and_one_goes_away(browser: Browser) -> None:
    with playing(lambda _record: None) as stage, serve(stage.app, 0) as near:
        other = serve(App("memory", "shipping"), 0)
        with serve_dashboard([near.url, other.url], 0) as board, looking(browser, board) as page:
            page.wait_for_selector("nav >> text=group: ok")
            page.click("nav >> text=shipping: new")
            page.wait_for_selector("#name >> text=shipping")
            other.close()
            page.wait_for_selector("#away >> text=shipping cannot be reached")


def test_a_page_whose_server_is_gone_says_so_and_comes_back(browser: Browser) -> None:
    with playing(lambda _record: None) as stage:
        server = serve(stage.app, 0)
        page = browser.new_page()
        try:
            page.goto(server.url)
            page.wait_for_selector("#link.up")
            server.close()
            page.wait_for_selector("#link.down")
            with serve(stage.app, server.port):
                page.wait_for_selector("#link.up")
        finally:
            page.close()
            server.close()
