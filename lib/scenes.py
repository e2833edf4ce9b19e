"""The traffic world: a pedestrian and a vehicle on a road in some weather, seen by a camera at the roadside or from the vehicle.

A `Scene` names what can be seen; `draw` shows one moment of it and says where pedestrian and vehicle are. Every value of every
attribute has large cues of its own (a bus is long and has many windows, who is looking at a telephone holds one that shines), and
what the record does not name - the place in the picture, the camera's distance, the light - comes from the `Camera`. Attributes are
drawn independently of each other, so none can be guessed from another, and no word names values of two of them. Left and right are
those of the picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.random import Generator
from PIL import Image

from lib.sheet import Box, Rgb, Sheet

View = Literal["overhead", "vehicle"]
Choice = TypeVar("Choice")

WIDTH, HEIGHT = 256, 160
HORIZON = 44
MARGIN = 18  # beside what a roadside camera shows: room for a look away and for streaks

# What stays the same through a scene, and what each of its moments has of its own.
LASTING: dict[str, tuple[str, ...]] = {
    "weather": ("clear", "cloudy", "rainy", "snowy"),
    "road": ("intersection", "main road", "residential street", "parking lot"),
    "age": ("child", "teenager", "adult", "elderly"),
    "upper": ("red", "yellow", "white", "orange", "purple"),
    "lower": ("black", "brown", "pink", "grey", "blue"),
    "vehicle_colour": ("green", "silver", "turquoise", "beige", "maroon"),
    "vehicle_type": ("sedan", "van", "truck", "bus"),
}
PASSING: dict[str, tuple[str, ...]] = {
    "position": ("near left", "near right", "far left", "far right"),  # of the pedestrian, seen from the vehicle
    "movement": ("standing", "walking", "running", "crouching"),
    "sight": ("traffic", "ahead", "behind", "telephone"),
    "driving": ("stopped", "slow", "turning", "fast"),
}
ATTRIBUTES = LASTING | PASSING

COLOURS: dict[str, Rgb] = {
    "beige": (232, 205, 150), "black": (20, 20, 22), "blue": (45, 95, 215), "brown": (115, 65, 25), "green": (20, 140, 50),
    "grey": (135, 135, 140), "maroon": (115, 5, 35), "orange": (250, 130, 10), "pink": (250, 150, 195), "purple": (125, 35, 160),
    "red": (215, 25, 30), "silver": (200, 205, 212), "turquoise": (0, 175, 190), "white": (248, 248, 248), "yellow": (248, 225, 35),
}  # fmt: skip
_SKIES: dict[str, Rgb] = {"clear": (90, 180, 250), "cloudy": (165, 168, 175), "rainy": (60, 72, 95), "snowy": (238, 244, 252)}
_GROUNDS: dict[str, Rgb] = {
    "intersection": (88, 90, 96),
    "main road": (62, 64, 60),
    "residential street": (178, 104, 82),
    "parking lot": (172, 180, 170),
}
_HAIR: dict[str, Rgb] = {"child": (250, 215, 0), "teenager": (150, 60, 20), "adult": (15, 15, 15), "elderly": (250, 250, 250)}
_SKIN, _DARK, _GLASS, _WHITE = (236, 190, 150), (15, 15, 15), (150, 215, 235), (255, 255, 255)
_BRAKE, _INDICATOR, _LAMP, _STREAK = (255, 0, 0), (255, 150, 0), (0, 150, 140), (255, 0, 190)
_BEAM, _LOOK_BACK, _SCREEN, _SHOES = (255, 245, 120), (30, 25, 95), (0, 240, 255), (190, 255, 0)


@dataclass(frozen=True)
class Moment:
    """What changes from phase to phase; values from PASSING."""

    position: str
    movement: str
    sight: str
    driving: str


@dataclass(frozen=True)
class Scene:
    """What can be seen of a scene; values from LASTING, and one moment per phase."""

    weather: str
    road: str
    age: str
    upper: str
    lower: str
    vehicle_colour: str
    vehicle_type: str
    moments: tuple[Moment, ...]

    def values(self, phase: int) -> dict[str, str]:
        """The value of every attribute in this phase, in the order of ATTRIBUTES."""
        moment = self.moments[phase]
        return {name: getattr(self, name) for name in LASTING} | {name: getattr(moment, name) for name in PASSING}


@dataclass(frozen=True)
class Camera:
    """Where a scene is seen from: the view, the size of what is seen (1 is usual), its place (0 to 1) and the light (1 is usual)."""

    view: View
    zoom: float
    place: float
    light: float


@dataclass(frozen=True)
class Picture:
    """One frame, (HEIGHT, WIDTH, 3) bytes, and the boxes of what it shows; the vehicle that carries the camera has none."""

    pixels: np.ndarray
    pedestrian: Box
    vehicle: Box | None


def random_scene(rng: Generator, moments: int) -> Scene:
    """A scene of so many moments; all values equally likely and independent."""
    lasting = {name: _pick(rng, values) for name, values in LASTING.items()}
    return Scene(**lasting, moments=tuple(Moment(**{name: _pick(rng, values) for name, values in PASSING.items()}) for _ in range(moments)))


def random_camera(rng: Generator, view: View) -> Camera:
    """A camera of this view from which both boxes are larger than 1,000 square pixels."""
    return Camera(view, zoom=float(rng.uniform(0.96, 1.04)), place=float(rng.random()), light=float(rng.uniform(0.9, 1.05)))


def clip(scene: Scene, camera: Camera, frames_per_phase: int) -> Iterator[Picture]:
    """The frames of all phases, one after the other."""
    for phase in range(len(scene.moments)):
        for frame in range(frames_per_phase):
            yield draw(scene, phase, camera, time=frame / frames_per_phase)


def draw(scene: Scene, phase: int, camera: Camera, *, time: float) -> Picture:
    """The scene at `time` (0 to 1) of a phase. The same arguments give the same bytes."""
    sheet = Sheet(Image.new("RGB", (WIDTH, HEIGHT)))
    _draw_surroundings(sheet, scene)
    moment = scene.moments[phase]
    show = _draw_from_roadside if camera.view == "overhead" else _draw_from_vehicle
    pedestrian, vehicle = show(sheet, scene, moment, camera, time)
    _draw_downfall(sheet, scene.weather, time + camera.place)
    pixels = np.asarray(sheet.image, dtype=np.float32) * np.float32(camera.light)
    return Picture(np.clip(pixels, 0, 255).astype(np.uint8), pedestrian, vehicle)


def _draw_from_roadside(sheet: Sheet, scene: Scene, moment: Moment, camera: Camera, time: float) -> tuple[Box, Box | None]:
    """Pedestrian and vehicle side by side; the vehicle heads for the pedestrian."""
    wide, high = (size * camera.zoom for size in _SIZES[scene.vehicle_type])
    walker_wide, walker_high = 64 * camera.zoom, 122 * camera.zoom
    distance, side = moment.position.split()
    gap = (6 if distance == "near" else 44) * camera.zoom - 4 * time * (moment.driving != "stopped")
    start = MARGIN + (0.4 + 0.2 * camera.place) * (WIDTH - 2 * MARGIN - wide - walker_wide - gap)
    foot = HEIGHT - 6 - 4 * camera.place
    if side == "left":
        walker_left, left = start, start + walker_wide + gap
    else:
        walker_left, left = start + wide + gap, start
    vehicle = (left, foot - high, wide, high)
    pedestrian = (walker_left, foot - walker_high, walker_wide, walker_high)
    sheet.place(vehicle, mirrored=side == "right")
    _BODIES[scene.vehicle_type](sheet, COLOURS[scene.vehicle_colour])
    _draw_lights(sheet, moment.driving)
    sheet.place(pedestrian, mirrored=side == "right")
    _draw_pedestrian(sheet, scene, moment)
    return pedestrian, vehicle


def _draw_from_vehicle(sheet: Sheet, scene: Scene, moment: Moment, camera: Camera, time: float) -> tuple[Box, Box | None]:
    """The pedestrian before the windscreen, larger when near, and the vehicle's own front below."""
    distance, side = moment.position.split()
    high = (126 if distance == "near" else 84) * camera.zoom + 3 * time * (moment.driving != "stopped")
    wide, foot = 0.52 * high, (150 if distance == "near" else 128)
    centre = 60 + 10 * camera.place if side == "left" else WIDTH - 70 + 10 * camera.place
    pedestrian = (centre - wide / 2, foot - high, wide, high)
    sheet.place(pedestrian, mirrored=side == "right")
    _draw_pedestrian(sheet, scene, moment)
    sheet.place((36, 112, WIDTH - 72, HEIGHT - 112))
    _draw_front(sheet, scene.vehicle_type, COLOURS[scene.vehicle_colour])
    _draw_panel(sheet, moment.driving)
    return pedestrian, None


