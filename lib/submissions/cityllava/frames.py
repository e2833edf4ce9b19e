"""Global and local pictures: boxes drawn on the annotated frame, and a square crop around them (spec 2).

Videos are rendered in parallel, each in one pass. Pictures go below an output root, in the published layout.
"""

import io
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from lib import files, geometry, media
from lib.errors import DataError
from lib.geometry import Box, Pixels
from lib.submissions.cityllava.annotations import PHASES, Finding
from lib.submissions.cityllava.boxes import BoxedFrame, plan_frames

logger = logging.getLogger(__name__)

Extent = Literal["global", "local"]
Colour = tuple[int, int, int]

GREEN, BLUE = (0, 255, 0), (0, 0, 255)  # RGB, of pedestrian and vehicle; the first is drawn first
THICKNESS: dict[Extent, int] = {"global": 4, "local": 3}
JPEG_QUALITY = 95  # OpenCV's default, with which the published pictures were written
HALVED_ABOVE_FPS = 40  # faster videos were annotated with every frame numbered twice


@dataclass(frozen=True)
class Outline:
    """A rectangle to draw: corners in whole pixels of the full frame, colour."""

    corners: Pixels
    colour: Colour


def decoded_number(image_id: int, fps: str | float | None) -> int:
    """The number of the decoded frame for an annotators' frame number; `fps` is the caption's claim, None for WTS."""
    return image_id // 2 if fps is not None and float(fps) > HALVED_ABOVE_FPS else image_id


def frame_index(image_id: int, fps: str | float | None, frames: int) -> int:
    """The same, held inside a video of `frames` frames.

    The published script lowers only the last number of a video, by one, and stops at any other that is too large.
    """
    return min(max(decoded_number(image_id, fps), 0), frames - 1)


def picture_path(video: str, phase: int, extent: Extent) -> str:
    """Where the picture of a phase belongs, from the video's path: `bbox_global` or `bbox_local` in place of `videos`."""
    stem = video.replace("/videos/", f"/bbox_{extent}/", 1).removesuffix(".mp4")
    return f"{stem}_{PHASES[phase]}.jpg" if "BDD" in video else f"{stem}/{phase}_{PHASES[phase]}.jpg"


def global_outlines(frame: BoxedFrame) -> list[Outline]:
    """The boxes as annotated, which may reach outside the picture."""
    return [Outline(geometry.truncate(geometry.to_corners(box)), colour) for box, colour in _boxes(frame)]


def local_outlines(frame: BoxedFrame, width: int, height: int, *, box_scale: float) -> list[Outline]:
    """The boxes enlarged about their centres and clipped to the picture."""
    enlarged = [(geometry.to_corners(geometry.enlarge(box, box_scale)), colour) for box, colour in _boxes(frame)]
    return [Outline(geometry.clip(corners, width, height), colour) for corners, colour in enlarged]


def crop_of(outlines: list[Outline], width: int, height: int, *, crop_scale: float) -> Pixels | None:
    """The square around all outlines, its side `crop_scale` times their longer side, clipped; None where nothing is left to see."""
    boxes = [geometry.from_corners(outline.corners) for outline in outlines]
    if not boxes:
        return None
    around = geometry.union(boxes[0], boxes[-1])
    crop = geometry.clip(geometry.to_corners(geometry.square(around, crop_scale)), width, height)
    return crop if crop[0] < crop[2] and crop[1] < crop[3] else None


def draw(picture: np.ndarray, outlines: list[Outline], *, thickness: int, origin: tuple[int, int] = (0, 0)) -> None:
    """Draw rectangles into an RGB picture (H, W, 3) whose upper left corner is `origin` of the full frame; in place.

    The pixels are those of OpenCV: lines of 3 and of 4 both reach two pixels to either side, and outer corners are cut.
    """
    reach = (thickness + 1) // 2
    for outline in outlines:
        x1, y1, x2, y2 = (value - origin[place % 2] for place, value in enumerate(outline.corners))
        left, right, top, bottom = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
        for along in range(reach + 1):
            across = reach - along
            for y in (top, bottom):
                _fill(picture, (left - along, y - across, right + along, y + across), outline.colour)
            for x in (left, right):
                _fill(picture, (x - across, top - along, x + across, bottom + along), outline.colour)


