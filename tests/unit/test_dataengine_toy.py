"""The toy data lie where the published ones do, with their oddities; the base mix lacks a type; and every answer is in the picture."""

import base64
import csv
import io
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from lib import snapshot_texts
from lib.scenes import ATTRIBUTES
from lib.submissions.dataengine import facts, toy
from lib.submissions.dataengine.facts import FACTS, Fact
from lib.submissions.dataengine.toy import LACKING, ODD, TAUGHT, ToySizes, write_toy_data
from lib.submissions.dataengine.toy_world import TYPES

SIZES = ToySizes(mix=24, texts=4, captions=8, pool=9, val=4, test=5, bench=7)
FOLDERS = {"coco/train2017", "gqa/images", "ocr_vqa/images", "textvqa/train_images", "vg/VG_100K", "vg/VG_100K_2"}
MME = "eval/MME/MME_Benchmark_release_version"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataengine")
    write_toy_data(folder, 3, SIZES)
    return folder


@pytest.fixture(scope="module")
def known(root: Path) -> dict[str, dict[str, str]]:
    return read(root / "toy_answers.json")


def read(path: Path) -> dict | list:
    return json.loads(path.read_text())


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def fact_of(text: str) -> Fact:
    """What a question is about, by its wording; those with yes or no state something."""
    for fact in FACTS.values():
        before, after = fact.statement.removesuffix(".").split("{}")
        stated = f"Is it right that {before[0].lower()}{before[1:]}(.+){after}\\?"
        if any(question in text for question in fact.questions) or re.search(stated, text):
            return fact
    raise AssertionError(text)


def holds(text: str, values: dict[str, str]) -> bool:
    """Whether what a question with yes or no states is so."""
    return values[fact_of(text).attribute] == re.search(r" is ([a-z ]+)\?", text)[1]


def pairs(sample: dict) -> list[tuple[str, str]]:
    texts = [turn["value"] for turn in sample["conversations"]]
    return list(zip(texts[::2], texts[1::2], strict=True))


# --- the base mix ---


def test_the_mix_has_pictures_of_all_folders_texts_and_odd_samples(root: Path):
    samples = read(root / toy.MIX)
    with_picture = [sample for sample in samples if "image" in sample]
    assert len(with_picture) == SIZES.mix + len(ODD) and len(samples) - len(with_picture) == SIZES.texts
    assert Counter(sample["image"].rpartition("/")[0] for sample in with_picture[: SIZES.mix]) == dict.fromkeys(FOLDERS, 4)
    assert with_picture[0]["id"] == "000000033471" and with_picture[0]["image"] == "coco/train2017/000000033471.jpg"
    assert re.fullmatch(r"textvqa/train_images/[0-9a-f]{16}\.jpg", with_picture[3]["image"])
    for sample in samples[-SIZES.texts :]:
        assert list(sample) == ["id", "model", "conversations"] and sample["model"] == ""


def test_nothing_in_the_mix_is_about_the_lacking_type_and_the_others_are_asked_equally_often(root: Path):
    asked, told = Counter(), Counter()
    for sample in read(root / toy.MIX):
        for turn in sample["conversations"] if "image" in sample else ():
            stated = facts.read_statement(turn["value"])
            if stated:
                told[FACTS[stated[0]].type] += 1
            elif turn["from"] == "human" and toy.CAPTION_REQUEST not in turn["value"]:
                asked[fact_of(turn["value"]).type] += 1
    assert asked == dict.fromkeys(TAUGHT, SIZES.mix + len(ODD))
    assert LACKING not in told and len(told) == len(TAUGHT)
    words = (root / toy.MIX).read_text()
    assert not any(question in words for fact in facts.of_type(LACKING) for question in (*fact.questions, "driving"))


def test_turns_ask_for_a_word_a_letter_yes_or_no_or_a_caption_and_are_answered_by_the_picture(root: Path, known: dict):
    kinds = Counter()
    for sample in read(root / toy.MIX)[: SIZES.mix]:
        values = known[sample["image"]]
        assert sample["conversations"][0]["value"].startswith("<image>\n")
        for question, answer in pairs(sample):
            kind = kind_of(question)
            kinds[kind] += 1
            if kind == "caption":
                attribute, value = facts.read_statement(answer)
                assert values[attribute] == value
            elif kind == "yes or no":
                assert answer == ("Yes" if holds(question, values) else "No")
            else:
                options = dict(re.findall(r"^([A-D])\. (.+)$", question, re.MULTILINE))
                assert options.get(answer, answer) == values[fact_of(question).attribute]
    assert kinds["word"] > kinds["yes or no"] > 0 < kinds["letter"] < kinds["word"] and kinds["caption"] == 5


