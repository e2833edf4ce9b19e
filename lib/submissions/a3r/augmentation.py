"""02 of a3r: complete the vehicle captions with what the base model sees, zero-shot (specs/a3r.md section 2).

Three conventions exist: the rule behind the published files (`shipped`, the winning run), the README's (`readme`, never invents a
brand) and the published code (`asis`). The model is loaded once; an interrupted run continues after its last whole line.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from lib import files
from lib.config import StageSettings
from lib.progress import Bar
from lib.runs import Run
from lib.submissions.a3r import augmented, candidates, tables, vocabulary
from lib.submissions.a3r.augmented import AugmentedAppender, AugmentedRow
from lib.submissions.a3r.data_prep import SPLITS, picture_folder, table_folder
from lib.submissions.a3r.labels import Label
from lib.submissions.a3r.vocabulary import Vocabulary

READS = ("data", "base", "data_prep")
SETTINGS = ("model",)

AUDIT = "audit.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Vehicles:
    """The vehicle labels of each split, and the words their captions are completed with."""

    labels: dict[str, list[Label]]
    vocabulary: Vocabulary


@dataclass(frozen=True)
class Proposal:
    """A vehicle label and the completions of its caption, of which the model chooses one."""

    label: Label
    choices: tuple[str, ...]


def read_samples(cfg: StageSettings, run: Run) -> Vehicles:
    """The vehicle labels and the vocabulary that 01 wrote."""
    folder = run.of("data_prep")
    found = {split: tables.read_split(folder / f"{split}_car_label.txt") for split in SPLITS}
    return Vehicles(found, vocabulary.read_vocabulary(folder / "car_attribute.json"))


def count_samples(samples: Vehicles) -> dict:
    """Vehicles per split, and the words there are to fill in."""
    words = {kind: len(getattr(samples.vocabulary, kind)) for kind in candidates.KINDS}
    return {**{f"{split} vehicles": len(found) for split, found in samples.labels.items()}, **words}


def count_proposals(proposals: dict[str, list[Proposal]]) -> list[dict]:
    """How many captions of each split have how many candidates, most frequent first."""
    rows = []
    for split, found in proposals.items():
        counts = Counter(len(proposal.choices) for proposal in found)
        rows += [{"split": split, "candidates": size, "captions": count} for size, count in counts.most_common()]
    return rows


def show_proposals(proposals: dict[str, list[Proposal]]) -> list[dict]:
    """The first training proposal and the one with the most candidates: caption, how many, first and last."""
    found = proposals["train"]
    chosen = [found[0], max(found, key=lambda proposal: len(proposal.choices))]
    return [
        {"caption": one.label.caption, "candidates": len(one.choices), "first": one.choices[0], "last": one.choices[-1]} for one in chosen
    ]


def show_accepted(accepted: dict[str, list[AugmentedRow]]) -> list[dict]:
    """The first and last training rows: attribute, caption, and the completed caption."""
    rows = accepted["train"]
    return [{"attribute": row.attribute, "caption": row.caption, "completed": row.chosen} for row in [*rows[:4], *rows[-4:]]]


def propose(samples: Vehicles, cfg: StageSettings) -> dict[str, list[Proposal]]:
    """Split -> one proposal per vehicle, in the order of the labels; no model is needed for this."""
    convention = cfg.augmentation.convention
    return {
        split: [
            Proposal(label, tuple(candidates.build_choices(label.caption, samples.vocabulary, convention=convention))) for label in vehicles
        ]
        for split, vehicles in samples.labels.items()
    }


def accept(proposals: dict[str, list[Proposal]], cfg: StageSettings, run: Run) -> dict[str, list[AugmentedRow]]:
    """Let the base model choose: the candidate whose text feature is nearest to the picture's, never rejected (as published).

    With `enabled` off every caption stays as it is. Rows are appended to the published file as they are found, so that an interrupted
    run continues.
    """
    if not cfg.augmentation.enabled:
        return {split: [_unchanged(proposal.label, cfg) for proposal in found] for split, found in proposals.items()}
    choose = _load_chooser(proposals, cfg, run)
    accepted = {}
    for split, found in proposals.items():
        with AugmentedAppender(run.out / file_name(cfg, split)) as appender:
            run.drop("half-written line of an interrupted run", appender.dropped)
            waiting = [proposal for proposal in found if proposal.label.name not in appender.done]
            for batch in _in_batches(waiting, cfg.augmentation.batch_size, split):
                appender.append(choose(picture_folder(run.data, split), batch))
            accepted[split] = [appender.done[proposal.label.name] for proposal in found]
    return accepted


def _load_chooser(
    proposals: dict[str, list[Proposal]], cfg: StageSettings, run: Run
) -> Callable[[Path, list[Proposal]], list[AugmentedRow]]:
    """Load the base model once and encode every distinct completion once; returns the function that completes a batch of labels.

    Pictures go in as open_clip's evaluation transform gives them, without square padding (spec 2.1).
    """
    from lib.submissions.a3r import features

    encoder = features.load_encoder("base", base_weights(cfg, run.base), model=base_model(cfg), padding="none")
    texts = sorted({choice for found in proposals.values() for proposal in found for choice in proposal.choices})
    logger.info("encoding %d distinct completions", len(texts))
    encoded = features.encode_texts(encoder.bundle, texts, batch=cfg.machine.text_batch).numpy()  # (texts, D)
    row_of = {text: row for row, text in enumerate(texts)}

    def complete(folder: Path, batch: list[Proposal]) -> list[AugmentedRow]:
        names = [proposal.label.name for proposal in batch]
        images = features.encode_pictures(encoder, folder, names, batch=len(names), workers=0).numpy()  # (B, D)
        rows = []
        for image, proposal in zip(images, batch, strict=True):
            chosen, _ = candidates.choose(image, encoded[[row_of[choice] for choice in proposal.choices]])
            rows.append(augmented.build_row(proposal.label, proposal.choices[chosen], convention=cfg.augmentation.convention))
        return rows

    return complete


def _in_batches(waiting: list[Proposal], size: int, split: str) -> Iterator[list[Proposal]]:
    """The proposals in batches, with a progress bar."""
    with Bar(f"completing {split} captions", len(waiting)) as bar:
        for start in range(0, len(waiting), size):
            yield waiting[start : start + size]
            bar.at(min(start + size, len(waiting)))


def _unchanged(label: Label, cfg: StageSettings) -> AugmentedRow:
    """The row of a caption that is left as it is."""
    convention = cfg.augmentation.convention
    return augmented.build_row(label, candidates.bare_caption(label.caption, convention=convention), convention=convention)


def write_samples(accepted: dict[str, list[AugmentedRow]], cfg: StageSettings, run: Run) -> list[str]:
    """Write the augmented files, the training tables (vehicles first) and the audit; returns the names of the files."""
    audits = {}
    known = vocabulary.read_vocabulary(run.of("data_prep") / "car_attribute.json")
    for split, rows in accepted.items():
        augmented.write_augmented(run.out / file_name(cfg, split), rows)
        vehicle_rows, _ = tables.read_vehicle_rows(run.out / file_name(cfg, split), table_folder(split))
        vehicles = tables.build_table(vehicle_rows)
        pedestrians = tables.read_table(run.of("data_prep") / f"{split}_person_data.csv")
        tables.write_table(run.out / f"{split}_car_data.csv", vehicles)
        tables.write_table(run.out / f"{split}_data.csv", tables.merge_tables(vehicles, pedestrians))
        audits[split] = asdict(augmented.audit_augmented(rows, known, convention=cfg.augmentation.convention))
    files.write_json(run.out / AUDIT, audits)
    return sorted(path.name for path in run.out.iterdir() if path.suffix in (".txt", ".csv") or path.name == AUDIT)


def exhibits(cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """What was filled in, by kind of attribute: the paper trusts colour and type, and says brand cannot be recognised."""
    from lib import plots

    filled = files.read_json(run.out / AUDIT)["train"]["filled"]
    counts = {f"{kind} filled in": words for kind, words in filled.items() if words}
    return [("What the model filled into the train captions, by kind of attribute:", plots.bars(counts))] if counts else []


def file_name(cfg: StageSettings, split: str) -> str:
    """The published name of the augmented file."""
    return f"augmented_{cfg.model.name}_{split}_label.txt"


def base_weights(cfg: StageSettings, folder: Path) -> Path | str:
    """What to load as base weights: the folder trained here, the published file where it lies, else open_clip's tag."""
    if cfg.model.base is not None:
        return folder
    return next(
        iter(sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt"))),
        cfg.model.pretrained,
    )


def base_model(cfg: StageSettings) -> str | None:
    """The model's name for weights that do not carry their own config."""
    return None if cfg.model.base is not None else cfg.model.name
