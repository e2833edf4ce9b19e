"""Two rounds of dataengine by the command line: what they leave behind, what the second takes from the first, what turns a score."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from openpyxl import load_workbook
from PIL import Image
from safetensors.torch import load_file

from lib import checkpoints, config, curves, files, journal, quick_review, review, store
from lib.claims import CODE_PATH_ONLY, REPRODUCED
from lib.metrics import multiple_choice
from lib.submissions.dataengine import augmentation, data_prep, evaluate, infer, mix, prompt_review, toy, weights
from lib.submissions.dataengine.benchmarks import read_questions, read_references
from lib.submissions.dataengine.fields import read_lines
from tests import small
from tests.small import SmallRun

pytestmark = [pytest.mark.notebook, pytest.mark.slow]

SUBMISSION = "dataengine"
BENCHMARKS = tuple(config.resolve("dataengine").settings.infer.benchmarks)
WEIGHTS = {
    "model.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
}
MME = ("color", "commonsense_reasoning", "existence", "position", "posters", "scene")
UPLOADS = {
    "seed/seed-bench.jsonl",
    "mmbench/mmbench_dev_20230712.xlsx",
    "gqa/testdev_balanced_predictions.json",
    "vqav2/llava_vqav2_mscoco_test-dev2015.json",
    "scienceqa/output.jsonl",
    "scienceqa/result.json",
    "vizwiz/vizwiz.json",
    "mm-vet/mm-vet.json",
} | {f"mme/{category}.txt" for category in MME}
RESULTS = {
    "data_prep": {"media", "mix.jsonl", "aokvqa_classified.json", "report.json"},
    "augmentation": {
        "llava_v1_5_mix665k_dataengine.json",
        "dataengine_llava.json",
        "earlier_rounds.json",
        "weight.json",
        "prompt.txt",
        "queries.json",
        "replies.jsonl",
        "post_processed.json",
        "review.csv",
        "report.json",
    },
    "block_expansion": {"base.json"},
    "finetune": {"train.jsonl", "val.jsonl", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    | {f"model/{name}" for name in WEIGHTS},
    "evaluate": {"metrics.json", "weight.json", "bad_case_aokvqa_classified.json", "evaluation/aokvqa_eval.json"}
    | {"llava-bench-reviews.jsonl", "llava-bench-summary.json"}
    | {f"references/{name}.json" for name in BENCHMARKS}
    | {f"answers_upload/{name}" for name in UPLOADS},
    "quick_review": {"claims.json"},
}
FIELDS = ["question_id", "prompt", "text", "answer_id", "model_id", "metadata"]  # of an answer file


def results(before: str) -> dict[str, set[str]]:
    """What the stages of a round write, whose other model has this name."""
    answers = {f"{benchmark}-{model}.jsonl" for benchmark in BENCHMARKS for model in (before, "finetuned")}
    return {**RESULTS, "infer": answers | {"val-measures.json", "samples/samples.json"}}


def read(path: Path) -> dict | list:
    """A JSON file."""
    return json.loads(path.read_text())


def scores_of(run: SmallRun) -> dict[tuple[str, str, str, str], float]:
    """The run's scores by benchmark, metric, group and model."""
    rows = read(run.stage("evaluate") / "metrics.json")["scores"]
    return {(row["benchmark"], row["metric"], row["group"], row["model"]): row["value"] for row in rows}


def answers_of(run: SmallRun, benchmark: str, model: str = "finetuned") -> list[dict]:
    """The lines of an answer file."""
    return infer.read_answers(run.stage("infer"), benchmark, model)


