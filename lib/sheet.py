"""Where the toy worlds are drawn: a picture in the making, on which a unit box is laid and filled with plain shapes."""

from PIL import Image, ImageDraw

Rgb = tuple[int, int, int]
Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, width, height in pixels


class Sheet:
    """A picture in the making; shapes are given in units of the box set by `place`, mirrored left to right if that says so."""

    def __init__(self, image: Image.Image) -> None:
        self.image, self.pen = image, ImageDraw.Draw(image)
        self.place((0, 0, *image.size))

    def place(self, box: Box, *, mirrored: bool = False) -> None:
        """Lay the unit box of all further shapes onto this rectangle of pixels."""
        self.box, self.mirrored = box, mirrored

    def at(self, x: float, y: float) -> Point:
        """Pixel coordinates of a point of the unit box."""
        left, top, width, height = self.box
        return left + (1 - x if self.mirrored else x) * width, top + y * height

    def block(self, x0: float, y0: float, x1: float, y1: float, ink: Rgb) -> None:
        """A filled rectangle between two corners."""
        self.pen.rectangle(self._corners(x0, y0, x1, y1), fill=ink)

    def oval(self, x0: float, y0: float, x1: float, y1: float, ink: Rgb) -> None:
        """A filled ellipse between two corners."""
        self.pen.ellipse(self._corners(x0, y0, x1, y1), fill=ink)

    def shape(self, points: list[Point], ink: Rgb) -> None:
        """A filled polygon."""
        self.pen.polygon([self.at(x, y) for x, y in points], fill=ink)

    def stroke(self, start: Point, end: Point, thickness: int, ink: Rgb) -> None:
        """A line, its thickness in pixels."""
        self.pen.line([self.at(*start), self.at(*end)], fill=ink, width=thickness)

    def _corners(self, x0: float, y0: float, x1: float, y1: float) -> Box:
        (a, top), (b, bottom) = self.at(x0, y0), self.at(x1, y1)
        return min(a, b), top, max(a, b), bottom
