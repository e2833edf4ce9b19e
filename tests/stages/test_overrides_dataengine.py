"""Every choice of dataengine's settings by one override each, asserted for what it does; the stages before it are hits.

The stages are played in this process from the cells of their notebooks (tests/small.py), and what they start as processes of their own
runs in it too: torch is loaded once for all.
"""

import dataclasses
import functools
import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from lib import checkpoints, config, curves, files, generation, launch, models, runs, training
from lib.errors import DataError
from lib.submissions.dataengine import (
    augmentation,
    benchmarks,
    costs,
    data_prep,
    embeddings,
    evaluate,
    infer,
    minigpt4,
    mix,
    prompt_review,
    wording,
)
from lib.submissions.dataengine.question_types import AOKVQA_TYPES
from lib.submissions.dataengine.scoring import Answers, typed_results
from lib.submissions.dataengine.settings import Benchmark
from tests import small
from tests.small import SmallRun

pytestmark = [pytest.mark.notebook, pytest.mark.slow]

SUBMISSION = "dataengine"
PUBLISHED = {"augmentation.source": "published"}
PROJECTOR = {"finetune.method": "projector", "finetune.lr": "1.0e-3", "finetune.projector_lr": "null"}
FEWER = {"infer.benchmarks": "[gqa, mm-vet]", "rounds.last": "0"}
CLIP = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training and the parts of an inference run where the tests run."""

    def run(command: Sequence[str], log_file: Path, **_: object) -> float:
        assert command[-2] == training.__name__ and training.main([command[-1]]) == 0
        return 0.0

    def run_parts(commands: Sequence[Sequence[str]], log_files: Sequence[Path], **_: object) -> None:
        for command in commands:
            assert command[-3] == generation.__name__ and generation.main(command[-2:]) == 0

    monkeypatch.setattr(launch, "run", run)
    monkeypatch.setattr(launch, "run_parts", run_parts)


def read(path: Path) -> dict | list:
    """A JSON file."""
    return json.loads(path.read_text())


@functools.cache
def _played_once(stage: str, changes: tuple[tuple[str, str], ...]) -> Path:
    return small.play(stage, dict(changes), of="dataengine")


def played(stage: str, changes: Mapping[str, str]) -> Path:
    """The folder of a stage played with these changes, played once for all tests that look at it."""
    return _played_once(stage, tuple(changes.items()))


def second(run: SmallRun, changes: Mapping[str, str]) -> dict[str, str]:
    """These changes in a second round."""
    return {"rounds.number": "1", "rounds.parent": str(run.before.folder), "augmentation.source": "engine", **changes}


def state(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a folder by name, all in one spelling."""
    found = {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}
    return {checkpoints.from_hugging_face(name): value for name, value in found.items()}


def changed_names(run: SmallRun, folder: Path) -> set[str]:
    """Names of the weights that a training changed."""
    (base,) = (run.home / "data" / "base").glob("llava-????????????")
    before, after = state(base), state(folder / "model")
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def settings_of(stage: str, changes: Mapping[str, str]) -> config.StageSettings:
    """The settings of a stage with these changes."""
    module = {"infer": infer, "evaluate": evaluate}[stage]
    return config.resolve("dataengine", overrides=small.overrides(changes, of="dataengine")).for_stage(stage, module.SETTINGS)


# 01


def test_the_questions_are_sorted_into_the_eighteen_types_of_the_first_version(small_run):
    typed = data_prep.read_typed(played("data_prep", {"data_prep.types": "aokvqa"}))
    before = data_prep.read_typed(small_run.stage("data_prep"))
    assert [one["question"] for one in sorted(typed, key=lambda one: one["question_id"])] == [
        one["question"] for one in sorted(before, key=lambda one: one["question_id"])
    ]
    assert {one["question_type"] for one in typed} <= set(AOKVQA_TYPES)
    assert len({one["question_type"] for one in typed}) == len({one["question_type"] for one in before}) == 6


# 02: the published records


def shown(view: str) -> tuple[list[dict], list[dict]]:
    """The published records, and the samples that this view makes of them."""
    folder = played("augmentation", {**PUBLISHED, "augmentation.view": view})
    return read(folder / "dataengine_llava.json"), [one for one in augmentation.read_merged(folder) if str(one["id"]).startswith("engine_")]


