"""Captions and rendered pictures become conversations in the LLaVA format (spec 3)."""

from collections.abc import Iterable
from pathlib import Path

from lib.submissions.cityllava.annotations import PHASES, Clip, Finding, Kind, Phase, Split
from lib.submissions.cityllava.frames import picture_path

QUESTIONS: dict[Kind, str] = {
    "pedestrian": "<image>\nPlease describe the interested pedestrian in the video.",
    "vehicle": "Please describe the interested vehicle in the video.",
}


def file_name(split: Split) -> str:
    """The published name of a split's records."""
    return f"wts_bdd_{split}.json"


def build_records(clips: Iterable[Clip], pictures: Path) -> tuple[list[dict], list[Finding]]:
    """One record per phase of every captioned clip whose global picture lies below `pictures`, and what was left out.

    `image` is relative to `pictures`. A phase with an empty caption is left out: there is no answer to learn.
    """
    records, findings = [], []
    for clip in clips:
        for phase in clip.phases if clip.captioned else ():
            image = picture_path(clip.path, phase.number, "global")
            if not (phase.pedestrian and phase.vehicle):
                findings.append(Finding("record with an empty caption", image))
            elif not (pictures / image).is_file():
                findings.append(Finding("record without its picture", image))
            else:
                records.append(_record(clip, phase, image))
    return records, findings


def _record(clip: Clip, phase: Phase, image: str) -> dict:
    """One record; those of BDD name no view."""
    turns = ((QUESTIONS["pedestrian"], phase.pedestrian), (QUESTIONS["vehicle"], phase.vehicle))
    return {
        "id": clip.scenario,
        "segment": PHASES[phase.number],
        **({} if clip.corpus == "bdd" else {"view": clip.view}),
        "start_time": phase.start_time,
        "end_time": phase.end_time,
        "conversations": [{"from": speaker, "value": text} for turn in turns for speaker, text in zip(("human", "gpt"), turn, strict=True)],
        "image": image,
    }
