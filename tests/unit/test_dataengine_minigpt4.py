"""The half about MiniGPT4-v2: its text processor, training turns, the reading of its answers, and its scores."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import config, inputs
from lib.errors import ConfigError
from lib.submissions.dataengine import evaluate, minigpt4, scoring
from lib.submissions.dataengine.generated import convert
from lib.submissions.dataengine.scoring import Answers

RECORD = {
    "instruction": "Where is She (now)?",
    "answer": "She stands: at the LEFT!",
    "short_answer": "Left.",
    "options": ["Top", "Left", "Right", "Bottom"],
    "choice_answer": "B",
    "image": "vg/VG_100K/5.jpg",
    "qtype": 4,
}
LETTER = "Answer with the option's letter from the given choices directly."
MINIGPT4 = ["infer.wording=minigpt4", "rounds.last=0"]


# --- the text processor ---


@pytest.mark.parametrize(
    ("text", "processed"),
    [
        ("It says STOP.", "it says stop"),
        ("A, B and C's?", "a, b and c's?"),
        ('"Why"?', "why ?"),
        ("a\tb\nc", "a\tb\nc"),
        ("a \n b\n", "a b"),
        ("...", ""),
    ],
)
def test_texts_are_processed_as_minigpt4_trains_them(text: str, processed: str):
    assert minigpt4.process_text(text) == processed


texts = st.text(st.one_of(st.sampled_from(' \n\t.!"()*#:;~aB?'), st.characters(codec="utf-8")), max_size=300)


@given(texts)
def test_processed_texts_stay_as_they_are_and_have_nothing_that_is_taken_out(text: str):
    processed = minigpt4.process_text(text)
    assert minigpt4.process_text(processed) == processed == processed.lower().strip(" ")
    assert not set(processed) & set('.!"()*#:;~') and "  " not in processed


@given(st.lists(st.sampled_from(["a", "B.", "c!d", "é"]), max_size=120))
def test_processed_texts_have_at_most_fifty_words_the_first_ones(words: list[str]):
    processed = minigpt4.process_text(" ".join(words)).split()
    assert len(processed) <= 50
    assert processed == " ".join(words).lower().replace(".", " ").replace("!", " ").split()[:50]


# --- training turns ---


def turns_of(view: str) -> tuple[str, str]:
    (converted,), _ = convert([RECORD], view, seed=0, wording="minigpt4")
    return tuple(turn["value"] for turn in converted.sample["conversations"])


def test_the_views_of_a_record_in_the_words_of_minigpt4():
    assert turns_of("mc") == (f"<image>\n[vqa] Where is She (now)?\nA. Top\nB. Left\nC. Right\nD. Bottom\n{LETTER}", "b")
    assert turns_of("da") == ("<image>\n[vqa] where is she now ?", "she stands at the left")
    assert turns_of("short") == (
        "<image>\n[vqa] Based on the image, respond to this question with a short answer: where is she now ?",
        "left",
    )


def test_the_wording_changes_no_order_of_options_and_no_drawn_view():
    for view in ("mcp", "mixed"):
        llava, words = (convert([RECORD] * 40, view, seed=3, wording=wording)[0] for wording in ("llava", "minigpt4"))
        assert [one.sample["id"] for one in llava] == [one.sample["id"] for one in words]
        for one, other in zip(llava, words, strict=True):
            if one.view in ("mc", "mcp"):
                question, answer = (turn["value"] for turn in one.sample["conversations"])
                assert [turn["value"] for turn in other.sample["conversations"]] == [question.replace("\n", "\n[vqa] ", 1), answer.lower()]


# --- answers ---


@pytest.mark.parametrize(
    ("benchmark", "text", "read"),
    [
        ("seed", "b", "B"),
        ("seed", "C. three", "C"),
        ("seed", "the answer is A", "T"),
        ("seed", "", ""),
        ("mmbench", "b", "B"),
        ("mmbench", "The answer is B", "The answer is b"),
        ("okvqa", " Tennis Racket ", "tennis racket"),
        ("vizwiz_val", "Unanswerable", "Unanswerable"),
        ("vsr", "True", "True"),
        ("aokvqa", "B", "B"),
    ],
)
def test_answers_are_read_as_that_half_reads_them(benchmark: str, text: str, read: str):
    lines = [{"question_id": 1, "prompt": "What?", "text": text}]
    assert minigpt4.read_answers(benchmark, lines) == [{"question_id": 1, "prompt": "What?", "text": read}]
    assert lines[0]["text"] == text


# --- scores ---


def ten(**counts: int) -> list[dict]:
    """Ten answers: so many of each, the rest something else."""
    given = [answer for answer, count in counts.items() for _ in range(count)]
    return [{"answer": answer} for answer in given + ["other"] * (10 - len(given))]


OKVQA = {"annotations": {"annotations": [{"question_id": number, "answers": ten(tennis=count)} for number, count in ((1, 10), (2, 2))]}}
VIZWIZ = [{"image": "a.jpg", "answers": ten(Basil=2, mint=8)}, {"image": "b.jpg", "answers": ten(unanswerable=10)}]
VSR = [{"label": 1}, {"label": 0}, {"label": 0}]


@pytest.mark.parametrize(
    ("benchmark", "references", "given", "percent"),
    [
        ("okvqa", OKVQA, {1: "The tennis.", 2: "tennis"}, 100 * (1 + 0.6) / 2),
        ("okvqa", OKVQA, {1: "tennis"}, 50.0),
        ("vizwiz_val", VIZWIZ, {"a.jpg": "basil", "b.jpg": "Unanswerable"}, 100 * (2 / 3 + 1) / 2),
        ("vizwiz_val", VIZWIZ, {"a.jpg": "the mint", "b.jpg": "unanswerable."}, 0.0),
        ("vsr", VSR, {1: "True", 2: "false", 3: "true"}, 100 * 2 / 3),
        ("vsr", VSR, {1: "True.", 3: "FALSE"}, 100 / 3),
    ],
)
def test_open_answers_are_scored(benchmark: str, references: object, given: dict, percent: float):
    lines = [{"question_id": question_id, "text": text} for question_id, text in given.items()]
    (row,) = scoring.score(benchmark, references, Answers("finetuned", lines), aokvqa="corrected")
    count = len(references if isinstance(references, list) else references["annotations"]["annotations"])
    assert row["value"] == pytest.approx(percent) and (row["group"], row["n"], row["unit"]) == ("all", count, "percent")


def settings(*overrides: str) -> config.StageSettings:
    return config.resolve("dataengine", overrides=overrides).for_stage("evaluate", evaluate.SETTINGS)


SEED = {
    "question_type": {"Scene Understanding": 1},
    "questions": [
        {"question_id": str(number), "question_type_id": 1, "data_type": "image", "answer": answer}
        for number, answer in ((1, "A"), (2, "B"))
    ],
}


@pytest.mark.parametrize(("overrides", "right"), [([], 0), ([*MINIGPT4, "infer.benchmarks=[seed]"], 2)])
def test_seed_bench_is_read_by_the_wording_in_the_scores_and_in_their_control(overrides: list[str], right: int):
    given = [{"question_id": 1, "text": "a. yes"}, {"question_id": 2, "text": "b"}]
    rows = evaluate.score({"finetuned": {"seed": given}}, {"seed": SEED}, settings(*overrides))
    found = {row["model"]: row["value"] for row in rows if row["metric"] == "accuracy"}
    assert found == {"finetuned": 50.0 * right, "shuffled": 0.0}


@pytest.mark.parametrize("change", ["infer.wording=minigpt4", "augmentation.wording=minigpt4"])
def test_scores_in_the_words_of_the_other_half_answer_no_row_of_llavas_table(change: str):
    cfg = settings(change, "infer.benchmarks=[seed]", "rounds.last=0", "augmentation.source=published")
    rows = evaluate.score({"finetuned": {"seed": []}, "baseline": {"seed": []}}, {"seed": SEED}, cfg)
    told = {row["model"]: row["records"] for row in rows if "records" in row}
    assert told == {"finetuned": "published, in minigpt4's words", "baseline": "engine, in minigpt4's words"}


def test_annotations_are_counted_without_the_documents_around_them():
    references = {
        "okvqa": {"questions": {"info": {}, "license": {}, "questions": [{"question_id": 1}]}, "annotations": {}},
        "textvqa": {"dataset_type": "val", "data": [{"image_id": "a"}] * 3},
        "vsr": VSR,
    }
    assert evaluate.count_references(references) == [
        {"benchmark": name, "entries": count, "scored by": "the kit"} for name, count in (("okvqa", 1), ("textvqa", 3), ("vsr", 3))
    ]
    assert evaluate.show_reference(references) == {"benchmark": "okvqa", "first": {"question_id": 1}}


# --- settings ---


def test_a_benchmark_that_has_no_words_there_is_refused_in_the_settings():
    with pytest.raises(ConfigError) as caught:
        config.resolve("dataengine", overrides=[*MINIGPT4, "infer.benchmarks=[seed, gqa, mme]"])
    assert str(caught.value) == (
        "infer.wording is minigpt4, which has no words for gqa, mme; it has them for: seed, mmbench, okvqa, vizwiz_val, vsr, aokvqa; "
        "shorten infer.benchmarks, or set infer.wording=llava"
    )


def test_the_ablation_changes_both_wordings_and_what_is_asked():
    changes = config.layers("dataengine")["ablations"]["minigpt4"]
    for profile in ("full", "tiny"):
        found = config.resolve("dataengine", profile=profile, overrides=changes).settings
        assert found.augmentation.wording == found.infer.wording == "minigpt4"
        assert set(found.infer.benchmarks) == set(minigpt4.WORDS)


def test_the_published_records_are_those_of_the_half_whose_words_are_trained(kit_home: Path):
    def asked_for(*overrides: str) -> list[str]:
        lines = inputs.missing(config.resolve("dataengine", profile="full", overrides=overrides))
        return re.findall(r"data_engine/(\S+)", "\n".join(lines))

    assert asked_for() == ["dataengine_llava.json"]
    assert asked_for("augmentation.wording=minigpt4") == ["dataengine_minigpt4.json"]
