"""Toy benchmarks of words, yes and no, and open answers: MME, GQA, VQAv2, POPE, TextVQA, VizWiz, MM-Vet, LLaVA-Bench, OKVQA, VSR."""

from numpy.random import Generator

from lib.submissions.dataengine.benchmarks import (
    MME_TRUTH,
    OKVQA,
    OKVQA_IMAGE,
    POPE_CATEGORIES,
    VIZWIZ_VAL,
    VIZWIZ_VAL_IMAGES,
    VSR,
    VSR_IMAGES,
)
from lib.submissions.dataengine.facts import statements
from lib.submissions.dataengine.toy_world import Album, Question, ask, ask_whether, state, ten_answers, type_of
from lib.submissions.dataengine.wording import CAPTION_REQUEST, WORD_REQUEST, by_word, by_word_if_answerable

REASONING = "Visual Reasoning"

# MME's categories that the toy world has questions for: their types, file names, and whether pictures lie apart from texts.
MME_CATEGORIES = (
    ("existence", "Instance Identity", "{:012d}.jpg", False),
    ("position", "Instance Location", "{:012d}.jpg", False),
    ("color", "Instance Attributes", "{:012d}.jpg", False),
    ("scene", "Scene Understanding", "Places365_val_{:08d}.jpg", True),
    ("posters", "Instance Interaction", "tt{:07d}.jpg", True),
    ("commonsense_reasoning", REASONING, "{:04d}.png", False),
)
YES_NO_REQUEST = "Please answer yes or no."
TWO_BLANKS_EVERY = 7  # so many truth files apart the request stands behind two blanks
COCO_NAME = "COCO_{}_{:012d}.jpg"
UNANSWERABLE, UNANSWERABLE_EVERY = "unanswerable", 4  # of VizWiz's val
OPEN_CATEGORIES = ("conv", "detail", "complex")


def write_all(album: Album, pictures: int) -> None:
    """All of these benchmarks, each with so many pictures of its own."""
    for write in (_write_mme, _write_gqa, _write_vqav2, _write_vqav2_val, _write_pope, _write_textvqa, _write_vizwiz, _write_mm_vet):
        write(album, pictures)
    for write in (_write_llava_bench, _write_okvqa, _write_vizwiz_val, _write_vsr):
        write(album, pictures)


def _write_mme(album: Album, pictures: int) -> None:
    """Two questions per picture, of which one is to be answered with yes."""
    asked = []
    for number in range(pictures):
        category, type_, name, is_apart = MME_CATEGORIES[number % len(MME_CATEGORIES)]
        rng, file_name = album.rng("mme", number), name.format(1 + number)
        image = f"{category}/images/{file_name}" if is_apart else f"{category}/{file_name}"
        seen = album.add(f"{MME_TRUTH}/{image}", rng, form="PNG" if name.endswith("png") else "JPEG")
        question = ask(rng, seen.values, type_)
        blanks = "  " if number % TWO_BLANKS_EVERY == TWO_BLANKS_EVERY - 1 else " "
        lines = []
        for is_so in rng.permutation([True, False]):
            text = ask_whether(rng, question, is_so=bool(is_so))
            lines.append(f"{text}{blanks}{YES_NO_REQUEST}\t{'Yes' if is_so else 'No'}\n")
            asked.append({"question_id": image, "image": image, "text": by_word(text), "category": category})
        texts = f"{category}/questions_answers_YN" if is_apart else category
        album.write_text(f"{MME_TRUTH}/{texts}/{file_name.rpartition('.')[0]}.txt", "".join(lines))
    album.write_lines("eval/MME/llava_mme.jsonl", asked)


