"""05 of dataengine: the questions of every benchmark, answered by the trained model and by the one before it.

"baseline" is the model of the round before; in a first round there is none, and "base" is what the training started from. Answer files have the original's fields;
multiple choice is answered in free text, as published, or by the likeliest option, as the engine's first version evaluated
(specs/dataengine.md sections 2.1 and 6). What could not be answered stays empty and is counted.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib import files, paths, runs, store
from lib.answering import Answerer
from lib.config import StageSettings
from lib.runs import Run
from lib.submissions.dataengine import benchmarks, data_prep, finetune, minigpt4, wording
from lib.submissions.dataengine.benchmarks import MAX_NEW_TOKENS, Asked

if TYPE_CHECKING:
    from lib.generation import Conversation, Plan

READS = ("base", "data", "data_prep", "block_expansion", "finetune", "parent")
SETTINGS = ("model", "finetune", "data_prep")

MEASURES, SAMPLES, SHOWN, SAMPLE_SIDE = "val-measures.json", "samples", 6, 220
RELEASED = f"{store.MEDIA}/released"
MODELS = ("finetuned", "baseline", "base")  # a run has the first and one of the others
OPTION = re.compile(r"^([A-E])\. (.*)$")
CHOSEN = ("seed", "mmbench", "scienceqa", "aokvqa")  # multiple choice
ANSWER_ID = 22  # letters, as the original's random ids have


@dataclass(frozen=True)
class Prompt:
    """A question of a benchmark, its number in the file, and where its picture lies below the media root."""

    asked: Asked
    number: int
    picture: str | None

    @property
    def id(self) -> str:
        """Such as "seed 101669 17"; ids alone come twice in some benchmarks."""
        return f"{self.asked.benchmark} {self.asked.question_id} {self.number}"


@dataclass(frozen=True)
class Prediction:
    """The answer to one question; empty, with the reason, where asking failed."""

    prompt: Prompt
    text: str
    failure: str = ""


def load_model(cfg: StageSettings, run: Run) -> Answerer:
    """The weights under test: those that 04 made, or the released ones named by `infer.checkpoint`."""
    if cfg.infer.checkpoint is None:
        return Answerer("finetuned", run.of("finetune") / "model", cfg.infer.precision)
    from lib.submissions.dataengine import released

    folder = released.adopt(paths.ROOT / cfg.infer.checkpoint, run.base, run.out / RELEASED, cfg.infer.precision)
    return Answerer("finetuned", folder, cfg.infer.precision)


def load_baseline(cfg: StageSettings, run: Run) -> Answerer:
    """The weights of the round before; in a first round those that fine-tuning started from."""
    if run.parent is None:
        return Answerer("base", run.base, cfg.infer.precision)
    return Answerer("baseline", runs.stage_folder(run.parent, "finetune") / "model", cfg.infer.precision)


def build_prompts(cfg: StageSettings, run: Run) -> list[Prompt]:
    """Every question of every benchmark of the settings, in the order of its file."""
    unpacked = os.path.relpath(data_prep.picture_root(run.of("data_prep")), run.data)
    found = []
    for name in cfg.infer.benchmarks:
        for number, one in enumerate(benchmarks.read_questions(run.data, name, wording=cfg.infer.wording)):
            # MMBench's pictures came out of its table; they lie with 01's results.
            inside = one.image if name != "mmbench" or one.image is None else f"{unpacked}/{one.image}"
            found.append(Prompt(one, number, inside))
    return found


def show_prompts(prompts: list[Prompt]) -> list[dict]:
    """Per benchmark: how many questions, with and without picture, and the first in full."""
    rows = []
    for name in dict.fromkeys(one.asked.benchmark for one in prompts):
        own = [one for one in prompts if one.asked.benchmark == name]
        bare = sum(one.picture is None for one in own)
        rows.append({"benchmark": name, "questions": len(own), "without picture": bare, "the first": own[0].asked.text})
    return rows


def predict(model: Answerer, prompts: list[Prompt], cfg: StageSettings, run: Run) -> list[Prediction]:
    """The answer to every question: in batches, over as many processes as `machine.shards`, continuing what was interrupted."""
    from lib import conversation, generation

    template = conversation.TEMPLATES[finetune.TEMPLATE]
    predictions = []
    for name in dict.fromkeys(one.asked.benchmark for one in prompts):
        own = [one for one in prompts if one.asked.benchmark == name]
        asked = [to_conversation(one, choose=cfg.infer.answers == "chosen" and name in CHOSEN) for one in own]
        plan = generation_plan(model, name, cfg, run)
        answered = generation.answer_all(lambda: model.bundle, asked, plan, label=f"asking {model.name}: {name}")
        for one, row in zip(own, answered, strict=True):
            said = conversation.clean(row.answers[0], template).strip() if row.answers else ""
            options = _options(one.asked.text)
            letter = next((letter for letter, option in options.items() if option == said), said) if name in CHOSEN else said
            predictions.append(Prediction(one, letter if cfg.infer.answers == "chosen" else said, row.failure))
    run.drop(f"{model.name}: question not answered", sum(bool(one.failure) for one in predictions))
    return predictions


def to_conversation(prompt: Prompt, *, choose: bool) -> "Conversation":
    """The question as `lib.generation` takes it; to choose, it asks for a word and names the options' texts."""
    from lib import generation

    pictures = () if prompt.picture is None else (prompt.picture,)
    options = _options(prompt.asked.text)
    if not choose or not options:
        return generation.Conversation(prompt.id, pictures, (prompt.asked.text,))
    question = prompt.asked.text.partition("\nA. ")[0]
    return generation.Conversation(prompt.id, pictures, (wording.by_word(question),), tuple(dict.fromkeys(options.values())))


