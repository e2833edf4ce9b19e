"""The whole chain of a3r by the command line: what a run leaves behind, what a second one does, what turns a score."""

import json
import re
from pathlib import Path

import pytest

from lib import config, curves
from lib.submissions.a3r import data_prep, evaluate, infer, queries, schedule, tables, vocabulary
from tests import small
from tests.small import SmallRun

pytestmark = [pytest.mark.notebook, pytest.mark.slow]

RESULTS = {
    "data_prep": {"car_attribute.json", "queries.jsonl", "gallery.json", "report.json", "test_car_text.txt", "test_person_text.txt"}
    | {f"{split}_{part}" for split in ("train", "val") for part in ("car_label.txt", "person_label.txt", "person_data.csv")},
    "augmentation": {"audit.json"}
    | {f"{split}_{part}" for split in ("train", "val") for part in ("car_data.csv", "data.csv")}
    | {f"augmented_ViT-tiny_{split}_label.txt" for split in ("train", "val")},
    "block_expansion": {"base.json"},
    "finetune": {"plan.json", "model/open_clip_model.safetensors", "model/open_clip_config.json"},
    "infer": {f"{benchmark}-{model}.jsonl" for benchmark in ("val", "test") for model in ("base", "finetuned")}
    | {"val-ranks.json", "open_clip_car_infer.json", "open_clip_person_infer.json", "samples/samples.json"},
    "evaluate": {"metrics.json", "references.jsonl", "submission.json"},
    "quick_review": {"claims.json"},
}  # fmt: skip


def read(path: Path) -> dict:
    """A JSON file."""
    return json.loads(path.read_text())


def scores_of(run: SmallRun) -> dict[tuple[str, str, str, str], float]:
    """The run's scores by benchmark, metric, group and model."""
    rows = read(run.stage("evaluate") / "metrics.json")["scores"]
    return {(row["benchmark"], row["metric"], row["group"], row["model"]): row["value"] for row in rows}


def test_every_stage_is_done_and_its_record_names_the_files_it_wrote(small_run):
    small.check_records(small_run, RESULTS)


def test_the_run_folder_holds_what_a_person_looks_for(small_run):
    folder = small_run.folder
    assert re.fullmatch(r"\d{8}-\d{6}_tiny_base-[0-9a-f]{4}", folder.name)
    for name in ("run.json", "config.yaml", "params.txt", "out.log", "report.html"):
        assert (folder / name).stat().st_size > 0
    assert sorted(path.name for path in (folder / "checkpoints").glob("*.pt")) == ["epoch_1.pt", "epoch_2.pt"]
    assert any((folder / "tensorboard").iterdir())
    assert all((small_run.stage(name) / "notebook.ipynb").is_file() for name in small.STAGES)
    content = read(folder / "run.json")
    assert {key: content[key] for key in ("submission", "variant", "profile")} == {
        "submission": "a3r",
        "variant": "base",
        "profile": "tiny",
    }
    assert content["overrides"] == small.overrides()


def test_records_tell_versions_hardware_seconds_memory_and_digests(small_run):
    record = read(small_run.stage("infer") / "record.json")
    assert {"torch", "open_clip_torch", "python", "device", "threads"} <= set(record["versions"])
    assert record["hardware"]["cores"] > 0 and record["seconds"] > 0 and record["peak_memory_mib"] > 0
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in record["outputs"].values())
    assert "seed: 0\n" in (small_run.folder / "config.yaml").read_text()


def test_the_report_opens_offline_and_names_no_place_of_this_machine(small_run):
    text = (small_run.folder / "report.html").read_text()
    assert "<script" not in text and "onerror=" not in text
    assert not re.search(r"""(?:src|href)\s*=\s*["']?+(?!data:|#)""", text)
    assert not re.search(r"url\((?!data:)|@import", text)
    assert str(small_run.home) not in text and str(small.ROOT) not in text
    assert "CODE PATH ONLY" in text and "REPRODUCED" in text


def test_the_command_ends_in_the_claims_table(small_run):
    rows = [line for line in small_run.output.splitlines() if "CODE PATH ONLY" in line]
    assert any(line.startswith("text-to-image R@1 after epoch 5") for line in rows)
    assert small_run.output.rstrip().splitlines()[-1].startswith("report: ")