def _write_gqa(album: Album, pictures: int) -> None:
    """Three questions per picture about one attribute: which value, whether it is this one, which of two.

    The answer of the first entails that of the second, and the third's that of the first.
    """
    published, asked = {}, []
    for number in range(pictures):
        rng, image_id = album.rng("gqa", number), f"n{161313 + number}"
        seen = album.add(f"eval/gqa/data/images/{image_id}.jpg", rng)
        question = ask(rng, seen.values, type_of(number))
        first, second, third = (str(201307251 + 3 * number + place) for place in range(3))
        two = [str(value) for value in rng.permutation([question.answer, question.wrong[0]])]
        choice = f"{question.text[:-1]}, {two[0]} or {two[1]}?"
        is_so = bool(rng.random() < 0.5)
        entries = {
            first: (question.text, question.answer, "query", [second]),
            second: (ask_whether(rng, question, is_so=is_so), "yes" if is_so else "no", "verify", []),
            third: (choice, question.answer, "choose", [first]),
        }
        for key, (text, answer, structure, entailed) in entries.items():
            published[key] = _gqa_question(question, image_id, (text, answer), structure, entailed)
            asked.append({"question_id": key, "image": f"{image_id}.jpg", "text": by_word(text), "category": "default"})
    album.write_json("eval/gqa/data/testdev_balanced_questions.json", published)
    album.write_lines("eval/gqa/llava_gqa_testdev_balanced.jsonl", asked)


def _gqa_question(question: Question, image_id: str, texts: tuple[str, str], structure: str, entailed: list[str]) -> dict:
    attribute = question.fact.attribute
    steps = [("select", "scene", []), (f"{structure} {attribute}", "?", [0])]
    return {
        "question": texts[0],
        "imageId": image_id,
        "answer": texts[1],
        "fullAnswer": question.statement,
        "isBalanced": True,
        "types": {"structural": structure, "semantic": "attr", "detailed": f"{attribute}{structure.capitalize()}"},
        "groups": {"global": None if structure == "verify" else attribute, "local": f"10-{attribute}_{image_id}"},
        "semantic": [{"operation": name, "argument": argument, "dependencies": needs} for name, argument, needs in steps],
        "entailed": entailed,
        "equivalent": [],
    }


