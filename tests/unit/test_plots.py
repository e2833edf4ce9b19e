"""Figures are made from records, say what their axes measure, and leave no state behind."""

import subprocess
import sys

import matplotlib
import numpy
import pytest
from PIL import Image

from lib import plots
from lib.curves import RunCurves, TrainPoint, Validation
from lib.errors import MissingInput

PIXELS = numpy.full((12, 8, 3), 200, dtype=numpy.uint8)


def run(count: int = 8) -> RunCurves:
    points = tuple(TrainPoint(step, step // 4, 2.0 / (step + 1), lr=1e-4) for step in range(count))
    recalls = {f"text_to_image_R@{k}": k / 20 for k in (1, 5, 10)}
    return RunCurves("r", {}, points, (Validation(1, recalls, "x"), Validation(2, recalls, "x")), "finished", "", 100, 4)


def labels(figure) -> list[tuple[str, str]]:
    return [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]


def test_curves_share_axes_in_epochs_and_name_their_units():
    figure = plots.curves(run(), run(4))
    assert labels(figure) == [("epochs", "loss of one batch (nats)"), ("epochs", "share of captions (R@k)")]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["published", "ours"]
    published = max(figure.axes[0].lines, key=lambda line: len(line.get_xdata()))
    assert list(published.get_xdata())[-1] == 2.0


@pytest.mark.parametrize(("original", "ours", "names"), [(True, False, ["published"]), (False, True, ["ours"])])
def test_either_run_may_be_missing(original, ours, names):
    figure = plots.curves(run() if original else None, run() if ours else None)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names


def test_without_anything_to_draw_the_next_step_is_named():
    empty = RunCurves("r", {}, (), (), "died before epoch 0", "")
    for nothing in (None, empty):
        with pytest.raises(MissingInput) as error:
            plots.curves(nothing, None)
        assert str(error.value) == "no training step and no validation to draw; run finetune first or name a run folder with an out.log"


def test_the_learning_rate_shows_plan_log_and_the_step_used():
    figure = plots.lr_schedule(run(), [(0, 0.0), (10, 1e-4), (100, 0.0)], used_step=25)
    assert labels(figure) == [("optimiser step", "learning rate")]
    assert [text.get_text() for text in figure.axes[0].texts] == ["checkpoint used: step 25"]


def test_a_grid_shows_every_picture_with_its_caption():
    figure = plots.picture_grid([PIXELS, Image.fromarray(PIXELS)] * 3, ["cost $5 and $6"] * 6)
    assert sum(bool(axes.images) for axes in figure.axes) == 6
    assert figure.axes[0].get_xlabel() == r"cost \$5 and \$6"
    plots.png(figure)  # rendering would fail if `$` were read as mathematics


def test_a_ranking_frames_right_and_wrong_pictures():
    figure = plots.ranking_row("This is a grey Sedan.", [PIXELS] * 3, [True, False, True])
    colours = [matplotlib.colors.to_hex(axes.spines["left"].get_edgecolor()) for axes in figure.axes]
    assert colours == [plots.RIGHT, plots.WRONG, plots.RIGHT]
    assert figure.get_suptitle() == "This is a grey Sedan."


def test_before_and_after_are_two_rows_even_of_different_length():
    figure = plots.ranking_before_after("q", ([PIXELS] * 2, [True, False]), ([PIXELS] * 3, [True, True, False]))
    assert len(figure.axes) == 6
    assert [figure.axes[0].get_ylabel(), figure.axes[3].get_ylabel()] == ["before", "after"]
    assert sum(bool(axes.images) for axes in figure.axes) == 5


def test_padding_is_shown_at_one_scale_with_sizes_in_pixels():
    figure = plots.padding_side_by_side({"as published": PIXELS, "padded": numpy.zeros((12, 12, 3), numpy.uint8)})
    assert [axes.get_xlabel() for axes in figure.axes] == ["8 x 12 pixels", "12 x 12 pixels"]
    assert len({numpy.ptp(axes.get_xlim()) for axes in figure.axes}) == 1


def test_bars_are_ordered_and_what_is_cut_is_added_up():
    figure = plots.bars({"types": {"a": 1, "b": 5, "c": 2, "d": 3}}, top=2)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["b", "d", "2 others"]
    assert [bar.get_width() for bar in figure.axes[0].patches] == [5, 3, 3]
    assert figure.axes[0].get_xlabel() == "count"


def test_scores_stand_beside_their_controls_and_ranks_stay_out():
    rows = [
        {"benchmark": "val", "metric": "mAP@10", "model": model, "value": value} for model, value in (("finetuned", 0.7), ("base", 0.3))
    ]
    figure = plots.scores_with_controls([*rows, {"benchmark": "val", "metric": "mean_rank", "value": 56.0}], {"val mAP@10 all": (0.6, 0.8)})
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["val mAP@10 all"]
    names = {text.get_text() for text in figure.axes[0].get_legend().get_texts()}
    assert names == {"finetuned", "base", "reference band"}


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.picture_grid([], []), "no picture to show; run data_prep first"),
        (lambda: plots.padding_side_by_side({}), "no picture to show; run data_prep first"),
        (lambda: plots.ranking_row("q", [], []), "no picture was found for the query 'q'; run infer first"),
        (lambda: plots.scores_with_controls([]), "no score between 0 and 1 to draw; run evaluate first"),
        (lambda: plots.bars({}), "no counts to draw; give at least one group"),
    ],
)
def test_nothing_to_draw_is_an_error_with_a_next_step(draw, message):
    with pytest.raises(MissingInput) as error:
        draw()
    assert str(error.value) == message


def test_drawing_changes_no_settings_and_shows_itself_in_a_notebook():
    before = dict(matplotlib.rcParams)
    figure = plots.bars({"types": {"a": 1}})
    picture, size = figure._repr_png_()
    assert picture.startswith(b"\x89PNG")
    assert size["width"] == 960
    assert dict(matplotlib.rcParams) == before
    assert plots.png(figure) == plots.png(figure)


def test_pyplot_and_torch_are_not_even_imported():
    code = "import sys, lib.plots, lib.show, lib.report, lib.submissions.a3r.original as o; "
    code += "print(sorted({'matplotlib.pyplot', 'torch', 'transformers', 'open_clip', 'tensorboard'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
