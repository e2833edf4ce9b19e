"""The benchmarks' files: questions as they are asked, annotations unchanged, and one line for whatever is malformed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from lib.errors import ConfigError, DataError
from lib.submissions.dataengine import benchmarks, minigpt4, mmbench_table, wording
from lib.submissions.dataengine.benchmarks import BENCHMARKS, MAX_NEW_TOKENS, Asked, read_questions, read_references
from lib.submissions.dataengine.toy import ToySizes, write_toy_data

LETTER = "Answer with the option's letter from the given choices directly."
WORD = "Answer the question using a single word or phrase."
TABLE = "eval/mmbench/mmbench_dev_20230712.tsv"


@pytest.fixture(scope="module")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    write_toy_data(folder, 4, ToySizes(mix=0, texts=0, captions=0, pool=0, val=2, test=2, bench=6))
    return folder


def put(root: Path, name: str, content: object) -> Path:
    """The file with this text, or this value as JSON."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def table(*rows: str) -> str:
    """A small table: index, question, hint, A to D, answer, category, image."""
    head = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image"]
    return "".join(f"{row}\n" for row in ("\t".join(head), *rows))


# --- questions ---


def test_every_benchmark_is_read_and_its_pictures_are_there(toy_root: Path, tmp_path: Path):
    benchmarks.unpack_pictures(toy_root, tmp_path)
    counts = {}
    for name in BENCHMARKS:
        questions = read_questions(toy_root, name)
        counts[name] = len(questions)
        for question in questions:
            assert question.benchmark == name and "<image>" not in question.text
            folder = tmp_path if name == "mmbench" else toy_root
            assert question.image is None or Image.open(folder / question.image).size[1] == 160
    assert counts == {
        "seed": 12, "mme": 12, "gqa": 18, "vqav2": 6, "vqav2_val": 12, "pope": 36, "textvqa": 12, "vizwiz": 6, "mm-vet": 6,
        "llava-bench": 6, "mmbench": 22, "scienceqa": 6, "aokvqa": 12, "okvqa": 6, "vizwiz_val": 6, "vsr": 12,
    }  # fmt: skip


def test_answers_may_be_as_long_as_published():
    assert {name for name, limit in MAX_NEW_TOKENS.items() if limit == 1024} == {"mmbench", "scienceqa", "mm-vet", "llava-bench"}
    assert set(MAX_NEW_TOKENS.values()) == {128, 1024} and set(MAX_NEW_TOKENS) == set(BENCHMARKS)


def test_a_line_is_asked_as_it_stands(tmp_path: Path):
    row = {"question_id": 7, "image": "SEED-Bench-image/1_2", "text": f"What?\nA. x\n{LETTER}", "category": "Instance Identity"}
    put(tmp_path, "eval/seed_bench/llava-seed-bench-image.jsonl", f"{json.dumps(row)}\n\n")
    wanted = Asked("seed", 7, "eval/seed_bench/SEED-Bench-image/1_2", f"What?\nA. x\n{LETTER}", "Instance Identity")
    assert read_questions(tmp_path, "seed") == [wanted]
    put(tmp_path, "eval/vizwiz/llava_test.jsonl", '{"question_id": "v", "image": "v.jpg", "text": "What?"}')
    assert read_questions(tmp_path, "vizwiz") == [Asked("vizwiz", "v", "eval/vizwiz/test/v.jpg", "What?", "")]


def test_a_row_of_mmbench_is_asked_with_its_hint_and_the_options_it_has(tmp_path: Path):
    rows = ["241\tWhat?\tLook.\tred\tblue\t\tgreen\tA\tcolour\tQQ==", "1000241\tWhat?\t\tblue\tred\tnan\t\tB\tcolour\tQQ=="]
    put(tmp_path, TABLE, table(*rows))
    assert read_questions(tmp_path, "mmbench") == [
        Asked("mmbench", 241, "eval/mmbench/images/241.jpg", f"Look.\nWhat?\nA. red\nB. blue\n{LETTER}", "colour"),
        Asked("mmbench", 1000241, "eval/mmbench/images/241.jpg", f"What?\nA. blue\nB. red\n{LETTER}", "colour"),
    ]
    benchmarks.unpack_pictures(tmp_path, tmp_path / "unpacked")
    assert [path.read_bytes() for path in (tmp_path / "unpacked").rglob("*.jpg")] == [b"A"]


