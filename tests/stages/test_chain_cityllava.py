"""The whole chain of cityllava by the command line: what a run leaves behind, what a second one does, what turns a score."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from lib import blocks, config, curves, files, journal, quick_review, records, review
from lib.claims import CODE_PATH_ONLY, REPRODUCED
from lib.config import StageSettings
from lib.submissions.cityllava import block_expansion, captions, data_prep, evaluate, filters, infer, official, short_qa
from lib.submissions.cityllava.annotations import PHASES
from lib.submissions.cityllava.official import PhaseCaptions
from tests import small
from tests.bench.bench_captions import plain_cider
from tests.small import SmallRun
from tests.unit.test_captions_metrics import nltk_bleu, nltk_meteor, nltk_words, rouge_score

pytestmark = [pytest.mark.notebook, pytest.mark.slow]

SUBMISSION = "cityllava"
SPLITS, ASKED, MODELS = ("train", "val", "test"), ("val", "test"), ("base", "finetuned")
WEIGHTS = {
    "model.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
}
RESULTS = {
    "data_prep": {"media", "report.json", "reference_views.json"}
    | {
        f"processed_anno/frame_bbox_anno/{corpus}_{split}_all_video_with_bbox_anno_first_frame.json"
        for corpus in ("wts", "bdd")
        for split in SPLITS
    }
    | {f"processed_anno/llava_format/wts_bdd_{split}.json" for split in ("train", "val")}
    | {f"processed_anno/{name}.json" for split in ASKED for name in (f"best_view_for_{split}", f"perspective_{split}_images")},
    "augmentation": {"report.json", "processed_anno/caption_split/caption_split_merge.json"}
    | {f"processed_anno/caption_split/caption_split_{kind}_{part}.json" for kind in ("pedestrian", "vehicle") for part in ("0", "merge")}
    | {
        f"processed_anno/llava_format/wts_bdd_llava_qa_train{step}.json"
        for step in ("", "_stage", "_stage_filted", "_stage_filted_checked", "_stage_filted_miss")
    },
    "block_expansion": {"media", "layer_map.json"},
    "finetune": {"train.jsonl", "val.jsonl"} | {f"model/{name}" for name in WEIGHTS},
    "infer": {f"{benchmark}-{model}.jsonl" for benchmark in ASKED for model in MODELS}
    | {"val-measures.json", "inference_result.json", "samples/samples.json"},
    "evaluate": {"metrics.json", "references.jsonl", "submission.json"},
    "quick_review": {"claims.json"},
}


def read(path: Path) -> dict | list:
    """A JSON file."""
    return json.loads(path.read_text())


def scores_of(run: SmallRun) -> dict[tuple[str, str, str, str], float]:
    """The run's scores by benchmark, metric, group and model."""
    rows = read(run.stage("evaluate") / "metrics.json")["scores"]
    return {(row["benchmark"], row["metric"], row["group"], row["model"]): row["value"] for row in rows}


def media_of(run: SmallRun) -> Path:
    """Where the pictures of 01 lie."""
    return data_prep.media_root(run.stage("data_prep"))


def predictions_of(run: SmallRun, benchmark: str, model: str = "finetuned") -> list[infer.Prediction]:
    """What 05 wrote."""
    return infer.read_predictions(run.stage("infer") / f"{benchmark}-{model}.jsonl")


@pytest.fixture
def references(small_run: SmallRun) -> list[evaluate.Reference]:
    """The val captions as 06 wrote them."""
    return records.read_rows(small_run.stage("evaluate") / evaluate.REFERENCES, evaluate.Reference)


@pytest.fixture
def cfg(small_run: SmallRun) -> StageSettings:
    """The settings that 06 saw."""
    return review.stage_settings(review.settings_of(small_run.folder), "evaluate")


# the run folder


def test_every_stage_is_done_and_its_record_names_the_files_it_wrote(small_run):
    small.check_records(small_run, RESULTS)


