"""The report of the kept run in a real browser: it opens offline, shows the verdicts and asks nothing of the network."""

import pytest

from lib import paths

pytestmark = pytest.mark.browser

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]


def test_the_kept_report_opens_offline_with_its_verdicts(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((paths.best() / "a3r" / "report.html").as_uri())
        shown = page.locator("body").inner_text()
        pictures = page.locator("img").evaluate_all("images => images.map(image => image.naturalWidth)")
        browser.close()
    assert "code path only" in shown.lower() and "source not confirmed" in shown.lower()
    assert pictures and all(width > 0 for width in pictures)
    assert [url for url in asked if url.startswith("http")] == []
