"""Snapshots of the traffic world: one picture of a scene as somebody at the roadside takes it, without marks, and what is where in it."""

from dataclasses import dataclass

from numpy.random import Generator
from PIL import Image

from lib import scenes
from lib.scenes import Scene
from lib.sheet import Box

MARGIN = (20, 36)  # pixels beside pedestrian and vehicle, at least and at most


@dataclass(frozen=True)
class Snapshot:
    """An RGB picture, 160 pixels high and about as wide, and the boxes (x, y, width, height) of both in it."""

    picture: Image.Image
    pedestrian: Box
    vehicle: Box


def take(scene: Scene, rng: Generator) -> Snapshot:
    """The first moment of a scene, from the sky to the ground, cut somewhere beside pedestrian and vehicle."""
    seen = scenes.draw(scene, 0, scenes.random_camera(rng, "overhead"), time=float(rng.random()))
    boxes = seen.pedestrian, seen.vehicle
    left = max(0, round(min(box[0] for box in boxes) - rng.uniform(*MARGIN)))
    right = min(scenes.WIDTH, round(max(box[0] + box[2] for box in boxes) + rng.uniform(*MARGIN)))
    picture = Image.fromarray(seen.pixels).crop((left, 0, right, scenes.HEIGHT))
    pedestrian, vehicle = ((x - left, y, width, height) for x, y, width, height in boxes)
    return Snapshot(picture, pedestrian, vehicle)