def test_the_run_folder_holds_what_a_person_looks_for(small_run):
    folder = small_run.folder
    assert re.fullmatch(r"\d{8}-\d{6}_tiny_base-[0-9a-f]{4}", folder.name)
    for name in ("run.json", "config.yaml", "params.txt", "report.html"):
        assert (folder / name).stat().st_size > 0
    assert sorted(path.name for path in (folder / "checkpoints").glob("checkpoint-*"))
    assert any(path.name.startswith("events.out") for path in files.list_files(folder / "tensorboard"))
    assert all((small_run.stage(name) / "notebook.ipynb").is_file() for name in small.STAGES)
    content = read(folder / "run.json")
    assert (content["submission"], content["variant"], content["profile"]) == ("cityllava", "base", "tiny")
    assert content["overrides"] == small.overrides(of="cityllava")


def test_the_report_opens_offline_and_names_no_place_of_this_machine(small_run):
    text = (small_run.folder / "report.html").read_text()
    assert "<script" not in text and "onerror=" not in text
    assert not re.search(r"""(?:src|href)\s*=\s*["']?+(?!data:|#)""", text)
    assert not re.search(r"url\((?!data:)|@import", text)
    assert str(small_run.home) not in text and str(small.ROOT) not in text
    assert "CODE PATH ONLY" in text and "NOT TESTABLE HERE" in text


def test_the_command_ends_in_the_claims_table(small_run):
    lines = small_run.output.splitlines()
    (server,) = [line for line in lines if line.startswith("score of the winning entry on the hidden test set")]
    assert "33.4308" in server and "NOT TESTABLE HERE" in server
    assert any(line.startswith("samples of one step") and "REPRODUCED" in line for line in lines)
    assert lines[-1].startswith("report: ")


def test_the_same_command_again_finds_every_stage_done_in_seconds(small_run):
    newest = small.run_chain(small_run.home, of="cityllava")  # other tests leave runs with these settings, of other data for example
    again = small.run_chain(small_run.home, of="cityllava")
    assert small.outcomes(again.output) == dict.fromkeys(small.STAGES, "hit")
    assert again.folder == newest.folder
    assert again.seconds < 60


def test_the_scores_are_computed_again_without_torch(small_run, tmp_path):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('torch is blocked: a review works without it')\n")
    command = f"from pathlib import Path; from lib import review; print(len(review.rescored(Path({str(small_run.folder)!r}))))"
    environment = small.environment(small_run.home, PYTHONPATH=f"{tmp_path}:{small.ROOT}")
    answer = subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=False)
    recorded = read(small_run.stage("evaluate") / "metrics.json")["scores"]
    assert answer.stdout.strip() == str(sum(row["benchmark"] != "data" for row in recorded)), answer.stderr


def test_plan_says_hit_for_every_stage(small_run):
    answer = small.kit(small_run.home, "plan", "cityllava", *small.sets(of="cityllava"))
    assert answer.returncode == 0, answer.stderr
    assert re.findall(r"^(\w+) +hit +nothing it depends on has changed", answer.stdout, flags=re.MULTILINE) == list(small.STAGES)


@pytest.mark.parametrize("name", config.layers("cityllava")["ablations"])
def test_every_ablation_is_a_valid_change_of_the_settings(name):
    changes, profiles = config.layers("cityllava")["ablations"][name], config.layers("cityllava")["profiles"]
    given = [(config.resolve("cityllava", profile=one), config.resolve("cityllava", profile=one, overrides=changes)) for one in profiles]
    assert any(changed.values() != usual.values() for usual, changed in given)


# 01


def test_boxes_are_extracted_per_data_set_and_split_in_the_published_form(small_run):
    for split in SPLITS:
        found = data_prep.read_extraction(small_run.stage("data_prep"), split)
        assert found and all((small_run.data / path).is_file() for path in found)
        for path, entry in found.items():
            keys = {"start_time", "end_time", "ped_bboxes", "veh_bboxes", "phase_number"}
            assert set(entry) == (keys | {"fps"} if "BDD" in path else keys)
            assert set(entry["phase_number"]) == {*entry["ped_bboxes"], *entry["veh_bboxes"]}
            assert set(entry["phase_number"].values()) <= set("01234")


