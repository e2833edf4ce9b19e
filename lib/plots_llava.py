"""Figures that only submissions with a LLaVA model show: functions that take records and return a Figure, in the style of lib.plots."""

from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lib.blocks import Block
from lib.plots import CONTROL, DOTS, INK, MUTED, OURS, WIDTH, Drawing, in_style

BASE_ROW, EXPANDED_ROW = 1.0, 0.0
CELL_WIDTH, CELL_HEIGHT = 0.8, 0.34
FEW_LAYERS = 24  # up to here every layer's number fits


@in_style
def layer_map(blocks: Sequence[Block]) -> Figure:
    """The base's layers above those of the expanded model, each new block tied to the layer it is a copy of; all numbered from 0."""
    figure = Drawing(figsize=(WIDTH, 2.3), dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    above = {block.source: block.layer for block in blocks if not block.inserted}  # source -> where it is drawn
    copied = {block.source for block in blocks if block.inserted}
    for source, place in above.items():
        axes.add_patch(_cell(place, BASE_ROW, CONTROL))
        axes.plot([place, place], [BASE_ROW - CELL_HEIGHT / 2, EXPANDED_ROW + CELL_HEIGHT / 2], color=CONTROL, linewidth=0.7)
        if len(blocks) <= FEW_LAYERS or source in copied or source == 0:
            axes.text(place, BASE_ROW + CELL_HEIGHT, str(source), ha="center", va="center", fontsize=8, color=MUTED)
    for block in blocks:
        axes.add_patch(_cell(block.layer, EXPANDED_ROW, OURS if block.inserted else CONTROL))
        if block.inserted:
            ends = [above[block.source], block.layer], [BASE_ROW - CELL_HEIGHT / 2, EXPANDED_ROW + CELL_HEIGHT / 2]
            axes.plot(*ends, color=OURS, linewidth=1.2)
        if len(blocks) <= FEW_LAYERS or block.inserted or block.layer == 0:
            colour = OURS if block.inserted else MUTED
            axes.text(block.layer, EXPANDED_ROW - CELL_HEIGHT, str(block.layer), ha="center", va="center", fontsize=8, color=colour)
    axes.set(xlim=(-1, len(blocks)), ylim=(EXPANDED_ROW - 0.55, BASE_ROW + 0.55), xticks=[])
    axes.set_yticks([BASE_ROW, EXPANDED_ROW], [f"base\n{len(above)} layers", f"expanded\n{len(blocks)} layers"], color=INK)
    axes.set(title=f"Where each layer comes from: {len(blocks) - len(above)} new blocks", xlabel="layer number, input left")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return figure


def _cell(place: float, row: float, colour: str) -> Rectangle:
    return Rectangle((place - CELL_WIDTH / 2, row - CELL_HEIGHT / 2), CELL_WIDTH, CELL_HEIGHT, color=colour, linewidth=0)