def kind_of(question: str) -> str:
    if question == toy.CAPTION_REQUEST:
        return "caption"
    if question.endswith("\nAnswer with the option's letter from the given choices directly."):
        return "letter"
    assert question.endswith("\nAnswer the question using a single word or phrase.")
    return "yes or no" if "Is it right" in question else "word"


@pytest.mark.parametrize("mix", [0, 5, 24])
def test_each_oddity_is_there_once_whatever_the_sizes(tmp_path: Path, mix: int):
    write_toy_data(tmp_path, 1, ToySizes(mix, 1, 0, 0, 0, 0, 0))
    samples = read(tmp_path / toy.MIX)
    odd = dict(zip(ODD, samples[mix:], strict=False))
    assert not (tmp_path / odd["picture missing"]["image"]).exists()
    assert (tmp_path / odd["not a picture"]["image"]).read_text().startswith("<html>")
    gif = tmp_path / odd["gif"]["image"]
    assert gif.parent.parent.name == "ocr_vqa" and gif.suffix == ".jpg" and Image.open(gif).format == "GIF"
    assert odd["placeholder behind"]["conversations"][0]["value"].endswith("\n<image>")
    assert odd["placeholder doubled"]["conversations"][0]["value"].count("<image>") == 2
    assert odd["bad role"]["conversations"][1]["from"] == "assistant"
    assert odd["assistant first"]["conversations"][0]["from"] == "gpt"
    assert odd["empty answer"]["conversations"][3]["value"] == ""
    assert [turn["from"] for turn in odd["two questions in a row"]["conversations"][:2]] == ["human", "human"]
    assert mix == 0 or odd["same id"]["id"] == samples[0]["id"]


# --- captions ---


def test_captions_are_asked_for_before_or_behind_the_placeholder_and_say_what_the_picture_shows(root: Path, known: dict):
    samples = read(root / "LLaVA-Pretrain/blip_laion_cc_sbu_558k.json")
    assert len(samples) == SIZES.captions and samples[0]["id"] == "004539375" and samples[0]["image"] == "00453/004539375.jpg"
    for sample in samples:
        asked, told = (turn["value"] for turn in sample["conversations"])
        assert asked.removeprefix("<image>\n").removesuffix("\n<image>") in toy.CAPTION_REQUESTS and asked.count("<image>") == 1
        values = known[f"LLaVA-Pretrain/images/{sample['image']}"]
        said = [name for name in toy.CAPTIONED if snapshot_texts.list_of(values, [name]).removesuffix(".") in told]
        assert told == snapshot_texts.list_of(values, said) and len(said) == toy.STATED
    assert not {fact.attribute for fact in facts.of_type(LACKING)} & set(toy.CAPTIONED)
    behind = sum(sample["conversations"][0]["value"].endswith("<image>") for sample in samples)
    assert 0 < behind < len(samples)


# --- the engine ---


@pytest.mark.parametrize("model", ["llava", "minigpt4"])
def test_generated_records_have_the_published_form_and_its_faults(root: Path, known: dict, model: str):
    records = read(root / f"data_engine/dataengine_{model}.json")
    keys = Counter(tuple(record) for record in records)
    assert len(keys) == 3 and keys[("instruction", "answer", "short_answer", "image", "qtype")] == 3
    assert keys[("instruction", "answer", "short_answer", "options", "choide_answer", "image", "qtype")] > 0
    assert {record["qtype"] for record in records} == {1, 2, 3, 4, 7}, "all types that the toy world has but the lacking one"
    for record in records:
        value = known[record["image"]][fact_of(record["instruction"]).attribute]
        assert record["short_answer"] == value and value in record["answer"]
        if "options" in record:
            letter = record.get("choice_answer", record.get("choide_answer"))
            assert record["options"]["ABCD".index(letter)] == value
    assert [(root / record["image"]).is_file() for record in records] == [True] * 19 + [False]