def question_of(sample: dict) -> str:
    """What a sample asks, without the mark of the picture."""
    return sample["conversations"][0]["value"].removeprefix("<image>\n")


def answer_of(sample: dict) -> str:
    """What a sample answers."""
    return sample["conversations"][1]["value"]


@pytest.mark.parametrize("view", ["mc", "mcp", "da", "short", "mixed"])
def test_a_view_decides_what_is_asked_and_answered(view):
    records, samples = shown(view)
    assert samples
    for one in samples:
        own, number = one["id"].removeprefix("engine_").split("_")
        record = records[int(number)]
        assert one["image"] == record["image"] and own == view or (view == "mixed" and own in ("mc", "mcp", "da", "short"))
        options = dict(re.findall(r"^([A-E])\. (.*)$", question_of(one), flags=re.MULTILINE))
        if own in ("mc", "mcp"):
            assert sorted(options.values()) == sorted(record["options"]) and options[answer_of(one)] == record["short_answer"]
            assert own == "mcp" or list(options.values()) == record["options"]
        else:
            assert not options
            assert answer_of(one) == record["answer" if own == "da" else "short_answer"]
            assert question_of(one).endswith(wording.WORD_REQUEST) == (own == "short")


def test_permuted_options_are_in_another_order_and_mixed_views_are_several():
    orders = [[re.findall(r"^[A-E]\. (.*)$", question_of(one), flags=re.MULTILINE) for one in shown(view)[1]] for view in ("mc", "mcp")]
    assert len(orders[0]) == len(orders[1]) and orders[0] != orders[1]
    assert len({one["id"].split("_")[1] for one in shown("mixed")[1]}) > 1


def test_what_is_odd_about_the_published_records_is_counted_and_a_lost_picture_is_not_trained_on(small_run):
    folder = played("augmentation", {**PUBLISHED, "augmentation.view": "mc"})
    dropped = read(folder / "record.json")["dropped"]
    records = read(folder / "dataengine_llava.json")
    lost = [one for one in records if not (small_run.data / one["image"]).is_file()]
    bare = [one for one in records if "options" not in one]
    assert (dropped[mix.PICTURE_MISSING], dropped["no options for a multiple-choice view"]) == (1, len(bare))
    assert dropped["key spelt choide_answer"] > 0 and len(lost) == 1
    trained = played("finetune", {**PUBLISHED, "augmentation.view": "mc"})
    names = {path for one in files.read_jsonl(trained / "train.jsonl") for path in one["pictures"]}
    assert not {one["image"] for one in lost} & names
    assert {one["image"] for one in records} & names


# 02: the engine


def test_equal_weights_draw_every_type_alike(small_run):
    folder = played("augmentation", second(small_run, {"augmentation.weights": "equal"}))
    before = small_run.stage("augmentation")
    assert set(read(folder / "weight.json").values()) == {1.0}
    assert set(read(folder / "weight.json")) == set(read(before / "weight.json"))
    assert read(folder / "queries.json") != read(before / "queries.json")


def test_smoothing_draws_the_shares_of_errors_towards_a_half(small_run):
    smoothing = 5.0
    folder = played("augmentation", second(small_run, {"augmentation.smoothing": str(smoothing)}))
    for row in read(folder / "report.json")["types"]:
        assert row["weight"] == round((row["wrong"] + smoothing) / (row["questions"] + 2 * smoothing), 3)
    assert read(folder / "weight.json") != read(small_run.stage("augmentation") / "weight.json")


def test_a_type_of_too_few_questions_has_no_weight(small_run):
    with pytest.raises(DataError, match=r"no question type has 2 bad cases and a weight above 0 \(bad cases: .* at weight 0"):
        small.play("augmentation", second(small_run, {"augmentation.minimum": "11"}), of="dataengine")
    folder = played("augmentation", second(small_run, {"augmentation.minimum": "10"}))
    assert read(folder / "weight.json") == read(small_run.stage("augmentation") / "weight.json")


def test_as_published_a_reply_of_three_options_is_a_record(small_run):
    many = {"augmentation.queries": "55"}
    folder = played("augmentation", second(small_run, {**many, "augmentation.quirks.replies": "as_published"}))
    before = played("augmentation", second(small_run, many))
    assert files.read_jsonl(folder / "replies.jsonl") == files.read_jsonl(before / "replies.jsonl")
    assert {len(one["choices"]) for one in read(before / "post_processed.json")} == {4}
    assert {len(one["choices"]) for one in read(folder / "post_processed.json")} == {3, 4}
    assert sum(read(folder / "report.json")["dropped"].values()) < sum(read(before / "report.json")["dropped"].values())


