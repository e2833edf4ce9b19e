"""01 of a3r: read the `$` label files, split vehicles from pedestrians, derive the vocabulary, route the test queries.

The published entry splits the labels by hand and only for train (specs/a3r.md 1.5); here both splits are made, and what is missing
or left out is counted and reported.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from lib import files, store
from lib.config import StageSettings
from lib.errors import DataError
from lib.runs import Run
from lib.submissions.a3r import labels, tables, vocabulary
from lib.submissions.a3r.labels import Label, LabelFile
from lib.submissions.a3r.vocabulary import Query, Vocabulary

READS = ("data",)
SETTINGS = ("data",)

SPLITS = ("train", "val")
PICTURE_TYPES = (".jpg", ".jpeg", ".png")
REPORT = "report.json"


@dataclass(frozen=True)
class Annotations:
    """The data set as published: label files of train and val, lines of the test queries, names of the test pictures."""

    labelled: dict[str, LabelFile]
    queries: list[str]
    gallery: list[str]


@dataclass(frozen=True)
class Samples:
    """What the later stages read: labels by split and class, the vocabulary, routed queries, the gallery."""

    vehicles: dict[str, list[Label]]
    pedestrians: dict[str, list[Label]]
    vocabulary: Vocabulary
    vehicle_queries: list[Query]
    pedestrian_queries: list[Query]
    gallery: list[str]
    report: dict


def read_annotations(cfg: StageSettings, run: Run) -> Annotations:
    """Read the label files, the query file and the names of the test pictures. Raises DataError with file and line."""
    labelled = {split: labels.read_labels(label_file(run.data, split)) for split in SPLITS}
    folder = picture_folder(run.data, "test")
    return Annotations(labelled, vocabulary.read_queries(run.data / "datasets/test/test_text.txt"), list_pictures(folder))


def count_annotations(annotations: Annotations) -> dict:
    """How much there is: labels and blank lines per split, queries, gallery pictures."""
    counts = {f"{split} labels": len(found.labels) for split, found in annotations.labelled.items()}
    counts |= {f"{split} blank lines": found.blank_lines for split, found in annotations.labelled.items()}
    return {**counts, "test queries": len(annotations.queries), "test pictures": len(annotations.gallery)}


def find_plain(annotations: Annotations) -> dict:
    """The first training label: in the published file a vehicle, whose phrase names part of what the picture shows."""
    return {**asdict(annotations.labelled["train"].labels[0]), "kind": annotations.labelled["train"].labels[0].kind}


def find_odd(annotations: Annotations) -> dict:
    """The training label with the longest caption: a pedestrian, with twenty-one values where a vehicle has a phrase."""
    odd = max(annotations.labelled["train"].labels, key=lambda label: len(label.caption))
    return {**asdict(odd), "kind": odd.kind}


def build_samples(annotations: Annotations, cfg: StageSettings, run: Run) -> Samples:
    """Split, derive, route; labels whose picture is missing are dropped and counted."""
    vehicles, pedestrians, missing = {}, {}, {}
    for split, labelled in annotations.labelled.items():
        there = set(list_pictures(picture_folder(run.data, split)))
        present = [label for label in labelled.labels if label.name in there]
        missing[split] = [label.name for label in labelled.labels if label.name not in there]
        run.drop(f"{split}: picture missing", len(missing[split]))
        run.drop(f"{split}: blank line", labelled.blank_lines)
        if not present:
            raise DataError(
                f"{label_file(run.data, split)}: none of its {len(missing[split])} pictures is in {split}_images; check the folder"
            )
        vehicles[split], pedestrians[split] = labels.split_labels(present)
    final_dot = cfg.data_prep.quirks.final_dot
    derived = vocabulary.derive_vocabulary(labels.attribute_phrase(label, final_dot=final_dot) for label in vehicles["train"])
    whole_words = cfg.data_prep.routing == "whole_words"
    routed = vocabulary.route_queries(annotations.queries, derived, whole_words=whole_words)
    counts = {split: {"vehicles": len(vehicles[split]), "pedestrians": len(pedestrians[split])} for split in SPLITS}
    report = {
        "labels": counts,
        "queries": {"vehicles": len(routed[0]), "pedestrians": len(routed[1])},
        "gallery": len(annotations.gallery),
        "vocabulary": {kind: len(words) for kind, words in asdict(derived).items()},
        "missing_pictures": missing,
        "differences_from_the_published_counts": count_differences(counts, cfg),
    }
    return Samples(vehicles, pedestrians, derived, *routed, annotations.gallery, report)


def write_samples(samples: Samples, cfg: StageSettings, run: Run) -> list[str]:
    """Write the split files, the vocabulary, the query lists and the report; returns the names of the files."""
    final_dot = cfg.data_prep.quirks.final_dot
    for split in SPLITS:
        tables.write_split(run.out / f"{split}_car_label.txt", samples.vehicles[split], final_dot=final_dot)
        tables.write_split(run.out / f"{split}_person_label.txt", samples.pedestrians[split], final_dot=final_dot)
        rows = tables.label_rows(samples.pedestrians[split], table_folder(split))
        tables.write_table(run.out / f"{split}_person_data.csv", tables.build_table(rows))
    vocabulary.write_vocabulary(run.out / "car_attribute.json", samples.vocabulary)
    vocabulary.write_queries(run.out / "test_car_text.txt", samples.vehicle_queries)
    vocabulary.write_queries(run.out / "test_person_text.txt", samples.pedestrian_queries)
    routed = [("vehicle", query) for query in samples.vehicle_queries] + [("pedestrian", query) for query in samples.pedestrian_queries]
    routed.sort(key=lambda pair: pair[1].index)
    files.write_jsonl(run.out / "queries.jsonl", ({"index": query.index, "kind": kind, "text": query.text} for kind, query in routed))
    files.write_json(run.out / "gallery.json", samples.gallery)
    files.write_json(run.out / REPORT, samples.report)
    return [path.name for path in store.result_files(run.out)]


def count_differences(counts: dict[str, dict[str, int]], cfg: StageSettings) -> list[str]:
    """How the rows of each split differ from the published counts, in words; nothing is expected of toy data."""
    found = []
    for split, expected in (("train", cfg.data.train_rows), ("val", cfg.data.val_rows)):
        if expected is None:
            continue
        here, wanted = tables.Counts(**counts[split]), tables.Counts(expected.vehicles, expected.pedestrians)
        found += [f"{split} {line}" for line in tables.compare_counts(here, wanted)]
    return found


def exhibits(cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """The vocabulary by kind, and how much of a vehicle its label names: what augmentation has to complete."""
    from lib import show

    derived = vocabulary.read_vocabulary(run.out / "car_attribute.json")
    rows = [{"kind": kind, "count": len(words), "words": ", ".join(words)} for kind, words in asdict(derived).items()]
    return [
        ("The vocabulary of vehicle attributes, derived from the training labels:", show.table(rows)),
        ("What a vehicle's label names, in labels per split:", show.table(count_named_parts(derived, run))),
    ]


def count_named_parts(known: Vocabulary, run: Run) -> list[dict]:
    """Per part that vehicle labels name: how many labels of each split, and the first such phrase."""
    rows: dict[str, dict] = {}
    for split in SPLITS:
        for label in tables.read_split(run.out / f"{split}_car_label.txt"):
            part = "type" if label.attribute in known.types else "brand" if label.attribute in known.brands else "colour and brand"
            row = rows.setdefault(part, {"named": part, **dict.fromkeys(SPLITS, 0), "for example": label.attribute})
            row[split] += 1
    return list(rows.values())


def label_file(root: Path, split: str) -> Path:
    """The published label file of a split."""
    return root / "datasets" / split / f"{split}_label.txt"


def picture_folder(root: Path, split: str) -> Path:
    """The published folder of a split's pictures."""
    return root / "datasets" / split / f"{split}_images"


def table_folder(split: str) -> str:
    """The folder as the published training tables spell it, whatever the root is."""
    return f"data/datasets/{split}/{split}_images"


def list_pictures(folder: Path) -> list[str]:
    """The names of the pictures in a folder, sorted; other files are none. Raises DataError if there is no picture."""
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in PICTURE_TYPES) if folder.is_dir() else []
    if not names:
        raise DataError(f"{folder}: no picture here ({', '.join(PICTURE_TYPES)}); put the gallery there, an empty one cannot be ranked")
    return names