def _draw_surroundings(sheet: Sheet, scene: Scene) -> None:
    """Sky by the weather, ground and its markings by the kind of road."""
    sheet.block(0, 0, 1, 1, _GROUNDS[scene.road])
    pen, sky = sheet.pen, _SKIES[scene.weather]
    pen.rectangle((0, 0, WIDTH, HORIZON), fill=sky)
    if scene.weather == "clear":
        pen.ellipse((108, 4, 146, 42), fill=(255, 235, 60))
    if scene.weather == "cloudy":
        for x in range(-20, WIDTH, 64):
            pen.ellipse((x, 8, x + 52, 36), fill=(112, 114, 120))
    if scene.road == "intersection":
        for x in range(0, WIDTH, 32):
            pen.rectangle((x, 62, x + 16, HEIGHT), fill=(215, 215, 215))
    elif scene.road == "main road":
        for x in range(0, WIDTH, 48):
            pen.rectangle((x, 76, x + 30, 84), fill=(245, 190, 0))
        pen.rectangle((0, HORIZON, WIDTH, HORIZON + 6), fill=(230, 230, 230))
    elif scene.road == "residential street":
        pen.rectangle((0, HORIZON, WIDTH, HORIZON + 18), fill=(40, 120, 45))
        for y in range(HORIZON + 30, HEIGHT, 22):
            pen.rectangle((0, y, WIDTH, y + 3), fill=(110, 58, 46))
    else:
        for x in range(10, WIDTH, 58):
            pen.line((x, HORIZON, x - 26, HEIGHT), fill=(255, 255, 255), width=5)