def test_with_the_features_of_clip_the_neighbours_are_others(small_run):
    place = small_run.home / "data" / "base" / embeddings.CLIP
    models.save_weights(models.build_open_clip(CLIP, name="ViT-tiny-clip", seed=0), place)
    try:
        folder = played("augmentation", second(small_run, {"augmentation.embedding": "ViT-B-32", "augmentation.top_k": "2"}))
    finally:
        shutil.rmtree(place)
    tower = played("augmentation", second(small_run, {"augmentation.top_k": "2"}))
    drawn = [[one["image_id"] for one in read(where / "queries.json")] for where in (folder, tower)]
    assert len(drawn[0]) == len(drawn[1]) and drawn[0] != drawn[1]


def test_features_that_are_there_are_not_computed_again(small_run, tmp_path):
    names = [
        one.picture for one in infer.build_prompts(settings_of("infer", {"infer.benchmarks": "[aokvqa]"}), as_run(small_run, tmp_path))
    ]
    (base,) = (small_run.home / "data" / "base").glob("llava-????????????")
    first = embeddings.embed(names, small_run.data, embedding="tower", model=base, cache=tmp_path / "features")
    again = embeddings.embed(names, small_run.data, embedding="tower", model=tmp_path / "no model", cache=tmp_path / "features")
    assert first.shape == (len(names), 64) and (first == again).all()


def test_fewer_queries_are_asked(small_run):
    folder = played("augmentation", second(small_run, {"augmentation.queries": "5"}))
    assert read(folder / "queries.json") == read(small_run.stage("augmentation") / "queries.json")[:5]


def test_another_version_of_the_prompt_is_sent_and_what_a_person_judges_of_both_is_in_the_report(small_run, tmp_path, capsys):
    """As a person goes about it: a revised prompt, 02's sheets copied and filled in, the accuracy of both versions."""
    files.write_text(tmp_path / "prompts/brief.txt", "Write one question about the picture. Be brief.\n")
    brief = prompt_review.read_prompt(tmp_path / "prompts/brief.txt")
    folder = played("augmentation", second(small_run, {"augmentation.prompt": str(tmp_path / "prompts/brief.txt")}))
    published = small_run.stage("augmentation")
    assert all(
        query["prompt"].startswith("Write one question about the picture. Be brief.\n\nNow") for query in read(folder / "queries.json")
    )
    assert [one["image_id"] for one in read(folder / "queries.json")] == [one["image_id"] for one in read(published / "queries.json")]
    assert files.read_text(folder / "prompt.txt") == brief.text and read(folder / "report.json")["prompt"] == brief.version
    sheets = {name: prompt_review.read_sheet(place / "review.csv") for name, place in (("a", published), ("b", folder))}
    assert {one.version for one in sheets["b"]} == {brief.version}
    for name, wrong in (("a", 3), ("b", 1)):
        judged = [
            dataclasses.replace(one, verdict="wrong", reason="not in the picture")
            if number < wrong
            else dataclasses.replace(one, verdict="right")
            for number, one in enumerate(sheets[name][:-1])
        ]
        prompt_review.write_sheet(tmp_path / f"sheets/{name}.csv", [*judged, sheets[name][-1]])
    reviewed = {"evaluate.prompt_reviews": str(tmp_path / "sheets")}
    assert played("evaluate", reviewed) == small_run.before.stage("evaluate")  # another round follows: nothing there depends on it
    scored = played("evaluate", {**reviewed, "rounds.last": "0"})
    rows = {row["group"]: row for row in read(scored / "metrics.json")["scores"] if row["benchmark"] == "prompt"}
    asked = len(sheets["a"]) - 1
    assert {name: (row["value"], row["n"]) for name, row in rows.items()} == {
        prompt_review.read_prompt(None).version: (pytest.approx(100 * (asked - 3) / asked), asked),
        brief.version: (pytest.approx(100 * (len(sheets["b"]) - 2) / (len(sheets["b"]) - 1)), len(sheets["b"]) - 1),
    }
    again = evaluate.score(
        evaluate._read_predictions(small_run.before.stage("infer")), evaluate._read_references(scored), settings_of("evaluate", {})
    )
    assert [row for row in again if row["benchmark"] == "prompt"] == list(rows.values())
    assert prompt_review.main([str(tmp_path / "sheets")]) == 0 and brief.version in capsys.readouterr().out