def test_every_boxed_phase_has_both_pictures_and_the_boxes_colours_are_in_them(small_run):
    found = data_prep.read_extraction(small_run.stage("data_prep"), "train")
    for path, entry in found.items():
        for phase in {int(number) for number in entry["phase_number"].values()}:
            for extent in ("global", "local"):
                picture = Image.open(media_of(small_run) / data_prep.frames.picture_path(path, phase, extent))
                red, green, blue = (np.asarray(picture, dtype=int)[..., channel] for channel in range(3))
                outlined = ((green > 150) & (red < 110) & (blue < 110)) | ((blue > 150) & (red < 110) & (green < 110))
                assert outlined.sum() > 20, (path, phase, extent)


def test_records_are_conversations_about_pictures_that_are_there(small_run):
    for split in ("train", "val"):
        found = data_prep.read_records(small_run.stage("data_prep"), split)
        assert found
        for record in found:
            assert (media_of(small_run) / record["image"]).is_file()
            assert (media_of(small_run) / filters.local_image(record["image"])).is_file()
            assert [turn["from"] for turn in record["conversations"]] == ["human", "gpt"] * 2
            assert record["segment"] == filters.stage_of(record["image"])
            assert ("view" in record) == ("BDD" not in record["image"])


def test_every_scenario_is_asked_about_five_times_from_the_view_that_stands_for_it(small_run):
    sizes = {"val": 7, "test": 6}
    for split in ASKED:
        views = read(small_run.stage("data_prep") / f"processed_anno/best_view_for_{split}.json")
        asked = data_prep.read_frames(small_run.stage("data_prep"), split)
        assert len(views) == sizes[split]
        assert {(one.scenario, one.label) for one in asked} == {(name, str(phase)) for name in views for phase in range(5)}
        for one in asked:
            for path in (one.image, filters.local_image(one.image)):
                assert (media_of(small_run) / path).is_file()
            assert one.view == ("vehicle" if one.scenario.startswith("video") else "overhead")  # as published, whatever the camera


def test_what_is_missing_or_odd_is_reported_by_reason_and_in_the_record(small_run):
    report, record = read(small_run.stage("data_prep") / "report.json"), read(small_run.stage("data_prep") / "record.json")
    assert {reason: found["count"] for reason, found in report["findings"].items()} == record["dropped"]
    assert "captions without boxes" in record["dropped"]
    assert {split: report["counts"][split]["scenarios"] for split in SPLITS} == {"train": 10, "val": 7, "test": 6}


def test_a_folder_of_pictures_or_weights_is_one_result_with_one_digest(small_run):
    for stage in ("data_prep", "block_expansion"):
        outputs = read(small_run.stage(stage) / "record.json")["outputs"]
        assert re.fullmatch("[0-9a-f]{64}", outputs["media"])
        assert not any(name.startswith("media/") for name in outputs)
        assert len(files.list_files(small_run.stage(stage) / "media")) > 1


# 02


def test_short_and_full_samples_are_as_many_and_of_one_turn(small_run):
    folder = small_run.stage("augmentation")
    sampled = read(folder / filters.SAMPLED)
    assert sum(one["full_flag"] for one in sampled) * 2 == len(sampled)
    trained = read(folder / filters.CHECKED)
    assert 0 < len(trained) < len(sampled)
    for one in trained:
        question, answer = one["conversations"]
        assert question["value"].startswith(f"<image>\nThis is an image in '{filters.stage_of(one['image'])}' stage. ")
        assert "bounding box" in question["value"] or "weather" in question["value"]
        assert answer["value"]


def test_every_sentence_of_a_caption_was_given_a_letter_by_the_stand_in(small_run):
    folder = small_run.stage("augmentation")
    for kind in short_qa.KINDS:
        for record in files.read_jsonl(folder / short_qa.CLASSIFIED[kind]):
            sentences = short_qa.split_sentences(short_qa.caption_of(record, kind))
            assert re.fullmatch(r"(\d+\.[a-e]\n?)+", record[f"{kind}_response"])
            assert len(record[f"{kind}_response"].splitlines()) == len(sentences)


