"""01 of cityllava: read the trees, extract first-frame boxes, draw and crop frames, build records, choose a view per scenario.

Everything is written in the published files below this stage's folder; pictures lie below its `media`, in the published layout.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from lib import files, media, store
from lib.config import StageSettings
from lib.errors import DataError
from lib.runs import Run
from lib.submissions.cityllava import annotations, boxes, frames, records, views
from lib.submissions.cityllava.annotations import CORPORA, Clip, Finding, Split, summarize
from lib.submissions.cityllava.views import Perspective

READS = ("data",)
SETTINGS = ()

SPLITS: tuple[Split, ...] = ("train", "val", "test")
RECORDED: tuple[Split, ...] = ("train", "val")  # the test part has no captions
ASKED: tuple[Split, ...] = ("val", "test")
ANNOTATIONS = "processed_anno"
REPORT, REFERENCE = "report.json", "reference_views.json"


@dataclass(frozen=True)
class Annotations:
    """The clips of each split, the cameras that the reference list names, and what was missing or odd."""

    clips: dict[Split, list[Clip]]
    reference: dict[str, tuple[str, ...]]
    findings: list[Finding]


@dataclass(frozen=True)
class Samples:
    """What the later stages read: boxes, records, the view of each scenario, the perspective of each of its frames; and the report."""

    clips: dict[Split, list[Clip]]
    reference: dict[str, tuple[str, ...]]
    records: dict[Split, list[dict]]
    views: dict[Split, dict[str, str]]
    perspectives: dict[Split, dict[str, Perspective]]
    report: dict


@dataclass(frozen=True)
class Frame:
    """One phase that is asked about: its whole picture (below the media root), and from where it is seen."""

    scenario: str
    label: str
    view: Perspective
    image: str


def read_annotations(cfg: StageSettings, run: Run) -> Annotations:
    """Read all three splits. Raises DataError where a split holds nothing at all; anything less is a finding."""
    reference, findings = annotations.read_reference_views(run.data)
    clips = {}
    for split in SPLITS:
        clips[split], found = annotations.read_split(run.data, split)
        findings = [*findings, *found]
    return Annotations(clips, reference, findings)


def count_annotations(annotations: Annotations) -> dict:
    """Scenarios and clips per split, phases with captions, boxes, and how many things were missing or odd."""
    counts: dict[str, int] = {}
    for split, clips in annotations.clips.items():
        counts[f"{split} scenarios"] = len({clip.scenario for clip in clips})
        counts[f"{split} clips"] = len(clips)
        counts[f"{split} boxes"] = sum(len(clip.pedestrians) + len(clip.vehicles) for clip in clips)
    return {**counts, "scenarios in the reference list": len(annotations.reference), "findings": len(annotations.findings)}


def find_plain(annotations: Annotations) -> dict:
    """The first training clip with captions and boxes: its last phase in full."""
    clips = annotations.clips["train"]
    return _describe(next((clip for clip in clips if clip.phases and clip.pedestrians), clips[0]))


def find_odd(annotations: Annotations) -> dict:
    """The training clip that claims the highest frame rate: BDD numbers its frames twice there, and may be wrong about it."""
    return _describe(max(annotations.clips["train"], key=lambda clip: float(clip.fps or 0)))


def build_samples(annotations: Annotations, cfg: StageSettings, run: Run) -> Samples:
    """Render every boxed phase, build the records, choose views and frames; what was odd on the way is counted."""
    recipe, out = cfg.data_prep, media_root(run.out)
    extraction = boxes.extract(clip for clips in annotations.clips.values() for clip in clips)
    scales = {"box_scale": recipe.box_scale, "crop_scale": recipe.crop_scale}
    findings = [*annotations.findings]
    findings += frames.render_videos(run.data, extraction, out, **scales, workers=max(1, cfg.machine.workers))
    built: dict[Split, list[dict]] = {}
    for split in RECORDED:
        built[split], found = records.build_records(annotations.clips[split], out)
        findings += found
    if not built["train"]:
        first = f"{findings[0].reason}, {findings[0].thing}"
        raise DataError(f"{run.data}: no training caption has a rendered picture; {len(findings)} findings, the first: {first}")
    chosen, perspectives = {}, {}
    for split in ASKED:
        clips = annotations.clips[split]
        quirks = recipe.quirks
        chosen[split], found = views.choose_views(
            clips, annotations.reference, by_area=recipe.best_view, borrowed_area=quirks.borrowed_area
        )
        perspectives[split], odd = views.assemble_frames(
            chosen[split], clips, run.data, out, out / frame_folder(split), perspective=quirks.perspective
        )
        findings += [*found, *odd]
    for finding in findings:
        run.drop(finding.reason)
    report = {
        "counts": {split: _count(annotations.clips[split], built.get(split, [])) for split in SPLITS},
        "decoder": media.decoder_versions(),
        "findings": summarize(findings),
    }
    return Samples(annotations.clips, annotations.reference, built, chosen, perspectives, report)


def write_samples(samples: Samples, cfg: StageSettings, run: Run) -> list[str]:
    """Write boxes, records, views and the report; returns the names of the files. The pictures are there already."""
    for split in SPLITS:
        boxes.write_extractions(run.out / ANNOTATIONS, samples.clips[split], split)
    for split in RECORDED:
        files.write_json(_records_file(run.out, split), samples.records[split])
    for split in ASKED:
        files.write_json(run.out / ANNOTATIONS / f"best_view_for_{split}.json", samples.views[split])
        files.write_json(_perspective_file(run.out, split), samples.perspectives[split])
    files.write_json(run.out / REFERENCE, samples.reference)
    files.write_json(run.out / REPORT, samples.report)
    return [str(path.relative_to(run.out)) for path in store.result_files(run.out)]


def exhibits(cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """Both pictures of one phase, and everything that was missing or odd, by reason."""
    from lib import plots, show

    record = read_records(run.out, "train")[0]
    pair = [record["image"], record["image"].replace("bbox_global", "bbox_local")]
    shown = [open_picture(media_root(run.out) / path) for path in pair]
    report = files.read_json(run.out / REPORT)
    odd = [{"reason": reason, "count": found["count"], "first": found["first"][0]} for reason, found in report["findings"].items()]
    return [
        (f"{record['id']}, {record['segment']}: the whole frame and the crop:", plots.picture_grid(shown, ["global", "local"], columns=2)),
        ("What was missing or odd in the data, and what was done about it, by reason:", show.table(odd)),
    ]


def media_root(folder: Path) -> Path:
    """What the paths of pictures are relative to, in the folder of this stage."""
    return folder / store.MEDIA


def frame_folder(split: Split) -> str:
    """Where the frames of the chosen views lie below the media root; val has the same as the published test part."""
    return f"generate_{split}_frames"


def read_records(folder: Path, split: Split) -> list[dict]:
    """The records of a split in the published layout, from the folder of this stage."""
    return files.read_json(_records_file(folder, split))


def read_extraction(folder: Path, split: Split) -> dict[str, dict]:
    """The published extraction of a split: first-frame boxes by video, of both data sets together."""
    place = folder / ANNOTATIONS / boxes.FOLDER
    return {name: entry for corpus in CORPORA for name, entry in files.read_json(place / boxes.file_name(corpus, split)).items()}


def read_reference(folder: Path) -> dict[str, tuple[str, ...]]:
    """The cameras that the reference list names, by scenario."""
    return {scenario: tuple(cameras) for scenario, cameras in files.read_json(folder / REFERENCE).items()}


def read_frames(folder: Path, split: Split) -> list[Frame]:
    """The phases that are asked about, scenario by scenario."""
    found = []
    for name, view in files.read_json(_perspective_file(folder, split)).items():
        scenario, _, picture = name.rpartition("/")
        found.append(Frame(scenario, picture.removesuffix(".jpg"), view, f"{frame_folder(split)}/bbox_global/{name}"))
    return found


def open_picture(path: Path) -> Image.Image:
    """A rendered picture, for showing. Raises DataError if it is not there."""
    if not path.is_file():
        raise DataError(f"{path}: no such picture; run 01-data-prep again")
    return Image.open(path)


def _records_file(folder: Path, split: Split) -> Path:
    return folder / ANNOTATIONS / "llava_format" / records.file_name(split)


def _perspective_file(folder: Path, split: Split) -> Path:
    return folder / ANNOTATIONS / f"perspective_{split}_images.json"


def _describe(clip: Clip) -> dict:
    """A clip with its first listed phase."""
    return {
        "scenario": clip.scenario,
        "video": clip.path,
        "view": clip.view,
        "fps by its caption file": clip.fps,
        "first phase listed": asdict(clip.phases[0]) if clip.phases else None,
        "pedestrian boxes": len(clip.pedestrians),
        "vehicle boxes": len(clip.vehicles),
    }


def _count(clips: Sequence[Clip], built: Sequence[dict]) -> dict[str, int]:
    return {"scenarios": len({clip.scenario for clip in clips}), "clips": len(clips), "records": len(built)}