# 04


def of_variant(name: str) -> dict[str, str]:
    """The changes that make the small chain that of a variant; what the tiny profile sets anyway stays."""
    of_profile = dict(config.flatten(config.layers("dataengine")["profiles"]["tiny"]))
    own = config.flatten(config.layers("dataengine")["variants"][name])
    return {key: yaml.safe_dump(value, default_flow_style=True).split("\n")[0] for key, value in own if key not in of_profile}


def test_the_projector_alone_is_trained_on_pictures_and_what_was_last_said_about_them(small_run):
    folder = played("finetune", PROJECTOR)
    changed = changed_names(small_run, folder)
    assert len(changed) == 4 and all("multi_modal_projector" in name for name in changed)
    assert curves.read_params(folder / "params.txt")["template"] == "plain"
    pictured = [one for one in augmentation.read_merged(small_run.before.stage("augmentation")) if "image" in one]
    samples = files.read_jsonl(folder / "train.jsonl")
    assert len(samples) == len(pictured)
    for one, sample in zip(samples, pictured, strict=True):
        assert [turn["text"] for turn in one["turns"]] == ["<image>", sample["conversations"][-1]["value"]]


def test_a_projector_is_pretrained_on_captions_but_the_last(small_run, tmp_path):
    """The variant `pretrain`, as far as the tiny profile leaves it: another mix from the first stage on, one round."""
    changes = {**PROJECTOR, "data_prep.mix": "captions"}
    assert of_variant("pretrain") == {"data_prep.mix": "captions", "finetune.method": "projector"}
    prepared, augmented, folder = (played(stage, changes) for stage in ("data_prep", "augmentation", "finetune"))
    samples = read(small_run.data / "LLaVA-Pretrain/blip_laion_cc_sbu_558k.json")
    kept = data_prep.read_mix(prepared)
    assert [one["image"] for one in kept] == [f"LLaVA-Pretrain/images/{one['image']}" for one in samples]
    assert read(prepared / "report.json")["counts"]["trained"] == len(samples) == 20
    assert augmentation.read_merged(augmented) == kept
    trained, validated = (files.read_jsonl(folder / f"{name}.jsonl") for name in ("train", "val"))
    told = [[turn["text"] for turn in one["turns"]] for one in (*trained, *validated)]
    assert told == [["<image>", one["conversations"][1]["value"]] for one in samples]
    assert len(validated) == 2
    assert {name.partition(".linear")[0] for name in changed_names(small_run, folder)} == {"multi_modal_projector"}
    assert config.resolve("dataengine", "pretrain", "tiny").settings.following(small_run.folder) == ()
    for stage in ("block_expansion", "infer"):
        played(stage, changes)
    prompt_review.write_sheet(tmp_path / "sheet.csv", [prompt_review.Review("1", "v1", "right", "", "What?")])
    reviewed = {**changes, "evaluate.prompt_reviews": str(tmp_path / "sheet.csv")}  # no round follows captions, whatever rounds.last says
    rows = read(played("evaluate", reviewed) / "metrics.json")["scores"]
    assert [row["value"] for row in rows if row["benchmark"] == "prompt"] == [100.0]
    assert {row.get("records") for row in rows if row["model"] == "finetuned" and row["benchmark"] == "seed"} == {"none, captions alone"}


def test_full_training_changes_everything_but_the_tower(small_run):
    changed = changed_names(small_run, played("finetune", {"finetune.method": "full"}))
    untouched = {name for name in state(small_run.stage("finetune") / "model") if name not in changed}
    assert untouched and all("vision_tower" in name for name in untouched)


# 05 and 06


def answers(folder: Path, benchmark: str, model: str = "finetuned") -> list[str]:
    """What was answered to the questions of a benchmark."""
    return [one["text"] for one in infer.read_answers(folder, benchmark, model)]


