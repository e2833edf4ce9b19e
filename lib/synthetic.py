"""The toy world: pictures of vehicles and pedestrians whose attributes are visible and known.

A drawing function takes a record of attributes and a numpy Generator and returns a PIL picture. What the record names is always
drawn the same way (a Sedan is low with a boot, a brand is a plate in two colours); what it does not name - size and aspect
ratio, place in the picture, left or right, background, light, noise, the colour of clothes - comes from the generator. So the
attributes can be read off the picture, and nothing else can be used instead. Pedestrians are tall and narrow and vehicles wide,
with cues near the ends: a square crop from the middle loses them, square padding does not.
"""

import hashlib
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.random import Generator
from PIL import Image

from lib.sheet import Point, Rgb, Sheet

Choice = TypeVar("Choice")

COLOURS: dict[str, Rgb] = {
    "black": (22, 22, 24),
    "blue": (30, 70, 205),
    "brown": (110, 62, 25),
    "green": (25, 150, 55),
    "grey": (128, 128, 130),
    "orange": (250, 130, 10),
    "pink": (250, 150, 190),
    "purple": (125, 35, 160),
    "red": (210, 25, 30),
    "white": (248, 248, 248),
    "yellow": (245, 225, 35),
}
TYPES = ("Bus", "Microbus", "Minivan", "SUV", "Sedan", "Truck")

GENDERS = ("male", "female")
AGES = ("child", "adult", "elder")
POSES = ("front", "back", "side")
SLEEVES = ("short", "long")
PATTERNS = ("", "logo", "plaid", "stripe", "splice")
BAGS = ("", "backpack", "handbag", "shoulder bag", "objects")
WEARABLES = ("glasses", "hat", "longcoat", "boots")

# Muted and tinted, so that no vehicle colour (black, grey and white among them) can be mistaken for the road behind it.
_GROUNDS: tuple[Rgb, ...] = ((178, 184, 140), (140, 165, 165), (196, 172, 138), (170, 160, 185))
_PLATE_INKS: dict[str, Rgb] = {
    "red": (230, 30, 30),
    "yellow": (250, 225, 40),
    "blue": (40, 80, 220),
    "green": (30, 165, 70),
    "white": (250, 250, 250),
    "black": (20, 20, 20),
    "pink": (235, 60, 200),
}
_CLOTHES: tuple[Rgb, ...] = ((70, 110, 190), (150, 60, 70), (80, 120, 90), (120, 80, 160))
_TROUSERS: tuple[Rgb, ...] = ((45, 45, 75), (85, 75, 65), (60, 80, 70))
_SKIN: tuple[Rgb, ...] = ((240, 200, 165), (205, 155, 115), (225, 180, 145))
_GLASS: Rgb = (95, 150, 175)
_DARK: Rgb = (15, 15, 15)


@dataclass(frozen=True)
class Vehicle:
    """What can be seen of a vehicle. An empty brand draws no plate."""

    colour: str
    brand: str
    type: str


@dataclass(frozen=True)
class Pedestrian:
    """What can be seen of a pedestrian; values from GENDERS, AGES, POSES, SLEEVES, PATTERNS, BAGS and WEARABLES."""

    gender: str
    age: str
    pose: str
    sleeve: str
    pattern: str = ""
    bag: str = ""
    skirt: bool = False
    wears: tuple[str, ...] = ()


def random_vehicle(rng: Generator, brands: tuple[str, ...]) -> Vehicle:
    """A vehicle of any colour and type and one of these brands, all equally likely."""
    return Vehicle(_pick(rng, tuple(COLOURS)), _pick(rng, brands), _pick(rng, TYPES))


def random_pedestrian(rng: Generator) -> Pedestrian:
    """A pedestrian with every attribute drawn on its own: half without pattern or bag, skirts for women only, one item at most."""
    gender = _pick(rng, GENDERS)
    wears = (_pick(rng, WEARABLES),) if rng.random() < 0.25 else ()
    return Pedestrian(
        gender=gender,
        age=_pick(rng, AGES),
        pose=_pick(rng, POSES),
        sleeve=_pick(rng, SLEEVES),
        # NOTE: one kind of caption names either the shirt or the things worn, so the two never come together.
        pattern=_pick(rng, PATTERNS[1:]) if not wears and rng.random() < 0.5 else "",
        bag=_pick(rng, BAGS[1:]) if rng.random() < 0.5 else "",
        skirt=gender == "female" and not wears and bool(rng.random() < 0.4),
        wears=wears,
    )