def test_samples_left_out_are_counted_by_reason(small_run):
    folder = small_run.stage("augmentation")
    report = read(folder / "report.json")
    reasons = {reason: found["count"] for reason, found in report["dropped"].items()}
    assert reasons == read(folder / "record.json")["dropped"]
    assert {"short question not drawn", "pedestrian too small", "camera not in the reference list"} <= set(reasons)
    assert report["samples"]["caption_split_merge.json"] - report["samples"]["wts_bdd_llava_qa_train_stage_filted_checked.json"] == sum(
        count for reason, count in reasons.items() if " answer: " not in reason
    )


# 03 and 04


def test_two_blocks_stand_behind_every_second_layer_and_change_no_logit(small_run):
    place = small_run.stage("block_expansion")
    expansion = block_expansion.read_expansion(place)
    assert expansion.inserted == (2, 5) and expansion.base_layers == 4
    (base,) = (small_run.home / "data" / "base").glob("llava-*")
    proof = blocks.prove_identity(base, place / block_expansion.MODEL, positions=40, seed=3)
    assert proof.max_difference == 0.0 and proof.logits > 0
    assert blocks.prove_structure(base, place / block_expansion.MODEL, expansion).identical
    told = (place / "notebook.ipynb").read_text()
    assert re.search(r"largest difference of a logit\D+0\.0\b|largest difference of a logit[^0-9]+0\b", told)


def tensors(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name, in the spelling of the model class, and bytes of every weight of a folder."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "np") as stored:
            for name in stored.keys():  # noqa: SIM118
                yield name, stored.get_tensor(name).tobytes()


def test_training_changes_the_new_blocks_and_the_head_and_nothing_else(small_run):
    before = dict(tensors(small_run.stage("block_expansion") / block_expansion.MODEL))
    after = dict(tensors(small_run.stage("finetune") / "model"))
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name] != after[name]}
    expected = {name for name in before if re.search(r"language_model\.(?:model\.)?layers\.(2|5)\.|lm_head", name)}
    assert changed == expected and len(expected) == 2 * 9 + 1