def test_free_text_is_not_chosen_among_the_options(small_run):
    changes = {"infer.answers": "generated"}
    played("data_prep", changes)
    folder, chosen = played("infer", changes), small_run.before.stage("infer")
    for benchmark in infer.CHOSEN:
        assert len(answers(folder, benchmark)) == len(answers(chosen, benchmark))
        assert answers(folder, benchmark) != answers(chosen, benchmark)
    assert answers(folder, "gqa") == answers(chosen, "gqa")  # asked in free text either way
    scored = read(played("evaluate", changes) / "metrics.json")["scores"]
    assert {row["n"] for row in scored if row["benchmark"] == "seed" and row["group"] == "all"} == {len(answers(folder, "seed"))}


def test_multiple_choice_is_asked_with_its_options_or_as_a_question_for_a_word(small_run):
    prompts = infer.build_prompts(settings_of("infer", {"infer.benchmarks": "[seed, gqa, aokvqa]"}), as_run(small_run, small_run.home))
    for prompt in prompts:
        free, choosing = (infer.to_conversation(prompt, choose=choose and prompt.asked.benchmark != "gqa") for choose in (False, True))
        assert free.questions == (prompt.asked.text,) and free.choices == ()
        if prompt.asked.benchmark != "gqa":
            assert len(choosing.choices) == 4 and choosing.questions[0].endswith(wording.WORD_REQUEST)
            assert all(f". {option}\n" in prompt.asked.text for option in choosing.choices)


def as_run(run: SmallRun, out: Path) -> runs.Run:
    """What 05 of the first round gets, with a place of its own to write to."""
    stages = {name: run.before.stage(name) for name in ("data_prep", "block_expansion", "finetune")}
    return runs.Run("dataengine", "infer", "tiny", out, out, "", stages, data=run.data)


def test_a_shorter_list_of_benchmarks_is_asked_and_scored_alone():
    for stage in ("data_prep", "augmentation", "finetune"):
        played(stage, FEWER)
    asked, scored = played("infer", FEWER), played("evaluate", FEWER)
    assert {path.name for path in asked.glob("*-*.jsonl")} == {
        f"{name}-{who}.jsonl" for name in ("gqa", "mm-vet") for who in ("base", "finetuned")
    }
    assert {row["benchmark"] for row in read(scored / "metrics.json")["scores"]} == {"gqa", "val", "data"}
    assert {path.name for path in (scored / "references").iterdir()} == {"gqa.json", "mm-vet.json"}
    assert not (scored / "weight.json").exists()
    assert not (played("data_prep", FEWER) / "media" / "eval").exists()  # mmbench's pictures


# 02 to 06 in the words of MiniGPT4-v2


MINIGPT4 = dict(change.split("=", 1) for change in config.layers("dataengine")["ablations"]["minigpt4"])
OPEN = ("okvqa", "vizwiz_val", "vsr")


def test_in_the_words_of_minigpt4_v2_the_model_is_trained(small_run):
    changes = {**PUBLISHED, "augmentation.wording": "minigpt4", "augmentation.view": "mixed"}
    folder = played("augmentation", changes)
    samples = [one for one in augmentation.read_merged(folder) if str(one["id"]).startswith("engine_")]
    published = read(small_run.data / "data_engine/dataengine_minigpt4.json")
    assert read(folder / "report.json")["manifest"]["in the words of"] == "minigpt4"
    assert [one["image"] for one in read(folder / "dataengine_llava.json")] == [one["image"] for one in published]
    assert samples and all(question_of(one).startswith("[vqa] ") and answer_of(one) == answer_of(one).lower() for one in samples)
    assert not any(set(answer_of(one)) & set('.!"()*#:;~') for one in samples)
    for one in samples:
        own, number = one["id"].removeprefix("engine_").split("_")
        record = published[int(number)]
        if own in ("mc", "mcp"):
            assert question_of(one).startswith(f"[vqa] {record['instruction']}\nA. ")
        else:
            assert question_of(one).endswith(record["instruction"].lower())
            assert answer_of(one) == record["answer" if own == "da" else "short_answer"].lower().rstrip(".")
            assert ("respond to this question with a short answer" in question_of(one)) == (own == "short")
    trained = {one["id"]: [turn["text"] for turn in one["turns"]] for one in files.read_jsonl(played("finetune", changes) / "train.jsonl")}
    assert all(trained[one["id"]] == [turn["value"] for turn in one["conversations"]] for one in samples)