def test_the_same_command_again_finds_every_stage_done_in_seconds(small_run):
    newest = small.run_chain(small_run.home)  # other tests leave runs with these settings, of other data for example
    again = small.run_chain(small_run.home)
    assert small.outcomes(again.output) == dict.fromkeys(small.STAGES, "hit")
    assert again.folder == newest.folder
    assert again.seconds < 20


def test_plan_says_hit_for_every_stage(small_run):
    answer = small.kit(small_run.home, "plan", "a3r", *small.sets())
    assert answer.returncode == 0, answer.stderr
    assert re.findall(r"^(\w+) +hit +nothing it depends on has changed", answer.stdout, flags=re.MULTILINE) == list(small.STAGES)


def test_variant_last_runs_infer_and_what_follows_and_adds_the_words_about_cameras(small_run):
    last = small.run_chain(small_run.home, "--variant", "last")
    hits = dict.fromkeys(small.STAGES[:4], "hit")
    assert small.outcomes(last.output) == {**hits, **dict.fromkeys(small.STAGES[4:], "done")}
    texts = [one.encoded for one in infer.read_predictions(last.stage("infer") / "test-finetuned.jsonl") if one.kind == "vehicle"]
    assert texts and all(text.endswith("image taken by traffic surveillance cameras") for text in texts)
    assert all(text.startswith(("A ", "An ", "This is a")) for text in texts)
    answer = small.kit(small_run.home, "compare", small_run.folder.name, last.folder.name)
    assert "infer.query: strip -> suffix" in answer.stdout


def test_ablations_are_run_beside_the_unchanged_run_and_end_in_a_row_each(small_run):
    vary = ("--vary", "evaluate.quirks.merge_order=as_published")
    answer = small.kit(small_run.home, "ablate", "a3r", "query-suffix", *vary, *small.sets())
    assert answer.returncode == 0, answer.stderr
    header, _, *rows = answer.stdout.splitlines()[-5:]
    assert header.split()[:2] == ["ablation", "changes"] and "val mAP@10 finetuned" in header and "test mAP@10 base" in header
    assert [row.split()[0] for row in rows] == ["unchanged", "query-suffix", "evaluate.quirks.merge-order-as-published"]
    assert "infer.query=suffix" in rows[1] and "infer.query" not in rows[0] and vary[1] in rows[2]
    tags = [row.split()[-1].rpartition("_")[2] for row in rows]
    assert tags == [small_run.folder.name.rpartition("_")[2], "query-suffix", "evaluate.quirks.merge-order-as-published"]


@pytest.mark.parametrize("name", config.layers("a3r")["ablations"])
def test_every_ablation_is_a_valid_change_of_the_settings(name):
    changes = config.layers("a3r")["ablations"][name]
    assert config.resolve("a3r", overrides=changes).values() != config.resolve("a3r").values()


def test_labels_are_split_for_train_and_val_and_the_vocabulary_is_that_of_the_labels(small_run):
    folder = small_run.stage("data_prep")
    for split, counts in (("train", [small.VEHICLES, small.PEDESTRIANS]), ("val", [12, 12])):
        assert [len(tables.read_split(folder / f"{split}_{kind}_label.txt")) for kind in ("car", "person")] == counts
    words = vocabulary.read_vocabulary(folder / "car_attribute.json")
    phrases = " ".join(label.attribute for label in tables.read_split(folder / "train_car_label.txt"))
    assert all(word in phrases for word in (*words.colors, *words.types, *words.brands))
    assert {"Hongyan", "Balong Heavy Truck"} <= set(words.brands)


def test_queries_are_routed_by_class_and_keep_their_place_in_the_query_file(small_run):
    lines = (small_run.data / "datasets/test/test_text.txt").read_text().splitlines()
    rows = [json.loads(line) for line in (small_run.stage("data_prep") / "queries.jsonl").read_text().splitlines()]
    assert [(row["index"], row["text"]) for row in rows] == list(enumerate(lines))
    words = vocabulary.read_vocabulary(small_run.stage("data_prep") / "car_attribute.json")
    named = [any(word in line for word in (*words.types, *words.brands)) for line in lines]
    assert [row["kind"] == "vehicle" for row in rows] == named
    assert sum(named) >= 8 and not any(named[12:])  # the file begins with its twelve vehicle queries


def test_training_tables_put_vehicles_first_and_pedestrians_as_they_are(small_run):
    table = tables.read_table(small_run.stage("augmentation") / "train_data.csv")
    assert tables.count_rows(table) == tables.Counts(small.VEHICLES, small.PEDESTRIANS)
    assert all("." not in row.title for row in table.rows[: small.VEHICLES])
    labels = tables.read_split(small_run.stage("data_prep") / "train_person_label.txt")
    assert [row.title for row in table.rows[small.VEHICLES :]] == [label.caption for label in labels]