def test_the_trainer_left_its_curves_its_parameters_and_the_samples_it_saw(small_run):
    place = small_run.stage("finetune")
    samples = files.read_jsonl(place / "train.jsonl")
    assert len(samples) == len(read(small_run.stage("augmentation") / filters.CHECKED))
    assert all([Path(path).parts[1] for path in one["pictures"]] == ["bbox_local", "bbox_global"] for one in samples)
    steps = -(-len(samples) // 16)
    training = journal.curves(place)
    assert (training.train[0].step, training.train[-1].step, training.state) == (0, steps - 1, curves.FINISHED)
    assert training.validations[0].epoch == 0 and training.validations[-1].epoch == 1
    assert all(0 < found.metrics["val_loss"] < 20 for found in training.validations)
    params = curves.read_params(small_run.folder / "params.txt")
    assert (params["method"], params["trained"], params["lr"]) == ("blocks", "blocks_and_head", "0.001")
    assert str(small_run.home) not in (small_run.folder / "params.txt").read_text()


# 05


@pytest.mark.parametrize("benchmark", ASKED)
def test_both_captions_of_every_phase_are_answered_by_both_models(small_run, benchmark):
    asked = [(one.scenario, one.label, one.view) for one in data_prep.read_frames(small_run.stage("data_prep"), benchmark)]
    for model in MODELS:
        found = predictions_of(small_run, benchmark, model)
        assert [(one.scenario, one.label, one.view) for one in found] == asked
        assert not any(one.failure for one in found)
        assert not any("<|" in text for one in found for text in (one.pedestrian, one.vehicle))
    assert predictions_of(small_run, benchmark) != predictions_of(small_run, benchmark, "base")


def test_the_known_captions_are_measured_by_both_models_beside_their_answers(small_run):
    measures = read(small_run.stage("infer") / "val-measures.json")
    assert set(measures) == set(MODELS)
    for values in measures.values():
        assert values["tokens"] == measures["base"]["tokens"] > 0
        assert 0 < values["loss"] < 20 and 0 <= values["token accuracy"] <= 1
    # What 04 logged after its last step is the same measure, as a mean over batches.
    last = journal.curves(small_run.stage("finetune")).validations[-1].metrics["val_loss"]
    assert measures["finetuned"]["loss"] == pytest.approx(last, rel=0.1)


def test_samples_of_val_are_kept_small_with_their_captions(small_run):
    folder = small_run.stage("infer") / "samples"
    for row in read(folder / "samples.json"):
        assert row["captions"] == ["crop", "whole frame"]
        assert all(max(Image.open(folder / name).size) <= infer.SAMPLE_SIDE for name in row["pictures"])


# 06


def test_the_submission_is_valid_and_holds_what_was_predicted_for_test(small_run):
    content = read(small_run.stage("evaluate") / "submission.json")
    found = predictions_of(small_run, "test")
    problems = official.find_problems(content, dict.fromkeys(one.scenario for one in found))
    assert [one for one in problems if not one.endswith("is empty")] == []
    assert content == read(small_run.stage("infer") / "inference_result.json")
    assert {
        (name, *entry["labels"], entry["caption_pedestrian"], entry["caption_vehicle"]) for name in content for entry in content[name]
    } == {(one.scenario, one.label, one.pedestrian, one.vehicle) for one in found}


def test_references_are_the_captions_of_the_val_files_seen_from_above(small_run, references):
    told = {(one.scenario, one.label): one for one in references}
    for path in (small_run.data / "WTS/annotations/caption/val").rglob("overhead_view/*_caption.json"):
        for entry in read(path)["event_phase"]:
            one = told.pop((path.name.removesuffix("_caption.json"), entry["labels"][0]))
            assert (one.pedestrian, one.vehicle) == (entry["caption_pedestrian"], entry["caption_vehicle"])
    for path in (small_run.data / "BDD_PC_5k/annotations/caption/val").glob("*.json"):
        for entry in read(path)["event_phase"]:
            one = told.pop((path.name.removesuffix("_caption.json"), str(PHASES.index(entry["labels"][0]))))
            assert (one.pedestrian, one.vehicle) == (entry["caption_pedestrian"], entry["caption_vehicle"])
    assert told == {}


def test_the_official_score_is_that_of_a_loop_over_nltk_and_rouge_score(small_run, references):
    said = {(one.scenario, one.label): one for one in predictions_of(small_run, "val")}

    def score(prefix: str) -> float:
        pairs = [
            (getattr(said[one.scenario, one.label], kind), getattr(one, kind))
            for one in references
            if one.scenario.startswith(prefix)
            for kind in ("pedestrian", "vehicle")
        ]
        sums = [100 * nltk_bleu(*pair) + 100 * nltk_meteor(*pair, {}) + 100 * rouge_score(*pair) for pair in pairs]
        ciders = [plain_cider(*(nltk_words(text) for text in pair)) for pair in pairs]
        return (sum(sums) + 10 * sum(ciders)) / len(pairs) / 4

    expected = {"internal": score("2023"), "external": score("video")}
    found = scores_of(small_run)
    assert {name: found["val", "score", name, "finetuned"] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert found["val", "score", "all", "finetuned"] == pytest.approx(sum(expected.values()) / 2, abs=1e-6)
    four = [found["val", name, "all", "finetuned"] for name in ("BLEU-4", "METEOR (no synonyms)", "ROUGE-L", "CIDEr")]
    assert found["val", "score", "all", "finetuned"] == pytest.approx((100 * sum(four[:3]) + 10 * four[3]) / 4, abs=1e-9)


def test_scores_stand_beside_the_base_model_the_wrong_scene_and_chance(small_run):
    scores = scores_of(small_run)
    for model in ("finetuned", "base", "shuffled"):
        groups = {group for benchmark, metric, group, who in scores if (benchmark, metric, who) == ("val", "score", model)}
        assert groups == {"all", "internal", "external", "pedestrian", "vehicle", *(f"phase {number}" for number in range(5))}
    assert scores["evaluator", "identical captions", "all", "finetuned"] == pytest.approx(100, abs=1e-3)
    for model in MODELS:
        assert scores["val", "caption loss", "all", model] > 0


def test_the_clauses_of_every_attribute_are_counted_beside_a_guess(small_run):
    scores = scores_of(small_run)
    named = {name for kind in captions.NAMED.values() for name in kind}
    for model in ("finetuned", "base", "shuffled", "chance"):
        found = {group: value for (_, metric, group, who), value in scores.items() if (metric, who) == ("clause accuracy", model)}
        assert set(found) == named and all(0 <= value <= 1 for value in found.values())
    assert scores["val", "clause accuracy", "upper", "chance"] == 1 / 5


def right_answers(references: list[evaluate.Reference]) -> dict[str, list[infer.Prediction]]:
    """Predictions that say what the references say."""
    found = [infer.Prediction("val", one.scenario, one.label, "overhead", one.pedestrian, one.vehicle) for one in references]
    return dict.fromkeys(MODELS, found)


def test_right_answers_score_a_hundred_and_those_of_the_next_scene_far_less(references, cfg):
    rows = {(row["metric"], row["group"], row["model"]): row["value"] for row in evaluate.score(right_answers(references), references, cfg)}
    assert rows["score", "all", "finetuned"] == pytest.approx(100, abs=1e-3)
    assert rows["score", "all", "shuffled"] < 50
    assert rows["clause accuracy", "upper", "finetuned"] == 1.0 > rows["clause accuracy", "upper", "shuffled"]


def test_what_was_not_answered_counts_as_zero_and_stays_in_the_mean(references, cfg):
    found = right_answers(references)
    whole = [one for one in references if one.scenario.startswith("2023")]
    lost = infer.Prediction("val", whole[0].scenario, whole[0].label, "overhead", "", "", failure="picture missing")
    found["finetuned"] = [lost if (one.scenario, one.label) == (lost.scenario, lost.label) else one for one in found["finetuned"]]
    rows = {(row["metric"], row["group"], row["model"]): row["value"] for row in evaluate.score(found, references, cfg)}
    assert rows["score", "internal", "finetuned"] == pytest.approx(100 * (1 - 1 / len(whole)), abs=1e-3)


def test_a_dot_more_or_another_case_changes_the_score_as_the_evaluator_has_it(references):
    one = references[0]
    known = {one.scenario: {one.label: PhaseCaptions(one.pedestrian, one.vehicle)}}
    changed = {one.scenario: {one.label: PhaseCaptions(one.pedestrian.upper(), one.vehicle)}}
    (found,) = official.score_phases(known, changed, None)
    assert found.vehicle.score == pytest.approx(100, abs=1e-3)
    assert found.pedestrian.bleu < 0.1 and found.pedestrian.rouge_l == pytest.approx(1)


# claims and verification


def test_a_tiny_run_turns_no_score_green_and_what_is_computed_is_reproduced(small_run):
    run = review.as_run(small_run.folder)
    book = quick_review.read_claims(run)
    words = {one.claim.id: one for one in quick_review.compare(book, quick_review.read_scores(run), run)}
    assert set(words) == {claim.id for claim in book.claims}
    computed = {claim.id for claim in book.claims if claim.derive is not None}
    assert {words[name].word for name in computed} == {REPRODUCED}
    measured = {name for name, one in words.items() if one.measured is not None and name not in computed}
    assert {words[name].word for name in measured} <= {CODE_PATH_ONLY}
    assert words["test_score"].word not in (REPRODUCED, CODE_PATH_ONLY)


def test_verify_holds_for_the_run_and_finds_a_changed_prediction(small_run):
    path = small_run.stage("infer") / "val-finetuned.jsonl"
    first, *others = path.read_text().splitlines(keepends=True)
    row = json.loads(first)
    row["pedestrian"] = "The pedestrian is a small child in a yellow school cap."
    lines = small.broken_by(small_run, path, "".join([json.dumps(row) + "\n", *others]).encode())
    assert any("infer: " in line and line.endswith("changed or missing: val-finetuned.jsonl") for line in lines)
    assert any("scores recomputed from raw predictions; different: val score" in line for line in lines)


def test_a_score_is_recomputed_from_what_the_run_holds_to_the_last_digit(small_run):
    recorded = read(small_run.stage("evaluate") / "metrics.json")["scores"]
    assert review.rescored(small_run.folder) == [row for row in recorded if row["benchmark"] != "data"]
