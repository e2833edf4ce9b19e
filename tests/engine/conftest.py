"""Fixtures of the engine's tests: a checkout per test, and one per module for tests that only look at a finished run."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine import checkout as checkouts
from tests.engine.checkout import Checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """A checkout with mini; whatever the test leaves running is ended."""
    made = checkouts.make(tmp_path / "kit")
    yield made
    made.kill_all()


@pytest.fixture(scope="session")
def finished_kit(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with one complete run, to look at or to copy, not to change."""
    made = checkouts.make(tmp_path_factory.mktemp("finished") / "kit")
    assert list(made.run("1-7").values()) == ["done"] * 7
    return made


@pytest.fixture
def done(finished_kit: Checkout, tmp_path: Path) -> Iterator[Checkout]:
    """A checkout of one's own in which every stage is done."""
    shutil.copytree(finished_kit.root, tmp_path / "kit", symlinks=True)
    copied = Checkout(tmp_path / "kit")
    yield copied
    copied.kill_all()


@pytest.fixture
def prepared(done: Checkout) -> Checkout:
    """A checkout of one's own in which the stages before finetune are done, in no run so far."""
    for stage in checkouts.STAGES[3:]:
        shutil.rmtree(done.log / ".stages" / "mini" / checkouts.numbered(stage))
    shutil.rmtree(done.log / "mini")
    return done


@pytest.fixture
def weights() -> Callable[[Checkout], str]:
    """The exported weights of the checkout's only training, as text: equal text is bit-identical weights."""
    return lambda kit: (kit.place("finetune") / "model" / "weights.json").read_text()
