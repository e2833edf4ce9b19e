"""The published trees of WTS and BDD_PC_5k, read into clips: a video, the captions of its phases, its first-frame boxes.

Nothing odd in one file stops the reading: what is missing, double or malformed becomes a finding, is left out and counted by reason
(specs/cityllava.md section 1). Only a split without a single clip is an error. Paths are relative to the data root, with "/".
"""

import csv
import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lib import files
from lib.errors import DataError
from lib.geometry import Box

Corpus = Literal["wts", "bdd"]
Split = Literal["train", "val", "test"]
View = Literal["overhead", "vehicle", "ego"]  # BDD has the ego view only
Kind = Literal["pedestrian", "vehicle"]

CORPORA: tuple[Corpus, ...] = ("wts", "bdd")
KINDS: tuple[Kind, ...] = ("pedestrian", "vehicle")
PHASES = ("prerecognition", "recognition", "judgement", "action", "avoidance")
NORMAL = "normal_trimmed"
# The scripts write a small k, the release a capital one.
BDD_FOLDERS = ("BDD_PC_5k", "BDD_PC_5K")
TEST = "test_part/WTS_DATASET_PUBLIC_TEST"
# Two names of one file: the release's, and the one its README uses.
REFERENCE_FILES = ("view_used_as_main_reference_for_multiview_scenario.csv", "view_used_as_main_reference.csv")
EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be: the reason, under which it is counted, and the file or item it concerns."""

    reason: str
    thing: str


@dataclass(frozen=True)
class Phase:
    """The captions of one phase: its number 0 to 4, its times in seconds as published, two texts (empty in the test part)."""

    number: int
    start_time: str
    end_time: str
    pedestrian: str
    vehicle: str


@dataclass(frozen=True)
class PhaseBox:
    """One annotated box: the number of its frame in the annotators' count, its phase, (x, y, width, height) in pixels."""

    image_id: int
    phase: int
    box: Box


@dataclass(frozen=True)
class Clip:
    """One video of a scenario. `fps` is the caption's claim, for BDD only; `present` and `captioned` say where it was found."""

    corpus: Corpus
    scenario: str
    view: View
    path: str
    fps: str | float | None
    phases: tuple[Phase, ...]
    pedestrians: tuple[PhaseBox, ...]
    vehicles: tuple[PhaseBox, ...]
    present: bool
    captioned: bool

    @property
    def camera(self) -> str:
        """The video's name without its ending."""
        return self.path.rpartition("/")[2].removesuffix(".mp4")


@dataclass(frozen=True)
class Layout:
    """Where one corpus and split lie below the data root: videos, captions, and one box folder per kind."""

    videos: str
    captions: str
    boxes: dict[Kind, str]


def layout_of(root: Path, corpus: Corpus, split: Split) -> Layout:
    """The folders of a corpus and split; BDD has boxes of pedestrians only, and either spelling of its folder is read."""
    if split == "test":
        part = TEST if corpus == "wts" else f"{TEST}/external/BDD_PC_5K"
        boxes = part.replace(TEST, f"{TEST}_BBOX") + "/annotations/bbox_annotated"
        videos, captions, place = f"{part}/videos/test/public", f"{part}/annotations/caption/test/public_challenge", "test/public"
    else:
        part = "WTS" if corpus == "wts" else next((name for name in BDD_FOLDERS if (root / name).is_dir()), BDD_FOLDERS[0])
        boxes = f"{part}/annotations/bbox_annotated"
        videos, captions, place = f"{part}/videos/{split}", f"{part}/annotations/caption/{split}", split
    if corpus == "bdd":
        return Layout(videos, captions, {"pedestrian": f"{boxes}/{place}"})
    return Layout(videos, captions, {"pedestrian": f"{boxes}/pedestrian/{place}", "vehicle": f"{boxes}/vehicle/{place}"})


def read_split(root: Path, split: Split) -> tuple[list[Clip], list[Finding]]:
    """All clips of a split, WTS first, each by path, and what was wrong. Raises DataError if there is no clip at all."""
    findings: list[Finding] = []
    clips: list[Clip] = []
    for corpus in CORPORA:
        layout = layout_of(root, corpus, split)
        reader = _Reader(root, split, layout, findings)
        found = list(reader.read_wts() if corpus == "wts" else reader.read_bdd())
        if not found:
            findings.append(Finding("data set missing", layout.captions))
        clips += found
    if not clips:
        wanted = " nor ".join(layout_of(root, corpus, split).captions for corpus in CORPORA)
        raise DataError(f"{root}: no video and no caption of split {split}: neither {wanted} holds any; see data/README.md for the trees")
    return clips, findings


