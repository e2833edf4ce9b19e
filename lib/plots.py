"""Figures of the notebooks and the report: functions that take records and return a Figure; nothing is written, no state is kept.

Figures are made without pyplot, so none leaks from one notebook cell to the next. `Drawing` shows itself in a notebook at twice
the screen's resolution. Ours is blue, the published run amber, controls grey; right is green and wrong is red.
"""

import io
import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from statistics import fmean

import matplotlib
import numpy
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL.Image import Image

from lib.curves import RunCurves
from lib.errors import MissingInput

INK, MUTED, GRID, PAPER = "#1f2a37", "#6b7280", "#e5e7eb", "#ffffff"
OURS, ORIGINAL, CONTROL = "#1769aa", "#d97706", "#9ca3af"
RIGHT, WRONG = "#2e7d4f", "#c0392b"
WIDTH = 9.6  # inches: a notebook cell's width at 100 dots per inch
DOTS = 100
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#cbd2d9",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
}

in_style = matplotlib.rc_context(STYLE)  # decorates what draws, so that nobody else's figures change
Picture = Image | numpy.ndarray  # PIL picture, or (H, W, 3) uint8


class Drawing(Figure):
    """A Figure that a notebook shows without pyplot. `sharpness` is its pixels per shown pixel; photographs do with one."""

    sharpness = 2.0

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The picture at its sharpness, with the size it is shown at (pixels)."""
        width, height = (round(side * DOTS) for side in self.get_size_inches())
        return png(self), {"width": width, "height": height}


def png(figure: "Drawing", *, scale: float | None = None) -> bytes:
    """The figure as PNG bytes, for a report or a file, at its own sharpness unless told; the same figure gives the same bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=(scale or figure.sharpness) * DOTS, metadata={"Software": None})
    return stream.getvalue()


def _panels(rows: int, columns: int, height: float) -> tuple[Drawing, numpy.ndarray]:
    """An empty Drawing with rows x columns axes; `height` in inches."""
    figure = Drawing(figsize=(WIDTH, height), dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


@in_style
def curves(original: RunCurves | None, ours: RunCurves | None) -> Figure:
    """Training loss and validation of the published run and of ours on shared axes, by epoch. Either may be None.

    The validation is text-to-image recall where it was measured, else the validation loss.
    """
    runs = [(run, name, colour) for run, name, colour in ((original, "published", ORIGINAL), (ours, "ours", OURS)) if run is not None]
    if not any(run.train or run.validations for run, _, _ in runs):
        raise MissingInput("no training step and no validation to draw; run finetune first or name a run folder with an out.log")
    figure, axes = _panels(1, 2, 3.7)
    loss, validation = axes[0]
    with_recall = any(run.metric("text_to_image_R@1") for run, _, _ in runs)
    for run, name, colour in runs:
        _draw_loss(loss, run, name, colour)
        (_draw_recall if with_recall else _draw_validation_loss)(validation, run, name, colour)
    loss.set(title="Training loss", xlabel="epochs", ylabel="loss of one batch (nats)", yscale="log")
    loss.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    loss.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""))
    if with_recall:
        validation.set(title="Validation, text to image", ylabel="share of captions (R@k)", ylim=(0, None))
        validation.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        validation.set(title="Validation loss", ylabel="loss per token (nats)")
    validation.set_xlabel("epochs")
    for panel in (loss, validation):
        panel.set_xlim(left=0)
    handles = {name: line for panel in (loss, validation) for line, name in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
    return figure


def _draw_loss(axes: Axes, run: RunCurves, name: str, colour: str) -> None:
    """The logged losses faintly and their running mean over a fifth of an epoch firmly."""
    points = [(epoch, point.loss) for epoch, point in zip(run.epochs(), run.train, strict=True) if point.loss > 0]
    if not points:
        return
    epochs, losses = zip(*points, strict=True)
    # Single batches of 25 scatter over two decades: the mean shows the course, the faint line how uncertain it is.
    per_epoch = len(losses) / max(epochs[-1], 1)
    window = max(1, round(per_epoch / 5))
    smooth = [fmean(losses[max(0, index - window + 1) : index + 1]) for index in range(len(losses))]
    if window > 1:
        axes.plot(epochs, losses, color=colour, alpha=0.2, linewidth=0.7)
    axes.plot(epochs, smooth, color=colour, label=name, marker="o" if len(losses) < 12 else "", markersize=4)


def _draw_validation_loss(axes: Axes, run: RunCurves, name: str, colour: str) -> None:
    """The loss on held-out samples, the first before any step."""
    points = run.metric("val_loss")
    if points:
        axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=4, label=name)