def _draw_downfall(sheet: Sheet, weather: str, time: float) -> None:
    """Rain in streaks or snow in flakes over everything; it falls with time."""
    if weather not in ("rainy", "snowy"):
        return
    for number in range(30):
        # Steps by the golden ratio cover the picture evenly.
        x, y = number * 0.618034 % 1 * WIDTH, (number / 30 + time) % 1 * HEIGHT
        if weather == "rainy":
            sheet.pen.line((x, y, x - 5, y + 13), fill=(120, 150, 205), width=2)
        else:
            sheet.pen.ellipse((x, y, x + 5, y + 5), fill=(255, 255, 255))


def _sedan(sheet: Sheet, ink: Rgb) -> None:
    sheet.shape([(0.2, 0.5), (0.34, 0.0), (0.7, 0.0), (0.84, 0.5)], ink)
    sheet.shape([(0.29, 0.46), (0.38, 0.1), (0.66, 0.1), (0.74, 0.46)], _GLASS)
    sheet.block(0.0, 0.46, 1.0, 0.86, ink)
    _wheels(sheet, (0.2, 0.8))


def _van(sheet: Sheet, ink: Rgb) -> None:
    sheet.shape([(0.0, 0.88), (0.0, 0.45), (0.22, 0.0), (1.0, 0.0), (1.0, 0.88)], ink)
    sheet.shape([(0.08, 0.42), (0.24, 0.1), (0.42, 0.1), (0.42, 0.42)], _GLASS)
    sheet.block(0.5, 0.56, 1.0, 0.66, _WHITE)
    _wheels(sheet, (0.24, 0.78))


