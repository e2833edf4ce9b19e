"""04 of cityllava: train the inserted blocks (or adapters, or everything) by the Hugging Face Trainer (specs/cityllava.md section 8)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib import conversation, shards, tuning
from lib.config import StageSettings
from lib.curves import RunCurves
from lib.errors import DataError
from lib.runs import Run
from lib.submissions.cityllava import augmentation, block_expansion, data_prep, filters, short_qa
from lib.submissions.cityllava.short_qa import KINDS, Record

READS = ("base", "data_prep", "augmentation", "block_expansion")
SETTINGS = ("model", "pictures", "block_expansion")

TEMPLATE = "chatml_direct"


@dataclass(frozen=True)
class Trained:
    """The samples that are trained on, and what they make of the schedule."""

    records: tuple[Record, ...]
    media: Path
    steps_per_epoch: int
    steps: int

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        return self.records[index]


def build_dataset(cfg: StageSettings, run: Run) -> Trained:
    """The samples that 02 chose. Raises ConfigError if they do not fill one step."""
    records = augmentation.read_trained(run.of("augmentation"))
    recipe = cfg.finetune
    per_epoch = tuning.steps_per_epoch(len(records), recipe)
    return Trained(tuple(records), data_prep.media_root(run.of("data_prep")), per_epoch, per_epoch * recipe.epochs)


def count_samples(dataset: Trained) -> dict:
    """Samples, full ones among them, steps per epoch and in all."""
    full = sum(record["full_flag"] for record in dataset.records)
    counts = {"samples": len(dataset), "full": full, "short": len(dataset) - full}
    return {**counts, "steps per epoch": dataset.steps_per_epoch, "steps": dataset.steps}


def show_sample(dataset: Trained, index: int, cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """One sample: the text as the model reads it, with what is trained in it marked, and its pictures."""
    from lib import plots, show

    record = dataset[index]
    rendered = conversation.render(_turns(record), conversation.TEMPLATES[TEMPLATE])
    trained = " … ".join(rendered.text[start:end] for start, end in rendered.answers)
    pictures = [data_prep.open_picture(dataset.media / path) for path in view_paths(record["image"], cfg.pictures.views)]
    return [
        (
            "The whole text, pictures at <image>, and the part of it that is trained:",
            show.record({"text": rendered.text, "trained": trained}),
        ),
        ("What the model sees, in its order:", plots.picture_grid(pictures, list(cfg.pictures.views), columns=2)),
    ]


def find_odd(dataset: Trained) -> int:
    """The index of the longest answer."""
    return max(range(len(dataset)), key=lambda index: len(dataset[index]["conversations"][1]["value"]))


def build_model(cfg: StageSettings, run: Run) -> dict[str, tuple[int, ...]]:
    """The shape of every weight by name, from the headers of the starting weights: none is loaded into this kernel."""
    found = shards.read_shards(block_expansion.start_weights(run))
    return {name: stored.shape for shard in found for name, stored in shard.items()}


def trainable(model: dict[str, tuple[int, ...]], cfg: StageSettings) -> list[dict]:
    """Per part of the model: parameters, and how many of them train; adapters stand in a row of their own."""
    return tuning.trainable(model, cfg.finetune, new_blocks=cfg.block_expansion.new_blocks)


def guessing_loss(cfg: StageSettings) -> float:
    """The loss (nats) of guessing every token of the vocabulary alike: ln V."""
    return tuning.guessing_loss(cfg)


def planned_schedule(dataset: Trained, cfg: StageSettings) -> list[tuple[int, float]]:
    """(step, learning rate) over the whole training, thinned for drawing: a linear warm-up, then half a cosine."""
    return tuning.learning_rates(dataset.steps, cfg.finetune)


def train(dataset: Trained, cfg: StageSettings, run: Run) -> RunCurves:
    """Train in a child process (torchrun with more than one); what an earlier attempt left is continued.

    Returns the curves of its journal. Raises StageFailed with the end of its log.
    """
    samples, held_out = ((to_sample(one, cfg) for one in given) for given in (dataset.records, validation_records(cfg, run)))
    return tuning.train(cfg, start(cfg, run), samples, held_out, run.out)


def validation_rows(training: RunCurves) -> list[dict]:
    """One row per validation: epochs done, loss per token on held-out captions."""
    return tuning.validation_rows(training)


def start(cfg: StageSettings, run: Run) -> tuning.Start:
    """The weights that 03 handed on, and how the samples are shown to them."""
    media = data_prep.media_root(run.of("data_prep"))
    return tuning.Start(block_expansion.start_weights(run), media, TEMPLATE, cfg.pictures.resize, cfg.block_expansion.new_blocks)


def validation_records(cfg: StageSettings, run: Run) -> list[Record]:
    """The full questions about the val records, worded as in training."""
    records = data_prep.read_records(run.of("data_prep"), "val")
    found = []
    for kind in KINDS:
        answered = [record | {f"{kind}_response": ""} for record in records]
        full, _ = short_qa.merge(answered, kind, letters="corrected", glued_question="corrected")
        found += filters.add_stages(full, ego_wording="as_published")
    media = data_prep.media_root(run.of("data_prep"))
    kept, missing = filters.check_images(found, lambda path: (media / path).is_file())
    run.drop("val: picture missing", len(missing))
    if not kept:
        raise DataError("no val record has its pictures, so there is nothing to validate on; see the report of 01-data-prep")
    return kept


def to_sample(record: Record, cfg: StageSettings) -> conversation.Sample:
    """A record as the shared trainer takes it; its id tells picture and question apart."""
    name = f"{record['image']} {record['conversations'][0]['value'][-40:]}"
    return conversation.Sample(name, _turns(record), tuple(view_paths(record["image"], cfg.pictures.views)))


def view_paths(image: str, views: Sequence[str]) -> list[str]:
    """The pictures of a record, from that of the whole frame, in the order in which the model gets them."""
    paths = {"global": image, "local": filters.local_image(image)}
    return [paths[view] for view in views]


def exhibits(cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """Speed, memory and gradient over the training."""
    return [tuning.logged_steps(run.out)]


def _turns(record: Record) -> tuple[conversation.Turn, ...]:
    return conversation.read_turns(record["conversations"], where=record["image"])