@pytest.mark.parametrize("missing", ["", "NA", "None", "n/a", "null", "NONE", "NaN", "nAn"])
def test_options_end_at_a_word_that_is_taken_for_missing(missing: str):
    assert mmbench_table.options({"A": "red", "B": missing, "C": "blue"}) == ["red"]


@pytest.mark.parametrize("word", ["no", "na", "Null", " ", "nothing"])
def test_other_words_are_options(word: str):
    assert mmbench_table.options({"A": "red", "B": word}) == ["red", word]


def test_cells_of_mmbench_may_be_quoted_and_larger_than_usual(tmp_path: Path):
    put(tmp_path, TABLE, table('3\t"Line 1\nline ""2"""\t\tred\t\t\t\tA\tcolour\t' + "QUFB" * 50_000))
    assert read_questions(tmp_path, "mmbench")[0].text == f'Line 1\nline "2"\nA. red\n{LETTER}'
    benchmarks.unpack_pictures(tmp_path, tmp_path)
    assert (tmp_path / "eval/mmbench/images/3.jpg").read_bytes() == b"AAA" * 50_000


def test_columns_that_scoring_does_not_need_may_lack(tmp_path: Path):
    put(tmp_path, TABLE, "index\tquestion\tA\tB\timage\n5\tWhat?\tred\tNA\tQQ==\n")
    assert read_questions(tmp_path, "mmbench") == [Asked("mmbench", 5, "eval/mmbench/images/5.jpg", f"What?\nA. red\n{LETTER}", "")]
    assert read_references(tmp_path, "mmbench") == [{"category": "", "hint": "", "index": 5, "question": "What?", "A": "red", "B": ""}]