def _truck(sheet: Sheet, ink: Rgb) -> None:
    sheet.block(0.0, 0.76, 1.0, 0.88, _DARK)
    sheet.block(0.0, 0.3, 0.28, 0.8, ink)
    sheet.block(0.03, 0.36, 0.18, 0.55, _GLASS)
    sheet.block(0.36, 0.0, 1.0, 0.76, ink)
    for x in (0.48, 0.66, 0.84):
        sheet.block(x, 0.06, x + 0.05, 0.7, _DARK)
    _wheels(sheet, (0.14, 0.6, 0.86))


def _bus(sheet: Sheet, ink: Rgb) -> None:
    sheet.block(0.0, 0.0, 1.0, 0.88, ink)
    for x in (0.03, 0.23, 0.43, 0.63, 0.83):
        sheet.block(x, 0.1, x + 0.14, 0.42, _GLASS)
    _wheels(sheet, (0.18, 0.82))


# Width and height in pixels at zoom 1.
_SIZES = {"sedan": (78, 44), "van": (66, 58), "truck": (88, 62), "bus": (98, 58)}
_BODIES = {"sedan": _sedan, "van": _van, "truck": _truck, "bus": _bus}


def _wheels(sheet: Sheet, places: tuple[float, ...]) -> None:
    radius = 9 / sheet.box[2]
    for x in places:
        sheet.oval(x - radius, 1 - 18 / sheet.box[3], x + radius, 1.0, _DARK)


def _draw_lights(sheet: Sheet, driving: str) -> None:
    """What a vehicle seen from the side shows of its driving: brake light, lamp, indicators, or streaks behind it."""
    if driving == "stopped":
        sheet.block(0.88, 0.3, 1.06, 0.78, _BRAKE)
    elif driving == "slow":
        sheet.block(-0.06, 0.4, 0.24, 0.78, _LAMP)
    elif driving == "turning":
        sheet.oval(-0.06, 0.4, 0.16, 0.78, _INDICATOR)
        sheet.oval(0.84, 0.4, 1.06, 0.78, _INDICATOR)
    else:
        for y in (0.05, 0.4, 0.75):
            sheet.stroke((1.04, y), (1.34, y), 6, _STREAK)


def _draw_front(sheet: Sheet, type_: str, ink: Rgb) -> None:
    """The vehicle's own front, seen from its seat: flat, with a white band, with two exhaust pipes, or with a row of windows."""
    if type_ == "sedan":
        sheet.shape([(0.0, 1.0), (0.16, 0.42), (0.84, 0.42), (1.0, 1.0)], ink)
    elif type_ == "van":
        sheet.shape([(0.0, 1.0), (0.1, 0.25), (0.9, 0.25), (1.0, 1.0)], ink)
        sheet.block(0.06, 0.5, 0.94, 0.62, _WHITE)
    elif type_ == "truck":
        sheet.block(0.04, 0.3, 0.96, 1.0, ink)
        for x in (-0.06, 0.96):
            sheet.block(x, -0.6, x + 0.1, 1.0, _DARK)
    else:
        sheet.block(-0.2, 0.2, 1.2, 1.0, ink)
        for x in (-0.14, 0.1, 0.34, 0.58, 0.82, 1.06):
            sheet.block(x, 0.28, x + 0.12, 0.56, _GLASS)


def _draw_panel(sheet: Sheet, driving: str) -> None:
    """The same signs on the vehicle's own front."""
    if driving == "stopped":
        sheet.block(0.3, 0.7, 0.7, 1.0, _BRAKE)
    elif driving == "slow":
        sheet.block(0.1, 0.66, 0.26, 1.0, _LAMP)
        sheet.block(0.74, 0.66, 0.9, 1.0, _LAMP)
    elif driving == "turning":
        sheet.oval(0.0, 0.62, 0.2, 1.0, _INDICATOR)
        sheet.oval(0.8, 0.62, 1.0, 1.0, _INDICATOR)
    else:
        for x in (-0.14, -0.05, 1.05, 1.14):
            sheet.stroke((x, -0.15), (x, 1.0), 6, _STREAK)


