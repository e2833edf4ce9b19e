"""The benchmarks of dataengine scored as the published scripts recorded them.

Answered where the published scripts fail: SEED-Bench with a type that is all wrong or a question without a prediction (the
recorded `correct_metrics`), ScienceQA without image questions (IMG accuracy is None), POPE without an answer or label yes
(rates are 0). GQA with a missing prediction is an error in both. Validity, plausibility and consistency that nothing can be
scored for are None here and 0.00 there.
"""

import json
import re

import pytest

from lib.errors import DataError
from lib.metrics import gqa, judged, multiple_choice, scienceqa, vqa, yes_no
from lib.metrics.tally import Tally
from tests.golden.loading import cases


def percent(tally: Tally | None) -> float:
    return (tally.percent or 0.0) if tally else 0.0


def test_seed_bench_is_scored_as_recorded():
    seen = set()
    for case in cases("dataengine", "seed_bench_eval.json")["cases"]:
        predictions = {line["question_id"]: line["text"] for line in case["predictions"]}
        score = multiple_choice.score_seed(case["annotation"], predictions)
        expected = case["correct_metrics"]
        assert {name: round(percent(tally), 3) for name, tally in score.by_type.items()} == expected["per_type"], case["case"]
        assert (round(percent(score.all), 3), round(percent(score.image), 3)) == (expected["all"], expected["image"]), case["case"]
        if case["metrics_json"] is not None:
            assert case["metrics_json"] == {"image": round(percent(score.image), 3)}, case["case"]
        printed = [f"{name}: {percent(tally):.2f}%" for name, tally in score.by_type.items()]
        printed += [f"Total accuracy: {percent(score.all):.2f}%", f"image accuracy: {percent(score.image):.2f}%"]
        recorded = case["stdout"].splitlines()
        assert printed[: len(recorded)] == recorded, case["case"]
        seen.add(case["case"])
    assert seen


def test_seed_bench_upload_lines_are_the_recorded_ones():
    for case in cases("dataengine", "seed_bench_eval.json")["cases"]:
        predictions = {line["question_id"]: line["text"] for line in case["predictions"]}
        lines = multiple_choice.seed_upload(case["annotation"], predictions)
        # Intended difference: the published script stops at the first question without a prediction, or before the first line.
        recorded = case["upload_lines"] or []
        assert lines[: len(recorded)] == recorded, case["case"]
        score = multiple_choice.score_seed(case["annotation"], predictions)
        assert len(lines) == score.all.total - score.all.unanswered, case["case"]
        assert case["error"] or lines == recorded, case["case"]


def test_mmbench_letters_are_inferred_as_recorded():
    golden = cases("dataengine", "mmbench_local_scoring.json")
    for answer, letter in golden["infer_choice"]:
        assert multiple_choice.infer_letter(answer, golden["choices"]) == (letter or None), answer


def test_mmbench_circular_accuracy_is_the_recorded_one():
    golden = cases("dataengine", "mmbench_local_scoring.json")
    rows = golden["rows"]
    score = multiple_choice.score_mmbench(rows, {row["index"]: row["prediction"] for row in rows})
    assert {str(question): int(hit) for question, hit in score.hits.items()} == golden["circular_hit_by_question"]
    assert percent(score.circular) == pytest.approx(100 * golden["circular_accuracy"])
    assert percent(score.rows) == pytest.approx(100 * golden["vanilla_accuracy_all_rows"])


def numbers_of(report: str) -> dict[str, str]:
    """heading and label -> value as printed; the labels of the four lists repeat (`4` steps, `4` words)."""
    found, heading = {}, ""
    for line in report.splitlines():
        entry = re.match(r"(.+?): (.*)", line)
        if entry is None:
            heading = line.strip().rstrip(":")
        else:
            found[f"{heading} {entry[1].strip()}".strip()] = entry[2]
    return found


def gqa_report(score: gqa.GqaScore, *, consistency: bool) -> dict[str, str]:
    """Our scores under the headings and in the notation of the official evaluator."""
    report = {"Binary": f"{percent(score.binary):.2f}%", "Open": f"{percent(score.open):.2f}%"}
    report["Accuracy"] = f"{percent(score.accuracy):.2f}%"
    if consistency:
        report["Consistency"] = f"{score.consistency or 0.0:.2f}%"
    report |= {"Validity": f"{percent(score.validity):.2f}%", "Plausibility": f"{percent(score.plausibility):.2f}%"}
    report["Distribution"] = f"{score.distribution:.2f} (lower is better)"
    lists = {
        "structural type": score.by_structure,
        "semantic type": score.by_meaning,
        "steps number": score.by_steps,
        "words number": score.by_words,
    }
    for name, tallies in lists.items():
        for label, tally in tallies.items():
            report[f"Accuracy / {name} {label}"] = f"{percent(tally):.2f}% ({tally.total} questions)"
    return report