def state(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a folder by name, all in one spelling."""
    found = {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}
    return {checkpoints.from_hugging_face(name): value for name, value in found.items()}


@pytest.fixture
def first_run(small_run: SmallRun) -> SmallRun:
    """The run of the first round."""
    assert small_run.before is not None and small_run.before.before is None
    return small_run.before


# the run folders


def test_every_stage_of_both_rounds_is_done_and_its_record_names_the_files_it_wrote(small_run, first_run):
    small.check_records(first_run, results("base"))
    small.check_records(small_run, results("baseline"), hits=("data_prep", "block_expansion"))


def test_the_second_run_names_its_parent_and_goes_on_by_three_settings(small_run, first_run):
    first, second = (read(run.folder / "run.json") for run in (first_run, small_run))
    assert (first["parent"], second["parent"]) == ("", str(first_run.folder))
    assert first["overrides"] == small.overrides(of="dataengine")
    added = ["rounds.number=1", f"rounds.parent={first_run.folder}", "augmentation.source=engine"]
    assert second["overrides"] == [*first["overrides"], *added]
    lines = review.different_settings(first_run.folder, small_run.folder)
    assert [line.partition(":")[0] for line in lines] == ["augmentation.source", "rounds.number", "rounds.parent"]


def test_each_run_folder_holds_what_a_person_looks_for(small_run, first_run):
    for run in (first_run, small_run):
        assert re.fullmatch(r"\d{8}-\d{6}_tiny_base-[0-9a-f]{4}", run.folder.name)
        for name in ("run.json", "config.yaml", "params.txt", "report.html"):
            assert (run.folder / name).stat().st_size > 0
        assert sorted(path.name for path in (run.folder / "checkpoints").glob("checkpoint-*"))
        assert any(path.name.startswith("events.out") for path in files.list_files(run.folder / "tensorboard"))
        assert all((run.stage(name) / "notebook.ipynb").is_file() for name in small.STAGES)


def test_the_reports_open_offline_and_name_no_place_of_this_machine(small_run, first_run):
    for run in (first_run, small_run):
        text = (run.folder / "report.html").read_text()
        assert "<script" not in text and "onerror=" not in text
        assert not re.search(r"""(?:src|href)\s*=\s*["']?+(?!data:|#)""", text)
        assert not re.search(r"url\((?!data:)|@import", text)
        # Runs that lie outside the checkout, as those of a test, are named by their whole path where a person gave it: in the overrides.
        told = text.replace(f"rounds.parent={first_run.folder} ", "")
        assert str(run.home) not in told and str(small.ROOT) not in told
        assert "CODE PATH ONLY" in text and "NOT TESTABLE HERE" in text


def test_the_command_ends_in_the_claims_table_of_the_last_round(small_run, first_run):
    lines = small_run.output.splitlines()
    assert any(line.startswith("samples of one step") and "REPRODUCED" in line for line in lines)
    assert lines[-1] == f"report: {small_run.folder / 'report.html'}"
    assert "REPRODUCED" not in first_run.output


def test_the_same_command_again_finds_every_stage_of_both_rounds_done(small_run, first_run):
    again = small.run_chain(small_run.home, of="dataengine")
    for run in (again.before, again):
        assert small.outcomes(run.output) == dict.fromkeys(small.STAGES, "hit")
    assert (again.before.folder, again.folder) == (first_run.folder, small_run.folder)


def test_plan_says_hit_for_every_stage(small_run):
    answer = small.kit(small_run.home, "plan", "dataengine", *small.sets(of="dataengine"))
    assert answer.returncode == 0, answer.stderr
    assert re.findall(r"^(\w+) +hit +nothing it depends on has changed", answer.stdout, flags=re.MULTILINE) == list(small.STAGES)


@pytest.mark.parametrize("name", config.layers("dataengine")["ablations"])
def test_every_ablation_is_a_valid_change_of_the_settings(name):
    changes, profiles = config.layers("dataengine")["ablations"][name], config.layers("dataengine")["profiles"]
    given = [(config.resolve("dataengine", profile=one), config.resolve("dataengine", profile=one, overrides=changes)) for one in profiles]
    assert any(changed.values() != usual.values() for usual, changed in given)


# 01


def test_the_mix_is_checked_and_everything_odd_is_in_the_report_and_in_the_record(first_run):
    place = first_run.stage("data_prep")
    report, dropped = read(place / "report.json"), read(place / "record.json")["dropped"]
    assert dropped == {reason: found["count"] for reason, found in report["findings"].items()}
    assert set(dropped) >= {mix.PICTURE_MISSING, mix.NO_PICTURE, mix.BAD_ROLES, mix.EMPTY_ANSWER, mix.GIF_AS_JPG, mix.DUPLICATE_ID}
    whole = mix.read_mix(first_run.data / toy.MIX)
    kept = data_prep.read_mix(place)
    left_out = sum(found["count"] for found in report["findings"].values() if found["left out"])
    assert len(kept) == len(whole) - left_out == report["counts"]["trained"] and left_out > 0
    for sample in kept:
        assert [turn["from"] for turn in sample["conversations"]] == ["human", "gpt"] * (len(sample["conversations"]) // 2)
        assert "image" not in sample or (first_run.data / sample["image"]).is_file()


def test_every_validation_question_has_a_type_of_seed_bench(first_run):
    typed = data_prep.read_typed(first_run.stage("data_prep"))
    questions = read_references(first_run.data, "aokvqa")
    assert {one["question_id"] for one in typed} == {one["question_id"] for one in questions}
    assert len({one["question_type"] for one in typed}) == 6  # as many as the toy world has
    assert {one["question_type"] for one in typed} <= set(data_prep.TYPES["seed"])


def test_the_pictures_of_mmbench_come_out_of_its_table(first_run):
    root = data_prep.picture_root(first_run.stage("data_prep"))
    names = {one.image for one in read_questions(first_run.data, "mmbench")}
    assert names and all(Image.open(root / name).size[0] > 0 for name in names)


# 02


def test_the_first_round_trains_on_the_base_mix_alone(first_run):
    place = first_run.stage("augmentation")
    assert augmentation.read_merged(place) == data_prep.read_mix(first_run.stage("data_prep"))
    assert read(place / "report.json")["manifest"]["source"]["engine"] == 0
    assert read(place / "queries.json") == read(place / "dataengine_llava.json") == []


def test_the_second_round_weighs_types_by_what_the_first_answered_wrong(small_run, first_run):
    assert read(small_run.stage("augmentation") / "weight.json") == read(first_run.stage("evaluate") / "weight.json")
    results_ = read(first_run.stage("evaluate") / "evaluation/aokvqa_eval.json")
    told = {row["type"]: row for row in read(small_run.stage("augmentation") / "report.json")["types"]}
    for type_, row in told.items():
        own = [one for one in results_ if one["question_type"] == type_]
        wrong = sum(one["model_answer"] != one["choices"][one["correct_choice_idx"]] for one in own)
        assert (row["questions"], row["wrong"], row["weight"]) == (len(own), wrong, round(wrong / len(own), 3))
    drawn = Counter(one["question_type"] for one in read(small_run.stage("augmentation") / "queries.json"))
    assert {type_: row["drawn"] for type_, row in told.items()} == {type_: drawn[type_] for type_ in told}


def test_queries_hold_facts_of_the_picture_and_two_bad_cases_and_each_picture_comes_once(small_run, first_run):
    queries = read(small_run.stage("augmentation") / "queries.json")
    assert len(queries) == int(small.SMALL["dataengine"]["augmentation.queries"])
    assert len({one["image_id"] for one in queries}) == len(queries)
    captions: dict[int, list[str]] = {}
    for one in read(small_run.data / augmentation.CAPTIONS)["annotations"]:
        captions.setdefault(one["image_id"], []).append(one["caption"])
    bad = read(first_run.stage("evaluate") / "bad_case_aokvqa_classified.json")
    for query in queries:
        assert all(caption in query["prompt"] for caption in captions[query["image_id"]])
        assert sum(case["question"] in query["prompt"] and case["prompt"] in query["prompt"] for case in bad[query["question_type"]]) >= 2


def test_replies_become_records_and_what_is_dropped_is_counted(small_run):
    place = small_run.stage("augmentation")
    queries, replies, records = (
        read(place / "queries.json"),
        files.read_jsonl(place / "replies.jsonl"),
        read(place / "post_processed.json"),
    )
    assert [(one["image_id"], one["question_type"]) for one in replies] == [(one["image_id"], one["question_type"]) for one in queries]
    assert len(records) + sum(read(place / "report.json")["dropped"].values()) == len(replies)
    kept = read(place / "dataengine_llava.json")
    assert len(kept) == len(records) > 0
    for record in kept:
        assert record["options"]["ABCD".index(record["choice_answer"])] == record["short_answer"]
        assert (small_run.data / record["image"]).is_file() and record["image"].startswith("coco/train2017/")
        assert "[" not in record["instruction"] + record["answer"]


def test_the_review_sheet_is_ready_for_verdicts(small_run):
    place = small_run.stage("augmentation")
    sheet = prompt_review.read_sheet(place / "review.csv")
    texts = {str(one["image_id"]): one["raw_instructions"] for one in files.read_jsonl(place / "replies.jsonl")}
    assert len(sheet) == len(texts) and all(texts[one.query_id] == one.reply for one in sheet)
    assert {name: (one.right, one.judged) for name, one in prompt_review.measure(sheet).items()} == {
        prompt_review.read_prompt(None).version: (0, 0)
    }
    assert files.read_text(place / "prompt.txt") == prompt_review.read_prompt(None).text


def test_the_samples_of_the_engine_stand_behind_the_base_mix(small_run):
    place = small_run.stage("augmentation")
    base, merged = data_prep.read_mix(small_run.stage("data_prep")), augmentation.read_merged(place)
    records = read(place / "dataengine_llava.json")
    assert merged[: len(base)] == base
    added = merged[len(base) :]
    assert [one["id"] for one in added] == [f"engine_short_{number}" for number in range(len(records))]
    for one, record in zip(added, records, strict=True):
        question, answer = one["conversations"]
        assert question["value"] == f"<image>\n{record['instruction']}\nAnswer the question using a single word or phrase."
        assert (answer["value"], one["image"]) == (record["short_answer"], record["image"])
    assert read(place / "report.json")["manifest"]["source"]["engine"] == len(added)


# 03 and 04


def test_both_rounds_start_from_the_same_base_and_train_adapters_and_projector_only(small_run, first_run):
    (base,) = (small_run.home / "data" / "base").glob("llava-????????????")
    before = state(base)
    linear = r"\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\.weight"
    for run in (first_run, small_run):
        assert read(run.stage("block_expansion") / "base.json")["sha256"] == {
            "model.safetensors": files.sha256_file(base / "model.safetensors")
        }
        after = state(run.stage("finetune") / "model")
        assert before.keys() == after.keys()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        projector = {name for name in before if "multi_modal_projector" in name}
        assert changed == projector | {name for name in before if re.search(linear, name) and "vision_tower" not in name}
        assert len(projector) == 4


def test_the_trainer_saw_the_whole_mix_and_left_its_curves_and_parameters(small_run, first_run):
    for run in (first_run, small_run):
        place = run.stage("finetune")
        samples = files.read_jsonl(place / "train.jsonl")
        assert [one["id"] for one in samples] == [str(one["id"]) for one in augmentation.read_merged(run.stage("augmentation"))]
        training = journal.curves(place)
        assert training.state == curves.FINISHED and len(training.train) >= len(samples) // 16
        assert [found.epoch for found in training.validations] == [0, 1]
        params = curves.read_params(run.folder / "params.txt")
        recipe = config.resolve("dataengine").settings.finetune
        assert (params["method"], params["template"]) == ("lora", "vicuna_v1")
        assert (float(params["lr"]), float(params["projector_lr"])) == (recipe.lr, recipe.projector_lr)
        assert str(run.home) not in (run.folder / "params.txt").read_text()


# 05


def test_the_second_rounds_baseline_answers_what_the_first_rounds_trained_model_answered(small_run, first_run):
    for benchmark in BENCHMARKS:
        assert answers_of(small_run, benchmark, "baseline") == answers_of(first_run, benchmark, "finetuned"), benchmark
    measured = [read(run.stage("infer") / "val-measures.json") for run in (first_run, small_run)]
    assert measured[1]["baseline"] == measured[0]["finetuned"] != measured[1]["finetuned"]


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_every_question_has_a_line_in_the_published_form(small_run, benchmark):
    asked = read_questions(small_run.data, benchmark)
    for model in ("baseline", "finetuned"):
        lines = answers_of(small_run, benchmark, model)
        assert [one["question_id"] for one in lines] == [one.question_id for one in asked]
        assert all(list(one) == FIELDS and one["metadata"] == {} for one in lines)
        assert len({one["answer_id"] for one in lines}) == len(lines)
        assert all(text.text in one["prompt"] for text, one in zip(asked, lines, strict=True))


def test_of_multiple_choice_the_likeliest_option_is_answered_by_its_letter(small_run):
    for benchmark in infer.CHOSEN:
        for line in answers_of(small_run, benchmark):
            assert re.search(rf"^{line['text']}\. ", line["prompt"], flags=re.MULTILINE), line


def test_some_questions_are_kept_small_with_their_pictures(small_run):
    folder = small_run.stage("infer") / "samples"
    rows = read(folder / "samples.json")
    assert len(rows) >= infer.SHOWN
    assert all(max(Image.open(folder / name).size) <= infer.SAMPLE_SIDE for row in rows for name in row["pictures"])


# 06


def test_scores_are_those_of_a_plain_count(small_run):
    found = scores_of(small_run)
    right = {int(one["question_id"]): one["answer"] for one in read_references(small_run.data, "seed")["questions"]}
    types = {one.question_id: one.category for one in read_questions(small_run.data, "seed")}
    for model in ("baseline", "finetuned"):
        marks = {one["question_id"]: one["text"] == right[one["question_id"]] for one in answers_of(small_run, "seed", model)}
        assert found["seed", "accuracy", "all", model] == pytest.approx(100 * sum(marks.values()) / len(marks))
        for type_ in set(types.values()):
            own = [mark for key, mark in marks.items() if types[key] == type_]
            assert found["seed", "type_accuracy", type_, model] == pytest.approx(100 * sum(own) / len(own))
        questions = read_references(small_run.data, "gqa")
        told = [one["text"].rstrip(".").lower() == questions[one["question_id"]]["answer"] for one in answers_of(small_run, "gqa", model)]
        assert found["gqa", "accuracy", "all", model] == pytest.approx(100 * sum(told) / len(told))
    assert 0 <= found["seed", "accuracy", "all", "shuffled"] <= 100


def test_bad_cases_and_weights_are_written_for_the_round_that_follows(small_run, first_run):
    for run in (first_run, small_run):
        place = run.stage("evaluate")
        results_ = read(place / "evaluation/aokvqa_eval.json")
        bad = read(place / "bad_case_aokvqa_classified.json")
        letters = {one["question_id"]: one["text"] for one in answers_of(run, "aokvqa")}
        for one in results_:
            assert one["model_answer"] == one["choices"]["ABCDE".index(letters[one["question_id"]])]
        assert {key for own in bad.values() for key in (one["question_id"] for one in own)} == {
            one["question_id"] for one in results_ if weights.is_wrong(one)
        }
        errors = {
            group: value / 100 for (_, metric, group, model), value in scores_of(run).items() if (metric, model) == ("error", "finetuned")
        }
        assert read(place / "weight.json") == {group: round(value, 3) for group, value in errors.items()}


def test_the_spreadsheet_of_mmbench_reads_back_with_every_prediction(small_run):
    path = small_run.stage("evaluate") / "answers_upload/mmbench/mmbench_dev_20230712.xlsx"
    header, *rows = load_workbook(path, read_only=True).active.iter_rows(values_only=True)
    assert {"index", "question", "A", "B", "prediction"} <= set(header)
    assert not set(multiple_choice.DROPPED_COLUMNS) & set(header)
    given = {one["question_id"]: one["text"] for one in answers_of(small_run, "mmbench")}
    assert {row[header.index("index")]: row[header.index("prediction")] for row in rows} == given
    assert set(given.values()) <= set("ABCD")


def test_uploads_hold_the_answers_in_the_order_and_form_of_their_servers(small_run):
    folder = small_run.stage("evaluate") / "answers_upload"
    said = {name: {one["question_id"]: one["text"] for one in answers_of(small_run, name)} for name in BENCHMARKS}
    assert [(int(one["question_id"]), one["prediction"]) for one in files.read_jsonl(folder / "seed/seed-bench.jsonl")] == list(
        said["seed"].items()
    )
    test2015 = [one["question_id"] for one in read_references(small_run.data, "vqav2")]
    uploaded = read(folder / "vqav2/llava_vqav2_mscoco_test-dev2015.json")
    assert [one["question_id"] for one in uploaded] == test2015 and len(said["vqav2"]) < len(test2015)
    assert {one["questionId"] for one in read(folder / "gqa/testdev_balanced_predictions.json")} == set(said["gqa"])
    assert [one["image"] for one in read(folder / "vizwiz/vizwiz.json")] == [
        one["image"] for one in read_references(small_run.data, "vizwiz")
    ]
    assert len(read(folder / "mm-vet/mm-vet.json")) == len(said["mm-vet"])
    result = read(folder / "scienceqa/result.json")
    assert result["count"] == len(said["scienceqa"])
    assert result["acc"] == pytest.approx(scores_of(small_run)["scienceqa", "accuracy", "all", "finetuned"])
    lines = [line.split("\t") for category in MME for line in (folder / f"mme/{category}.txt").read_text().splitlines()]
    assert len(lines) == len(answers_of(small_run, "mme")) and all(len(line) == 4 and line[2] in ("Yes", "No") for line in lines)


def shown(run: SmallRun, stage: str) -> str:
    """Everything that a stage's executed notebook shows as text."""
    outputs = [one for cell in read(run.stage(stage) / "notebook.ipynb")["cells"] for one in cell.get("outputs", [])]
    return "\n".join("".join(one.get("data", {}).get("text/plain", one.get("text", ""))) for one in outputs)


def test_the_readmes_table_has_a_row_per_round(small_run, first_run):
    found = {
        run: re.findall(r"^(the base weights|round \d) +(\d+\.\d*)", shown(run, "evaluate"), flags=re.MULTILINE)
        for run in (first_run, small_run)
    }
    assert [name for name, _ in found[first_run]] == ["the base weights", "round 0"]
    assert [name for name, _ in found[small_run]] == ["the base weights", "round 0", "round 1"]
    assert found[small_run][:2] == found[first_run]


def test_the_notebook_of_the_engine_shows_errors_prompts_records_and_the_sheet(small_run):
    text = shown(small_run, "augmentation")
    first = read(small_run.stage("augmentation") / "queries.json")[0]["prompt"]
    assert first.splitlines()[0][:40] in text and "review.csv holds 24 replies for a person to judge" in text
    images = [one for cell in read(small_run.stage("augmentation") / "notebook.ipynb")["cells"] for one in cell.get("outputs", [])]
    assert any("image/png" in one.get("data", {}) for one in images)  # errors and draws by type


# claims and verification


def test_a_tiny_run_turns_no_score_green_and_what_is_computed_is_reproduced(small_run):
    run = review.as_run(small_run.folder)
    book = quick_review.read_claims(run)
    words = {one.claim.id: one for one in quick_review.compare(book, quick_review.read_scores(run), run)}
    assert set(words) == {claim.id for claim in book.claims}
    computed = {claim.id for claim in book.claims if claim.derive is not None}
    assert REPRODUCED in {words[name].word for name in computed}
    measured = {name for name, one in words.items() if one.measured is not None and name not in computed}
    assert {words[name].word for name in measured} <= {CODE_PATH_ONLY}


def test_the_scores_are_computed_again_without_torch(small_run, tmp_path):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('torch is blocked: a review works without it')\n")
    command = f"from pathlib import Path; from lib import review; print(len(review.rescored(Path({str(small_run.folder)!r}))))"
    environment = small.environment(small_run.home, PYTHONPATH=f"{tmp_path}:{small.ROOT}")
    answer = subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=False)
    recorded = read(small_run.stage("evaluate") / "metrics.json")["scores"]
    assert answer.stdout.strip() == str(sum(row["benchmark"] != "data" for row in recorded)), answer.stderr


def test_verify_holds_for_the_second_round_and_finds_a_changed_answer(small_run):
    path = small_run.stage("infer") / "seed-finetuned.jsonl"
    lines = read_lines(path, {"text": str})
    right = {int(one["question_id"]): one["answer"] for one in read_references(small_run.data, "seed")["questions"]}
    wrong = next(one for one in lines if one["text"] != right[one["question_id"]])
    wrong["text"] = right[wrong["question_id"]]
    broken = small.broken_by(small_run, path, "".join(f"{json.dumps(one)}\n" for one in lines).encode())
    assert any("infer: " in line and line.endswith("changed or missing: seed-finetuned.jsonl") for line in broken)
    assert any("scores recomputed from raw predictions; different: seed accuracy" in line for line in broken)


def test_verify_holds_for_the_first_round_and_finds_a_changed_annotation(first_run):
    path = first_run.stage("evaluate") / "references/seed.json"
    document, said = read(path), {one["question_id"]: one["text"] for one in answers_of(first_run, "seed")}
    wrong = next(one for one in document["questions"] if said.get(int(one["question_id"]), one["answer"]) != one["answer"])
    wrong["answer"] = said[int(wrong["question_id"])]
    broken = small.broken_by(first_run, path, json.dumps(document).encode())
    assert any("evaluate: " in line and line.endswith("changed or missing: references/seed.json") for line in broken)
    assert any("scores recomputed from raw predictions; different: seed accuracy" in line for line in broken)


def test_each_round_lies_in_the_store_of_its_own_identity(small_run, first_run):
    keys = [{name: entry["key"] for name, entry in read(run.folder / "run.json")["stages"].items()} for run in (first_run, small_run)]
    same = {name for name in small.STAGES if keys[0][name] == keys[1][name]}
    assert same == {"data_prep", "block_expansion"}
    assert evaluate.METRICS in store.read_record(small_run.stage("evaluate")).outputs
