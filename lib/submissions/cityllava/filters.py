"""Which samples are trained on, and in which words they ask: steps 3 to 6 of the published construction (specs/cityllava.md section 4).

Filters take samples (dicts in the published layout) and return the kept ones, and findings that say why others were dropped.
`extraction` is the published file of first-frame boxes: video path -> {"ped_bboxes": {frame: [x, y, w, h]}, "veh_bboxes", "phase_number"}.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lib.config import Quirk
from lib.errors import DataError
from lib.submissions.cityllava.annotations import BDD_FOLDERS, PHASES, Finding, parse_phase
from lib.submissions.cityllava.short_qa import IMAGE, Record

Extraction = Mapping[str, Mapping[str, Any]]
Selection = tuple[list[Record], list[Finding]]

FOLDER = "processed_anno/llava_format"
SAMPLED = f"{FOLDER}/wts_bdd_llava_qa_train.json"
STAGED = f"{FOLDER}/wts_bdd_llava_qa_train_stage.json"
FILTERED = f"{FOLDER}/wts_bdd_llava_qa_train_stage_filted.json"
CHECKED = f"{FOLDER}/wts_bdd_llava_qa_train_stage_filted_checked.json"  # what is trained on
MISSING = f"{FOLDER}/wts_bdd_llava_qa_train_stage_filted_miss.json"

BLUE_VEHICLE = "the vehicle in the blue bounding box"
EGO_VEHICLE = "the ego-vehicle"


def add_tags(samples: Sequence[Record], extraction: Extraction) -> list[Record]:
    """The samples with `tag`: P if their video has pedestrian boxes, V if it has vehicle boxes, in any phase.

    The published filter reads this key, but nothing writes it; the meaning follows from its comments.
    Raises DataError for a video that the extraction does not list.
    """
    videos = _by_video(extraction)
    tagged = []
    for sample in samples:
        entry = _entry_of(sample["image"], videos)
        tagged.append(sample | {"tag": "P" * bool(entry["ped_bboxes"]) + "V" * bool(entry["veh_bboxes"])})
    return tagged


def filter_questions(samples: Sequence[Record]) -> Selection:
    """Short questions go if they name what has no box in the clip; full ones stay, and so does the vehicle that films.

    Raises DataError for a short sample without a tag.
    """
    kept: list[Record] = []
    dropped: list[Finding] = []
    for sample in samples:
        if sample["full_flag"] == 0 and "tag" not in sample:
            raise DataError(f"{sample['image']}: a short question without a tag; give the samples their tags first")
        question = sample["conversations"][0]["value"]
        if sample["full_flag"] == 1:
            kept.append(sample)
        elif "P" not in sample["tag"] and "pedestrian" in question:
            dropped.append(Finding("pedestrian asked about without a box", sample["image"]))
        elif "V" not in sample["tag"] and "vehicle" in question and not is_ego_view(sample["image"]):
            dropped.append(Finding("vehicle asked about without a box", sample["image"]))
        else:
            kept.append(sample)
    return kept, dropped


def sample_short(samples: Sequence[Record], *, seed: int) -> Selection:
    """All full samples, then as many short ones, drawn without replacement, in their order; all of them if there are too few."""
    full = [sample for sample in samples if sample["full_flag"] == 1]
    short = [sample for sample in samples if sample["full_flag"] == 0]
    drawn = set(random.Random(seed).sample(range(len(short)), min(len(short), len(full))))
    dropped = [Finding("short question not drawn", sample["image"]) for index, sample in enumerate(short) if index not in drawn]
    return [*full, *(short[index] for index in sorted(drawn))], dropped


def add_stages(samples: Sequence[Record], *, ego_wording: Quirk) -> list[Record]:
    """The samples as they are trained on: the first question names its stage, and all speak of bounding boxes.

    The published script also shuffles a sample's questions; these samples have one each.
    """
    staged = []
    for sample in samples:
        turns = []
        for index, turn in enumerate(sample["conversations"]):
            value = turn["value"]
            if turn["from"] == "human":
                value = word_boxes(value.replace(IMAGE, ""), ego=is_ego_view(sample["image"]), ego_wording=ego_wording)
            if index == 0:
                value = f"{IMAGE}This is an image in '{stage_of(sample['image'])}' stage. {value}"
            turns.append(turn | {"value": value})
        staged.append(sample | {"conversations": turns})
    return staged


def word_boxes(question: str, *, ego: bool, ego_wording: Quirk) -> str:
    """The question about bounding boxes; where the camera is in the vehicle, about the ego-vehicle, as at inference.

    `as_published` looks for "the vehicle with the blue box", which no question says, so that the vehicle keeps its box.
    """
    text = question.replace("the green box", "the green bounding box").replace("the blue box", "the blue bounding box")
    if not ego:
        return text
    if ego_wording == "as_published":
        return text.replace("the vehicle with the blue bounding box", EGO_VEHICLE)
    return text.replace(f"{BLUE_VEHICLE} or the vehicle closest to the pedestrian", EGO_VEHICLE).replace(BLUE_VEHICLE, EGO_VEHICLE)


def filter_views(samples: Sequence[Record], reference: Mapping[str, Sequence[str]]) -> Selection:
    """Overhead cameras go if the reference list names their scenario and not them; it does not concern other views."""
    kept: list[Record] = []
    dropped: list[Finding] = []
    for sample in samples:
        image, views = sample["image"], reference.get(sample["id"])
        camera = video_of(image).rpartition("/")[2]
        if "/overhead_view/" in image and views is not None and camera not in views:
            dropped.append(Finding("camera not in the reference list", image))
        else:
            kept.append(sample)
    return kept, dropped


def filter_areas(samples: Sequence[Record], extraction: Extraction, *, threshold: float) -> Selection:
    """Samples go unless each box of their phase exceeds `threshold` square pixels and there is one.

    Raises DataError for a video that the extraction does not list.
    """
    videos = _by_video(extraction)
    kept: list[Record] = []
    dropped: list[Finding] = []
    for sample in samples:
        entry, phase = _entry_of(sample["image"], videos), PHASES.index(stage_of(sample["image"]))
        areas = {"pedestrian": _area(entry, "ped_bboxes", phase), "vehicle": _area(entry, "veh_bboxes", phase)}
        small = [name for name, area in areas.items() if area != 0 and area <= threshold]
        if not any(areas.values()):
            dropped.append(Finding("no box in this phase", sample["image"]))
        elif small:
            dropped.append(Finding(f"{' and '.join(small)} too small", sample["image"]))
        else:
            kept.append(sample)
    return kept, dropped


def check_images(samples: Sequence[Record], exists: Callable[[str], bool]) -> Selection:
    """Samples go if their global or local picture is missing; the findings name the pictures. A sample without one stays.

    `exists` is asked with paths relative to the data folder. The published check looks for the global picture only.
    """
    kept: list[Record] = []
    dropped: list[Finding] = []
    for sample in samples:
        paths = {"global": sample["image"], "local": local_image(sample["image"])} if "image" in sample else {}
        missing = [Finding(f"{name} picture missing", path) for name, path in paths.items() if not exists(path)]
        if not missing:
            kept.append(sample)
        dropped += missing
    return kept, dropped


def local_image(image: str) -> str:
    """The path of the crop that belongs to a whole frame."""
    return image.replace("bbox_global", "bbox_local")


def is_ego_view(image: str) -> bool:
    """Whether the camera is in the vehicle: BDD, and the vehicle views of WTS."""
    return any(folder in image for folder in (*BDD_FOLDERS, "vehicle_view"))


def stage_of(image: str) -> str:
    """The name of the phase, which ends the picture's file name. Raises DataError for any other ending."""
    stage = image.rpartition("/")[2].rpartition("_")[2].partition(".")[0]
    if stage not in PHASES:
        raise DataError(f"{image}: the file name ends with {stage!r}; expected one of: {', '.join(PHASES)}")
    return stage