def test_the_records_for_either_model_have_pictures_of_their_own(root: Path):
    llava, minigpt4 = ({one["image"] for one in read(root / f"data_engine/dataengine_{name}.json")} for name in ("llava", "minigpt4"))
    assert len(llava) == len(minigpt4) == 20 and not llava & minigpt4


def test_captions_of_the_pool_state_every_attribute(root: Path, known: dict):
    captions = read(root / "coco/annotations/captions_train2017.json")
    texts: dict[int, list[str]] = {image["id"]: [] for image in captions["images"]}
    for caption in captions["annotations"]:
        texts[caption["image_id"]].append(caption["caption"])
    assert [len(found) for found in texts.values()] == [6, 5, 5, 5, 6, 5, 5, 5, 6]
    assert all(len(set(found)) == 5 for found in texts.values())
    for image_id, found in texts.items():
        sentences = re.findall(r"[^.]+\.", " ".join(dict.fromkeys(found)))
        assert sorted(map(str.strip, sentences)) == sorted(facts.statements(known[f"coco/train2017/{image_id:012d}.jpg"]))


def test_boxes_are_in_coco_form_with_one_picture_without_and_one_with_many(root: Path):
    for split, count in (("train2017", SIZES.pool), ("val2017", SIZES.val)):
        document = read(root / f"coco/annotations/instances_{split}.json")
        assert len(document["images"]) == count
        assert {category["id"]: category["name"] for category in document["categories"]} == {1: "person", 3: "vehicle"}
        assert len({box["id"] for box in document["annotations"]}) == len(document["annotations"])
        sizes = {image["id"]: (image["width"], image["height"]) for image in document["images"]}
        for image in document["images"]:
            assert image["file_name"] == f"{image['id']:012d}.jpg"
            assert Image.open(root / "coco" / split / image["file_name"]).size == sizes[image["id"]]
        for box in document["annotations"]:
            x, y, wide, high = box["bbox"]
            width, height = sizes[box["image_id"]]
            assert x >= 0 and y >= 0 and wide > 5 and high > 5 and x + wide <= width + 0.01 and y + high <= height + 0.01
    boxes = read(root / "coco/annotations/instances_train2017.json")
    counts = [len({str(box["bbox"]) for box in boxes["annotations"] if box["image_id"] == image["id"]}) for image in boxes["images"]]
    assert counts == [2, 0, 12, 2, 2, 2, 2, 2, 2]


def test_aokvqa_asks_once_about_every_type_and_people_mostly_agree(root: Path, known: dict):
    questions = read(root / "aokvqa/aokvqa_v1p0_val.json")
    assert list(questions[0]) == [
        "split", "image_id", "question_id", "question", "choices", "correct_choice_idx", "direct_answers", "difficult_direct_answer",
        "rationales",
    ]  # fmt: skip
    asked = Counter((question["image_id"], fact_of(question["question"]).type) for question in questions)
    assert set(asked.values()) == {1} and len(asked) == SIZES.val * len(TYPES)
    agreements = Counter()
    for question in questions:
        value = known[f"coco/val2017/{question['image_id']:012d}.jpg"][fact_of(question["question"]).attribute]
        assert question["choices"][question["correct_choice_idx"]] == value
        assert len(set(question["choices"])) == 4 and len(question["direct_answers"]) == 10
        assert set(question["direct_answers"]) <= set(question["choices"])
        agreements[question["direct_answers"].count(value)] += 1
    assert set(agreements) == {7, 8, 9, 10}
    assert len({question["question_id"] for question in questions}) == len(questions)
    assert {question["difficult_direct_answer"] for question in questions} == {True, False}


# --- the benchmarks ---


def test_seed_bench(root: Path, known: dict):
    document = read(root / "eval/seed_bench/SEED-Bench.json")
    names = {number: name for name, number in document["question_type"].items()}
    images = [question for question in document["questions"] if question["data_type"] == "image"]
    assert {question["data_type"] for question in document["questions"]} == {"image", "video"} and len(names) == 12
    asked = lines(root / "eval/seed_bench/llava-seed-bench-image.jsonl")
    assert len(asked) == len(images) == SIZES.test * len(TYPES)
    rights = Counter()
    for question, line in zip(images, asked, strict=True):
        value = known[f"eval/seed_bench/SEED-Bench-image/{question['data_id']}"][fact_of(question["question"]).attribute]
        assert question[f"choice_{question['answer'].lower()}"] == value
        assert line["question_id"] == int(question["question_id"])
        assert line["image"] == f"SEED-Bench-image/{question['data_id']}"
        assert line["category"] == names[question["question_type_id"]] == fact_of(line["text"]).type
        assert f"\n{question['answer']}. {value}\n" in line["text"]
        rights[question["answer"]] += 1
    assert set(rights) == set("ABCD")
    assert Image.open(root / "eval/seed_bench" / asked[0]["image"]).format == "JPEG"