def read_reference_views(root: Path) -> tuple[dict[str, tuple[str, ...]], list[Finding]]:
    """The camera files that annotators used, by scenario, from the CSV of the test part; without it nothing is restricted."""
    path = next((root / "test_part" / name for name in REFERENCE_FILES if (root / "test_part" / name).is_file()), None)
    if path is None:
        return {}, [Finding("reference list missing", f"test_part/{REFERENCE_FILES[0]}")]
    return parse_reference_views(files.read_text(path))


def parse_reference_views(text: str) -> tuple[dict[str, tuple[str, ...]], list[Finding]]:
    """The rows of the CSV below its header, which is skipped whatever it says; a scenario named twice keeps its last row."""
    found: dict[str, tuple[str, ...]] = {}
    findings = []
    for row in list(csv.reader(io.StringIO(text.removeprefix("\ufeff"))))[1:]:
        scenario, *views = [cell.strip() for cell in row] or [""]
        if not scenario:
            continue
        if scenario in found:
            findings.append(Finding("scenario twice in the reference list", scenario))
        found[scenario] = tuple(view for view in views if view)
    return found, findings


def parse_phase(value: object) -> int | None:
    """The phase's number for a digit or name, as text or number; None for anything else."""
    word = str(value).strip().lower()
    if word in PHASES:
        return PHASES.index(word)
    return int(word) if word in {str(number) for number in range(len(PHASES))} else None


def summarize(findings: Iterable[Finding]) -> dict[str, dict]:
    """The findings by reason, for the report: how many, and the first five of them."""
    found: dict[str, list[str]] = {}
    for finding in findings:
        found.setdefault(finding.reason, []).append(finding.thing)
    return {reason: {"count": len(things), "first": things[:EXAMPLES]} for reason, things in sorted(found.items())}