def video_of(image: str) -> str:
    """The video that a global picture is a frame of: WTS has a folder per camera, BDD the name before the stage."""
    folder, _, name = image.replace("/bbox_global/", "/videos/").rpartition("/")
    if any(bdd in image for bdd in BDD_FOLDERS):
        return f"{folder}/{name.rpartition('_')[0]}.mp4"
    return f"{folder}.mp4"


def _by_video(extraction: Extraction) -> dict[str, Mapping[str, Any]]:
    """The entries by video path from the data set's folder on, wherever the data lay when they were extracted."""
    return {path[path.rfind("/", 0, path.rfind("/videos/")) + 1 :]: entry for path, entry in extraction.items()}


def _entry_of(image: str, videos: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The entry of the picture's video."""
    video = video_of(image)
    if video not in videos:
        raise DataError(f"{image}: its video {video} is not in the extracted boxes; extract those of its split again")
    return videos[video]


def _area(entry: Mapping[str, Any], boxes: str, phase: int) -> float:
    """Square pixels of the phase's box, of several the last; 0 without one."""
    frames = [frame for frame, number in entry["phase_number"].items() if parse_phase(number) == phase and frame in entry[boxes]]
    if not frames:
        return 0.0
    _, _, width, height = entry[boxes][frames[-1]]
    return width * height