def render_frame(frame: np.ndarray, boxed: BoxedFrame, *, box_scale: float, crop_scale: float) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(global picture, local picture, reasons for findings) of one RGB frame (H, W, 3), which becomes the global picture."""
    height, width = frame.shape[:2]
    local = local_outlines(boxed, width, height, box_scale=box_scale)
    crop = crop_of(local, width, height, crop_scale=crop_scale)
    x1, y1, x2, y2 = crop or (0, 0, width, height)
    part = frame[y1:y2, x1:x2].copy()
    draw(part, local, thickness=THICKNESS["local"], origin=(x1, y1))
    outlines = global_outlines(boxed)
    draw(frame, outlines, thickness=THICKNESS["global"])
    reasons = []
    if any(outline.corners != geometry.clip(outline.corners, width, height) for outline in outlines):
        reasons.append("box reaches outside the frame")
    if crop is None:
        reasons.append("crop empty, whole frame used")
    return frame, part, reasons


def render_videos(
    root: Path, extraction: Mapping[str, Mapping], out: Path, *, box_scale: float, crop_scale: float, workers: int
) -> list[Finding]:
    """Write both pictures of every phase that has boxes, for all videos of an extraction; returns what was odd, by video.

    `root` is the data root below which the videos lie; a video that does not decode is a finding and has no pictures.
    """

    def render(video: str) -> list[Finding]:
        return _render_video(root / video, out, video, extraction[video], (box_scale, crop_scale))

    # Threads: decoding, colour conversion and JPEG all run outside Python's lock.
    with ThreadPoolExecutor(workers) as pool:
        return [finding for findings in pool.map(render, sorted(extraction)) for finding in findings]


def jpeg(picture: np.ndarray) -> bytes:
    """An RGB picture (H, W, 3) as JPEG."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "JPEG", quality=JPEG_QUALITY)
    return content.getvalue()


def write_picture(path: Path, content: bytes) -> None:
    """Write an encoded picture; without the flush to disk of `files.write_bytes`, which thousands of pictures would wait for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise files.disk_full(error, path.parent) from error


def _render_video(source: Path, out: Path, video: str, entry: Mapping, scales: tuple[float, float]) -> list[Finding]:
    """Render all phases of one video."""
    planned, findings = plan_frames(video, entry)
    if not planned:
        return findings
    fps = entry.get("fps")
    try:
        with media.open_video(source) as opened:
            count = opened.facts.frames
            indices = [frame_index(boxed.image_id, fps, count) for boxed in planned]
            frames = opened.read(indices)
    except DataError as error:
        return [*findings, Finding("video unreadable", str(error))]
    for boxed, frame, index in zip(planned, frames, indices, strict=True):
        if index != decoded_number(boxed.image_id, fps):
            logger.warning("%s: frame %d of %d frames; frame %d is used", video, boxed.image_id, count, index)
            findings.append(Finding("frame number outside the video", f"{video} {boxed.image_id} of {count}"))
        # Two phases may share a frame, and drawing changes it.
        whole, part, reasons = render_frame(frame.copy(), boxed, box_scale=scales[0], crop_scale=scales[1])
        write_picture(out / picture_path(video, boxed.phase, "global"), jpeg(whole))
        write_picture(out / picture_path(video, boxed.phase, "local"), jpeg(part))
        findings += [Finding(reason, f"{video} {PHASES[boxed.phase]}") for reason in reasons]
    return findings


def _boxes(frame: BoxedFrame) -> list[tuple[Box, Colour]]:
    """The boxes that there are, in the order in which they are drawn."""
    return [(box, colour) for box, colour in ((frame.pedestrian, GREEN), (frame.vehicle, BLUE)) if box is not None]


def _fill(picture: np.ndarray, corners: Pixels, colour: Colour) -> None:
    """Paint the pixels from corner to corner, both included, as far as they lie in the picture."""
    x1, y1, x2, y2 = corners
    picture[max(y1, 0) : max(y2 + 1, 0), max(x1, 0) : max(x2 + 1, 0)] = colour
