"""The official score of cityllava: what counts, in which row, what a file has to look like, and what the validator finds."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import DataError
from lib.metrics import captions
from lib.submissions.cityllava import official
from lib.submissions.cityllava.official import PhaseCaptions

WTS, BDD = "20230707_8_SN46_T1", "video12"
TEXTS = PhaseCaptions("The pedestrian stands still on the left.", "The vehicle moves straight ahead at 20 km/h.")
PERFECT = captions.score(TEXTS.pedestrian, TEXTS.pedestrian, None)


def record(label: object = "0", **changes: object) -> dict:
    return {"labels": [label], "caption_pedestrian": TEXTS.pedestrian, "caption_vehicle": TEXTS.vehicle} | changes


def complete(*scenarios: str) -> dict[str, list[dict]]:
    return {scenario: [record(label) for label in official.LABELS] for scenario in scenarios}


def parsed(content: dict) -> official.Captions:
    return official.parse_captions(content, "predictions.json")


# --- what counts ---


def test_the_challenge_is_the_mean_of_both_data_sets_however_many_phases_each_has():
    references = parsed(complete(WTS, "20230707_9_SN46_T1", BDD))
    score = official.score(references, parsed(complete(BDD)), None)
    internal, external = score.corpora
    assert (internal.name, internal.phases, internal.missing, internal.score) == ("internal", 10, 10, 0.0)
    assert (external.name, external.phases, external.missing) == ("external", 5, 0)
    assert score.challenge == external.score / 2 > 49


def test_a_ground_truth_of_one_data_set_has_no_challenge_score():
    score = official.score(parsed(complete(WTS)), {}, None)
    assert score.challenge is None
    assert [row.name for row in score.corpora] == ["internal"]


def test_missing_phases_count_as_zero_and_stay_in_the_denominator():
    references = parsed({WTS: [record("0"), record("1")]})
    row = official.mean_row("all", official.score_phases(references, parsed({WTS: [record("1")]}), None))
    assert (row.phases, row.missing) == (2, 1)
    assert row.pedestrian.bleu == PERFECT.bleu / 2


def test_what_was_not_asked_for_is_ignored():
    references = parsed({WTS: [record("0")]})
    (scored,) = official.score_phases(references, parsed(complete(WTS, BDD)), None)
    assert (scored.scenario, scored.label, scored.missing) == (WTS, "0", False)


def test_of_two_records_with_one_label_the_last_counts_and_of_two_labels_the_first():
    predictions = parsed({WTS: [record("0"), record("0", caption_vehicle="nothing alike"), record("1", labels=["1", "2"])]})
    assert predictions == {WTS: {"0": PhaseCaptions(TEXTS.pedestrian, "nothing alike"), "1": TEXTS}}


def test_a_number_is_not_the_label_written_with_it():
    references = parsed({WTS: [record("4")]})
    (scored,) = official.score_phases(references, parsed({WTS: [record(4)]}), None)
    assert scored.missing


def test_an_empty_prediction_scores_zero():
    (scored,) = official.score_phases(parsed({WTS: [record()]}), parsed({WTS: [record(caption_vehicle=" ")]}), None)
    assert scored.vehicle == captions.ZERO and scored.pedestrian == PERFECT and not scored.missing


@given(st.sets(st.tuples(st.sampled_from([WTS, BDD]), st.sampled_from(official.LABELS))))
def test_leaving_phases_out_scales_the_means(left_out):
    references = parsed(complete(WTS, BDD))
    kept = {name: {label: texts for label, texts in phases.items() if (name, label) not in left_out} for name, phases in references.items()}
    score = official.score(references, kept, None)
    perfect = official.score(references, references, None).challenge
    assert score.challenge == pytest.approx(perfect * (1 - len(left_out) / 10))
    assert sum(row.missing for row in score.scenarios) == sum(row.missing for row in score.phases) == len(left_out)


# --- rows ---


def test_there_is_a_row_per_scenario_in_the_order_of_the_ground_truth_and_per_phase_in_theirs():
    references = parsed({BDD: [record("4"), record("0")], WTS: [record("1")]})
    score = official.score(references, references, None)
    assert [(row.name, row.phases) for row in score.corpora] == [("internal", 1), ("external", 2)]
    assert [(row.name, row.phases) for row in score.scenarios] == [(BDD, 2), (WTS, 1)]
    assert [(row.name, row.phases) for row in score.phases] == [("0", 1), ("1", 1), ("4", 1)]


def test_a_row_is_the_mean_of_pedestrian_and_vehicle():
    row = official.Row("all", 1, 0, captions.CaptionScore(0.2, 0.4, 0.6, 2.0), captions.ZERO)
    assert row.both == captions.CaptionScore(0.1, 0.2, 0.3, 1.0)
    assert row.score == pytest.approx((10 + 20 + 30 + 10) / 4)


@pytest.mark.parametrize(("synonyms", "title"), [(None, "METEOR (no synonyms)"), (lambda word: frozenset(), "METEOR (WordNet 3.0)")])
def test_every_table_says_whose_synonyms_meteor_knew(synonyms, title):
    references = parsed({WTS: [record("0")]})
    score = official.score(references, references, synonyms)
    for rows in (score.corpora, score.scenarios, score.phases):
        (line,) = score.table(rows)
        assert list(line) == ["", "phases", "missing", "BLEU-4", title, "ROUGE-L", "CIDEr", "pedestrian", "vehicle", "score"]
    assert line["BLEU-4"] == 1.0 and line["CIDEr"] == pytest.approx(10.0) and line["score"] == pytest.approx(99.98, abs=0.01)


def test_a_scenario_of_neither_data_set_is_an_error():
    with pytest.raises(DataError) as error:
        official.score(parsed({"night": [record()]}), {}, None)
    assert str(error.value) == "scenario 'night' belongs to neither data set; names begin with 2023 (WTS) or video (BDD_PC_5K)"


def test_nothing_to_score_against_is_an_error():
    with pytest.raises(DataError) as error:
        official.score({}, parsed(complete(WTS)), None)
    assert str(error.value) == "the ground truth holds no phase; nothing can be scored against it"


def test_an_empty_caption_in_the_ground_truth_is_an_error():
    with pytest.raises(DataError) as error:
        official.score(parsed({WTS: [record("3", caption_vehicle=" ")]}), {}, None)
    assert str(error.value) == (
        f"{WTS}, label '3': the caption of the vehicle is empty in the ground truth; CIDEr has no value there, fill or remove it"
    )


# --- ground truth ---


def write_captions(path, records: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"id": 1, "event_phase": records}), encoding="utf-8")


@pytest.fixture
def tree(tmp_path):
    """Both trees as published: an overhead and a vehicle view, an event with a vehicle view only, and BDD with names as labels."""
    wts, event = tmp_path / "WTS/val", "20231013_105827_normal_192.168.0.14_1_event_2"
    write_captions(wts / WTS / f"overhead_view/{WTS}_caption.json", [record("4"), record("3")])
    write_captions(wts / WTS / f"vehicle_view/{WTS}_caption.json", [record("4"), record("3")])
    write_captions(wts / f"normal_trimmed/{event}/vehicle_view/{event}_caption.json", [record("4")])
    write_captions(tmp_path / f"BDD/val/{BDD}_caption.json", [record("avoidance"), record("prerecognition")])
    return tmp_path


def test_ground_truth_is_read_from_all_views_but_the_vehicles_own(tree):
    references = official.read_ground_truth([tree / "WTS/val", tree / "BDD/val"])
    assert references == {WTS: {"4": TEXTS, "3": TEXTS}, BDD: {"4": TEXTS, "0": TEXTS}}


def test_a_scenario_in_two_files_is_an_error(tree):
    again = tree / f"WTS/val/again/overhead_view/{WTS}_caption.json"
    write_captions(again, [record()])
    with pytest.raises(DataError) as error:
        official.read_ground_truth([tree / "WTS/val"])
    assert str(error.value) == f"{again}: a second file with captions of {WTS}; keep one in the ground truth"


def test_json_of_another_kind_is_an_error(tree):
    (tree / "BDD/val/video12_bbox.json").write_text("{}")
    with pytest.raises(DataError) as error:
        official.read_ground_truth([tree / "BDD/val"])
    assert str(error.value) == (
        f"{tree / 'BDD/val/video12_bbox.json'}: not a caption file; "
        "the ground truth holds files <scenario>_caption.json only, name their folder"
    )


def test_an_unknown_phase_is_an_error(tree):
    write_captions(tree / f"BDD/val/{BDD}_caption.json", [record("5")])
    with pytest.raises(DataError) as error:
        official.read_ground_truth([tree / "BDD/val"])
    assert str(error.value) == (
        f"{tree / f'BDD/val/{BDD}_caption.json'}: label '5' is no phase; "
        "phases are 0 to 4 or prerecognition, recognition, judgement, action, avoidance"
    )


def test_the_test_part_has_no_captions_to_score_against(tree):
    path = tree / f"BDD/val/{BDD}_caption.json"
    write_captions(path, [{"labels": ["0"], "start_time": "0.0", "end_time": "1.0"}])
    with pytest.raises(DataError) as error:
        official.read_ground_truth([tree / "BDD/val"])
    assert str(error.value) == (
        f"{path}: {BDD}, record 1: no caption_pedestrian; {BDD}, record 1: no caption_vehicle; "
        "correct the file, the official evaluator breaks off there as well"
    )


def test_an_empty_caption_is_named_with_its_file(tree):
    path = tree / f"BDD/val/{BDD}_caption.json"
    write_captions(path, [record("0", caption_pedestrian="")])
    with pytest.raises(DataError) as error:
        official.read_ground_truth([tree / "BDD/val"])
    assert str(error.value).startswith(f"{path}, label '0': the caption of the pedestrian is empty in the ground truth; ")


def test_folders_without_caption_files_are_an_error(tmp_path):
    with pytest.raises(DataError) as error:
        official.read_ground_truth([tmp_path / "a", tmp_path / "b"])
    assert str(error.value) == (
        f"{tmp_path / 'a'}, {tmp_path / 'b'}: no <scenario>_caption.json below; name the folders with the caption files"
    )


# --- submission ---


def test_a_written_submission_reads_back_and_has_the_published_form(tmp_path):
    predictions = {WTS: {"1": TEXTS, "0": PhaseCaptions("Naïve 行人", "b")}}
    official.write_submission(tmp_path / "inference_result.json", predictions)
    assert official.read_submission(tmp_path / "inference_result.json") == predictions
    text = (tmp_path / "inference_result.json").read_text(encoding="utf-8")
    assert text.startswith(
        f'{{\n  "{WTS}": [\n    {{\n      "labels": [\n        "0"\n      ],\n'
        '      "caption_vehicle": "b",\n      "caption_pedestrian": "Naïve 行人"\n    },'
    )


def test_malformed_records_end_the_scoring_and_are_named():
    broken = {
        WTS: [record(caption_pedestrian=None), record(labels=[]), "text", {"labels": ["1"]}],
        BDD: {"labels": ["0"]},
        "video13": [record(caption_vehicle=["a"])],
    }
    with pytest.raises(DataError) as error:
        parsed(broken)
    assert str(error.value) == (
        f"predictions.json: {WTS}, record 1: caption_pedestrian is NoneType, expected text; "
        f"{WTS}, record 2: labels is [], expected a list with one digit as text; {WTS}, record 3: expected an object, found str; "
        f"{WTS}, record 4: no caption_pedestrian; {WTS}, record 4: no caption_vehicle (and 2 more); "
        "correct the file, the official evaluator breaks off there as well"
    )
    with pytest.raises(DataError, match="expected an object of scenarios, found list"):
        parsed([])


def test_a_complete_submission_has_no_problem():
    assert official.find_problems(complete(WTS, BDD), [WTS, BDD]) == []


def test_every_problem_of_a_submission_is_listed():
    content = complete(WTS, "video99")
    records = content[WTS]
    records[0] = record("0", caption_vehicle=" ")
    records[1] = record(1)
    del records[2]["caption_pedestrian"]
    records[3]["labels"].append("4")
    records.append(copy.deepcopy(records[4]))
    assert official.find_problems(content, [WTS, BDD]) == [
        f"{WTS}, record 3: no caption_pedestrian",
        f"{BDD}: missing, its phases count as zero",
        "video99: not asked for, it is ignored",
        f"{WTS}, label '0': caption_vehicle is empty",
        f'{WTS}, label 1: expected one of "0" to "4"',
        f"{WTS}, label '3': 2 labels, only the first counts",
        f"{WTS}, label '4': 2 records, only the last counts",
        f"{WTS}, label '1': missing, the phase counts as zero",
    ]


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        ([], ["expected an object of scenarios, found list"]),
        ({WTS: None}, [f"{WTS}: expected a list of records, found NoneType"]),
        ({WTS: []}, [f"{WTS}, label '{label}': missing, the phase counts as zero" for label in official.LABELS]),
    ],
)
def test_what_is_no_submission_is_a_problem_not_a_crash(content, problems):
    assert official.find_problems(content, [WTS]) == problems


# --- question answering ---


def test_answers_are_read_by_question_the_last_one_counts():
    records = [{"id": "1", "correct": "a"}, {"id": "2", "correct": None}, {"id": "1", "correct": "b"}]
    assert official.vqa_answers(records) == {"1": "b", "2": None}