def plate_of(brand: str) -> tuple[str, str]:
    """The colours of a brand's plate, left and right half: a function of its name alone; they differ. 42 different plates exist."""
    code = int.from_bytes(hashlib.sha256(brand.encode()).digest()[:8], "big")
    inks = tuple(_PLATE_INKS)
    left = code % len(inks)
    return inks[left], inks[(left + 1 + code // len(inks) % (len(inks) - 1)) % len(inks)]


def draw_vehicle(vehicle: Vehicle, rng: Generator) -> Image.Image:
    """An RGB picture of the vehicle from the side, 88-120 pixels wide and 1.25 to 1.8 times as wide as high."""
    width = int(rng.integers(88, 121))
    height = round(width / rng.uniform(1.25, 1.8))
    sheet = _Sheet(width, height, rng)
    # The vehicle fills most of the picture, never all of it, and stands somewhere in it.
    wide, high = rng.uniform(0.86, 0.96) * width, min(rng.uniform(0.82, 0.95) * height, 0.62 * width)
    box = (rng.uniform(0, width - wide), rng.uniform(0, height - high), wide, high)
    sheet.place(box, mirrored=bool(rng.random() < 0.5))
    _BODIES[vehicle.type](sheet, COLOURS[vehicle.colour])
    if vehicle.brand:
        _draw_plate(sheet, vehicle.brand)
    return sheet.finish(rng)


def draw_pedestrian(pedestrian: Pedestrian, rng: Generator) -> Image.Image:
    """An RGB picture of the pedestrian, 48-64 pixels wide and 1.7 to 2.3 times as high as wide."""
    width = int(rng.integers(48, 65))
    height = round(width * rng.uniform(1.7, 2.3))
    sheet = _Sheet(width, height, rng)
    # Children are small in the same kind of picture; that, not the crop, tells their age.
    high = rng.uniform(0.92, 0.97) * height * (0.68 if pedestrian.age == "child" else 1.0)
    wide = min(0.95 * width, 0.55 * high)
    box = (rng.uniform(0, width - wide), height - high - rng.uniform(0, 0.03) * height, wide, high)
    sheet.place(box, mirrored=bool(rng.random() < 0.5))
    _draw_figure(sheet, pedestrian, rng)
    return sheet.finish(rng)


class _Sheet(Sheet):
    """A picture of one vehicle or pedestrian in the making, on some ground; x goes from front to back, y from top to bottom."""

    def __init__(self, width: int, height: int, rng: Generator) -> None:
        ground = np.array(_pick(rng, _GROUNDS), dtype=np.float64) * rng.uniform(0.85, 1.1)
        super().__init__(Image.new("RGB", (width, height), _rgb(ground)))
        horizon = int(rng.uniform(0.45, 0.8) * height)
        self.pen.rectangle((0, horizon, width, height), fill=_rgb(ground * rng.uniform(0.8, 0.92)))

    def streak(self, start: Point, end: Point, thickness: float, ink: Rgb) -> None:
        """A line, its thickness in widths of the unit box."""
        self.stroke(start, end, max(1, round(thickness * self.box[2])), ink)

    def wheel(self, x: float, *, y: float = 0.86, size: float = 0.075) -> None:
        """A round wheel, `size` its radius in widths of the unit box."""
        (left, top), radius = self.at(x, y), size * self.box[2]
        self.pen.ellipse((left - radius, top - radius, left + radius, top + radius), fill=_DARK)
        self.pen.ellipse((left - radius / 2, top - radius / 2, left + radius / 2, top + radius / 2), fill=(175, 175, 175))

    def finish(self, rng: Generator) -> Image.Image:
        """The picture under some light and with the noise of a camera."""
        pixels = np.asarray(self.image, dtype=np.float32) * np.float32(rng.uniform(0.85, 1.08))
        noise = rng.standard_normal(pixels.shape[:2], dtype=np.float32)[:, :, None] * np.float32(rng.uniform(2, 8))
        return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def _sedan(sheet: _Sheet, ink: Rgb) -> None:
    sheet.shape([(0.2, 0.52), (0.34, 0.24), (0.66, 0.24), (0.82, 0.52)], ink)
    sheet.shape([(0.27, 0.5), (0.37, 0.3), (0.49, 0.3), (0.49, 0.5)], _GLASS)
    sheet.shape([(0.52, 0.5), (0.52, 0.3), (0.63, 0.3), (0.75, 0.5)], _GLASS)
    sheet.block(0.0, 0.5, 1.0, 0.84, ink)
    for x in (0.2, 0.8):
        sheet.wheel(x)


def _suv(sheet: _Sheet, ink: Rgb) -> None:
    sheet.block(0.22, 0.0, 0.94, 0.08, _DARK)  # roof rails
    sheet.shape([(0.18, 0.46), (0.28, 0.12), (0.98, 0.12), (1.0, 0.46)], ink)
    sheet.shape([(0.27, 0.42), (0.33, 0.18), (0.56, 0.18), (0.56, 0.42)], _GLASS)
    sheet.block(0.61, 0.18, 0.92, 0.42, _GLASS)
    sheet.block(0.0, 0.42, 1.0, 0.82, ink)
    sheet.block(0.0, 0.74, 1.0, 0.86, _DARK)  # cladding
    for x in (0.2, 0.8):
        sheet.wheel(x, size=0.1)


def _truck(sheet: _Sheet, ink: Rgb) -> None:
    sheet.block(0.02, 0.74, 1.0, 0.84, _DARK)
    sheet.shape([(0.0, 0.8), (0.0, 0.45), (0.08, 0.18), (0.36, 0.18), (0.36, 0.8)], ink)
    sheet.shape([(0.04, 0.45), (0.1, 0.24), (0.28, 0.24), (0.28, 0.45)], _GLASS)
    sheet.block(0.42, 0.02, 1.0, 0.72, ink)
    for x in (0.52, 0.62, 0.72, 0.82, 0.92):
        sheet.block(x, 0.08, x + 0.025, 0.66, _DARK)  # ribs of the load box
    for x in (0.17, 0.68, 0.88):
        sheet.wheel(x)


def _bus(sheet: _Sheet, ink: Rgb) -> None:
    sheet.block(0.0, 0.0, 1.0, 0.86, ink)
    for x in (0.04, 0.2, 0.36, 0.52, 0.68, 0.84):
        sheet.block(x, 0.05, x + 0.12, 0.2, _GLASS)  # two decks
        sheet.block(x, 0.27, x + 0.12, 0.43, _GLASS)
    for x in (0.18, 0.84):
        sheet.wheel(x, size=0.06)


def _minivan(sheet: _Sheet, ink: Rgb) -> None:
    sheet.shape([(0.0, 0.84), (0.0, 0.6), (0.3, 0.14), (0.96, 0.1), (1.0, 0.84)], ink)
    sheet.shape([(0.14, 0.5), (0.33, 0.2), (0.44, 0.2), (0.44, 0.5)], _GLASS)
    sheet.block(0.48, 0.18, 0.95, 0.5, _GLASS)
    sheet.block(0.52, 0.6, 0.98, 0.68, (250, 250, 250))  # rail of the sliding door
    for x in (0.2, 0.8):
        sheet.wheel(x, size=0.07)


def _microbus(sheet: _Sheet, ink: Rgb) -> None:
    sheet.shape([(0.02, 0.84), (0.02, 0.12), (0.1, 0.0), (0.9, 0.0), (0.98, 0.12), (0.98, 0.84)], ink)
    for x in (0.07, 0.38, 0.69):
        sheet.oval(x, 0.08, x + 0.25, 0.38, _GLASS)
    sheet.block(0.02, 0.44, 0.98, 0.5, (250, 250, 250))  # the light belt under its round windows
    for x in (0.2, 0.8):
        sheet.wheel(x, size=0.06)


_BODIES = {"Bus": _bus, "Microbus": _microbus, "Minivan": _minivan, "SUV": _suv, "Sedan": _sedan, "Truck": _truck}


def _draw_plate(sheet: _Sheet, brand: str) -> None:
    """A plate of two halves near the front: what a crop from the middle of a wide picture cuts off."""
    halves = plate_of(brand)
    sheet.block(0.02, 0.45, 0.5, 0.83, _DARK)
    # Like lettering it reads from left to right whichever way the vehicle faces.
    for x, ink in zip((0.04, 0.26), reversed(halves) if sheet.mirrored else halves, strict=True):
        sheet.block(x, 0.48, x + 0.22, 0.8, _PLATE_INKS[ink])


def _draw_figure(sheet: _Sheet, person: Pedestrian, rng: Generator) -> None:
    skin, shirt, trousers = _pick(rng, _SKIN), _pick(rng, _CLOTHES), _pick(rng, _TROUSERS)
    slim = 0.1 if person.pose == "side" else 0.0  # seen from the side a body is narrower
    left, right = 0.24 + slim, 0.76 - slim
    if person.bag == "backpack":
        sheet.block(left - 0.2, 0.22, right + 0.2, 0.5, _BAG_INKS["backpack"])
    _draw_legs(sheet, person, skin, trousers)
    _draw_arms(sheet, person, (left, right), skin, shirt)
    sheet.block(left, 0.25, right, 0.64, shirt)
    _draw_pattern(sheet, person.pattern, (left, right))
    if "longcoat" in person.wears:
        sheet.block(left - 0.1, 0.25, right + 0.1, 0.9, (95, 70, 45))
        sheet.streak((0.5, 0.26), (0.5, 0.9), 0.04, _DARK)
    _draw_head(sheet, person, skin)
    _draw_bag(sheet, person.bag, (left, right))
    if person.age == "elder":
        sheet.streak((0.05, 0.55), (0.05, 0.99), 0.07, (95, 55, 20))  # a stick
        sheet.streak((0.05, 0.55), (0.16, 0.55), 0.07, (95, 55, 20))


def _draw_legs(sheet: _Sheet, person: Pedestrian, skin: Rgb, trousers: Rgb) -> None:
    spread = 0.06 if person.pose == "side" else 0.0
    cloth = skin if person.skirt else trousers
    for left, right in ((0.26 + spread, 0.47), (0.53, 0.74 - spread)):
        sheet.block(left, 0.62, right, 0.98, cloth)
        sheet.block(left - 0.02, 0.95, right + 0.02, 1.0, _DARK)
        if "boots" in person.wears:
            sheet.block(left - 0.04, 0.78, right + 0.04, 1.0, (205, 25, 40))
    if person.skirt:
        sheet.shape([(0.26, 0.62), (0.74, 0.62), (0.96, 0.84), (0.04, 0.84)], (190, 40, 110))


def _draw_arms(sheet: _Sheet, person: Pedestrian, sides: tuple[float, float], skin: Rgb, shirt: Rgb) -> None:
    cuff = 0.35 if person.sleeve == "short" else 0.6
    for left in (sides[0] - 0.17, sides[1]):
        sheet.block(left, 0.26, left + 0.17, 0.65, skin)
        sheet.block(left, 0.26, left + 0.17, cuff, shirt)


def _draw_pattern(sheet: _Sheet, pattern: str, sides: tuple[float, float]) -> None:
    left, right = sides
    pale = (250, 250, 250)
    if pattern == "logo":
        sheet.oval(0.5 - 0.17, 0.29, 0.5 + 0.17, 0.46, pale)
    elif pattern == "splice":
        sheet.block(left, 0.45, right, 0.64, _DARK)
    elif pattern == "stripe":
        for top in (0.29, 0.42, 0.55):
            sheet.block(left, top, right, top + 0.06, pale)
    elif pattern == "plaid":
        for row, top in enumerate((0.27, 0.36, 0.45, 0.54)):
            for column in range(4):
                x = left + (right - left) * column / 4
                sheet.block(x, top, x + (right - left) / 4, top + 0.09, pale if (row + column) % 2 else _DARK)


def _draw_head(sheet: _Sheet, person: Pedestrian, skin: Rgb) -> None:
    hair = (225, 225, 225) if person.age == "elder" else (40, 25, 15)
    if person.gender == "female":
        sheet.block(0.2, 0.08, 0.8, 0.36, hair)  # long hair falls beside the face
    sheet.oval(0.27, 0.0, 0.73, 0.26, hair)
    if person.pose == "front":
        sheet.oval(0.33, 0.06, 0.67, 0.26, skin)
        for x in (0.4, 0.54):
            sheet.block(x, 0.13, x + 0.06, 0.165, _DARK)
    elif person.pose == "side":
        sheet.oval(0.2, 0.06, 0.5, 0.25, skin)
        sheet.block(0.26, 0.13, 0.32, 0.165, _DARK)
    elif person.gender == "female":
        sheet.block(0.28, 0.2, 0.72, 0.4, hair)  # seen from behind it covers the neck
    if "glasses" in person.wears:
        sheet.block(0.16, 0.11, 0.84, 0.18, _DARK)
    if "hat" in person.wears:
        sheet.block(0.1, 0.055, 0.9, 0.1, (205, 25, 40))
        sheet.block(0.28, 0.0, 0.72, 0.07, (205, 25, 40))


_BAG_INKS: dict[str, Rgb] = {
    "backpack": (20, 120, 60),
    "handbag": (245, 215, 30),
    "shoulder bag": (120, 50, 15),
    "objects": (235, 120, 20),
}


def _draw_bag(sheet: _Sheet, bag: str, sides: tuple[float, float]) -> None:
    left, right = sides
    ink = _BAG_INKS.get(bag, _DARK)
    if bag == "backpack":
        for x in (left + 0.03, right - 0.13):
            sheet.block(x, 0.25, x + 0.1, 0.5, ink)
    elif bag == "handbag":
        sheet.block(right - 0.02, 0.68, 1.0, 0.86, ink)
        sheet.streak((right + 0.09, 0.62), (right + 0.09, 0.7), 0.05, ink)
    elif bag == "shoulder bag":
        sheet.streak((left, 0.27), (right, 0.52), 0.11, ink)
        sheet.block(right - 0.1, 0.48, 1.0, 0.66, ink)
    elif bag == "objects":
        sheet.block(0.14, 0.46, 0.86, 0.64, ink)


def _pick(rng: Generator, values: tuple[Choice, ...]) -> Choice:
    return values[int(rng.integers(len(values)))]


def _rgb(values: np.ndarray) -> Rgb:
    red, green, blue = (int(value) for value in np.clip(values, 0, 255))
    return red, green, blue