def test_a_problem_of_scienceqa_is_asked_for_a_letter_with_or_without_picture(tmp_path: Path):
    def sample(number: int, text: str, **image: str) -> dict:
        return {"id": str(number), **image, "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "A"}]}

    samples = [sample(1, "<image>\nWhat?\nA. x\nB. y", image="1/image.png"), sample(2, "Context: h\nWhat?\nA. x\nB. y")]
    put(tmp_path, "eval/scienceqa/llava_test_CQM-A.json", samples)
    assert read_questions(tmp_path, "scienceqa") == [
        Asked("scienceqa", "1", "eval/scienceqa/images/test/1/image.png", f"What?\nA. x\nB. y\n{LETTER}", ""),
        Asked("scienceqa", "2", None, f"Context: h\nWhat?\nA. x\nB. y\n{LETTER}", ""),
    ]


def test_aokvqa_is_asked_for_a_letter(toy_root: Path):
    published = read_references(toy_root, "aokvqa")[3]
    asked = read_questions(toy_root, "aokvqa")[3]
    options = "".join(f"\n{letter}. {text}" for letter, text in zip("ABCD", published["choices"], strict=True))
    assert asked.text == f"{published['question']}{options}\n{LETTER}"
    assert (asked.question_id, asked.image) == (published["question_id"], f"coco/val2017/{published['image_id']:012d}.jpg")


# --- OKVQA, VizWiz's val and VSR ---


def put_open_questions(root: Path) -> None:
    """A question of each of the three, with the fields that the published files have beside those that are read."""
    put(root, "eval/okvqa/okvqa_test_split.json", [{"image_id": 297147, "question": "What sport?", "question_id": 2971475}])
    answers = [{"answer": "basil", "answer_confidence": "yes"}] * 10
    more = {"answers": answers, "answer_type": "other", "answerable": 1}
    put(root, "eval/vizwiz/val.json", [{"image": "VizWiz_val_00000000.jpg", "question": "What herb is this?", **more}])
    told = {"image": "000000085637.jpg", "caption": "The plant is at the right side of the bench.", "label": 1}
    rows = [told | {"relation": "at the right side of"}, {**told, "label": 0}]
    put(root, "eval/vsr/test.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))


OPEN = {
    "okvqa": (2971475, "eval/coco2014_val/COCO_val2014_000000297147.jpg", ""),
    "vizwiz_val": ("VizWiz_val_00000000.jpg", "eval/vizwiz/vizwiz_images/VizWiz_val_00000000.jpg", ""),
    "vsr": (1, "eval/vsr/vsr_images/000000085637.jpg", "at the right side of"),
}
REFUSAL = "When the provided information is insufficient, respond with 'Unanswerable'."


@pytest.mark.parametrize(
    ("benchmark", "wording", "text"),
    [
        ("okvqa", "llava", f"What sport?\n{WORD}"),
        ("okvqa", "minigpt4", "[vqa] Based on the image, respond to this question with a short answer: What sport?"),
        ("vizwiz_val", "llava", f"What herb is this?\n{REFUSAL}\n{WORD}"),
        (
            "vizwiz_val",
            "minigpt4",
            (
                "[vqa] The question is 'What herb is this?' Based on the image, answer the question with a single word or phrase. "
                "and reply 'unanswerable' when the provided information is insufficient"
            ),
        ),
        ("vsr", "llava", f"The plant is at the right side of the bench. Is this statement true or false?\n{WORD}"),
        (
            "vsr",
            "minigpt4",
            "[vqa] Based on the image, is this statement true or false? The plant is at the right side of the bench.",
        ),
    ],
)
def test_open_questions_are_asked_in_the_words_of_either_half(tmp_path: Path, benchmark: str, wording: str, text: str):
    put_open_questions(tmp_path)
    question_id, image, category = OPEN[benchmark]
    assert read_questions(tmp_path, benchmark, wording=wording)[0] == Asked(benchmark, question_id, image, text, category)


def test_statements_are_numbered_for_they_have_no_ids(tmp_path: Path):
    put_open_questions(tmp_path)
    assert [(one.question_id, one.category) for one in read_questions(tmp_path, "vsr")] == [(1, "at the right side of"), (2, "")]


# --- the words of MiniGPT4-v2 ---


def test_multiple_choice_has_the_mark_of_its_task_before_the_question(toy_root: Path):
    for benchmark in ("seed", "aokvqa"):
        asked = [read_questions(toy_root, benchmark, wording=wording) for wording in ("llava", "minigpt4")]
        assert [one.text for one in asked[1]] == [f"[vqa] {one.text}" for one in asked[0]]
        assert [replace(one, text="") for one in asked[1]] == [replace(one, text="") for one in asked[0]]


def test_the_hint_of_mmbench_stands_before_the_mark(tmp_path: Path):
    put(tmp_path, TABLE, table("1\tWhat?\tLook.\tred\tblue\t\t\tA\tcolour\tQQ==", "2\tWhy {so}?\tnone\tred\t\t\t\tA\tcolour\tQQ=="))
    assert [one.text for one in read_questions(tmp_path, "mmbench", wording="minigpt4")] == [
        f"Look.\n[vqa] What?\nA. red\nB. blue\n{LETTER}",
        f"[vqa] Why {{so}}?\nA. red\n{LETTER}",
    ]


@pytest.mark.parametrize("benchmark", [name for name in BENCHMARKS if name not in minigpt4.WORDS])
def test_what_that_half_never_asks_has_no_words_there(toy_root: Path, benchmark: str):
    with pytest.raises(ConfigError) as caught:
        read_questions(toy_root, benchmark, wording="minigpt4")
    assert str(caught.value) == (
        f"infer.wording is minigpt4, which has no words for {benchmark}; it has them for: seed, mmbench, okvqa, vizwiz_val, vsr, aokvqa; "
        "shorten infer.benchmarks, or set infer.wording=llava"
    )


def test_more_options_than_letters_are_refused():
    with pytest.raises(DataError) as caught:
        wording.by_letter("What?", list("abcdef"))
    assert str(caught.value) == "6 options of the question 'What?', there are letters for 5; take it out of its file"


# --- annotations ---


def test_annotations_are_unchanged(toy_root: Path):
    def parsed(name: str) -> dict | list:
        return json.loads((toy_root / name).read_text())

    def rows(name: str) -> list[dict]:
        return [json.loads(line) for line in (toy_root / name).read_text().splitlines()]

    found = {name: read_references(toy_root, name) for name in BENCHMARKS}
    bench = "eval/llava-bench-in-the-wild"
    assert found["seed"] == parsed("eval/seed_bench/SEED-Bench.json")
    assert found["gqa"] == parsed("eval/gqa/data/testdev_balanced_questions.json")
    assert found["textvqa"] == parsed("eval/textvqa/TextVQA_0.5.1_val.json")
    assert found["aokvqa"] == parsed("aokvqa/aokvqa_v1p0_val.json")
    assert found["mm-vet"] == parsed("eval/mm-vet/mm-vet.json")
    assert found["vizwiz"] == parsed("eval/vizwiz/test.json")
    assert found["vizwiz_val"] == parsed("eval/vizwiz/val.json")
    assert found["vsr"] == rows("eval/vsr/test.jsonl")
    assert found["okvqa"] == {
        "questions": parsed("eval/okvqa/OpenEnded_mscoco_val2014_questions_clean.json"),
        "annotations": parsed("eval/okvqa/mscoco_val2014_annotations_clean.json"),
    }
    assert found["vqav2"] == rows("eval/vqav2/llava_vqav2_mscoco_test2015.jsonl")
    assert found["scienceqa"] == {
        "problems": parsed("eval/scienceqa/problems.json"),
        "splits": parsed("eval/scienceqa/pid_splits.json"),
    }
    assert found["vqav2_val"] == {
        "questions": parsed("eval/vqav2/v2_OpenEnded_mscoco_val2014_questions.json"),
        "annotations": parsed("eval/vqav2/v2_mscoco_val2014_annotations.json"),
    }
    assert found["pope"] == {name: rows(f"eval/pope/coco/coco_pope_{name}.json") for name in ("adversarial", "popular", "random")}
    assert found["llava-bench"] == {name: rows(f"{bench}/{name}.jsonl") for name in ("questions", "context", "answers_gpt4")}
    assert [row["index"] for row in found["mmbench"]] == [question.question_id for question in read_questions(toy_root, "mmbench")]


def test_the_truth_of_mme_is_read_from_either_shape_of_folder(tmp_path: Path):
    place = "eval/MME/MME_Benchmark_release_version"
    put(tmp_path, f"{place}/color/1.txt", "Is it red? Please answer yes or no.\tYes\r\nIs it blue?  Please answer yes or no.\tNo\r\n")
    put(tmp_path, f"{place}/scene/questions_answers_YN/2.txt", "Is it a street? Please answer yes or no.\tNo\n")
    put(tmp_path, f"{place}/scene/images/2.jpg", "")
    (tmp_path / place / "eval_tool").mkdir()
    assert read_references(tmp_path, "mme") == {
        "color": {"1.txt": [["Is it red? Please answer yes or no.", "Yes"], ["Is it blue?  Please answer yes or no.", "No"]]},
        "scene": {"2.txt": [["Is it a street? Please answer yes or no.", "No"]]},
    }


# --- what is malformed ---


def message_of(root: Path, benchmark: str, *, references: bool = False) -> str:
    with pytest.raises(DataError) as caught:
        (read_references if references else read_questions)(root, benchmark)
    return str(caught.value)


@pytest.mark.parametrize("read", [read_questions, read_references])
def test_an_unknown_benchmark_is_named_with_those_that_exist(tmp_path: Path, read: object):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, "vqa")
    assert str(caught.value) == (
        "dataengine has no benchmark 'vqa'; it has: seed, mme, gqa, vqav2, vqav2_val, pope, textvqa, vizwiz, mm-vet, llava-bench, "
        "mmbench, scienceqa, aokvqa, okvqa, vizwiz_val, vsr"
    )


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_a_file_that_is_missing_is_named(tmp_path: Path, benchmark: str):
    assert message_of(tmp_path, benchmark).endswith(": no such file; bring it, or make it again")
    wanted = "no such folder; bring the release of MME" if benchmark == "mme" else "no such file; bring it, or make it again"
    assert message_of(tmp_path, benchmark, references=True).endswith(f": {wanted}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question_id": 1', "not valid JSON (Expecting ',' delimiter); is the file cut off? bring or make it again"),
        ("[1]", "found [1], expected an object; bring the published file"),
        ('{"question_id": 1, "image": "a.jpg"}', "no text; bring the published file"),
        (
            '{"question_id": null, "image": "a.jpg", "text": ""}',
            ("question_id: found null, expected text or a whole number; bring the published file"),
        ),
    ],
)
def test_a_malformed_line_is_named_by_file_and_number(tmp_path: Path, line: str, message: str):
    good = json.dumps({"question_id": 1, "image": "a.jpg", "text": "What?"})
    path = put(tmp_path, "eval/gqa/llava_gqa_testdev_balanced.jsonl", f"{good}\n\n{line}\n")
    assert message_of(tmp_path, "gqa") == f"{path}:3: {message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("index\tquestion\tB\n", ":1: no column A, image; the columns are: index, question, B"),
        (table("1\tWhat?\tred"), ":2: 3 cells, expected 10; is the file cut off? bring it again"),
        (table("x\tWhat?\t\tred\t\t\t\tA\tcolour\tQQ=="), ":2: index is 'x', expected a whole number; bring the published file"),
    ],
)
def test_a_malformed_table_is_named_by_file_and_line(tmp_path: Path, content: str, message: str):
    path = put(tmp_path, TABLE, content)
    assert message_of(tmp_path, "mmbench") == message_of(tmp_path, "mmbench", references=True) == f"{path}{message}"