def _draw_recall(axes: Axes, run: RunCurves, name: str, colour: str) -> None:
    """R@1, R@5 and R@10 over the validations, the deeper the cut-off the firmer the line."""
    for k, opacity in ((10, 1.0), (5, 0.65), (1, 0.35)):
        points = run.metric(f"text_to_image_R@{k}")
        if not points:
            continue
        epochs, values = zip(*points, strict=True)
        axes.plot(epochs, values, color=colour, alpha=opacity, marker="o", markersize=4, label=name if k == 10 else None)
        axes.annotate(f"R@{k}", (epochs[-1], values[-1]), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8, color=colour)


@in_style
def lr_schedule(original: RunCurves | None, planned: Sequence[tuple[int, float]], *, used_step: int | None = None) -> Figure:
    """The learning rate as planned, (step, lr) pairs, under what the published TensorBoard logged; a line at the step used."""
    figure, axes = _panels(1, 1, 3.1)
    panel = axes[0, 0]
    steps, rates = zip(*planned, strict=True)
    panel.plot(steps, rates, color=OURS, label="computed schedule")
    logged = [(point.step, point.lr) for point in original.train if point.lr is not None] if original else []
    if logged:
        # Every eighth point: all 520 would hide the line they lie on.
        panel.plot(*zip(*logged[::8], strict=True), color=ORIGINAL, marker="o", markersize=3, linestyle="", label="published TensorBoard")
    if used_step is not None:
        panel.axvline(used_step, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        panel.annotate(
            f"checkpoint used: step {used_step:,}",
            (used_step, 0),
            xytext=(6, 8),
            textcoords="offset points",
            fontsize=9,
            color=INK,
        )
    panel.set(title="Learning rate", xlabel="optimiser step", ylabel="learning rate", ylim=(0, None), xlim=(0, steps[-1]))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.legend(loc="upper right")
    return figure


def _show(axes: Axes, picture: Picture | None, frame: str | None = None) -> None:
    """One picture without axes, with a coloured frame where one is asked for; None leaves the place empty."""
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=frame is not None and picture is not None, color=frame or GRID, linewidth=3)
    if picture is not None:
        axes.imshow(numpy.asarray(picture), interpolation="nearest" if max(numpy.asarray(picture).shape[:2]) < 100 else "antialiased")


def _wrapped(text: str, width: int) -> str:
    """The text in at most three lines of about `width` letters; `$` is escaped, or matplotlib reads mathematics between two."""
    return "\n".join(textwrap.wrap(text, width, max_lines=3, placeholder=" ...")).replace("$", r"\$")


@in_style
def picture_grid(pictures: Sequence[Picture], captions: Sequence[str], *, columns: int = 4) -> Figure:
    """Pictures in rows with their captions below. Raises MissingInput if there is none to show."""
    if not pictures:
        raise MissingInput("no picture to show; run data_prep first")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    figure, axes = _panels(rows, columns, rows * (WIDTH / columns * 0.8 + 0.6))
    figure.sharpness = 1.0
    for panel, picture, caption in zip_longest(axes.flat, pictures, captions[: len(pictures)]):
        _show(panel, picture)
        panel.set_anchor("S")
        panel.set_xlabel(_wrapped(caption or "", round(112 / columns)), fontsize=8.5, color=INK, labelpad=6)
    return figure


def ranking_row(query: str, pictures: Sequence[Picture], relevant: Sequence[bool]) -> Figure:
    """The pictures found for a query, best first; green frames are relevant, red ones are not."""
    return _rankings(query, [("", pictures, relevant)])


def ranking_before_after(
    query: str, before: tuple[Sequence[Picture], Sequence[bool]], after: tuple[Sequence[Picture], Sequence[bool]]
) -> Figure:
    """The ranking of a query before and after re-ranking, each as (pictures, relevant) and best first."""
    return _rankings(query, [("before", *before), ("after", *after)])