def _draw_pedestrian(sheet: Sheet, scene: Scene, moment: Moment) -> None:
    """A figure that fills its box; the vehicle is to its right unless the sheet is mirrored."""
    left, top, width, height = sheet.box
    if moment.movement == "crouching":
        sheet.place((left, top + 0.3 * height, width, 0.7 * height), mirrored=sheet.mirrored)
    _draw_legs(sheet, moment.movement, COLOURS[scene.lower])
    _draw_burden(sheet, scene.age)
    sheet.block(0.22, 0.27, 0.78, 0.64, COLOURS[scene.upper])
    if moment.movement == "running":
        sheet.block(-0.12, 0.34, 1.12, 0.44, COLOURS[scene.upper])
    sheet.oval(0.2, 0.02, 0.8, 0.31, _SKIN)
    sheet.shape([(0.14, 0.15), (0.22, 0.0), (0.78, 0.0), (0.86, 0.15)], _HAIR[scene.age])
    if moment.sight == "traffic":
        sheet.shape([(0.7, 0.18), (1.35, 0.0), (1.35, 0.36)], _BEAM)
    elif moment.sight == "behind":
        # NOTE: of another colour, or the two looks would differ by left and right of the vehicle alone.
        sheet.shape([(0.3, 0.18), (-0.35, 0.0), (-0.35, 0.36)], _LOOK_BACK)
    elif moment.sight == "telephone":
        sheet.block(0.25, 0.3, 0.75, 0.5, _SCREEN)
    else:
        sheet.block(0.12, 0.13, 0.88, 0.29, _DARK)


def _draw_legs(sheet: Sheet, movement: str, ink: Rgb) -> None:
    """Legs together on a shadow, astride in bright shoes, in a long stride with dust below, or folded."""
    if movement == "standing":
        sheet.oval(-0.1, 0.94, 1.1, 1.04, _DARK)
        sheet.block(0.24, 0.62, 0.76, 0.98, ink)
    elif movement == "walking":
        sheet.shape([(0.22, 0.62), (0.78, 0.62), (1.04, 0.92), (0.7, 0.92), (0.5, 0.78), (0.3, 0.92), (-0.04, 0.92)], ink)
        for x in (-0.12, 0.66):
            sheet.block(x, 0.9, x + 0.46, 1.0, _SHOES)
    elif movement == "running":
        sheet.shape([(0.22, 0.62), (0.78, 0.62), (1.2, 0.78), (1.15, 0.94), (0.6, 0.8), (0.2, 0.82), (-0.2, 0.98), (-0.3, 0.82)], ink)
        for x in (-0.36, 0.0, 0.36):
            sheet.oval(x, 0.86, x + 0.42, 1.02, _WHITE)
    else:
        sheet.block(-0.1, 0.62, 1.1, 0.92, ink)
        sheet.block(0.1, 0.92, 0.9, 1.0, _DARK)


def _draw_burden(sheet: Sheet, age: str) -> None:
    """What is carried: a balloon, a satchel, a case or a stick."""
    if age == "child":
        sheet.oval(-0.3, 0.0, 0.1, 0.2, (255, 60, 160))
        sheet.stroke((-0.1, 0.2), (0.1, 0.5), 2, _DARK)
    elif age == "teenager":
        sheet.block(-0.02, 0.3, 0.24, 0.58, (0, 120, 90))
    elif age == "adult":
        sheet.block(-0.16, 0.54, 0.24, 0.76, (70, 40, 15))
    else:
        sheet.stroke((-0.02, 0.4), (-0.02, 1.0), 6, (100, 55, 15))


def _pick(rng: Generator, choices: tuple[Choice, ...]) -> Choice:
    return choices[rng.integers(len(choices))]