def told_of(root: Path) -> dict[str, dict]:
    """Benchmark -> question_id -> what the published files of the three say: question or statement, and the answers or the label."""
    okvqa, vizwiz = read(root / "eval/okvqa/okvqa_test_split.json"), read(root / "eval/vizwiz/val.json")
    answers = read(root / "eval/okvqa/mscoco_val2014_annotations_clean.json")["annotations"]
    given = {one["question_id"]: [answer["answer"] for answer in one["answers"]] for one in answers}
    statements = [json.loads(line) for line in (root / "eval/vsr/test.jsonl").read_text().splitlines()]
    return {
        "okvqa": {one["question_id"]: (one["question"], given[one["question_id"]]) for one in okvqa},
        "vizwiz_val": {one["image"]: (one["question"], [answer["answer"] for answer in one["answers"]]) for one in vizwiz},
        "vsr": {number: (one["caption"], ["false", "true"][one["label"]]) for number, one in enumerate(statements, start=1)},
    }


def agreement(text: str, answers: list[str]) -> float:
    """The official accuracy of an answer to OKVQA that needs no normalising: a third for each who agrees, without each of the ten."""
    given = text.strip().lower()
    parts = [sum(other == given for other in [*answers[:one], *answers[one + 1 :]]) for one in range(len(answers))]
    return sum(min(1.0, count / 3) for count in parts) / len(parts)


def open_scores(root: Path, said: Mapping[str, list[dict]]) -> dict[str, float]:
    """A plain count of the three, in percent."""
    told, marks = told_of(root), {}
    for name in OPEN:
        own = [(line["text"], told[name][line["question_id"]][1]) for line in said[name]]
        marks[name] = {
            "okvqa": [agreement(text, known) for text, known in own],
            "vizwiz_val": [min(1.0, [one.lower() for one in known].count(text.lower()) / 3) for text, known in own],
            "vsr": [float(text.lower() == known) for text, known in own],
        }[name]
    return {name: 100 * sum(own) / len(own) for name, own in marks.items()}


def choice_scores(root: Path, said: Mapping[str, list[dict]]) -> dict[str, float]:
    """A plain count of SEED-Bench by first characters, and of MMBench by whole rotations of capitalised letters."""
    right = {int(one["question_id"]): one["answer"] for one in benchmarks.read_references(root, "seed")["questions"]}
    seed = [one["text"][:1].upper() == right[one["question_id"]] for one in said["seed"]]
    answers, rounds = {one["index"]: one["answer"] for one in benchmarks.read_references(root, "mmbench")}, {}
    for one in said["mmbench"]:
        rounds.setdefault(one["question_id"] % 1_000_000, []).append(one["text"].capitalize() == answers[one["question_id"]])
    return {"seed": 100 * sum(seed) / len(seed), "mmbench": 100 * sum(map(all, rounds.values())) / len(rounds)}


def main_of(rows: Sequence[dict], names: Sequence[str]) -> dict[str, float]:
    """The main score of the trained model for each of these benchmarks."""
    metrics = {"mmbench": "circular_accuracy", "okvqa": "vqa_accuracy"}
    found = {(row["benchmark"], row["metric"], row["group"], row["model"]): row["value"] for row in rows}
    return {name: found[name, metrics.get(name, "accuracy"), "all", "finetuned"] for name in names}


def put_right(root: Path, said: Mapping[str, list[dict]]) -> dict[str, list[dict]]:
    """The lines of the answer files with every second text right, in a form that only this half's reading takes for right."""
    told = told_of(root)
    seed = {int(one["question_id"]): one["answer"] for one in benchmarks.read_references(root, "seed")["questions"]}
    mmbench = {one["index"]: one["answer"] for one in benchmarks.read_references(root, "mmbench")}
    right = {
        "seed": lambda key: f"{seed[key].lower()}. of course",
        "mmbench": lambda key: mmbench[key].lower(),
        "okvqa": lambda key: f" {Counter(told['okvqa'][key][1]).most_common(1)[0][0].upper()} ",
        "vizwiz_val": lambda key: Counter(told["vizwiz_val"][key][1]).most_common(1)[0][0].title(),
        "vsr": lambda key: told["vsr"][key][1].upper(),
    }
    return {
        name: [line | ({"text": right[name](line["question_id"])} if number % 2 else {}) for number, line in enumerate(lines)]
        for name, lines in said.items()
        if name in right
    }