class _Reader:
    """Reads one corpus and split; everything odd goes into `findings`."""

    def __init__(self, root: Path, split: Split, layout: Layout, findings: list[Finding]) -> None:
        self._root, self._split, self._layout, self._findings = root, split, layout, findings

    def read_wts(self) -> Iterator[Clip]:
        """Scenarios of the plain tree, then the normal ones; in each the overhead cameras, then the vehicle's."""
        seen = set()
        for below in ("", f"{NORMAL}/"):
            names = self._names(f"{self._layout.captions}/{below}") | self._names(f"{self._layout.videos}/{below}")
            for scenario in sorted(names - {NORMAL}):
                if scenario in seen:
                    self._find("scenario twice", f"{self._layout.captions}/{below}{scenario}")
                    continue
                seen.add(scenario)
                for view in ("overhead", "vehicle"):
                    yield from self._read_view(scenario, f"{below}{scenario}/{view}_view", view)

    def read_bdd(self) -> Iterator[Clip]:
        """One clip per video or caption file."""
        stems = {name.removesuffix("_caption.json") for name in self._names(self._layout.captions) if name.endswith("_caption.json")}
        videos = {name.removesuffix(".mp4") for name in self._names(self._layout.videos) if name.endswith(".mp4")}
        taken = set()
        for stem in sorted(stems | videos):
            caption = self._read_caption(f"{self._layout.captions}/{stem}_caption.json")
            name = str(caption.get("video_name", f"{stem}.mp4"))
            if name in taken:
                self._find("video captioned twice", f"{self._layout.captions}/{stem}_caption.json")
                continue
            taken.add(name)
            yield self._build("bdd", Path(name).stem, "ego", name, caption)

    def _read_view(self, scenario: str, folder: str, view: View) -> Iterator[Clip]:
        """The clips of one view folder: what lies there as a video, and what its caption file names."""
        on_disk = {name for name in self._names(f"{self._layout.videos}/{folder}") if name.endswith(".mp4")}
        captioned = (self._root / self._layout.captions / folder).is_dir()
        if not on_disk and not captioned:
            return
        caption = self._read_caption(f"{self._layout.captions}/{folder}/{scenario}_caption.json")
        listed = caption.get("overhead_videos" if view == "overhead" else "vehicle_view", [])
        listed = listed if isinstance(listed, list) else [listed]
        named = [name for name in listed if isinstance(name, str)]
        for name in [*dict.fromkeys(named), *sorted(on_disk - set(named))]:
            if caption and name not in named:
                self._find("video in no caption file", f"{self._layout.videos}/{folder}/{name}")
            yield self._build("wts", scenario, view, f"{folder}/{name}", caption | {"named": name in named})

    def _build(self, corpus: Corpus, scenario: str, view: View, name: str, caption: dict) -> Clip:
        """The clip of a video, named from the videos' folder, with what the caption file and the box files say of it."""
        path = f"{self._layout.videos}/{name}"
        present = (self._root / path).is_file()
        if not present:
            self._find("video missing", path)
        fps = caption.get("fps") if corpus == "bdd" else None
        if fps is not None and _number(fps) is None:
            self._find("fps is no number", path)
            fps = None
        boxes = {kind: self._read_boxes(f"{folder}/{name.removesuffix('.mp4')}_bbox.json") for kind, folder in self._layout.boxes.items()}
        phases = caption.get("phases", ())
        clip = Clip(
            corpus, scenario, view, path, fps, phases, boxes["pedestrian"], boxes.get("vehicle", ()), present,
            captioned=bool(caption) and caption.get("named", True),
        )  # fmt: skip
        boxed = {one.phase for one in (*clip.pedestrians, *clip.vehicles)}
        for phase in phases if clip.captioned else ():
            if phase.number not in boxed:
                self._find("captions without boxes", f"{path} {PHASES[phase.number]}")
        return clip

    def _read_caption(self, path: str) -> dict:
        """The caption file with its parsed `phases`; empty, and a finding, if it is missing or unreadable."""
        document = self._read_object(path, "caption file")
        if document is None:
            return {}
        entries = document.get("event_phase")
        if not isinstance(entries, list):
            self._find("caption file without event_phase", path)
            return {}
        return document | {"phases": self._parse_phases(path, entries)}

    def _parse_phases(self, path: str, entries: list) -> tuple[Phase, ...]:
        """The phases that have a label and times; of two with one label the first."""
        phases: dict[int, Phase] = {}
        for entry in entries:
            phase = _parse_caption_entry(entry)
            if phase is None:
                self._find("phase without a usable label and times", path)
            elif phase.number in phases:
                self._find("phase captioned twice", f"{path} {PHASES[phase.number]}")
            else:
                phases[phase.number] = phase
                if self._split != "test" and not (phase.pedestrian and phase.vehicle):
                    self._find("caption empty", f"{path} {PHASES[phase.number]}")
        return tuple(phases.values())

    def _read_boxes(self, path: str) -> tuple[PhaseBox, ...]:
        """The boxes of a file, in its order; of two on one frame the last, as published. A clip without a file has none."""
        if not (self._root / path).is_file():
            return ()
        document = self._read_object(path, "box file") or {}
        boxes: dict[int, PhaseBox] = {}
        entries = document.get("annotations", [])
        for entry in entries if isinstance(entries, list) else [None]:
            box = _parse_box(entry)
            if box is None:
                self._find("box malformed", path)
                continue
            if box.image_id in boxes:
                self._find("two boxes on one frame", f"{path} {box.image_id}")
            boxes[box.image_id] = box
        return tuple(boxes.values())

    def _read_object(self, path: str, what: str) -> dict | None:
        """A JSON object, or None and a finding."""
        if not (self._root / path).is_file():
            self._find(f"{what} missing", path)
            return None
        try:
            document = files.read_json(self._root / path)
        except DataError as error:
            self._find(f"{what} unreadable", str(error))
            return None
        if not isinstance(document, dict):
            self._find(f"{what} unreadable", f"{path}: expected an object, found {type(document).__name__}")
            return None
        return document

    def _names(self, folder: str) -> set[str]:
        """What lies in a folder, hidden files left out; nothing if there is no such folder."""
        place = self._root / folder
        return {path.name for path in place.iterdir() if not path.name.startswith(".")} if place.is_dir() else set()

    def _find(self, reason: str, thing: str) -> None:
        self._findings.append(Finding(reason, thing))


def _parse_caption_entry(entry: object) -> Phase | None:
    """One phase of a caption file, None without a known label or without times in seconds."""
    if not isinstance(entry, dict):
        return None
    labels = entry.get("labels")
    number = parse_phase(labels[0] if isinstance(labels, list) and labels else labels)
    times = (entry.get("start_time"), entry.get("end_time"))
    if number is None or any(_number(time) is None for time in times):
        return None
    texts = (entry.get(f"caption_{kind}") or "" for kind in ("pedestrian", "vehicle"))
    return Phase(number, *(str(time) for time in times), *(text if isinstance(text, str) and text.strip() else "" for text in texts))


def _parse_box(entry: object) -> PhaseBox | None:
    """One entry of a box file, None if it lacks a frame number, a known phase or four finite numbers."""
    if not isinstance(entry, dict) or not isinstance(entry.get("bbox"), list):
        return None
    frame, phase = _number(entry.get("image_id")), parse_phase(entry.get("phase_number"))
    numbers = entry["bbox"]
    if frame is None or phase is None or len(numbers) != 4 or any(_number(value) is None for value in numbers):
        return None
    return PhaseBox(int(frame), phase, tuple(float(value) if isinstance(value, str) else value for value in numbers))


def _number(value: object) -> float | None:
    """A finite number given as one or as text, else None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
