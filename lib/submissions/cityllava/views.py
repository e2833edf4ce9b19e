"""The view that stands for a scenario, and its five frames: what the model is asked about in val and test (spec 5)."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from lib import geometry, media
from lib.config import Quirk
from lib.errors import DataError
from lib.geometry import Box
from lib.submissions.cityllava.annotations import PHASES, Clip, Finding
from lib.submissions.cityllava.frames import jpeg, picture_path, write_picture

Perspective = Literal["overhead", "vehicle"]
# The global and the local picture of one phase, encoded.
Pair = tuple[bytes, bytes]

# Their annotated boxes are known to be wrong [published script].
VEHICLE_VIEW_ALWAYS = ("20230728_13_CN21_T1", "20230728_13_CN21_T2")
NORMAL_MARK = "_normal_"


def best_view(
    scenario: str, cameras: Sequence[str], boxes: Mapping[str, Sequence[Box]], reference: Sequence[str] | None, *, borrowed_area: Quirk
) -> str | None:
    """The video file of the view in which pedestrians are largest, None if the rules leave no candidate.

    `cameras` are the overhead files in their published order, `reference` the scenario's row of the reference list (None without
    one), `boxes` the pedestrian boxes by video name without ending. A camera without boxes borrows the vehicle view's area:
    `as_published` for its own name, `corrected` for the vehicle view. Ties keep the earlier view.
    """
    by_vehicle = f"{scenario}_vehicle_view"
    if scenario in VEHICLE_VIEW_ALWAYS:
        return f"{by_vehicle}.mp4"
    if NORMAL_MARK in scenario:
        return f"{by_vehicle}.mp4" if boxes.get(by_vehicle) and not boxes.get(scenario) else f"{scenario}.mp4"
    best, largest = None, 0.0
    for camera in cameras:
        if reference is not None and camera not in reference:
            continue
        own = boxes.get(camera.removesuffix(".mp4"))
        measured = own or boxes.get(by_vehicle)
        if not measured:
            continue
        name = camera if own or borrowed_area == "as_published" else f"{by_vehicle}.mp4"
        mean = sum(geometry.area(box) for box in measured) / len(measured)
        if len(measured) == len(PHASES) and mean > largest:
            best, largest = name, mean
        elif best is None and boxes.get(by_vehicle):
            best = f"{by_vehicle}.mp4"  # its area is not kept: a later camera replaces it whatever its boxes
        elif mean > largest:
            best, largest = name, mean
    return best


def choose_views(
    clips: Iterable[Clip], reference: Mapping[str, Sequence[str]], *, by_area: bool, borrowed_area: Quirk
) -> tuple[dict[str, str], list[Finding]]:
    """The video file of each scenario that has a video; without `by_area` its first, overhead before vehicle.

    Where the rules choose none, or one that is not there, the first video stands in and is counted.
    """
    scenarios: dict[str, list[Clip]] = {}
    for clip in clips:
        scenarios.setdefault(clip.scenario, []).append(clip)
    views, findings = {}, []
    for scenario, every in scenarios.items():
        there = [_file_name(clip) for clip in every if clip.present]
        if not there:
            findings.append(Finding("scenario without a video", scenario))
            continue
        chosen = there[0]
        if by_area and every[0].corpus == "wts":
            chosen = _by_rules(scenario, every, reference.get(scenario), borrowed_area)
        if chosen not in there:
            findings.append(Finding("no best view, first video used", f"{scenario} {chosen or ''}".strip()))
        views[scenario] = chosen if chosen in there else there[0]
    return views, findings


def perspective_of(scenario: str, clip: Clip, *, is_raw: bool, perspective: Quirk) -> Perspective:
    """Whether the model is asked as for an overhead or a vehicle's camera.

    `as_published` goes by the scenario's name, in which no WTS scenario names a vehicle, except for raw frames.
    """
    if perspective == "as_published" and not is_raw:
        return "vehicle" if "vehicle" in scenario or "video" in scenario else "overhead"
    return "overhead" if clip.view == "overhead" else "vehicle"


def assemble_frames(
    views: Mapping[str, str], clips: Iterable[Clip], root: Path, rendered: Path, out: Path, *, perspective: Quirk
) -> tuple[dict[str, Perspective], list[Finding]]:
    """Write `bbox_global` and `bbox_local` / <scenario>/<phase>.jpg below `out`, five per scenario; returns each one's perspective.

    A phase without a picture takes the nearest one's, the earlier of two; a view without any takes raw frames of its video below
    `root`. Keys of the perspectives are `<scenario>/<phase>.jpg`; a scenario without any picture is counted and has none.
    """
    by_file = {(clip.scenario, _file_name(clip)): clip for clip in clips}
    perspectives: dict[str, Perspective] = {}
    findings: list[Finding] = []
    for scenario, file_name in views.items():
        clip = by_file[scenario, file_name]
        pairs = _rendered_pairs(clip, rendered, findings)
        is_raw = not pairs
        pairs = pairs or _raw_pairs(clip, root, findings)
        if not pairs:
            findings.append(Finding("scenario without any picture", scenario))
            continue
        for phase in range(len(PHASES)):
            nearest = min(pairs, key=lambda other: (abs(other - phase), other))
            if nearest != phase:
                findings.append(Finding("phase without a picture, nearest one used", f"{clip.path} {PHASES[phase]}"))
            name = f"{scenario}/{phase}.jpg"
            for folder, content in zip(("bbox_global", "bbox_local"), pairs[nearest], strict=True):
                write_picture(out / folder / name, content)
            perspectives[name] = perspective_of(scenario, clip, is_raw=is_raw, perspective=perspective)
    return perspectives, findings


def _by_rules(scenario: str, clips: Sequence[Clip], reference: Sequence[str] | None, borrowed_area: Quirk) -> str | None:
    """The best view of a WTS scenario among the cameras that its captions name."""
    cameras = [_file_name(clip) for clip in clips if clip.view == "overhead" and clip.captioned]
    boxes = {clip.camera: [one.box for one in clip.pedestrians] for clip in clips}
    return best_view(scenario, cameras, boxes, reference, borrowed_area=borrowed_area)


def _rendered_pairs(clip: Clip, rendered: Path, findings: list[Finding]) -> dict[int, Pair]:
    """The rendered pictures by phase; where the local one is missing, the global one stands for both and is counted."""
    pairs = {}
    for phase, name in enumerate(PHASES):
        paths = [rendered / picture_path(clip.path, phase, extent) for extent in ("global", "local")]
        if not paths[0].is_file():
            continue
        if not paths[1].is_file():
            findings.append(Finding("local picture missing, whole frame used", f"{clip.path} {name}"))
            paths[1] = paths[0]
        pairs[phase] = (paths[0].read_bytes(), paths[1].read_bytes())
    return pairs


def _raw_pairs(clip: Clip, root: Path, findings: list[Finding]) -> dict[int, Pair]:
    """The frame at the start of each phase, as it is, for both pictures; empty if the video has no phases or does not decode."""
    if not clip.phases:
        return {}
    findings.append(Finding("view without rendered pictures, raw frames used", clip.path))
    try:
        with media.open_video(root / clip.path) as video:
            facts = video.facts
            starts = [int(float(phase.start_time) * facts.fps) for phase in clip.phases]
            frames = video.read([min(max(start, 0), facts.frames - 1) for start in starts])
    except DataError as error:
        findings.append(Finding("video unreadable", str(error)))
        return {}
    late = [phase for phase, start in zip(clip.phases, starts, strict=True) if not 0 <= start < facts.frames]
    findings += [Finding("phase outside the video", f"{clip.path} {PHASES[phase.number]}") for phase in late]
    return {phase.number: (jpeg(frame),) * 2 for phase, frame in zip(clip.phases, frames, strict=True)}


def _file_name(clip: Clip) -> str:
    """The video's name with its ending."""
    return clip.path.rpartition("/")[2]