def show_predictions(predictions: list[Prediction]) -> list[dict]:
    """The first question of each benchmark with its answer."""
    first = {one.prompt.asked.benchmark: one for one in reversed(predictions)}
    names = dict.fromkeys(one.prompt.asked.benchmark for one in predictions)
    return [{"benchmark": name, "asked": first[name].prompt.asked.text, "answer": first[name].text} for name in names]


def measure(model: Answerer, cfg: StageSettings, run: Run) -> dict[str, float]:
    """Loss (nats) and accuracy per token of known answers to validation questions, each token predicted from those before it."""
    from lib import conversation, datasets, generation

    known = datasets.InstructionDataset(
        [finetune.to_sample(sample, cfg) for sample in finetune.validation_samples(cfg, run)],
        bundle=model.bundle,
        template=conversation.TEMPLATES[finetune.template(cfg)],
        media_root=run.data,
        resize=finetune.RESIZE,
        max_length=cfg.finetune.max_length,
    )
    return generation.measure_loss(model.bundle, known, batch=cfg.machine.batch, label=f"measuring {model.name}")


def measure_rows(measures: dict[str, dict[str, float]]) -> list[dict]:
    """Measures as a table: one row per measure, one column per model."""
    return [{"measure": name, **{model: values[name] for model, values in measures.items()}} for name in next(iter(measures.values()))]


def write_measures(measures: dict[str, dict[str, float]], run: Run) -> str:
    """Write the measures of each model; returns the file's name."""
    files.write_json(run.out / MEASURES, measures)
    return MEASURES


def write_predictions(predictions: list[Prediction], model: Answerer, cfg: StageSettings, run: Run) -> list[str]:
    """Write `<benchmark>-<model>.jsonl` with the fields of the original's answer files, and the reason where there is no answer."""
    written = []
    for name in cfg.infer.benchmarks:
        rows = [answer_line(one, cfg.model.name) for one in predictions if one.prompt.asked.benchmark == name]
        files.write_jsonl(run.out / answer_file(name, model.name), rows)
        written.append(answer_file(name, model.name))
    return written


def answer_file(benchmark: str, model: str) -> str:
    """The name of a benchmark's answers by one model."""
    return f"{benchmark}-{model}.jsonl"


