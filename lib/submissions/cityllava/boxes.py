"""The published extraction files: per video the first-frame boxes and their phases, and one frame per phase to render (spec 2)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lib import files
from lib.geometry import Box
from lib.submissions.cityllava.annotations import CORPORA, Clip, Corpus, Finding, Split

FOLDER = "frame_bbox_anno"


@dataclass(frozen=True)
class BoxedFrame:
    """What is drawn for one phase: the annotators' number of the frame, and the box of each kind that has one."""

    phase: int
    image_id: int
    pedestrian: Box | None
    vehicle: Box | None


def file_name(corpus: Corpus, split: Split) -> str:
    """The published name of an extraction file."""
    return f"{corpus}_{split}_all_video_with_bbox_anno_first_frame.json"


def extract(clips: Iterable[Clip]) -> dict[str, dict]:
    """The extraction of clips whose video is there, keyed by the video's path below the data root.

    A start of 0.0 counts as a start; the published script takes it for missing. Without captions both times are None.
    """
    return {clip.path: _entry(clip) for clip in clips if clip.present}


def write_extractions(folder: Path, clips: Iterable[Clip], split: Split) -> dict[str, dict]:
    """Write the split's file of each corpus below `folder`; returns their entries together."""
    clips = list(clips)
    together = {}
    for corpus in CORPORA:
        extraction = extract(clip for clip in clips if clip.corpus == corpus)
        files.write_json(folder / FOLDER / file_name(corpus, split), extraction)
        together |= extraction
    return together


def plan_frames(video: str, entry: Mapping) -> tuple[list[BoxedFrame], list[Finding]]:
    """One frame per phase of an extraction entry, by phase: the first that is annotated for it, with the first box of each kind.

    The published script writes a picture per annotated frame, and where the two boxes of a phase stand on different frames the
    later picture, with one box only, takes the place of the earlier one.
    """
    frames: dict[int, list[int]] = {}
    for image_id, phase in sorted((int(image_id), int(phase)) for image_id, phase in entry["phase_number"].items()):
        frames.setdefault(phase, []).append(image_id)
    planned, findings = [], []
    for phase, image_ids in sorted(frames.items()):
        if len(image_ids) > 1:
            findings.append(Finding("boxes of a phase on different frames", f"{video} phase {phase}: {', '.join(map(str, image_ids))}"))
        boxed = (_first_box(entry[key], image_ids) for key in ("ped_bboxes", "veh_bboxes"))
        planned.append(BoxedFrame(phase, image_ids[0], *boxed))
    return planned, findings


def _entry(clip: Clip) -> dict:
    """One entry in the published form: frame numbers are text, phases single digits, fps only where the caption file has one."""
    times = [(float(phase.start_time), float(phase.end_time)) for phase in clip.phases]
    return {
        **({} if clip.fps is None else {"fps": clip.fps}),
        "start_time": min((start for start, _ in times), default=None),
        "end_time": max((end for _, end in times), default=None),
        "ped_bboxes": {str(one.image_id): list(one.box) for one in clip.pedestrians},
        "veh_bboxes": {str(one.image_id): list(one.box) for one in clip.vehicles},
        "phase_number": {str(one.image_id): str(one.phase) for one in (*clip.pedestrians, *clip.vehicles)},
    }


def _first_box(boxes: Mapping[str, list[float]], image_ids: list[int]) -> Box | None:
    """The box on the first of these frames that has one."""
    return next((tuple(boxes[str(image_id)]) for image_id in image_ids if str(image_id) in boxes), None)
