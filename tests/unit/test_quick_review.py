"""07 of a run whose weights were not trained in it."""

from pathlib import Path

from lib import quick_review
from lib.runs import Run
from lib.show import Shown


def test_without_a_training_and_a_published_one_the_review_says_so_instead_of_drawing():
    run = Run("dataengine", "quick_review", "full", Path("run"), Path("out"), "key", stages={})
    shown = quick_review.show_curves(run)
    assert isinstance(shown, Shown) and "none in this run, released weights answered" in shown.text
