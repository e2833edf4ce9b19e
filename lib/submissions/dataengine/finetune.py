"""04 of dataengine: adapters on the language model and a projector that learns at its own rate (specs/dataengine.md section 4)."""

from dataclasses import dataclass

from lib import conversation, shards, tuning
from lib.config import StageSettings
from lib.conversation import IMAGE, Turn
from lib.curves import RunCurves
from lib.runs import Run
from lib.submissions.dataengine import augmentation, benchmarks, data_prep, wording

READS = ("base", "data", "data_prep", "augmentation", "block_expansion")
SETTINGS = ("model", "data_prep")

TEMPLATE, PLAIN = "vicuna_v1", "plain"
RESIZE = "pad"
VALIDATED = 64  # questions


@dataclass(frozen=True)
class Trained:
    """The samples that are trained on, and what they make of the schedule."""

    samples: tuple[dict, ...]
    steps_per_epoch: int
    steps: int

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        return self.samples[index]


def build_dataset(cfg: StageSettings, run: Run) -> Trained:
    """The mix that 02 merged; of captions without the last, which are validated on. Raises ConfigError if it does not fill one step."""
    samples, recipe = augmentation.read_merged(run.of("augmentation")), cfg.finetune
    if cfg.data_prep.mix == "captions":
        samples, _ = _split(samples)
    if recipe.method == "projector":
        samples = [sample for sample in samples if "image" in sample]  # a caption each
    per_epoch = tuning.steps_per_epoch(len(samples), recipe)
    return Trained(tuple(samples), per_epoch, per_epoch * recipe.epochs)


def count_samples(dataset: Trained) -> dict:
    """Samples, generated and text-only ones among them, steps per epoch and in all."""
    generated = sum(str(sample["id"]).startswith("engine_") for sample in dataset.samples)
    bare = sum("image" not in sample for sample in dataset.samples)
    counts = {"samples": len(dataset), "generated": generated, "text only": bare}
    return {**counts, "steps per epoch": dataset.steps_per_epoch, "steps": dataset.steps}


def show_sample(dataset: Trained, index: int, cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """One sample: the text as the model reads it, with what is trained in it marked, and its picture."""
    from lib import llava, plots, show

    sample = to_sample(dataset[index], cfg)
    rendered = conversation.render(sample.turns, conversation.TEMPLATES[template(cfg)])
    trained = " … ".join(rendered.text[start:end] for start, end in rendered.answers)
    text = ("The whole text, the picture at <image>, and the part of it that is trained:", {"text": rendered.text, "trained": trained})
    pictures = [llava.pad_to_square(llava.read_picture(run.data / path)) for path in sample.pictures]
    shown = [("What the model sees:", plots.picture_grid(pictures, list(sample.pictures), columns=2))] if pictures else []
    return [(text[0], show.record(text[1])), *shown]


def find_odd(dataset: Trained) -> int:
    """The index of the first sample without a picture, or of the longest."""
    bare = [index for index, sample in enumerate(dataset.samples) if "image" not in sample]
    return bare[0] if bare else max(range(len(dataset)), key=lambda index: len(dataset[index]["conversations"]))


def build_model(cfg: StageSettings, run: Run) -> dict[str, tuple[int, ...]]:
    """The shape of every weight by name, from the headers of the starting weights: none is loaded into this kernel."""
    return {name: stored.shape for shard in shards.read_shards(run.base) for name, stored in shard.items()}


def trainable(model: dict[str, tuple[int, ...]], cfg: StageSettings) -> list[dict]:
    """Per part of the model: parameters, and how many of them train; adapters stand in a row of their own."""
    return tuning.trainable(model, cfg.finetune)


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
    samples, validated = ((to_sample(one, cfg) for one in given) for given in (dataset.samples, validation_samples(cfg, run)))
    return tuning.train(cfg, start(cfg, run), samples, validated, run.out)


def validation_rows(training: RunCurves) -> list[dict]:
    """One row per validation: epochs done, loss per token on held-out questions."""
    return tuning.validation_rows(training)


def start(cfg: StageSettings, run: Run) -> tuning.Start:
    """The weights that 03 handed on, and how the samples are shown to them."""
    return tuning.Start(run.base, run.data, template(cfg), RESIZE)


def template(cfg: StageSettings) -> str:
    """The chat template: LLaVA-1.5's own or, for a projector alone, pictures and captions without any words between."""
    return PLAIN if cfg.finetune.method == "projector" else TEMPLATE


def validation_samples(cfg: StageSettings, run: Run) -> list[dict]:
    """Validation questions, spread over the types, as samples that ask for a word; of captions the last, at most one in ten."""
    if cfg.data_prep.mix == "captions":
        return _split(data_prep.read_mix(run.of("data_prep")))[1]
    typed = data_prep.read_typed(run.of("data_prep"))
    chosen = typed[:: max(1, len(typed) // VALIDATED)][:VALIDATED]
    return [
        {
            "id": sample["question_id"],
            "image": benchmarks.AOKVQA_IMAGE.format(sample["image_id"]),
            "conversations": [
                {"from": "human", "value": f"{IMAGE}\n{wording.by_word(sample['question'])}"},
                {"from": "gpt", "value": sample["choices"][sample["correct_choice_idx"]]},
            ],
        }
        for sample in chosen
    ]


def to_sample(sample: dict, cfg: StageSettings) -> conversation.Sample:
    """A sample of the mix as the shared trainer takes it; for a projector alone the picture and the last answer."""
    turns = conversation.read_turns(sample["conversations"], where=f"sample {sample['id']}")
    if cfg.finetune.method == "projector":
        turns = (Turn("user", IMAGE), turns[-1])
    return conversation.Sample(str(sample["id"]), turns, (sample["image"],) if "image" in sample else ())


def exhibits(cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """Speed, memory and gradient over the training."""
    return [tuning.logged_steps(run.out)]


def _split(captions: list[dict]) -> tuple[list[dict], list[dict]]:
    """Captions to train on, and those to validate on."""
    first = len(captions) - max(1, min(VALIDATED, len(captions) // 10))
    return captions[:first], captions[first:]