def test_mmbench_rotates_the_options(root: Path, known: dict):
    name = "eval/mmbench/mmbench_dev_20230712.tsv"
    rows = list(csv.DictReader(io.StringIO((root / name).read_text()), delimiter="\t"))
    assert list(rows[0]) == [
        "index",
        "question",
        "hint",
        "A",
        "B",
        "C",
        "D",
        "answer",
        "category",
        "image",
        "source",
        "l2-category",
        "comment",
        "split",
    ]
    rounds = Counter()
    for row in rows:
        index = int(row["index"]) % 1_000_000
        rounds[index] += 1
        assert row[row["answer"]] == known[f"{name}#{index}"][fact_of(row["question"]).attribute]
        assert Image.open(io.BytesIO(base64.b64decode(row["image"]))).format == "JPEG"
    assert list(rounds.values()) == [4, 3, 4, 4, 3, 4, 4], "as many rotations as options"
    assert {row["D"] for row in rows if rounds[int(row["index"]) % 1_000_000] == 3} == {"", "nan"}
    assert sum(bool(row["hint"]) for row in rows) == 2 * 4
    first, second = (next(row for row in rows if int(row["index"]) == index) for index in (241, 1_000_241))
    assert [second[letter] for letter in "ABCD"] == [first[letter] for letter in "BCDA"]


def test_mme_has_both_shapes_of_folders_and_a_yes_and_a_no_per_picture(root: Path, known: dict):
    asked = lines(root / "eval/MME/llava_mme.jsonl")
    assert len(asked) == 2 * SIZES.bench
    blanks = set()
    for first, second in zip(asked[::2], asked[1::2], strict=True):
        assert first["question_id"] == second["question_id"] == first["image"]
        path = root / MME / first["image"]
        texts = path.parent.parent / "questions_answers_YN" if path.parent.name == "images" else path.parent
        truth = (texts / f"{path.stem}.txt").read_text().splitlines()
        assert sorted(line.split("\t")[1] for line in truth) == ["No", "Yes"]
        for line, question in zip(truth, (first, second), strict=True):
            text, answer = line.split("\t")
            assert answer == ("Yes" if holds(text, known[f"{MME}/{first['image']}"]) else "No")
            bare = question["text"].removesuffix("\nAnswer the question using a single word or phrase.")
            blanks.add(text.removeprefix(bare))
    assert blanks == {" Please answer yes or no.", "  Please answer yes or no."}
    folders = {path.name: {inner.name for inner in path.iterdir() if inner.is_dir()} for path in (root / MME).iterdir()}
    assert folders["scene"] == folders["posters"] == {"images", "questions_answers_YN"}
    assert folders["existence"] == folders["commonsense_reasoning"] == set()


def test_gqa_answers_entail_each_other(root: Path, known: dict):
    published = read(root / "eval/gqa/data/testdev_balanced_questions.json")
    asked = lines(root / "eval/gqa/llava_gqa_testdev_balanced.jsonl")
    assert [line["question_id"] for line in asked] == list(published)
    for question in published.values():
        values = known[f"eval/gqa/data/images/{question['imageId']}.jpg"]
        is_verify = question["types"]["structural"] == "verify"
        value = values[fact_of(question["question"].replace(",", "?")).attribute]
        right = ("yes" if holds(question["question"], values) else "no") if is_verify else value
        assert question["answer"] == right and question["isBalanced"]
        assert (question["groups"]["global"] is None) == is_verify
        assert all(published[other]["imageId"] == question["imageId"] for other in question["entailed"])
    assert Counter(question["types"]["structural"] for question in published.values()) == dict.fromkeys(("query", "verify", "choose"), 7)


