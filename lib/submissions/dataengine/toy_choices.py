"""Toy benchmarks of multiple choice: SEED-Bench, MMBench and ScienceQA, in the published layouts."""

import csv
import io

from numpy.random import Generator

from lib.conversation import IMAGE
from lib.metrics.multiple_choice import LETTERS, ROTATION
from lib.submissions.dataengine.benchmarks import SCIENCEQA_IMAGES, scienceqa_text
from lib.submissions.dataengine.mmbench_table import TABLE
from lib.submissions.dataengine.question_types import TOY_AOKVQA
from lib.submissions.dataengine.toy_world import SEED_NUMBERS, TYPES, Album, Question, ask, encode_base64, type_of
from lib.submissions.dataengine.wording import by_letter

SEED = "eval/seed_bench"
FIRST_SEED, FIRST_MMBENCH = 101_669, 241
# Video types of SEED-Bench; their questions are in the annotations, not in the question file.
VIDEO_TYPES = {"Action Recognition": 10, "Action Prediction": 11, "Procedure Understanding": 12}

MMBENCH_COLUMNS = ("index", "question", "hint", *LETTERS, "answer", "category", "image", "source", "l2-category", "comment", "split")
MMBENCH_ABOVE = {
    "Scene Understanding": "coarse_perception",
    "Instance Identity": "attribute_reasoning",
    "Instance Attributes": "finegrained_perception (instance-level)",
    "Instance Location": "finegrained_perception (instance-level)",
    "Instance Interaction": "finegrained_perception (cross-instance)",
    "Visual Reasoning": "attribute_reasoning",
}
FEWER_OPTIONS_EVERY, HINT_EVERY, WORD_FOR_MISSING_EVERY = 3, 4, 6

TEXT_ONLY_EVERY = 3  # one problem of ScienceQA in so many has no picture


def write_all(album: Album, *, seed_pictures: int, pictures: int) -> None:
    """SEED-Bench with one question of every type about each picture, and one question per picture of the others."""
    _write_seed(album, seed_pictures)
    _write_mmbench(album, pictures)
    _write_scienceqa(album, pictures)


def _write_seed(album: Album, pictures: int) -> None:
    published, asked = [], []
    for number in range(pictures):
        rng, data_id = album.rng("seed", number), f"{1454426 + number}_{2591111986 - number}"
        image = f"SEED-Bench-image/{data_id}"
        seen = album.add(f"{SEED}/{image}", rng)
        for question in (ask(rng, seen.values, type_) for type_ in TYPES):
            question_id = FIRST_SEED + len(asked)
            published.append(_seed_question(question_id, data_id, question))
            text = by_letter(question.text, question.options)
            asked.append({"question_id": question_id, "image": image, "text": text, "category": question.fact.type})
    for number, type_number in enumerate(VIDEO_TYPES.values()):
        rest = {f"choice_{letter.lower()}": f"action {letter}" for letter in LETTERS} | {"answer": LETTERS[number], "segment": [0.0, 2.5]}
        video = {"question_id": str(900_001 + number), "question_type_id": type_number, "data_type": "video", "data_id": f"{number}.mp4"}
        published.append(video | {"question": "What is done in the video?"} | rest)
    document = {"question_type": SEED_NUMBERS | VIDEO_TYPES, "questions": published}
    album.write_json(f"{SEED}/SEED-Bench.json", document)
    album.write_lines(f"{SEED}/llava-seed-bench-image.jsonl", asked)


def _seed_question(question_id: int, data_id: str, question: Question) -> dict:
    """NOTE: the annotations have ids as text, the question file has them as numbers."""
    choices = {f"choice_{letter.lower()}": option for letter, option in zip(LETTERS, question.options, strict=True)}
    return {
        "question_id": str(question_id),
        "question_type_id": SEED_NUMBERS[question.fact.type],
        "data_type": "image",
        "data_id": data_id,
        "question": question.text,
        **choices,
        "answer": question.letter,
    }


