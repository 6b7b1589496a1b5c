"""A person at Open WebUI's page: page.py ask|again, with what to know in the environment. Runs in the container that Dockerfile describes.

`ask` logs in, asks a question, waits for the answer, takes a picture and prints the address of the chat; `again` opens that chat.
"""

import contextlib
import os
import sys

from playwright.sync_api import Error, Page, sync_playwright

URL, EMAIL, PASSWORD, ANSWER = (os.environ[name] for name in ("PAGE_URL", "PAGE_EMAIL", "PAGE_PASSWORD", "PAGE_ANSWER"))
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
SLOW = 90_000  # milliseconds


def log_in(page: Page) -> None:
    page.goto(f"{URL}/auth", wait_until="domcontentloaded", timeout=SLOW)
    page.fill("input[type=email]", EMAIL, timeout=SLOW)
    page.fill("input[type=password]", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_selector("#chat-input", timeout=SLOW)
    with contextlib.suppress(Error):  # what is new in this release, shown once
        page.click("text=Okay, Let's Go!", timeout=5000)


def ask(page: Page) -> None:
    page.click("#chat-input")
    page.keyboard.type("Who are you?")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"text={ANSWER}", timeout=SLOW)
    page.wait_for_url("**/c/*", timeout=SLOW)
    page.wait_for_timeout(1500)  # the answer's buttons appear when it is whole
    page.screenshot(path="/out/open_webui.png")
    print(page.url)


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
    tab = browser.new_page(viewport={"width": 1200, "height": 700})
    log_in(tab)
    if sys.argv[1] == "ask":
        ask(tab)
    else:
        tab.goto(os.environ["PAGE_CHAT"], timeout=SLOW)
        tab.wait_for_selector(f"text={ANSWER}", timeout=SLOW)
    browser.close()