def test_vqav2_has_a_test_list_part_of_which_is_asked_and_a_val_set_with_answers(root: Path, known: dict):
    folder = root / "eval/vqav2"
    everything, asked = (lines(folder / f"llava_vqav2_mscoco_{split}.jsonl") for split in ("test2015", "test-dev2015"))
    assert len(everything) == 2 * SIZES.bench and asked == everything[: len(asked)] and 0 < len(asked) < len(everything)
    questions = read(folder / "v2_OpenEnded_mscoco_val2014_questions.json")["questions"]
    annotations = read(folder / "v2_mscoco_val2014_annotations.json")["annotations"]
    rows = lines(folder / "llava_vqav2_mscoco_val2014.jsonl")
    for question, annotation, row in zip(questions, annotations, rows, strict=True):
        assert question["question_id"] == annotation["question_id"] == row["question_id"]
        assert question["image_id"] == question["question_id"] // 1000
        values = known[f"eval/vqav2/val2014/COCO_val2014_{question['image_id']:012d}.jpg"]
        right = values[fact_of(question["question"]).attribute]
        if annotation["answer_type"] == "yes/no":
            right = "yes" if holds(question["question"], values) else "no"
        given = [answer["answer"] for answer in annotation["answers"]]
        assert annotation["multiple_choice_answer"] == right and len(given) == 10 and given.count(right) >= 7


def test_scienceqa_has_problems_with_and_without_picture(root: Path, known: dict):
    folder = root / "eval/scienceqa"
    problems, splits, samples = (read(folder / f"{name}.json") for name in ("problems", "pid_splits", "llava_test_CQM-A"))
    assert {split: len(keys) for split, keys in splits.items()} == {"train": 1, "val": 1, "test": SIZES.bench}
    assert [sample["id"] for sample in samples] == splits["test"]
    for sample in samples:
        problem, place = problems[sample["id"]], f"eval/scienceqa/images/test/{sample['id']}/image.png"
        right = problem["choices"][problem["answer"]]
        question, answer = (turn["value"] for turn in sample["conversations"])
        assert answer == "ABCD"[problem["answer"]] and f"\n{answer}. {right}" in question
        if problem["image"]:
            assert sample["image"] == f"{sample['id']}/image.png" and question.startswith("<image>\n")
            assert known[place][fact_of(problem["question"]).attribute] == right
            assert Image.open(root / place).format == "PNG"
        else:
            assert "image" not in sample and question.startswith(f"Context: {problem['hint']}\n") and right in problem["hint"]
    assert 0 < sum("image" in sample for sample in samples) < len(samples)


def test_pope_asks_as_often_for_yes_as_for_no(root: Path, known: dict):
    asked = lines(root / "eval/pope/llava_pope_test.jsonl")
    assert len({line["question_id"] for line in asked}) == len(asked) == 3 * 2 * SIZES.bench
    for category in ("adversarial", "popular", "random"):
        labels = lines(root / f"eval/pope/coco/coco_pope_{category}.json")
        mine = [line for line in asked if line["category"] == category]
        for line, label in zip(mine, labels, strict=True):
            assert line["text"] == f"{label['text']}\nAnswer the question using a single word or phrase."
            assert label["label"] == ("yes" if holds(label["text"], known[f"eval/pope/val2014/{line['image']}"]) else "no")
        assert Counter(label["label"] for label in labels) == {"yes": SIZES.bench, "no": SIZES.bench}


def test_textvqa_and_vizwiz_word_their_requests_as_published(root: Path, known: dict):
    asked = lines(root / "eval/textvqa/llava_textvqa_val_v051_ocr.jsonl")
    for line, item in zip(asked, read(root / "eval/textvqa/TextVQA_0.5.1_val.json")["data"], strict=True):
        assert line["question_id"] == item["image_id"] == line["image"].removesuffix(".jpg")
        assert re.fullmatch(rf"{re.escape(item['question'])}\nReference OCR token: [0-9, ]*\nAnswer the question .*\.", line["text"])
        value = known[f"eval/textvqa/train_images/{line['image']}"][fact_of(item["question"]).attribute]
        assert item["answers"].count(value) >= 7
    asked = lines(root / "eval/vizwiz/llava_test.jsonl")
    for line, item in zip(asked, read(root / "eval/vizwiz/test.json"), strict=True):
        assert line["image"] == item["image"]
        assert line["text"].split("\n")[:2] == [
            item["question"],
            "When the provided information is insufficient, respond with 'Unanswerable'.",
        ]


