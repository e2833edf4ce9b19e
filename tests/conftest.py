"""Fixtures of all tests: homes of their own for data, runs and kept runs, so that no test touches those of the checkout; chromium."""

import os
import shutil
from pathlib import Path

import pytest

HOME_FOLDERS = {"PODIUM_DATA": "data", "PODIUM_LOG": "log", "PODIUM_BEST": "best-result-review"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def _set_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable, name in HOME_FOLDERS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv(variable, str(folder / name))
    return folder


@pytest.fixture
def kit_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home: a folder with data/, log/ and best-result-review/ that the kit and the processes it starts use in this test."""
    return _set_home(tmp_path / "home", monkeypatch)


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the whole session, for what is expensive to make and never changed, such as the tiny base weights.

    What the kit keeps in data/ is addressed by what it is made from, so tests with other settings do not get in each other's way.
    """
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def warm_home(shared_home: Path, kit_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Like `kit_home`, with empty log/ and best-result-review/, but data/ is that of the session: base weights are trained once."""
    (shared_home / "data").mkdir(exist_ok=True)
    monkeypatch.setenv("PODIUM_DATA", str(shared_home / "data"))
    return kit_home


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the system's chromium. Without one the test is skipped, or fails where PODIUM_BROWSER_REQUIRED=1 says it must run."""
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None:
        reason = f"no {', '.join(BROWSERS)} on PATH; apt-get install chromium"
        if os.environ.get("PODIUM_BROWSER_REQUIRED") == "1":
            pytest.fail(f"PODIUM_BROWSER_REQUIRED=1, but {reason}")
        pytest.skip(reason)
    return found
