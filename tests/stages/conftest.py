"""One small run of a3r for all tests of the stages, and the test process at home in it."""

import logging
from collections.abc import Iterator

import pytest

from tests import small
from tests.small import SmallRun


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """The finished run that every test here starts from; what a test changes it puts back."""
    return small.finished_run(tmp_path_factory.getbasetemp() / "small")


@pytest.fixture(autouse=True)
def _at_home(small_run: SmallRun, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process works in the home of the small run; the library's logging is as before afterwards."""
    for name, value in small.environment(small_run.home).items():
        monkeypatch.setenv(name, value)
    library = logging.getLogger("lib")
    before = library.propagate
    yield
    library.propagate = before