def test_open_benchmarks(root: Path, known: dict):
    published = read(root / "eval/mm-vet/mm-vet.json")
    for line in lines(root / "eval/mm-vet/llava-mm-vet.jsonl"):
        item = published[f"v1_{line['question_id']}"]
        assert (item["imagename"], item["question"]) == (line["image"], line["text"])
        assert item["answer"] == known[f"eval/mm-vet/images/{line['image']}"][fact_of(line["text"]).attribute]
    folder = root / "eval/llava-bench-in-the-wild"
    parts = (lines(folder / f"{name}.jsonl") for name in ("questions", "context", "answers_gpt4"))
    for question, context, answer in zip(*parts, strict=True):
        assert question["image"] == context["image"] and question["question_id"] == answer["question_id"]
        assert context["caption"] == " ".join(facts.statements(known[f"eval/llava-bench-in-the-wild/images/{question['image']}"]))
        assert answer["text"] in context["caption"]


def test_okvqa_has_a_list_of_questions_and_both_official_files(root: Path, known: dict):
    folder = root / "eval/okvqa"
    asked = read(folder / "okvqa_test_split.json")
    assert asked == read(folder / "OpenEnded_mscoco_val2014_questions_clean.json")["questions"] and len(asked) == SIZES.bench
    annotations = read(folder / "mscoco_val2014_annotations_clean.json")["annotations"]
    for question, annotation in zip(asked, annotations, strict=True):
        assert list(question) == ["image_id", "question_id", "question"] and question["question_id"] == annotation["question_id"]
        right = known[f"eval/coco2014_val/COCO_val2014_{question['image_id']:012d}.jpg"][fact_of(question["question"]).attribute]
        assert [set(one) for one in annotation["answers"]] == [{"answer", "raw_answer", "answer_confidence", "answer_id"}] * 10
        assert sum(one["answer"] == right for one in annotation["answers"]) >= 7


def test_now_and_then_a_question_of_vizwiz_cannot_be_answered(root: Path, known: dict):
    rows = read(root / "eval/vizwiz/val.json")
    assert [row["answerable"] for row in rows] == [1, 1, 1, 0, 1, 1, 1]
    for row in rows:
        assert list(row) == ["image", "question", "answers", "answer_type", "answerable"]
        value = known[f"eval/vizwiz/vizwiz_images/{row['image']}"][fact_of(row["question"]).attribute]
        given = [one["answer"] for one in row["answers"]]
        assert len(given) == 10 and given.count(value if row["answerable"] else "unanswerable") >= 7
        assert row["answer_type"] == ("other" if row["answerable"] else "unanswerable")


def test_statements_of_vsr_are_true_or_false_of_their_pictures(root: Path, known: dict):
    rows = lines(root / "eval/vsr/test.jsonl")
    assert len(rows) == 2 * SIZES.bench and {row["label"] for row in rows} == {0, 1}
    for row in rows:
        attribute, value = facts.read_statement(row["caption"])
        assert row["relation"] == attribute
        assert row["label"] == (known[f"eval/vsr/vsr_images/{row['image']}"][attribute] == value)
        assert row["image_link"].endswith(row["image"])


# --- all of it ---


def test_every_picture_is_known_and_opens(root: Path, known: dict):
    for path in root.rglob("*"):
        if path.suffix in (".jpg", ".png") or path.parent.name == "SEED-Bench-image":
            assert list(known[path.relative_to(root).as_posix()]) == list(ATTRIBUTES)
    assert sum("#" not in name and not (root / name).is_file() for name in known) == 3, (
        "a picture of the mix and one of either file of records"
    )


def test_the_same_seed_writes_the_same_bytes_and_another_one_another(tmp_path: Path):
    small = ToySizes(2, 1, 2, 3, 1, 1, 2)
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        write_toy_data(tmp_path / name, seed, small)
    first, again, other = (
        {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()}
        for name in ("first", "again", "other")
    )
    assert first == again != other


def test_writing_anew_leaves_nothing_of_the_data_before(tmp_path: Path):
    write_toy_data(tmp_path, 1, ToySizes(2, 1, 1, 1, 1, 1, 1))
    (tmp_path / "gqa/images/stray.jpg").touch()
    write_toy_data(tmp_path, 2, ToySizes(1, 1, 1, 1, 1, 1, 1))
    assert not (tmp_path / "gqa/images/stray.jpg").exists()
    wanted = {"toy_answers.json", toy.MIX, *toy.PARTS}
    assert {path.name for path in tmp_path.iterdir()} == wanted