def test_a_picture_that_is_not_base64_is_named_by_line(tmp_path: Path):
    path = put(tmp_path, TABLE, table("1\tWhat?\t\tred\t\t\t\tA\tcolour\tQQ==", "2\tWhat?\t\tred\t\t\t\tA\tcolour\tQ"))
    with pytest.raises(DataError) as caught:
        benchmarks.unpack_pictures(tmp_path, tmp_path)
    assert str(caught.value).startswith(f"{path}:3: image is not base64 (")
    assert str(caught.value).endswith("); bring the published file")


@pytest.mark.parametrize(
    ("benchmark", "name", "content", "message"),
    [
        ("seed", "eval/seed_bench/SEED-Bench.json", {"questions": []}, ": no question_type"),
        ("seed", "eval/seed_bench/SEED-Bench.json", {"question_type": {}, "questions": [{"question_id": "1"}]},
         ": question 1: no question_type_id"),
        ("gqa", "eval/gqa/data/testdev_balanced_questions.json", [], ": found [], expected an object"),
        ("gqa", "eval/gqa/data/testdev_balanced_questions.json", {"7": {"question": 1}}, ": item 7: question: found 1, expected text"),
        ("scienceqa", "eval/scienceqa/problems.json", {"7": {"question": "What?", "choices": {}}},
         ": item 7: choices: found {}, expected a list"),
        ("vqav2", "eval/vqav2/llava_vqav2_mscoco_test2015.jsonl", '{"question_id": "1"}',
         ':1: question_id: found "1", expected a whole number'),
        ("vqav2_val", "eval/vqav2/v2_OpenEnded_mscoco_val2014_questions.json", {"questions": [{"question_id": 1}]},
         ": questions 1: no question"),
        ("pope", "eval/pope/coco/coco_pope_adversarial.json", '{"question_id": 1, "image": "a", "text": "b"}', ":1: no label"),
        ("textvqa", "eval/textvqa/TextVQA_0.5.1_val.json", {"data": [5]}, ": data 1: found 5, expected an object"),
        ("aokvqa", "aokvqa/aokvqa_v1p0_val.json", [{"question_id": "a", "image_id": "12"}],
         ': row 1: image_id: found "12", expected a whole number'),
        ("mm-vet", "eval/mm-vet/mm-vet.json", {"v1_0": {"question": "What?"}}, ": item v1_0: no answer"),
        ("vizwiz", "eval/vizwiz/test.json", [{"image": "a.jpg"}], ": row 1: no question"),
        ("okvqa", "eval/okvqa/OpenEnded_mscoco_val2014_questions_clean.json", {"questions": {}},
         ": questions: found {}, expected a list"),
        ("vizwiz_val", "eval/vizwiz/val.json", [{"image": "a.jpg", "question": "What?"}], ": row 1: no answers"),
        ("vsr", "eval/vsr/test.jsonl", '{"image": "a.jpg", "caption": "It is.", "label": "1"}',
         ':1: label: found "1", expected a whole number'),
        ("vsr", "eval/vsr/test.jsonl", '{"image": "a", "caption": "b", "label": 1}\n{"image": "a", "caption": "b", "label": 2}',
         ": statement 2: label is 2, expected 0 or 1"),
        ("llava-bench", "eval/llava-bench-in-the-wild/questions.jsonl", '{"question_id": 0, "text": "What?"}', ":1: no category"),
    ],
)  # fmt: skip
def test_malformed_annotations_are_one_line(tmp_path: Path, benchmark: str, name: str, content: object, message: str):
    path = put(tmp_path, name, content)
    assert message_of(tmp_path, benchmark, references=True) == f"{path}{message}; bring the published file"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question_id": 1, "question": "What?"}, "no image_id"),
        ({"question_id": "1", "image_id": 1, "question": "What?"}, 'question_id: found "1", expected a whole number'),
        ({"question_id": 1, "image_id": 1, "question": None}, "question: found null, expected text"),
    ],
)
def test_a_malformed_question_of_okvqa_is_named_by_row(tmp_path: Path, row: dict, message: str):
    path = put(tmp_path, "eval/okvqa/okvqa_test_split.json", [{"question_id": 1, "image_id": 1, "question": "What?"}, row])
    assert message_of(tmp_path, "okvqa") == f"{path}: row 2: {message}; bring the published file"


