"""One small run per submission for all tests of the stages, and the test process at home in it."""

import logging
from collections.abc import Iterator

import pytest

from tests import small
from tests.small import SmallRun


@pytest.fixture
def small_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """The finished run of the module's SUBMISSION (a3r unless it names one), made once; what a test changes it puts back."""
    of = getattr(request.module, "SUBMISSION", "a3r")
    return small.finished_run(tmp_path_factory.getbasetemp() / f"small-{of}", of)


@pytest.fixture(autouse=True)
def _at_home(small_run: SmallRun, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process works in the home of the small run; the library's logging is as before afterwards."""
    for name, value in small.environment(small_run.home).items():
        monkeypatch.setenv(name, value)
    library = logging.getLogger("lib")
    before = library.propagate
    yield
    library.propagate = before
