"""Small trees in the published layout of WTS and BDD_PC_5k, written file by file for the tests of cityllava's data side."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lib import media

SCENARIO = "20230707_8_SN46_T1"
EVENT = "20231013_105827_normal_192.168.0.14_1_event_2"
CAMERA = f"{SCENARIO}_Camera1_0"
PUBLIC = "test_part/WTS_DATASET_PUBLIC_TEST"
STILL = {"frames": 12, "fps": 10.0, "gray0": 60, "w": 64, "h": 48}


def write_tree(root: Path, tree: Mapping[str, object]) -> Path:
    """Write each value as its file's ending says and return the root; texts go in as they are.

    .json any value, .jpg {"gray", "w", "h"} one grey, .mp4 {"frames", "fps", "gray0", "w", "h"} with grey gray0 + i in frame i.
    """
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif path.suffix == ".json":
            path.write_text(json.dumps(content), encoding="utf-8")
        elif path.suffix == ".jpg":
            path.write_bytes(grey_jpeg(content["gray"], content["w"], content["h"]))
        else:
            shape = (content["h"], content["w"], 3)
            greys = range(content["gray0"], content["gray0"] + content["frames"])
            media.write_video(path, (np.full(shape, grey, np.uint8) for grey in greys), content["fps"])
    return root


def grey_jpeg(grey: int, width: int, height: int) -> bytes:
    """A JPEG of one grey level."""
    content = io.BytesIO()
    Image.new("RGB", (width, height), (grey, grey, grey)).save(content, "JPEG", quality=95)
    return content.getvalue()


def grey_level(path: Path) -> float:
    """The mean grey of a picture."""
    with Image.open(path) as picture:
        return float(np.asarray(picture.convert("L")).mean())


def phase(label: object, start: object = "1.0", end: object = "2.0", **texts: object) -> dict:
    """One entry of event_phase, with two captions unless others are given."""
    captions = {"caption_pedestrian": f"Walker {label}.", "caption_vehicle": f"Driver {label}."}
    return {"labels": [label], **captions, **texts, "start_time": start, "end_time": end}


def boxes(*entries: Sequence[object]) -> dict:
    """A box file from (image_id, [x, y, width, height], phase)."""
    names = ("image_id", "bbox", "phase_number")
    return {"annotations": [dict(zip(names, entry, strict=True)) | {"auto-generated": False} for entry in entries]}


def wts_scenario(
    split: str = "train", scenario: str = SCENARIO, *, video: object = "x", labels: Sequence[object] = "01"
) -> dict[str, object]:
    """A scenario of one overhead camera and the vehicle's, both with boxes of both kinds in every labelled phase."""
    camera, vehicle = f"{scenario}_Camera1_0", f"{scenario}_vehicle_view"
    phases = [phase(label, f"{number}.0", f"{number + 1}.0") for number, label in enumerate(labels)]
    tree: dict[str, object] = {}
    for view, name, key, value in (
        ("overhead_view", camera, "overhead_videos", [f"{camera}.mp4"]),
        ("vehicle_view", vehicle, "vehicle_view", f"{vehicle}.mp4"),
    ):
        tree[f"WTS/videos/{split}/{scenario}/{view}/{name}.mp4"] = video
        tree[f"WTS/annotations/caption/{split}/{scenario}/{view}/{scenario}_caption.json"] = {"id": 722, key: value, "event_phase": phases}
        for kind, x in (("pedestrian", 8), ("vehicle", 30)):
            entries = [(2 * number, [x, 10, 12, 20], str(label)) for number, label in enumerate(labels)]
            tree[f"WTS/annotations/bbox_annotated/{kind}/{split}/{scenario}/{view}/{name}_bbox.json"] = boxes(*entries)
    return tree


def bdd_video(split: str = "train", stem: str = "video7", *, fps: object = "30.0", video: object = "x", folder: str = "BDD_PC_5k") -> dict:
    """A video of BDD_PC_5k with captions of two phases under their names, and pedestrian boxes."""
    phases = [phase("prerecognition", "0.0", "1.0"), phase("action", "1.0", "2.0")]
    return {
        f"{folder}/videos/{split}/{stem}.mp4": video,
        f"{folder}/annotations/caption/{split}/{stem}_caption.json": {
            "id": stem, "video_name": f"{stem}.mp4", "fps": fps, "event_phase": phases,
        },
        f"{folder}/annotations/bbox_annotated/{split}/{stem}_bbox.json": boxes((0, [5, 6, 10, 20], "0"), (6, [6, 6, 10, 20], 3)),
    }  # fmt: skip