@pytest.mark.parametrize("benchmark", ["vizwiz_val", "vsr"])
def test_what_is_asked_and_what_is_compared_are_one_file_and_refused_alike(tmp_path: Path, benchmark: str):
    name, content = {"vizwiz_val": ("eval/vizwiz/val.json", [{"image": 5}]), "vsr": ("eval/vsr/test.jsonl", '{"image": 5}')}[benchmark]
    put(tmp_path, name, content)
    assert message_of(tmp_path, benchmark) == message_of(tmp_path, benchmark, references=True)


@pytest.mark.parametrize("line", ["Is it red?\tyes", "Is it red? Yes", "Is it red?\tYes\tNo"])
def test_a_malformed_truth_of_mme_is_named_by_file_and_line(tmp_path: Path, line: str):
    path = put(tmp_path, "eval/MME/MME_Benchmark_release_version/color/1.txt", f"Is it?\tNo\n{line}\n")
    wanted = f"{path}:2: expected a question, a tab, and Yes or No; bring the published file"
    assert message_of(tmp_path, "mme", references=True) == wanted


def test_a_problem_of_scienceqa_without_a_question_is_named(tmp_path: Path):
    path = put(tmp_path, "eval/scienceqa/llava_test_CQM-A.json", [{"id": "1", "conversations": []}])
    assert message_of(tmp_path, "scienceqa") == f"{path}: row 1: conversations is empty, expected the question; bring the published file"