@in_style
def _rankings(query: str, rows: Sequence[tuple[str, Sequence[Picture], Sequence[bool]]]) -> Figure:
    columns = max(len(pictures) for _, pictures, _ in rows)
    if not columns:
        raise MissingInput(f"no picture was found for the query {query!r}; run infer first")
    figure, axes = _panels(len(rows), columns, len(rows) * (WIDTH / columns + 0.25) + 0.5)
    figure.sharpness = 1.0
    for line, (name, pictures, relevant) in zip(axes, rows, strict=True):
        for rank, (panel, picture, right) in enumerate(zip_longest(line, pictures, relevant), start=1):
            _show(panel, picture, RIGHT if right else WRONG)
            panel.set_anchor("N")
            if picture is not None:
                panel.set_title(str(rank), fontsize=8.5, color=MUTED, loc="center", pad=3, fontweight="normal")
        line[0].set_ylabel(name, fontsize=10, color=INK)
    figure.suptitle(_wrapped(query, 120), x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    return figure


@in_style
def padding_side_by_side(pictures: Mapping[str, Picture]) -> Figure:
    """The same picture under several treatments, side by side with its size in pixels, all at one scale."""
    if not pictures:
        raise MissingInput("no picture to show; run data_prep first")
    # Every panel spans the largest picture, so that a pixel has one size in all of them.
    arrays = {name: numpy.asarray(picture) for name, picture in pictures.items()}
    height, width = (max(array.shape[axis] for array in arrays.values()) for axis in (0, 1))
    figure, axes = _panels(1, len(arrays), min(WIDTH / len(arrays) * height / width, 4.5) + 0.9)
    for panel, (name, array) in zip(axes.flat, arrays.items(), strict=True):
        rows, columns = array.shape[:2]
        _show(panel, array, CONTROL)
        for spine in panel.spines.values():
            spine.set_linewidth(0.8)
        panel.set(
            xlim=((columns - width) / 2 - 0.5, (columns + width) / 2 - 0.5),
            ylim=((rows + height) / 2 - 0.5, (rows - height) / 2 - 0.5),
        )
        panel.set_title(name.replace("$", r"\$"), fontsize=10)
        panel.set_xlabel(f"{columns} x {rows} pixels", fontsize=9, color=MUTED)
    return figure


@in_style
def bars(counts: Mapping[str, Mapping[str, int]], *, top: int = 12) -> Figure:
    """One panel of horizontal bars per group of counts, the largest first; beyond `top` the rest is added up in one bar."""
    if not counts:
        raise MissingInput("no counts to draw; give at least one group")
    longest = min(top + 1, max(map(len, counts.values()), default=1))
    figure, axes = _panels(1, len(counts), 0.26 * longest + 1.2)
    for panel, (title, group) in zip(axes.flat, counts.items(), strict=True):
        ordered = sorted(group.items(), key=lambda item: -item[1])
        shown, rest = ordered[:top], ordered[top:]
        if rest:
            shown.append((f"{len(rest)} others", sum(count for _, count in rest)))
        names, values = [name for name, _ in shown], [count for _, count in shown]
        panel.barh(
            range(len(shown)),
            values,
            color=[CONTROL if rest and index == top else OURS for index in range(len(shown))],
            height=0.7,
        )
        panel.set_yticks(range(len(shown)), [name.replace("$", r"\$") for name in names], color=INK)
        panel.set_ylim(longest - 0.4, -0.6)  # the same bar height in every panel
        panel.grid(visible=False, axis="y")
        panel.set(title=title, xlabel="count", xlim=(0, max([*values, 1]) * 1.18))
        panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        for index, value in enumerate(values):
            panel.annotate(f"{value:,}", (value, index), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5, color=MUTED)
    return figure


@in_style
def scores_with_controls(scores: Sequence[Mapping], bands: Mapping[str, tuple[float, float]] | None = None) -> Figure:
    """Every score of the fine-tuned model with its controls (base, shuffled, ...) on one line.

    `scores` are rows of metrics.json; `bands` holds reference intervals by "benchmark metric group", drawn behind the points.
    Rows of the unit percent are drawn as shares. Scores that go beyond an axis from 0 to 1 for any model, such as ranks and losses, are
    left to the table.
    """
    scores = [{**row, "value": row["value"] / 100 if row.get("unit") == "percent" else row["value"]} for row in scores]
    beyond = {(row["benchmark"], row["metric"]) for row in scores if not 0 <= row["value"] <= 1}
    scores = [row for row in scores if (row["benchmark"], row["metric"]) not in beyond]
    if not scores:
        raise MissingInput("no score between 0 and 1 to draw; run evaluate first")
    lines = list(dict.fromkeys(f"{row['benchmark']} {row['metric']} {row.get('group', 'all')}" for row in scores))
    figure, axes = _panels(1, 1, 0.42 * len(lines) + 1.3)
    panel, seen = axes[0, 0], set()
    for index, line in enumerate(lines):
        low, high = (bands or {}).get(line, (None, None))
        if low is not None:
            label = None if "band" in seen else "reference band"
            panel.barh(index, high - low, left=low, height=0.5, color=OURS, alpha=0.16, label=label)
            seen.add("band")
        for row in scores:
            if f"{row['benchmark']} {row['metric']} {row.get('group', 'all')}" != line:
                continue
            model = row.get("model", "finetuned")
            marker, colour = _mark(model)
            panel.plot(row["value"], index, marker, color=colour, markersize=8, label=None if model in seen else model, zorder=3)
            seen.add(model)
    panel.set_yticks(range(len(lines)), [line.replace("$", r"\$") for line in lines], color=INK)
    panel.invert_yaxis()
    panel.set(
        title="Scores and their controls",
        xlabel="score (share, 0 to 1)",
        xlim=(0, 1.02),
    )
    panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _mark(model: str) -> tuple[str, str]:
    """Marker and colour of a model's points: ours filled and blue, the controls grey and of different shapes."""
    controls = {"base": "o", "untrained": "s", "shuffled": "X", "zeroed": "v", "random": "d"}
    if model in controls:
        return controls[model], CONTROL
    return ("o", OURS) if model == "finetuned" else ("D", "#0f9d8a")
