"""Negative controls: what must turn a score or a verdict of a3r does turn it, and a changed file is found."""

import dataclasses
import json

import pytest

from lib import quick_review, records, review
from lib.claims import CODE_PATH_ONLY, NOT_REPRODUCED, REPRODUCED
from lib.config import StageSettings
from lib.submissions.a3r import evaluate, infer
from lib.submissions.a3r.evaluate import Reference
from lib.submissions.a3r.infer import Prediction
from tests import small
from tests.small import SmallRun

pytestmark = [pytest.mark.notebook, pytest.mark.slow]


@pytest.fixture
def references(small_run: SmallRun) -> list[Reference]:
    """The answers of both benchmarks as 06 wrote them."""
    return records.read_rows(small_run.stage("evaluate") / evaluate.REFERENCES, Reference)


@pytest.fixture
def cfg(small_run: SmallRun) -> StageSettings:
    """The settings that 06 saw."""
    return review.stage_settings(review.settings_of(small_run.folder), "evaluate")


def right_answers(references: list[Reference]) -> dict[str, list[Prediction]]:
    """Predictions that name the relevant pictures first, for every model."""
    found = [
        Prediction(one.benchmark, one.index, one.kind, "", "", one.relevant[:10], (1.0,) * len(one.relevant[:10])) for one in references
    ]
    return dict.fromkeys(evaluate.MODELS, found)


def official(rows: list[dict], benchmark: str, model: str) -> float:
    """The official score over all queries."""
    (value,) = [
        row["value"] for row in rows if (row["benchmark"], row["metric"], row["group"], row["model"]) == (benchmark, "mAP@10", "all", model)
    ]
    return value


def test_right_answers_score_one_and_the_same_against_shuffled_references_far_less(references, cfg):
    rows = evaluate.score(right_answers(references), references, cfg)
    for benchmark in ("val", "test"):
        assert official(rows, benchmark, "finetuned") == 1.0
        assert official(rows, benchmark, "shuffled") < 0.5


def test_the_model_scores_above_its_shuffled_control(small_run):
    rows = json.loads((small_run.stage("evaluate") / "metrics.json").read_text())["scores"]
    for benchmark in ("val", "test"):
        assert official(rows, benchmark, "finetuned") > official(rows, benchmark, "shuffled")


def test_references_swapped_between_vehicles_and_pedestrians_turn_every_right_answer_wrong(references, cfg):
    test = [one for one in references if one.benchmark == "test"]
    swapped = [dataclasses.replace(one, relevant=other.relevant) for one, other in zip(test, reversed(test), strict=True)]
    rows = evaluate.score(right_answers(test), swapped, cfg)
    assert official(rows, "test", "finetuned") == 0.0


def test_a_sentence_beside_two_attribute_fields_is_answered_by_the_pictures_of_both(small_run, tmp_path):
    folder, out = small_run.stage("data_prep"), tmp_path / "01"
    out.mkdir()
    for name in ("car_attribute.json", "queries.jsonl", "val_car_label.txt"):
        (out / name).write_bytes((folder / name).read_bytes())
    fields = [",".join("1" if place == number else "0" for place in range(21)) for number in range(3)]
    told = [(fields[0], "same"), (fields[1], "same"), (fields[1], "other"), (fields[2], "third")]
    (out / "val_person_label.txt").write_text("".join(f"00000{n}.jpg\t{field}\tA {text}.\n" for n, (field, text) in enumerate(told)))
    run = review.as_run(small_run.folder)
    found = evaluate.read_references(None, dataclasses.replace(run, stages={"data_prep": out}, data=tmp_path))
    walkers = [one.relevant for one in found if one.kind == "pedestrian"]
    assert walkers == [("000000.jpg", "000001.jpg", "000002.jpg"), ("000001.jpg", "000002.jpg"), ("000003.jpg",)]


def test_a_tiny_run_turns_no_score_green_and_a_wrong_constant_turns_red(small_run):
    run = review.as_run(small_run.folder)
    book, scores = quick_review.read_claims(run), quick_review.read_scores(run)
    words = {one.claim.id: one.word for one in quick_review.compare(book, scores, run)}
    measured = {one.claim.id for one in quick_review.compare(book, scores, run) if one.measured is not None}
    computed = {claim.id for claim in book.claims if claim.derive is not None}
    assert {words[name] for name in measured - computed} == {CODE_PATH_ONLY}
    assert {words[name] for name in computed} == {REPRODUCED}
    wrong = [claim.model_copy(update={"value": "2.0177e-7"}) if claim.value == "2.0176e-7" else claim for claim in book.claims]
    again = quick_review.compare(book.model_copy(update={"claims": tuple(wrong)}), scores, run)
    assert [one.word for one in again if one.claim.value == "2.0177e-7"] == [NOT_REPRODUCED]


def test_verify_holds_for_the_run_and_finds_a_changed_prediction(small_run):
    path = small_run.stage("infer") / "test-finetuned.jsonl"
    first, *others = path.read_text().splitlines(keepends=True)
    row = json.loads(first)
    row["image_names"].reverse()
    lines = small.broken_by(small_run, path, "".join([json.dumps(row) + "\n", *others]).encode())
    assert any("infer: " in line and line.endswith("changed or missing: test-finetuned.jsonl") for line in lines)
    assert any("scores recomputed from raw predictions; different: test mAP@10" in line for line in lines)
    assert small.kit(small_run.home, "verify", small_run.folder.name).returncode == 0


def test_a_score_is_recomputed_from_what_the_run_holds_to_the_last_digit(small_run):
    recorded = json.loads((small_run.stage("evaluate") / "metrics.json").read_text())["scores"]
    again = review.rescored(small_run.folder)
    assert again == [row for row in recorded if row["benchmark"] in ("val", "test")]


def test_predictions_of_only_some_queries_are_refused(references, cfg):
    found = right_answers(references)
    found["finetuned"] = [one for one in found["finetuned"] if (one.benchmark, one.index) != ("test", 5)]
    with pytest.raises(infer.files.DataError) as error:
        evaluate.score(found, references, cfg)
    assert str(error.value) == "test finetuned: no prediction for query 5 (1 in all); run 05-infer again"