def test_gqa_predictions_are_converted_as_recorded():
    for case in cases("dataengine", "gqa_eval.json")["cases"]:
        assert gqa.gqa_predictions(dict(case["raw_predictions"])) == case["converted"], case["case"]


def test_gqa_scores_are_those_of_the_official_evaluator():
    golden = cases("dataengine", "gqa_eval.json")
    for case in golden["cases"]:
        answers, consistency = dict(case["raw_predictions"]), case["consistency_flag"]
        choices = golden["choices"] if case["choices_given"] else None
        if case["error"]:
            with pytest.raises(DataError, match="has no prediction; the official evaluator needs all of them"):
                gqa.score_gqa(golden["questions"], answers, choices=choices, consistency=consistency)
            continue
        score = gqa.score_gqa(golden["questions"], answers, choices=choices, consistency=consistency)
        assert gqa_report(score, consistency=consistency) == numbers_of(case["report"]), case["case"]


def test_scienceqa_is_scored_as_recorded():
    golden = cases("dataengine", "scienceqa_eval.json")
    for case in golden["cases"]:
        score = scienceqa.score_scienceqa(golden["problems"], case["test_ids"], case["predictions"])
        if "division by zero" in case["error"]:
            # Intended difference: nothing is lost for want of an image question.
            assert score.image_as_published.percent is None and score.all.total == len(case["test_ids"]), case["case"]
            continue
        assert scienceqa.scienceqa_result(score) == case["result_json"], case["case"]
        assert scienceqa.scienceqa_output(score) == case["output_json"], case["case"]
        line = f"Total: {score.all.total}, Correct: {score.all.correct:.0f}, Accuracy: {percent(score.all):.2f}%"
        assert f"{line}, IMG-Accuracy: {percent(score.image_as_published):.2f}%" in case["stdout"], case["case"]


def test_answers_are_normalised_as_recorded():
    for given, normalised in cases("dataengine", "vqa_answer_processing.json")["answer_processor"]:
        assert vqa.normalise_answer(given) == normalised, given


def test_vqav2_upload_is_the_recorded_one():
    golden = cases("dataengine", "vqa_answer_processing.json")["vqav2"]
    lines, broken = [], 0
    for line in golden["merge_lines"]:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:  # Intended: the published script counts such lines; the kit's reader names them and stops
            broken += 1
    predictions = {line["question_id"]: line["text"] for line in lines}
    upload = vqa.vqav2_upload(golden["test2015_question_ids"], predictions)
    assert upload == golden["upload_json"]
    assert golden["stdout"] == f"total results: {len(lines)}, total split: {len(upload)}, error_line: {broken}"


def test_vizwiz_and_mm_vet_files_have_the_recorded_form():
    golden = cases("dataengine", "vqa_answer_processing.json")
    recorded = golden["vizwiz"]["output"]
    questions = [{"question_id": number, "image": line["image"]} for number, line in enumerate(recorded)]
    assert vqa.vizwiz_upload(questions, {number: line["answer"] for number, line in enumerate(recorded)}) == recorded
    predictions = {int(name.removeprefix("v1_")): text for name, text in golden["mmvet"].items()}
    assert judged.mm_vet_answers(predictions) == golden["mmvet"]


def test_pope_is_scored_as_recorded():
    for case in cases("dataengine", "pope_eval.json")["cases"]:
        reports = case["stdout"].split("Category: ")[1:]
        for report in reports:
            category = report.partition(",")[0]
            score = yes_no.score_pope(case["labels"], case["answers_by_category"][category])
            header, names, counts, *rates = report.splitlines()
            assert (header, names.split()) == (f"{category}, # samples: {score.total}", ["TP", "FP", "TN", "FN"])
            confusion = score.true_positive, score.false_positive, score.true_negative, score.false_negative
            assert confusion == tuple(map(int, counts.split())), case["case"]
            ours = {"Accuracy": score.accuracy, "Precision": score.precision, "Recall": score.recall}
            ours |= {"F1 score": score.f1, "Yes ratio": score.yes_ratio}
            recorded = dict(line.split(": ") for line in rates if ": " in line)
            for name, value in recorded.items():
                assert ours[name] == pytest.approx(float(value), abs=1e-9), (case["case"], category, name)
            # Intended difference: a rate of nothing is 0, where the published script divides by zero.
            assert len(recorded) == len(ours) or case["error"], case["case"]
        assert len(reports) == len(case["answers_by_category"]) or case["error"], case["case"]


def test_llava_bench_reviews_are_read_as_recorded():
    for review, scores in cases("dataengine", "llava_bench_review.json")["parse_score"]:
        assert judged.review_scores(review) == tuple(scores), review


def test_llava_bench_is_summarised_as_recorded():
    golden = cases("dataengine", "llava_bench_review.json")
    summaries = judged.summarise_reviews(golden["reviews"], unreadable="as_published")
    rows = [f"{name} {' '.join(map(str, summary.row))}" for name, summary in summaries.items()]
    _, *recorded, _ = golden["stdout"].splitlines()
    assert rows == recorded
