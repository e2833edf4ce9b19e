"""JupyterLab in a real browser, opened by script/lab.sh: Run All, and the verdicts, tables and pictures are there to be seen.

Each test works in a checkout of its own, so that nothing a notebook runs or JupyterLab saves touches this one: the first one's has the
engine's mini as its only submission, whose seven stages take seconds without torch; the second shows the kept runs. What the browser
showed stays in the test's folder: lab-screen.png and lab-whole.png, to be looked at after a change of what a notebook shows, and
lab-end.png, also of a test that failed.
"""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lib import paths
from tests.browser.test_report import FLAGS
from tests.engine import checkout as checkouts
from tests.engine.checkout import Checkout

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PATIENCE = 300.0  # seconds until something that has to happen counts as not happening, on a machine that others use too
TOKEN = "podium"
WIDTH, HEIGHT = 1440, 900  # of the window: that of a laptop
# JupyterLab keeps cells out of sight in the page, asks nothing of the network and saves nothing of its own accord.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none", "scrollPastEnd": False},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "docmanager-extension/plugin": {"autosave": False},
}
RED = '[data-mime-type="application/vnd.jupyter.stderr"]'  # a traceback or a warning; either spoils the notebook for a reader
# Code cells have the prompt "[3]:" once they ran; after an error the others never do.
ENDED = """red => document.querySelector(red)
    || [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].every(prompt => /\\d/.test(prompt.innerText))"""
CUT = "outputs => outputs.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.innerText.slice(0, 200))"


def test_run_all_of_notebook_reproduce_ends_in_the_verdicts(chromium: str, tmp_path: Path):
    kit = checkouts.make(tmp_path / "kit", **lab_settings(tmp_path))
    copy_from_here(kit, "script", "notebooks/notebook-reproduce.ipynb")
    with opened(chromium, kit, "notebook-reproduce.ipynb") as page:
        run_all(page)
        shown = page.locator(".jp-Notebook").inner_text()
        check_nothing_is_cut(page)
        take_pictures(page, "CODE PATH ONLY", tmp_path)
    assert re.search(r"mini: 7 stages up to date in .* s, run log/mini/", shown)
    assert re.search(r"Distance to the mean\s+0\.5\s+\S+\s+CODE PATH ONLY\s+tiny profile", shown)


def test_run_all_of_the_quick_review_shows_tables_curves_and_samples(chromium: str, tmp_path: Path):
    kit = Checkout(tmp_path / "kit", lab_settings(tmp_path))
    copy_from_here(kit, "script", "lib", "notebooks")
    shutil.copytree(paths.best(), kit.root / "best-result-review")
    with opened(chromium, kit, "notebook-quick-review.ipynb") as page:
        run_all(page)
        shown = page.locator(".jp-Notebook").inner_text()
        pictures = page.locator(".jp-OutputArea-output img").evaluate_all("images => images.map(image => image.naturalWidth)")
        check_nothing_is_cut(page)
        take_pictures(page, "CODE PATH ONLY", tmp_path)
    assert re.search(r"text-to-image R@1 after epoch 5\s+\.0882\s+\S+\s+CODE PATH ONLY\s+tiny profile", shown)
    assert "scores recomputed from raw predictions; different: none" in shown
    assert len(pictures) > 2 and all(width > 0 for width in pictures)


def lab_settings(folder: Path) -> dict[str, str]:
    """What JupyterLab sees beside the checkout: this interpreter, and settings in this folder instead of the user's own."""
    for name, content in SETTINGS.items():
        path = folder / "jupyter" / "lab" / "user-settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    places = {"JUPYTER_CONFIG_DIR": "jupyter", "JUPYTER_DATA_DIR": "jupyter-data"}
    return {"PODIUM_PYTHON": sys.executable, **{variable: str(folder / name) for variable, name in places.items()}}


def copy_from_here(kit: Checkout, *names: str) -> None:
    """Copy files and folders of this checkout to the same place in that one."""
    for name in names:
        source, target = paths.ROOT / name, kit.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)


@contextmanager
def opened(chromium: str, kit: Checkout, notebook: str) -> Iterator:
    """The page of a browser in which the checkout's notebook is open and its kernel idle."""
    from playwright.sync_api import sync_playwright

    with served(kit) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(f"{url}/lab/tree/notebooks/{notebook}?token={TOKEN}")
        page.locator(".jp-CodeCell").first.wait_for()
        # NOTE: the notebook's own indicator says idle also before there is a kernel; Run All then asks for one and runs nothing.
        page.locator("#jp-main-statusbar").get_by_text(re.compile(r"^Python 3 .*\| Idle$")).wait_for()
        try:
            yield page
        finally:
            page.screenshot(path=kit.root.parent / "lab-end.png")
            browser.close()


@contextmanager
def served(kit: Checkout) -> Iterator[str]:
    """The address of a JupyterLab that script/lab.sh serves; it and its kernels are ended afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    command = ["script/lab.sh", *options, f"--IdentityProvider.token={TOKEN}"]
    log_file = kit.root / "lab.log"
    with log_file.open("w") as log:
        server = subprocess.Popen(command, cwd=kit.root, env=kit.environment, stdout=log, stderr=log, start_new_session=True)
    try:
        checkouts.wait_until(lambda: server.poll() is not None or is_listening(port), "JupyterLab listens")
        assert server.poll() is None, log_file.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(timeout=30)
        finally:
            kit.kill_all()
            server.wait()


def is_listening(port: int) -> bool:
    """Whether something on this machine accepts connections at the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run_all(page) -> None:
    """Choose Run All Cells in the menu and wait until every cell has run; an error or a warning of one fails the test."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
    page.wait_for_function(ENDED, arg=RED)
    assert page.locator(RED).all_inner_texts() == []
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()


def check_nothing_is_cut(page) -> None:
    """No output is wider than its place in the notebook, where a reader would have to scroll to the side."""
    assert page.locator(".jp-CodeCell .jp-OutputArea-output").evaluate_all(CUT) == []


def take_pictures(page, words: str, folder: Path) -> None:
    """Save the screen where these words come first, and the whole notebook in a window of its height."""
    page.get_by_text(words, exact=True).first.scroll_into_view_if_needed()
    page.screenshot(path=folder / "lab-screen.png")
    hidden = page.locator(".jp-WindowedPanel-outer").evaluate("panel => panel.scrollHeight - panel.clientHeight")
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT + hidden})
    page.screenshot(path=folder / "lab-whole.png")
