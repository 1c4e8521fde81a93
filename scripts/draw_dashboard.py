"""Draws the pictures of the dashboard in docs/pictures: a real app at work on the embedded broker, in headless Chromium.

Usage: .venv/bin/python scripts/draw_dashboard.py [folder]

Needs Chromium (on Debian: apt-get install chromium). Refuses to draw what the page does not show by itself.
"""

from __future__ import annotations

import random
import shutil
import sys
import threading
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from headrace import App, Record, Reject, RetryPolicy
from headrace.testing import MockBroker
from headrace.web import serve

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
PARTITIONS = 48
WATCH_S = 40
TOKEN = "0123456789abcdef"  # noqa: S105 - of an app that lives a minute
VIEWS: tuple[tuple[str, int, int, str], ...] = (
    ("dashboard", 1280, 900, "light"),
    ("dashboard-dark", 1280, 900, "dark"),
    ("dashboard-phone", 390, 844, "light"),
)


class Work:
    """Handlers that are quick, slow, and sometimes fail."""

    def __init__(self) -> None:
        self.chance = random.Random(7)  # noqa: S311 - for a picture

    def charge(self, _record: Record) -> None:
        """Waits for a bank."""
        time.sleep(self.chance.expovariate(25))
        if self.chance.random() < 0.01:
            raise Reject("card declined")
        if self.chance.random() < 0.02:
            raise TimeoutError("the bank did not answer")

    def audit(self, _record: Record) -> None:
        """Writes a line."""
        time.sleep(0.002)


def app_at_work(servers: str) -> App:
    """An app that has a little too much to do."""
    app = App(
        servers, "billing", reporters=[{"type": "statsd", "every_s": 1}, {"type": "prometheus", "port": 0}]
    )
    work = Work()
    retry = RetryPolicy(attempts_max=3, backoff_initial_s=2)
    app.subscribe("orders", concurrency=48, retry=retry, dead_letter="orders.dead")(work.charge)
    app.subscribe("audits", concurrency=8)(work.audit)
    return app


def produce(broker: MockBroker, done: threading.Event) -> None:
    """A little more than the app can handle, then less; some customers buy more than others."""
    number, chance = 0, random.Random(3)  # noqa: S311 - for a picture
    while not done.wait(0.25):
        count = 320 if number < 40_000 else 60
        broker.produce("orders", [(_customer(chance), b'{"amount": 1}') for _ in range(count)])
        broker.produce("audits", [(f"customer-{n}", b"1") for n in range(20)])
        number += count


def _customer(chance: random.Random) -> str:
    """One in five records is of four customers."""
    hot = chance.random()
    return f"customer-{int(hot * 20)}" if hot < 0.2 else f"customer-{chance.randrange(100_000)}"


def look(page: Page) -> None:
    """Into the newest dead letter."""
    page.fill("#look-token", TOKEN)
    page.click("text=Newest dead letters of orders.dead")
    page.click("#letter-rows .place >> nth=0")
    page.wait_for_selector("#record:not([hidden])")


def drawn(page: Page, name: str, folder: Path) -> None:
    """The whole page as a picture. The window is made as high as the page: rows out of view are not laid out."""
    width = page.evaluate("innerWidth")
    page.set_viewport_size({"width": width, "height": page.evaluate("document.documentElement.scrollHeight")})
    time.sleep(1.5)
    page.screenshot(path=folder / f"{name}.png")


def main() -> None:
    """All pictures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium here (on Debian: apt-get install chromium)")
    done = threading.Event()
    with (
        MockBroker(topics={"orders": PARTITIONS, "audits": 4, "orders.dead": 1}) as broker,
        sync_playwright() as playwright,
    ):
        app = app_at_work(broker.bootstrap_servers)
        with serve(app, 0, actions_token=TOKEN, show_records=True) as server:
            app.start()
            threading.Thread(target=produce, args=(broker, done), daemon=True).start()
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            time.sleep(WATCH_S)
            app.pause(("orders", 5))
            for name, width, height, scheme in VIEWS:
                page = browser.new_page(
                    viewport={"width": width, "height": height},
                    color_scheme="dark" if scheme == "dark" else "light",
                )
                page.goto(server.url)
                page.wait_for_selector(".numbers dd")
                time.sleep(2)
                look(page)
                drawn(page, name, folder)
                page.close()
            browser.close()
            done.set()
            app.stop()


if __name__ == "__main__":
    main()
