"""Toy data of the engine: generated records in the published form, COCO's annotations of its pool, and A-OKVQA to find bad cases in.

Five captions per picture of the pool state together every attribute, those of the type that the base mix lacks among them. One picture
has no boxes, one more than ten, and some come with one caption twice.
"""

from numpy.random import Generator

from lib.sheet import Box
from lib.submissions.dataengine.facts import statements
from lib.submissions.dataengine.toy_world import SEED_NUMBERS, TYPES, Album, Question, Seen, ask, ten_answers

GENERATED = 20
CATEGORIES = [{"supercategory": kind, "id": number, "name": kind} for number, kind in ((1, "person"), (3, "vehicle"))]
CAPTIONS = 5
WITHOUT_BOXES, WITH_MANY_BOXES, MANY = 1, 2, 12  # pictures of the pool, by number, and how many boxes
CAPTION_TWICE_EVERY = 4
DIFFICULT_EVERY = 6
FIRST_TRAIN, FIRST_VAL = 300_001, 500_001
# Of each half of the publication: the end of the file's name, the part of the album, the number of the first picture.
GENERATED_FILES = (("llava", "generated", 2_500_001), ("minigpt4", "generated for minigpt4", 2_600_001))


def write_generated(album: Album, types: tuple[str, ...]) -> None:
    """Two small files of records like those that were published, of these types by turns.

    Kept from them: the misspelt key now and then, records without options, a picture that is missing.
    """
    for name, part, first in GENERATED_FILES:
        album.write_json(f"data_engine/dataengine_{name}.json", _generated(album, types, part, first))


def _generated(album: Album, types: tuple[str, ...], part: str, first: int) -> list[dict]:
    """The records of one file, with pictures of their own."""
    records = []
    for number in range(GENERATED):
        rng, image = album.rng(part, number), f"vg/VG_100K_2/{first + number}.jpg"
        seen = album.add(image, rng)
        question = ask(rng, seen.values, types[number % len(types)])
        key = "choide_answer" if number % 7 == 3 else "choice_answer"
        choices = {} if number % 6 == 5 else {"options": list(question.options), key: question.letter}
        records.append(
            {"instruction": question.text, "answer": question.statement, "short_answer": question.answer}
            | choices
            | {"image": image, "qtype": SEED_NUMBERS[question.fact.type]}
        )
    (album.root / records[-1]["image"]).unlink()
    return records


def write_pool(album: Album, pictures: int) -> None:
    """The pool's pictures with instances_train2017.json and captions_train2017.json."""
    images, boxes, captions = [], [], []
    for number in range(pictures):
        rng = album.rng("pool", number)
        image, seen = _add_coco(album, "train2017", FIRST_TRAIN + 7 * number, rng)
        images.append(image)
        if number != WITHOUT_BOXES:
            boxes += _boxes(image["id"], seen, rng, copies=MANY // 2 if number == WITH_MANY_BOXES else 1)
        texts = _captions(seen, rng)
        captions += [(image["id"], text) for text in (texts + texts[:1] if number % CAPTION_TWICE_EVERY == 0 else texts)]
    told = [{"image_id": image, "id": 100 + number, "caption": text} for number, (image, text) in enumerate(captions)]
    _write_instances(album, "train2017", images, boxes)
    album.write_json("coco/annotations/captions_train2017.json", _document(images) | {"annotations": told})


def write_aokvqa(album: Album, pictures: int) -> None:
    """One question of every type about each picture, and instances_val2017.json."""
    images, boxes, questions = [], [], []
    for number in range(pictures):
        rng = album.rng("aokvqa", number)
        image, seen = _add_coco(album, "val2017", FIRST_VAL + 3 * number, rng)
        images.append(image)
        boxes += _boxes(image["id"], seen, rng, copies=1)
        questions += [_aokvqa_question(rng, image["id"], ask(rng, seen.values, type_), len(questions) + n) for n, type_ in enumerate(TYPES)]
    _write_instances(album, "val2017", images, boxes)
    album.write_json("aokvqa/aokvqa_v1p0_val.json", questions)


def _aokvqa_question(rng: Generator, image_id: int, question: Question, number: int) -> dict:
    return {
        "split": "val",
        "image_id": image_id,
        "question_id": f"toy{number:019d}",
        "question": question.text,
        "choices": list(question.options),
        "correct_choice_idx": question.right,
        "direct_answers": ten_answers(rng, question.answer, question.wrong),
        "difficult_direct_answer": number % DIFFICULT_EVERY == DIFFICULT_EVERY - 1,
        "rationales": [question.statement] * 3,
    }


def _add_coco(album: Album, split: str, number: int, rng: Generator) -> tuple[dict, Seen]:
    """A picture with this id, and its entry."""
    name = f"{number:012d}.jpg"
    seen = album.add(f"coco/{split}/{name}", rng)
    width, height = seen.snapshot.picture.size
    return {"license": 1, "file_name": name, "height": height, "width": width, "id": number}, seen


def _boxes(image_id: int, seen: Seen, rng: Generator, *, copies: int) -> list[dict]:
    """Boxes of pedestrian and vehicle inside the picture; further copies lie a little beside them."""
    width, height = seen.snapshot.picture.size
    found = []
    for copy in range(copies):
        for category, box in zip(CATEGORIES, (seen.snapshot.pedestrian, seen.snapshot.vehicle), strict=True):
            x, y, wide, high = _inside(box, width, height)
            wide, high = wide - copy - float(rng.random()) * (copy > 0), high - copy
            box = [round(value, 2) for value in (x, y, wide, high)]
            found.append({"image_id": image_id, "category_id": category["id"], "bbox": box, "area": round(wide * high, 2), "iscrowd": 0})
    return found


def _inside(box: Box, width: int, height: int) -> Box:
    """The part of a box that lies in the picture."""
    left, top = max(0.0, box[0]), max(0.0, box[1])
    right, bottom = min(width, box[0] + box[2]), min(height, box[1] + box[3])
    return left, top, right - left, bottom - top


def _captions(seen: Seen, rng: Generator) -> list[str]:
    """The statements of all attributes, in any order, in five captions of two or three sentences."""
    sentences = statements(seen.values)
    order = [sentences[number] for number in rng.permutation(len(sentences))]
    return [" ".join(order[first::CAPTIONS]) for first in range(CAPTIONS)]


def _document(images: list[dict]) -> dict:
    licenses = [{"url": "", "id": 1, "name": "synthetic"}]
    return {"info": {"description": "toy pictures", "version": "1.0", "year": 2017}, "licenses": licenses, "images": images}


def _write_instances(album: Album, split: str, images: list[dict], boxes: list[dict]) -> None:
    numbered = [box | {"id": 1 + number} for number, box in enumerate(boxes)]
    document = _document(images) | {"annotations": numbered, "categories": CATEGORIES}
    album.write_json(f"coco/annotations/instances_{split}.json", document)