def test_in_the_words_of_minigpt4_v2_every_stage_asks_and_scores_as_a_plain_count_says(small_run):
    for stage in ("data_prep", "augmentation", "finetune"):
        played(stage, MINIGPT4)
    asked, scored = played("infer", MINIGPT4), played("evaluate", MINIGPT4)
    told, root = told_of(small_run.data), small_run.data
    said = {name: infer.read_answers(asked, name, "finetuned") for name in ("seed", "mmbench", *OPEN)}
    assert {path.name for path in asked.glob("*-*.jsonl")} == {
        f"{name}-{who}.jsonl" for name in minigpt4.WORDS for who in ("base", "finetuned")
    }
    for line in said["okvqa"]:
        question = told["okvqa"][line["question_id"]][0]
        assert line["prompt"] == f"[vqa] Based on the image, respond to this question with a short answer: {question}"
    for line in said["vizwiz_val"]:
        question = told["vizwiz_val"][line["question_id"]][0]
        assert line["prompt"] == (
            f"[vqa] The question is '{question}' Based on the image, answer the question with a single word or phrase. and reply "
            "'unanswerable' when the provided information is insufficient"
        )
    for line in said["vsr"]:
        assert line["prompt"] == f"[vqa] Based on the image, is this statement true or false? {told['vsr'][line['question_id']][0]}"
    for name in ("seed", "mmbench", "aokvqa"):
        usual = [one["prompt"] for one in infer.read_answers(small_run.before.stage("infer"), name, "finetuned")]
        prompts = [one["prompt"] for one in infer.read_answers(asked, name, "finetuned")]
        assert [prompt.replace("[vqa] ", "", 1) for prompt in prompts] == usual
        assert all(re.search(r"^\[vqa\] .+\nA\. ", prompt, flags=re.MULTILINE) for prompt in prompts)
        assert all(prompt.startswith("[vqa] ") for prompt in prompts) == (name != "mmbench")  # which has hints
    rows = read(scored / "metrics.json")["scores"]
    assert main_of(rows, list(said)) == pytest.approx(choice_scores(root, said) | open_scores(root, said))
    # Untrained, the model answers next to nothing right; so the same once more with answers of which some are.
    cfg, better = settings_of("evaluate", MINIGPT4), put_right(root, said)
    references = {name: benchmarks.read_references(root, name) for name in better}
    counted = choice_scores(root, better) | open_scores(root, better)
    assert main_of(evaluate.score({"finetuned": better}, references, cfg), list(better)) == pytest.approx(counted)
    assert all(value > 0 for name, value in counted.items() if name != "mmbench")


def test_what_minigpt4_v2_answered_is_handed_in_and_shown(small_run):
    folder = played("evaluate", MINIGPT4)
    said = infer.read_answers(played("infer", MINIGPT4), "seed", "finetuned")
    handed = files.read_jsonl(folder / "answers_upload/seed/seed-bench.jsonl")
    assert [one["prediction"] for one in handed] == [one["text"][:1].upper() for one in said]
    assert (folder / "answers_upload/mmbench/mmbench_dev_20230712.xlsx").is_file()
    assert {path.name for path in (folder / "references").iterdir()} == {f"{name}.json" for name in minigpt4.WORDS}
    cfg, run = settings_of("evaluate", MINIGPT4), dataclasses.replace(as_run(small_run, folder), stage="evaluate")
    titles = [title for title, _ in evaluate.exhibits(cfg, run)]
    assert titles[0].startswith("The READMEs' main result") and len(titles) == 3


def test_answers_in_the_words_of_minigpt4_v2_have_twenty_tokens_at_most(small_run, tmp_path):
    run = as_run(small_run, tmp_path)
    for changes, limits in ((MINIGPT4, (20, 20)), ({}, (128, 1024))):
        cfg = settings_of("infer", {**changes, "infer.max_new_tokens": "null"})
        plans = [infer.generation_plan(infer.load_model(cfg, run), name, cfg, run) for name in ("seed", "mmbench")]
        assert tuple(plan.how.max_new_tokens for plan in plans) == limits and not any(plan.how.sample for plan in plans)