def test_the_trainer_followed_the_schedule_and_its_curves_can_be_read_back(small_run):
    training = curves.read_run_folder(small_run.folder)
    assert training.samples_per_epoch == small.VEHICLES + small.PEDESTRIANS
    assert [found.epoch for found in training.validations] == [1, 2]
    recipe = {"peak": small.PEAK, "warmup": small.WARMUP, "total": small.STEPS * small.EPOCHS}
    for point in training.train:
        assert point.lr == pytest.approx(schedule.learning_rate(point.step, **recipe), rel=1e-5)


def test_ranks_of_the_validation_pairs_are_those_the_trainer_logged(small_run):
    ours = read(small_run.stage("infer") / "val-ranks.json")["finetuned"]
    logged = curves.read_run_folder(small_run.folder).validations[-1].metrics
    # Not the other direction: pictures that share a caption tie there, and the trainer's sort may put them in any order.
    names = [name for name in logged if name.startswith("text_to_image_")]
    assert len(names) == 5
    assert {name: ours[name] for name in names} == pytest.approx({name: logged[name] for name in names}, abs=1e-4)
    assert ours["clip_val_loss"] == pytest.approx(logged["clip_val_loss"], abs=1e-3)


def test_recall_by_caption_is_at_least_recall_of_the_own_pair_and_stands_beside_its_ceiling(small_run):
    for values in read(small_run.stage("infer") / "val-ranks.json").values():
        for k in (1, 5, 10):
            assert values[f"text_to_image_group_R@{k}"] >= values[f"text_to_image_R@{k}"]
            assert 0 < values[f"ceiling_R@{k}"] <= 1


def test_predictions_rank_every_query_of_both_benchmarks(small_run):
    gallery = set(read(small_run.stage("data_prep") / "gallery.json"))
    for model in ("base", "finetuned"):
        found = infer.read_predictions(small_run.stage("infer") / f"test-{model}.jsonl")
        assert [one.index for one in found] == list(range(24))
        for one in found:
            assert len(set(one.image_names)) == 10 and set(one.image_names) <= gallery
            assert list(one.scores) == sorted(one.scores, reverse=True) and -1 <= one.scores[-1] <= one.scores[0] <= 1


def test_the_submission_is_valid_and_in_the_order_of_the_query_file(small_run):
    path = small_run.stage("evaluate") / "submission.json"
    lines = (small_run.data / "datasets/test/test_text.txt").read_text().splitlines()
    assert [entry.text for entry in queries.read_results(path)] == lines
    assert evaluate.validate_submission(path, small_run.stage("data_prep"), 10) == []
    gallery = [file.name for file in data_prep.picture_folder(small_run.data, "test").iterdir()]
    assert queries.find_problems(read(path), lines, gallery, top_k=10) == []


def test_scores_come_by_class_and_attribute_kind_and_by_both_denominators(small_run):
    scores = scores_of(small_run)
    groups = {group for benchmark, _, group, _ in scores if benchmark == "test"}
    assert {"all", "vehicle", "pedestrian", "sentence"} < groups
    assert groups - {"all", "vehicle", "pedestrian", "sentence"} <= {"colour+brand+type", "colour+brand", "colour+type", "brand+type"}
    for benchmark in ("val", "test"):
        for model in ("base", "finetuned", "shuffled"):
            official = scores[benchmark, "mAP@10", "all", model]
            assert 0 <= official <= scores[benchmark, "mAP@10 with min(relevant, k)", "all", model] <= 1


def test_the_official_score_is_the_task_pages_formula_on_the_written_predictions(small_run):
    found = {one.index: one.image_names for one in infer.read_predictions(small_run.stage("infer") / "test-finetuned.jsonl")}
    answers = read(small_run.data / "toy_answers.json")

    def precision(names: tuple[str, ...], relevant: list[str]) -> float:
        hits = [name in relevant for name in names[:10]]
        return sum(sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit) / len(relevant)

    mean = sum(precision(found[int(index)], relevant) for index, relevant in answers.items()) / len(answers)
    assert scores_of(small_run)["test", "mAP@10", "all", "finetuned"] == pytest.approx(mean, abs=1e-12)