def _write_vqav2(album: Album, pictures: int) -> None:
    """Test-dev asks about the first half of test2015, in the same words."""
    asked = []
    for number in range(pictures):
        rng, image_id = album.rng("vqav2", number), 1 + number
        image = COCO_NAME.format("test2015", image_id)
        seen = album.add(f"eval/vqav2/test2015/{image}", rng)
        question = ask(rng, seen.values, type_of(number))
        texts = question.text, ask_whether(rng, question, is_so=bool(rng.random() < 0.5))
        for place, text in enumerate(texts):
            asked.append({"question_id": 1000 * image_id + place, "image": image, "text": by_word(text), "category": "default"})
    album.write_lines("eval/vqav2/llava_vqav2_mscoco_test2015.jsonl", asked)
    album.write_lines("eval/vqav2/llava_vqav2_mscoco_test-dev2015.jsonl", asked[: pictures // 2 * 2 or 2])


def _write_vqav2_val(album: Album, pictures: int) -> None:
    """The official question and annotation files with ten answers each, and the questions in LLaVA's form."""
    questions, annotations, asked = [], [], []
    for number in range(pictures):
        rng, image_id = album.rng("vqav2_val", number), 42 + number
        image = COCO_NAME.format("val2014", image_id)
        seen = album.add(f"eval/vqav2/val2014/{image}", rng)
        question = ask(rng, seen.values, type_of(number))
        is_so = bool(rng.random() < 0.5)
        rounds = (
            (question.text, question.answer, question.wrong, "other"),
            (ask_whether(rng, question, is_so=is_so), "yes" if is_so else "no", ("no" if is_so else "yes",), "yes/no"),
        )
        for place, (text, right, wrong, answer_type) in enumerate(rounds):
            named = {"image_id": image_id, "question_id": 1000 * image_id + place}
            questions.append(named | {"question": text})
            answers = _confident(ten_answers(rng, right, wrong))
            about = {"question_type": " ".join(text.split()[:2]).lower(), "answer_type": answer_type, "multiple_choice_answer": right}
            annotations.append(about | {"answers": answers} | named)
            asked.append({"question_id": named["question_id"], "image": image, "text": by_word(text), "category": "default"})
    names = "v2_OpenEnded_mscoco_val2014_questions.json", "v2_mscoco_val2014_annotations.json"
    _write_official(album, [f"eval/vqav2/{name}" for name in names], questions, annotations, version="2.0")
    album.write_lines("eval/vqav2/llava_vqav2_mscoco_val2014.jsonl", asked)


def _write_official(album: Album, paths: list[str], questions: list[dict], annotations: list[dict], *, version: str) -> None:
    """The two files of a benchmark in VQA's official layout: its questions, and what people answered."""
    head = {"info": {"description": "toy questions", "version": version}, "data_type": "mscoco", "data_subtype": "val2014", "license": {}}
    album.write_json(paths[0], head | {"task_type": "Open-Ended", "questions": questions})
    album.write_json(paths[1], head | {"annotations": annotations})


def _confident(answers: list[str]) -> list[dict]:
    return [{"answer": answer, "answer_confidence": "yes", "answer_id": number} for number, answer in enumerate(answers, start=1)]


def _write_pope(album: Album, pictures: int) -> None:
    """A yes and a no per picture in each category; the question file numbers all of them, the label files their own."""
    asked, labels = [], {category: [] for category in POPE_CATEGORIES}
    pairs = []
    for number in range(pictures):
        rng, image = album.rng("pope", number), COCO_NAME.format("val2014", 310196 + number)
        pairs.append((rng, image, album.add(f"eval/pope/val2014/{image}", rng)))
    for category, rows in labels.items():
        for number, (rng, image, seen) in enumerate(pairs):
            question = ask(rng, seen.values, type_of(number))
            for is_so in (True, False):
                text = ask_whether(rng, question, is_so=is_so)
                rows.append({"question_id": 1 + len(rows), "image": image, "text": text, "label": "yes" if is_so else "no"})
                asked.append({"question_id": len(asked), "image": image, "text": by_word(text), "category": category})
        album.write_lines(f"eval/pope/coco/coco_pope_{category}.json", rows)
    album.write_lines("eval/pope/llava_pope_test.jsonl", asked)


def _write_textvqa(album: Album, pictures: int) -> None:
    """Two questions per picture under one id, its own; words that are read in the picture stand before the request, or none."""
    data, asked = [], []
    for number in range(pictures):
        rng, image_id = album.rng("textvqa", number), f"{0x54C91397F2FE05 + number:016x}"
        seen = album.add(f"eval/textvqa/train_images/{image_id}.jpg", rng)
        words = ", ".join(str(value) for value in rng.integers(10, 100, size=number % 3))
        for place in range(2):
            question = ask(rng, seen.values, type_of(2 * number + place))
            answers = ten_answers(rng, question.answer, question.wrong)
            data.append(
                {"question": question.text, "image_id": image_id, "question_id": 34602 + len(data), "answers": answers, "set_name": "val"}
            )
            text = f"{question.text}\nReference OCR token: {words}\n{WORD_REQUEST}"
            asked.append({"question_id": image_id, "image": f"{image_id}.jpg", "text": text, "category": "default"})
    document = {"dataset_type": "val", "dataset_name": "textvqa", "dataset_version": "0.5.1", "data": data}
    album.write_json("eval/textvqa/TextVQA_0.5.1_val.json", document)
    album.write_lines("eval/textvqa/llava_textvqa_val_v051_ocr.jsonl", asked)


def _write_vizwiz(album: Album, pictures: int) -> None:
    published, asked = [], []
    for number in range(pictures):
        rng, image = album.rng("vizwiz", number), f"VizWiz_test_{number:08d}.jpg"
        seen = album.add(f"eval/vizwiz/test/{image}", rng)
        question = ask(rng, seen.values, type_of(number))
        published.append({"image": image, "question": question.text})
        text = by_word_if_answerable(question.text)
        asked.append({"question_id": number, "image": image, "text": text, "category": "default"})
    album.write_json("eval/vizwiz/test.json", published)
    album.write_lines("eval/vizwiz/llava_test.jsonl", asked)


def _write_okvqa(album: Album, pictures: int) -> None:
    """The list of the test questions, and the official files with questions and with ten answers each."""
    asked, annotations = [], []
    for number in range(pictures):
        rng, image_id = album.rng("okvqa", number), 297_147 + number
        seen = album.add(OKVQA_IMAGE.format(image_id), rng)
        question = ask(rng, seen.values, type_of(number))
        named = {"image_id": image_id, "question_id": 10 * image_id + 5}
        asked.append(named | {"question": question.text})
        answers = [one | {"raw_answer": one["answer"]} for one in _confident(ten_answers(rng, question.answer, question.wrong))]
        annotations.append(named | {"answer_type": "other", "question_type": "one", "answers": answers, "confidence": 3})
    album.write_json(f"{OKVQA}/okvqa_test_split.json", asked)
    names = "OpenEnded_mscoco_val2014_questions_clean.json", "mscoco_val2014_annotations_clean.json"
    _write_official(album, [f"{OKVQA}/{name}" for name in names], asked, annotations, version="1.0")


def _write_vizwiz_val(album: Album, pictures: int) -> None:
    """A question about each picture; now and then most people could not answer it."""
    published = []
    for number in range(pictures):
        rng, image = album.rng("vizwiz_val", number), f"VizWiz_val_{number:08d}.jpg"
        seen = album.add(f"{VIZWIZ_VAL_IMAGES}/{image}", rng)
        question = ask(rng, seen.values, type_of(number))
        answerable = number % UNANSWERABLE_EVERY != UNANSWERABLE_EVERY - 1
        right, wrong = (question.answer, question.wrong) if answerable else (UNANSWERABLE, question.options)
        answers = [{"answer": answer, "answer_confidence": "yes"} for answer in ten_answers(rng, right, wrong)]
        kind = {"answer_type": "other" if answerable else UNANSWERABLE, "answerable": int(answerable)}
        published.append({"image": image, "question": question.text, "answers": answers} | kind)
    album.write_json(VIZWIZ_VAL, published)


def _write_vsr(album: Album, pictures: int) -> None:
    """Two statements about each picture, each of them true or false."""
    published = []
    for number in range(pictures):
        rng, image = album.rng("vsr", number), f"{85_637 + number:012d}.jpg"
        seen = album.add(f"{VSR_IMAGES}/{image}", rng)
        for place in range(2):
            question, is_so = ask(rng, seen.values, type_of(2 * number + place)), bool(rng.random() < 0.5)
            stated = {"caption": state(rng, question, is_so=is_so), "label": int(is_so), "relation": question.fact.attribute}
            votes = {"annotator_id": 1, "vote_true_validator_id": [2, 3] * is_so, "vote_false_validator_id": [2, 3] * (not is_so)}
            link = f"http://images.cocodataset.org/train2017/{image}"
            published.append({"image": image, "image_link": link} | stated | votes)
    album.write_lines(VSR, published)


def _write_mm_vet(album: Album, pictures: int) -> None:
    published, asked = {}, []
    for number in range(pictures):
        rng, image = album.rng("mm-vet", number), f"v1_{number}.png"
        seen = album.add(f"eval/mm-vet/images/{image}", rng, form="PNG")
        question = ask(rng, seen.values, type_of(number))
        about = {"imagesource": "toy", "capability": ["rec", "spat"] if "Location" in question.fact.type else ["rec"]}
        published[f"v1_{number}"] = {"imagename": image, "question": question.text, "answer": question.answer} | about
        asked.append({"question_id": number, "image": image, "text": question.text, "category": "default"})
    album.write_json("eval/mm-vet/mm-vet.json", published)
    album.write_lines("eval/mm-vet/llava-mm-vet.jsonl", asked)


def _write_llava_bench(album: Album, pictures: int) -> None:
    """A plain question, a description, or a question that needs reasoning, by turns; the reference answers are right."""
    folder = "eval/llava-bench-in-the-wild"
    asked, context, answers = [], [], []
    for number in range(pictures):
        rng, image = album.rng("llava-bench", number), f"{1 + number:03d}.jpg"
        seen = album.add(f"{folder}/images/{image}", rng)
        told, category = " ".join(statements(seen.values)), OPEN_CATEGORIES[number % len(OPEN_CATEGORIES)]
        text, answer = _open_question(rng, seen.values, category, number)
        asked.append({"question_id": number, "image": image, "category": category, "text": text})
        context.append({"id": image.removesuffix(".jpg"), "image": image, "caption": told})
        by = {"answer_id": f"toy{number}", "model_id": "gpt-4", "metadata": {}}
        answers.append({"question_id": number, "prompt": text, "text": answer} | by)
    album.write_lines(f"{folder}/questions.jsonl", asked)
    album.write_lines(f"{folder}/context.jsonl", context)
    album.write_lines(f"{folder}/answers_gpt4.jsonl", answers)


def _open_question(rng: Generator, values: dict[str, str], category: str, number: int) -> tuple[str, str]:
    if category == "detail":
        return CAPTION_REQUEST, " ".join(statements(values))
    question = ask(rng, values, REASONING if category == "complex" else type_of(number))
    return question.text, question.statement