def test_the_benchmarks_of_minigpt4_v2_are_asked_in_the_words_of_llava_too(small_run):
    changes = {"infer.benchmarks": "[okvqa, vizwiz_val, vsr]", "rounds.last": "0"}
    for stage in ("data_prep", "augmentation", "finetune"):
        played(stage, changes)
    asked, scored = played("infer", changes), played("evaluate", changes)
    told = told_of(small_run.data)
    said = {name: infer.read_answers(asked, name, "finetuned") for name in OPEN}
    between = {
        "okvqa": "",
        "vizwiz_val": "\nWhen the provided information is insufficient, respond with 'Unanswerable'.",
        "vsr": " Is this statement true or false?",
    }
    for name, lines in said.items():
        assert [line["prompt"] for line in lines] == [
            f"{question}{between[name]}\n{wording.WORD_REQUEST}" for question, _ in told[name].values()
        ]
    assert main_of(read(scored / "metrics.json")["scores"], OPEN) == pytest.approx(open_scores(small_run.data, said))


def test_the_names_in_the_settings_are_the_benchmarks_there_are():
    assert sorted(Benchmark.__args__) == sorted(benchmarks.BENCHMARKS) == sorted(costs.QUESTIONS)


def test_shards_and_batches_change_no_answer(small_run, tmp_path):
    for place, changes in {"shards": {"machine.shards": "2"}, "batches": {"machine.batch": "3"}}.items():
        cfg = settings_of("infer", {"infer.benchmarks": "[gqa, scienceqa, textvqa]", "rounds.last": "0", **changes})
        run = as_run(small_run, tmp_path / place)
        found = infer.predict(infer.load_model(cfg, run), infer.build_prompts(cfg, run), cfg, run)
        parts = sorted(path.name for path in (run.out / "features/finetuned/gqa").glob("answers-*"))
        assert len(parts) == int(changes.get("machine.shards", "1"))
        for benchmark in cfg.infer.benchmarks:
            own = [one.text for one in found if one.prompt.asked.benchmark == benchmark]
            assert own == answers(small_run.before.stage("infer"), benchmark)


def test_as_published_an_option_with_a_capital_is_never_right(small_run):
    typed = data_prep.read_typed(small_run.stage("data_prep"))
    capital = [one | {"choices": [option.capitalize() for option in one["choices"]]} for one in typed]
    right = [{"question_id": one["question_id"], "text": "ABCDE"[one["correct_choice_idx"]]} for one in typed]
    assert all(
        one["model_answer"] == one["choices"][one["correct_choice_idx"]] for one in typed_results(capital, Answers("finetuned", right))
    )
    for quirk, expected in (("corrected", 100.0), ("as_published", 0.0)):
        cfg = settings_of("evaluate", {"evaluate.quirks.aokvqa": quirk})
        rows = evaluate.score({"finetuned": {"aokvqa": right}}, {"aokvqa": capital}, cfg)
        (found,) = [row["value"] for row in rows if row["metric"] == "choice_accuracy"]
        assert found == expected


def test_which_records_a_model_was_trained_on_stands_beside_its_scores(small_run):
    for run, expected in ((small_run.before, {"finetuned": "none"}), (small_run, {"baseline": "none", "finetuned": "engine"})):
        rows = read(run.stage("evaluate") / "metrics.json")["scores"]
        assert {row["model"]: row["records"] for row in rows if "records" in row} == expected


# before anything starts


def test_the_full_recipe_is_estimated_from_the_parameters_and_the_readmes_hours():
    rows = {row["stage"]: row for row in costs.estimate(config.resolve("dataengine", profile="full").settings, gpus=8)}
    assert rows["finetune"]["hours"] == 20.0 and "README" in rows["finetune"]["basis"]
    pretrain = config.resolve("dataengine", variant="pretrain", profile="full").settings
    alone = {row["stage"]: row for row in costs.estimate(pretrain, gpus=8)}["finetune"]
    assert alone["hours"] == 3.5 and "20,979,712 trained parameters" in alone["basis"]
    assert costs.estimate(config.resolve("dataengine").settings, gpus=1) == []


@pytest.mark.parametrize("name", config.layers("dataengine")["variants"])
def test_a_variant_can_be_resolved_in_both_profiles(name):
    usual = [config.resolve("dataengine", profile=profile).values() for profile in ("full", "tiny")]
    assert [config.resolve("dataengine", variant=name, profile=profile).values() for profile in ("full", "tiny")] != usual
