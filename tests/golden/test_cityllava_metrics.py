"""The official caption score of cityllava against the recorded answers of the official evaluator (AI City Track 2)."""

import pytest

from lib import wordnet
from lib.errors import DataError
from lib.metrics import captions
from lib.metrics.choice import score_choices
from lib.submissions.cityllava import official
from tests.golden.loading import cases

TOLERANCE = 1e-6
NAMES = {"bleu": "bleu", "meteor": "meteor", "rouge-l": "rouge_l", "cider": "cider"}

# Where the kit answers and the evaluator does not.
ANSWERED = {"cider_error": "an empty reference: CIDEr is 0 as for an empty prediction; reading the ground truth refuses it"}


def close(value: float) -> object:
    return pytest.approx(value, abs=TOLERANCE)


@pytest.fixture(scope="module")
def synonyms() -> captions.Synonyms | None:
    found = wordnet.find()
    return found.synonyms if found else None


def test_scores_of_single_captions(synonyms):
    for case in cases("cityllava", "metrics_single.json")["cases"]:
        prediction, reference, recorded = case["input"]["pred"], case["input"]["gt"], case["output"]
        if "error" in recorded:  # a list in place of a text
            with pytest.raises(DataError, match="caption_pedestrian is list, expected text"):
                official.parse_captions({"video1": [{"labels": ["0"], "caption_pedestrian": prediction, "caption_vehicle": ""}]}, "it")
            continue
        without = captions.score(prediction, reference, None)
        assert without.meteor == close(recorded["meteor_no_wordnet"]), case["name"]
        score = captions.score(prediction, reference, synonyms) if synonyms else without
        for name, field in NAMES.items():
            if name == "meteor" and synonyms is None:
                continue
            expected = 0.0 if name == "cider" and ANSWERED.keys() & recorded.keys() else recorded[name]
            assert getattr(score, field) == close(expected), (case["name"], name)
        if "score_0_100" in recorded:
            assert without.score == close(recorded["score_0_100_no_wordnet"]), case["name"]
            assert score.score == close(recorded["score_0_100" if synonyms else "score_0_100_no_wordnet"]), case["name"]


def test_tokenized_captions():
    for case in cases("cityllava", "treebank_tokenize.json")["cases"]:
        assert " ".join(captions.treebank_words(case["input"])) == case["output"]
    for case in cases("cityllava", "metrics_single.json")["cases"]:
        for key, given in (("tokenized_pred", "pred"), ("tokenized_gt", "gt")):
            if key in case["output"]:
                assert " ".join(captions.treebank_words(case["input"][given])) == case["output"][key]


def test_cider_over_documents():
    for case in cases("cityllava", "cider_corpus.json")["cases"]:
        if "error" in case["output"]:
            continue  # README: errors may differ
        scores = captions.corpus_cider([text for (text,) in case["input"]["hyps"]], case["input"]["refs"])
        assert scores == close(case["output"]["scores"]), case["name"]
        assert sum(scores) / len(scores) == close(case["output"]["score"]), case["name"]


def test_aggregation(synonyms):
    """Malformed records, and an empty ground truth, end the scoring here as they do there."""
    for case in cases("cityllava", "evaluator_overall.json")["cases"]:
        recorded = case["output"]
        if "error" in recorded:
            with pytest.raises(DataError):
                row_of(case["input"], synonyms)
            continue
        row = row_of(case["input"], synonyms)
        assert row.phases == recorded["num_segments"], case["name"]
        for kind in official.KINDS:
            for name, field in NAMES.items():
                if name == "meteor" and synonyms is None:
                    continue
                assert getattr(getattr(row, kind), field) == close(recorded[f"{kind}_mean"][name]), (case["name"], kind, name)
        if synonyms is not None:
            assert row.score == close(recorded["final_0_100"]), case["name"]


def row_of(given: dict, synonyms: captions.Synonyms | None) -> official.Row:
    """The means over all phases of a case, of whatever data set."""
    references, predictions = (official.parse_captions(given[key], key) for key in ("gt", "pred"))
    return official.mean_row("all", official.score_phases(references, predictions, synonyms))


def test_scenario_names():
    """The corrected column; the original differs for names that no data set has."""
    for case in cases("cityllava", "scenario_name_from_file.json")["cases"]:
        assert official.scenario_name(case["input"]) == case["output_correct"]


def test_question_answering():
    for case in cases("cityllava", "vqa_eval.json")["cases"]:
        recorded = case["output"]
        if "error" in recorded or any(record["correct"] is None for record in case["input"]["user"]):
            continue  # README: a null answer may differ; here it counts as missing
        score = score_choices(*(official.vqa_answers(case["input"][key]) for key in ("gt", "user")))
        assert (score.correct, score.wrong, score.missing) == (recorded["correct"], recorded["wrong"], recorded["missing"]), case["name"]
        assert score.accuracy == recorded["accuracy"]