def answer_line(prediction: Prediction, model: str) -> dict:
    """One line of an answer file; `prompt` holds the mark of the picture for ScienceQA only, as published."""
    asked = prediction.prompt.asked
    mark = "<image>\n" if asked.benchmark == "scienceqa" and asked.image is not None else ""
    return {
        "question_id": asked.question_id,
        "prompt": f"{mark}{asked.text}",
        "text": prediction.text,
        "answer_id": hashlib.sha256(prediction.prompt.id.encode()).hexdigest()[:ANSWER_ID],
        "model_id": model,
        "metadata": {"failure": prediction.failure} if prediction.failure else {},
    }


def write_samples(predictions: list[Prediction], run: Run) -> list[str]:
    """Keep small copies of some pictures with question and answer, so that a review can show them without the data set."""
    import io

    from lib import llava

    pictured = [one for one in predictions if one.prompt.picture is not None and not one.failure]  # a failure's picture may be broken
    chosen = pictured[:: max(1, len(pictured) // SHOWN)][:SHOWN]
    rows = []
    for number, one in enumerate(chosen):
        picture = llava.read_picture(run.data / one.prompt.picture)
        picture.thumbnail((SAMPLE_SIDE, SAMPLE_SIDE))
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=85)
        files.write_bytes(run.out / SAMPLES / f"{number}.jpg", content.getvalue())
        text = f"{one.prompt.asked.benchmark}: {one.prompt.asked.text} Answer: {one.text}"
        rows.append({"text": text, "pictures": [f"{number}.jpg"], "captions": [one.prompt.asked.category or one.prompt.asked.benchmark]})
    files.write_json(run.out / SAMPLES / "samples.json", rows)
    return [row["text"] for row in rows]


def read_answers(folder: Path, benchmark: str, model: str) -> list[dict]:
    """The lines of one answer file, as written by `write_predictions`."""
    return files.read_jsonl(folder / answer_file(benchmark, model))


def generation_plan(model: Answerer, benchmark: str, cfg: StageSettings, run: Run) -> "Plan":
    """The plan of `lib.generation` for one benchmark; its files lie among the stage's traces until all is answered."""
    from lib import generation

    longest = minigpt4.MAX_NEW_TOKENS if cfg.infer.wording == "minigpt4" else MAX_NEW_TOKENS[benchmark]
    how = generation.How(
        template=finetune.TEMPLATE,
        resize=finetune.RESIZE,
        history="corrected",
        max_new_tokens=cfg.infer.max_new_tokens or longest,
        sample=False,
        temperature=1.0,
        sampling_seed=0,
        tries=cfg.infer.tries,
    )
    out = run.out / "features" / model.name / benchmark
    return generation.Plan(
        model=model.folder,
        precision=cfg.infer.precision,
        conversations=out / "conversations.jsonl",
        media_root=run.data,
        out=out,
        parts=cfg.machine.shards,
        batch=cfg.machine.batch,
        how=how,
    )


def exhibits(cfg: StageSettings, run: Run) -> list[tuple[str, object]]:
    """Some pictures with what was asked, and what both models answered; how many answers there are."""
    from lib import llava, plots, show

    kept = files.read_json(run.out / SAMPLES / "samples.json")
    pictures = [llava.read_picture(run.out / SAMPLES / row["pictures"][0]) for row in kept]
    models = [model for model in MODELS if (run.out / answer_file(cfg.infer.benchmarks[0], model)).is_file()]
    counts = [{"benchmark": name, **{model: len(read_answers(run.out, name, model)) for model in models}} for name in cfg.infer.benchmarks]
    return [
        ("Some questions with the trained model's answers:", plots.picture_grid(pictures, [row["text"][-60:] for row in kept], columns=3)),
        ("Answers per benchmark and model:", show.table(counts)),
    ]


def _options(text: str) -> dict[str, str]:
    """letter -> option of a question's text; none where it names none."""
    return dict(found.groups() for found in map(OPTION.match, text.split("\n")) if found)
