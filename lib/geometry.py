"""Arithmetic of boxes in pixels: pure functions on tuples, without rounding unless they say so.

A box is (x, y, width, height) with its upper left corner first; corners are (x1, y1, x2, y2). Both may reach outside a picture.
"""

from collections.abc import Sequence

Box = tuple[float, float, float, float]
Corners = tuple[float, float, float, float]
Pixels = tuple[int, int, int, int]


def to_corners(box: Sequence[float]) -> Corners:
    """(x, y, width, height) as (x1, y1, x2, y2)."""
    x, y, width, height = box
    return (x, y, x + width, y + height)


def from_corners(corners: Sequence[float]) -> Box:
    """(x1, y1, x2, y2) as (x, y, width, height); corners in the wrong order give a negative size."""
    x1, y1, x2, y2 = corners
    return (x1, y1, x2 - x1, y2 - y1)


def area(box: Sequence[float]) -> float:
    """Width times height, in square pixels."""
    return box[2] * box[3]


def enlarge(box: Sequence[float], scale: float) -> Box:
    """The box with both sides times `scale`, about the same centre."""
    x, y, width, height = box
    # NOTE in this order: the published crops cut such numbers to whole pixels, and another order ends a hair below some of them.
    return (x + width / 2 - width * scale / 2, y + height / 2 - height * scale / 2, width * scale, height * scale)


def square(box: Sequence[float], scale: float) -> Box:
    """The square about the box's centre whose side is `scale` times the box's longer side."""
    x, y, width, height = box
    side = scale * max(width, height)
    return (x + width / 2 - side / 2, y + height / 2 - side / 2, side, side)


def union(first: Sequence[float], second: Sequence[float]) -> Box:
    """The smallest box around both."""
    ours, theirs = to_corners(first), to_corners(second)
    return from_corners((min(ours[0], theirs[0]), min(ours[1], theirs[1]), max(ours[2], theirs[2]), max(ours[3], theirs[3])))


def truncate(corners: Sequence[float]) -> Pixels:
    """Whole pixels, each value cut toward zero."""
    x1, y1, x2, y2 = corners
    return (int(x1), int(y1), int(x2), int(y2))


def clip(corners: Sequence[float], width: int, height: int) -> Pixels:
    """Corners in whole pixels (cut toward zero), the first not below 0 and the second not beyond a picture of width x height.

    Corners of a box outside the picture come back in the wrong order: there is nothing of it inside.
    """
    x1, y1, x2, y2 = truncate(corners)
    return (max(0, x1), max(0, y1), min(width, x2), min(height, y2))