def _write_mmbench(album: Album, pictures: int) -> None:
    """Every question once per rotation of its options; all first rotations come first."""
    rows = []
    for number in range(pictures):
        rng, index = album.rng("mmbench", number), FIRST_MMBENCH + number
        seen = album.look(f"{TABLE}#{index}", rng)
        question = ask(rng, seen.values, type_of(number))
        options = question.options
        if number % FEWER_OPTIONS_EVERY == 1:
            options = tuple(option for option in options if option != question.wrong[-1])
        hint = f"A question about the {question.fact.attribute.replace('_', ' ')}." if number % HINT_EVERY == 2 else ""
        about = {
            "question": question.text,
            "hint": hint,
            "category": TOY_AOKVQA[question.fact.type],
            "image": encode_base64(seen),
            "source": "toy",
            "l2-category": MMBENCH_ABOVE[question.fact.type],
            "split": "dev",
        }
        missing = "nan" if number % WORD_FOR_MISSING_EVERY == 1 else ""
        rows += [about | rotated for rotated in _rotations(index, options, options.index(question.answer), missing)]
    rows.sort(key=lambda row: row["index"])
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, MMBENCH_COLUMNS, restval="", delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    album.write_text(TABLE, table.getvalue())


def _rotations(index: int, options: tuple[str, ...], right: int, missing: str) -> list[dict]:
    """The cells of index, options and answer, the options rotated by one more place in each row."""
    rows = []
    for turn in range(len(options)):
        turned = options[turn:] + options[:turn] + (missing,) * (len(LETTERS) - len(options))
        answer = LETTERS[(right - turn) % len(options)]
        rows.append({"index": index + turn * ROTATION, "answer": answer} | dict(zip(LETTERS, turned, strict=True)))
    return rows


def _write_scienceqa(album: Album, pictures: int) -> None:
    """Problems of the test split with and without a picture, and one of each other split."""
    problems, splits, samples = {}, {"train": [], "val": [], "test": []}, []
    for number in range(pictures + 2):
        rng, key = album.rng("scienceqa", number), str(4 + 3 * number)
        split = ("train", "val")[number - pictures] if number >= pictures else "test"
        problems[key] = _problem(album, rng, key, number, split)
        splits[split].append(key)
        if split == "test":
            samples.append(_scienceqa_sample(key, problems[key]))
    album.write_json("eval/scienceqa/problems.json", problems)
    album.write_json("eval/scienceqa/pid_splits.json", splits)
    album.write_json("eval/scienceqa/llava_test_CQM-A.json", samples)


def _problem(album: Album, rng: Generator, key: str, number: int, split: str) -> dict:
    """A problem with a picture in images/test, or one whose hint says in words what is asked for."""
    has_image = split == "test" and number % TEXT_ONLY_EVERY != TEXT_ONLY_EVERY - 1
    place = f"{SCIENCEQA_IMAGES}/{key}/image.png"
    seen = album.add(place, rng, form="PNG") if has_image else album.look(f"eval/scienceqa/problems.json#{key}", rng)
    question = ask(rng, seen.values, type_of(number))
    return {
        "question": question.text,
        "choices": list(question.options),
        "answer": question.right,
        "hint": "" if has_image else question.statement,
        "image": "image.png" if has_image else None,
        "task": "closed choice",
        "grade": "grade2",
        "subject": "natural science" if number % 2 else "social science",
        "topic": "traffic",
        "category": question.fact.type,
        "skill": "Look and tell",
        "lecture": "",
        "solution": question.statement,
        "split": split,
    }


def _scienceqa_sample(key: str, problem: dict) -> dict:
    """The problem as LLaVA's question file has it, a sample of the mix's form without the request for a letter."""
    image = {"image": f"{key}/{problem['image']}"} if problem["image"] else {}
    text = (f"{IMAGE}\n" if image else "") + scienceqa_text(problem)
    turns = [{"from": "human", "value": text}, {"from": "gpt", "value": LETTERS[problem["answer"]]}]
    return {"id": key, **image, "conversations": turns}
