"""The benchmarks below eval/: their questions as LLaVA's drivers ask them, and the published annotations that answers are scored with.

Files and folders are those of LLaVA's scripts/v1_5/eval (dataengine specification, sections 6 and 7). `aokvqa` is the set that the
engine's first version finds its bad cases in; its questions are asked like other multiple-choice ones. `okvqa`, `vizwiz_val` and `vsr`
belong to the publication's half about MiniGPT4-v2, which has words of its own (`minigpt4`); none of LLaVA's drivers asks them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lib import files
from lib.conversation import IMAGE
from lib.errors import ConfigError, DataError
from lib.submissions.dataengine import fields, minigpt4, mmbench_table
from lib.submissions.dataengine.fields import Fields
from lib.submissions.dataengine.mix import read_mix
from lib.submissions.dataengine.wording import LETTER_REQUEST, Wording, by_letter, by_word, by_word_if_answerable, with_options

# Question file and folder of pictures, below eval/.
_LINE_FILES = {
    "seed": ("seed_bench/llava-seed-bench-image.jsonl", "seed_bench"),
    "mme": ("MME/llava_mme.jsonl", "MME/MME_Benchmark_release_version"),
    "gqa": ("gqa/llava_gqa_testdev_balanced.jsonl", "gqa/data/images"),
    "vqav2": ("vqav2/llava_vqav2_mscoco_test-dev2015.jsonl", "vqav2/test2015"),
    "vqav2_val": ("vqav2/llava_vqav2_mscoco_val2014.jsonl", "vqav2/val2014"),
    "pope": ("pope/llava_pope_test.jsonl", "pope/val2014"),
    "textvqa": ("textvqa/llava_textvqa_val_v051_ocr.jsonl", "textvqa/train_images"),
    "vizwiz": ("vizwiz/llava_test.jsonl", "vizwiz/test"),
    "mm-vet": ("mm-vet/llava-mm-vet.jsonl", "mm-vet/images"),
    "llava-bench": ("llava-bench-in-the-wild/questions.jsonl", "llava-bench-in-the-wild/images"),
}
BENCHMARKS = (*_LINE_FILES, "mmbench", "scienceqa", "aokvqa", "okvqa", "vizwiz_val", "vsr")
_LONG = ("mmbench", "scienceqa", "mm-vet", "llava-bench")
MAX_NEW_TOKENS = {name: 1024 if name in _LONG else 128 for name in BENCHMARKS}

POPE_CATEGORIES = ("adversarial", "popular", "random")
SCIENCEQA_IMAGES = "eval/scienceqa/images/test"
AOKVQA = "aokvqa/aokvqa_v1p0_val.json"
AOKVQA_IMAGE = "coco/val2017/{:012d}.jpg"
MME_TRUTH = "eval/MME/MME_Benchmark_release_version"
OKVQA, OKVQA_IMAGE = "eval/okvqa", "eval/coco2014_val/COCO_val2014_{:012d}.jpg"
VIZWIZ_VAL, VIZWIZ_VAL_IMAGES = "eval/vizwiz/val.json", "eval/vizwiz/vizwiz_images"
VSR, VSR_IMAGES = "eval/vsr/test.jsonl", "eval/vsr/vsr_images"

_QUESTION: Fields = {"question_id": (str, int), "image": str, "text": str}
_AOKVQA: Fields = {
    "question_id": str, "image_id": int, "question": str, "choices": list, "correct_choice_idx": int, "direct_answers": list,
    "difficult_direct_answer": bool,
}  # fmt: skip
_VIZWIZ_VAL: Fields = {"image": str, "question": str, "answers": list}
_VSR: Fields = {"image": str, "caption": str, "label": int}


@dataclass(frozen=True)
class Asked:
    """A question of a benchmark. `image` is a path below the data root (mmbench's: below where `unpack_pictures` put them).

    `text` is the user's turn without the placeholder of the picture; `question_id` comes twice in mme and textvqa, as published. It is
    the picture's name in vizwiz_val, which has one question about each, and the number of the line in vsr, which has no ids.
    """

    benchmark: str
    question_id: str | int
    image: str | None
    text: str
    category: str


def read_questions(root: Path, benchmark: str, *, wording: Wording = "llava") -> list[Asked]:
    """The questions in the order of the published file, in these words.

    Raises DataError for one that is malformed, naming file and line, and ConfigError for a benchmark that the wording does not have.
    """
    if benchmark not in BENCHMARKS:
        raise ConfigError(f"dataengine has no benchmark {benchmark!r}; it has: {', '.join(BENCHMARKS)}")
    if wording == "minigpt4":
        minigpt4.check_asked([benchmark])
    return _read_line_file(root, benchmark, wording) if benchmark in _LINE_FILES else _QUESTIONS[benchmark](root, wording)


def unpack_pictures(root: Path, folder: Path) -> None:
    """Write mmbench's pictures, which its table holds as text, below the folder, where `Asked.image` names them."""
    mmbench_table.unpack_pictures(root / mmbench_table.TABLE, folder)


def scienceqa_text(problem: dict) -> str:
    """A problem's question as in llava_test_CQM-A.json: a line of context only where there is a hint, then question and options."""
    context = f"Context: {problem['hint']}\n" if problem["hint"] else ""
    return with_options(f"{context}{problem['question']}", problem["choices"])


def read_references(root: Path, benchmark: str) -> dict | list:
    """The published annotations as parsed, unchanged, after a check of the fields that scoring needs.

    One document for seed, gqa, textvqa, aokvqa and mm-vet; {"problems", "splits"} for scienceqa, {"questions", "annotations"} for
    vqav2_val and okvqa, {"questions", "context", "answers_gpt4"} for llava-bench; rows by category for pope; {category: {file:
    [question and answer, ...]}} for mme; the rows of the table without pictures for mmbench; the lists that uploads follow for vqav2
    and vizwiz; the questions themselves, which hold their answers, for vizwiz_val and vsr.
    """
    if benchmark not in _REFERENCES:
        raise ConfigError(f"dataengine has no benchmark {benchmark!r}; it has: {', '.join(BENCHMARKS)}")
    return _REFERENCES[benchmark](root)


def _read_line_file(root: Path, benchmark: str, wording: Wording) -> list[Asked]:
    name, images = _LINE_FILES[benchmark]
    found = []
    for row in fields.read_lines(root / "eval" / name, _QUESTION):
        text = _in_words(benchmark, row["text"], wording)
        found.append(Asked(benchmark, row["question_id"], f"eval/{images}/{row['image']}", text, row.get("category", "")))
    return found


def _read_mmbench(root: Path, wording: Wording) -> list[Asked]:
    words = _in_words("mmbench", "{}", wording)  # the hint stands before them
    return [
        Asked("mmbench", row["index"], mmbench_table.picture_name(row["index"]), mmbench_table.user_turn(row, words=words), row["category"])
        for row in mmbench_table.read_rows(root / mmbench_table.TABLE)
    ]


def _read_scienceqa(root: Path, _: Wording) -> list[Asked]:
    """NOTE: the picture of a problem is one only if the sample names it; its text alone does not say so."""
    path = root / "eval/scienceqa/llava_test_CQM-A.json"
    questions = []
    for number, sample in enumerate(read_mix(path), start=1):
        if not sample["conversations"]:
            raise DataError(f"{path}: row {number}: conversations is empty, expected the question; bring the published file")
        text = sample["conversations"][0]["value"].replace(IMAGE, "").strip()
        image = f"{SCIENCEQA_IMAGES}/{sample['image']}" if "image" in sample else None
        questions.append(Asked("scienceqa", sample["id"], image, f"{text}\n{LETTER_REQUEST}", ""))
    return questions


def _read_aokvqa(root: Path, wording: Wording) -> list[Asked]:
    found = []
    for row in fields.read_list(root / AOKVQA, _AOKVQA):
        text = _in_words("aokvqa", by_letter(row["question"], row["choices"]), wording)
        found.append(Asked("aokvqa", row["question_id"], AOKVQA_IMAGE.format(row["image_id"]), text, ""))
    return found


def _read_okvqa(root: Path, wording: Wording) -> list[Asked]:
    return [
        Asked("okvqa", row["question_id"], OKVQA_IMAGE.format(row["image_id"]), _in_words("okvqa", row["question"], wording), "")
        for row in fields.read_list(root / OKVQA / "okvqa_test_split.json", {"question_id": int, "image_id": int, "question": str})
    ]


def _read_vizwiz_val(root: Path, wording: Wording) -> list[Asked]:
    return [
        Asked("vizwiz_val", row["image"], f"{VIZWIZ_VAL_IMAGES}/{row['image']}", _in_words("vizwiz_val", row["question"], wording), "")
        for row in _vizwiz_val(root)
    ]


def _read_vsr(root: Path, wording: Wording) -> list[Asked]:
    return [
        Asked("vsr", number, f"{VSR_IMAGES}/{row['image']}", _in_words("vsr", row["caption"], wording), row.get("relation", ""))
        for number, row in enumerate(_vsr(root), start=1)
    ]


def _in_words(benchmark: str, question: str, wording: Wording) -> str:
    """What is asked, in these words; of multiple choice and LLaVA's own question files LLaVA's whole text is what is asked."""
    if wording == "minigpt4":
        return minigpt4.WORDS[benchmark].format(question)
    return _ASK[benchmark](question) if benchmark in _ASK else question


def _seed(root: Path) -> dict:
    path = root / "eval/seed_bench/SEED-Bench.json"
    document = fields.read_object(path, {"question_type": dict, "questions": list})
    wanted: Fields = {"question_id": (str, int), "question_type_id": int, "data_type": str, "answer": str}
    for number, question in enumerate(document["questions"], start=1):
        fields.require_fields(question, wanted, f"{path}: question {number}")
    return document


def _mme(root: Path) -> dict[str, dict[str, list[list[str]]]]:
    """Five categories keep pictures and texts in folders of their own, the others side by side."""
    folder = root / MME_TRUTH
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; bring the release of MME")
    truth = {}
    for category in sorted(path for path in folder.iterdir() if path.is_dir()):
        apart = category / "questions_answers_YN"
        texts = sorted((apart if apart.is_dir() else category).glob("*.txt"))
        if texts:
            truth[category.name] = {path.name: _read_truth(path) for path in texts}
    return truth


def _read_truth(path: Path) -> list[list[str]]:
    """Lines of a question, a tab, and Yes or No."""
    pairs = []
    for number, line in enumerate(files.read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        pair = line.rstrip("\r").split("\t")
        if len(pair) != 2 or pair[1] not in ("Yes", "No"):
            raise DataError(f"{path}:{number}: expected a question, a tab, and Yes or No; bring the published file")
        pairs.append(pair)
    return pairs


def _gqa(root: Path) -> dict[str, dict]:
    wanted: Fields = {"question": str, "answer": str, "isBalanced": bool, "types": dict, "groups": dict, "semantic": list, "entailed": list}
    return fields.read_mapping(root / "eval/gqa/data/testdev_balanced_questions.json", wanted)


def _vqav2(root: Path) -> list[dict]:
    """The upload holds every question of test2015, asked or not."""
    return fields.read_lines(root / "eval/vqav2/llava_vqav2_mscoco_test2015.jsonl", {"question_id": int})


def _vqav2_val(root: Path) -> dict[str, dict]:
    names = {"questions": "v2_OpenEnded_mscoco_val2014_questions.json", "annotations": "v2_mscoco_val2014_annotations.json"}
    return _vqa_documents(root / "eval/vqav2", names)


def _okvqa(root: Path) -> dict[str, dict]:
    names = {"questions": "OpenEnded_mscoco_val2014_questions_clean.json", "annotations": "mscoco_val2014_annotations_clean.json"}
    return _vqa_documents(root / OKVQA, names)


def _vqa_documents(folder: Path, names: dict[str, str]) -> dict[str, dict]:
    """Questions and annotations in the official layout of VQA, from the files of these names."""
    wanted: dict[str, Fields] = {
        "questions": {"question_id": int, "question": str},
        "annotations": {"question_id": int, "answers": list},
    }
    documents = {}
    for part, name in names.items():
        path = folder / name
        documents[part] = fields.read_object(path, {part: list})
        for number, item in enumerate(documents[part][part], start=1):
            fields.require_fields(item, wanted[part], f"{path}: {part} {number}")
    return documents


def _scienceqa(root: Path) -> dict[str, dict]:
    folder = root / "eval/scienceqa"
    wanted: Fields = {"question": str, "choices": list, "answer": int, "hint": str, "image": (str, type(None))}
    problems = fields.read_mapping(folder / "problems.json", wanted)
    return {"problems": problems, "splits": fields.read_object(folder / "pid_splits.json", {"test": list})}


def _pope(root: Path) -> dict[str, list[dict]]:
    folder = root / "eval/pope/coco"
    wanted: Fields = {"question_id": int, "image": str, "text": str, "label": str}
    return {category: fields.read_lines(folder / f"coco_pope_{category}.json", wanted) for category in POPE_CATEGORIES}


def _textvqa(root: Path) -> dict:
    path = root / "eval/textvqa/TextVQA_0.5.1_val.json"
    document = fields.read_object(path, {"data": list})
    for number, item in enumerate(document["data"], start=1):
        fields.require_fields(item, {"question": str, "image_id": str, "answers": list}, f"{path}: data {number}")
    return document


def _vizwiz(root: Path) -> list[dict]:
    return fields.read_list(root / "eval/vizwiz/test.json", {"image": str, "question": str})


def _vizwiz_val(root: Path) -> list[dict]:
    return fields.read_list(root / VIZWIZ_VAL, _VIZWIZ_VAL)


def _vsr(root: Path) -> list[dict]:
    """The statements, with labels that are 1 for true or 0 for false."""
    rows = fields.read_lines(root / VSR, _VSR)
    for number, row in enumerate(rows, start=1):
        if row["label"] not in (0, 1):
            raise DataError(f"{root / VSR}: statement {number}: label is {row['label']}, expected 0 or 1; bring the published file")
    return rows


def _mm_vet(root: Path) -> dict[str, dict]:
    return fields.read_mapping(root / "eval/mm-vet/mm-vet.json", {"question": str, "answer": str, "capability": list})


def _llava_bench(root: Path) -> dict[str, list[dict]]:
    folder = root / "eval/llava-bench-in-the-wild"
    wanted: dict[str, Fields] = {
        "questions": {"question_id": int, "text": str, "category": str, "image": str},
        "context": {"image": str, "caption": (str, list)},
        "answers_gpt4": {"question_id": int, "text": str},
    }
    return {name: fields.read_lines(folder / f"{name}.jsonl", keys) for name, keys in wanted.items()}


# The three that no driver of LLaVA asks, in the words that it has for questions like them; those about a statement are the kit's.
_ASK: dict[str, Callable[[str], str]] = {
    "okvqa": by_word,
    "vizwiz_val": by_word_if_answerable,
    "vsr": lambda caption: by_word(f"{caption} Is this statement true or false?"),
}

_QUESTIONS: dict[str, Callable[[Path, Wording], list[Asked]]] = {
    "mmbench": _read_mmbench,
    "scienceqa": _read_scienceqa,
    "aokvqa": _read_aokvqa,
    "okvqa": _read_okvqa,
    "vizwiz_val": _read_vizwiz_val,
    "vsr": _read_vsr,
}

_REFERENCES: dict[str, Callable[[Path], dict | list]] = {
    "seed": _seed,
    "mmbench": lambda root: mmbench_table.read_rows(root / mmbench_table.TABLE),
    "mme": _mme,
    "gqa": _gqa,
    "vqav2": _vqav2,
    "vqav2_val": _vqav2_val,
    "scienceqa": _scienceqa,
    "pope": _pope,
    "textvqa": _textvqa,
    "vizwiz": _vizwiz,
    "mm-vet": _mm_vet,
    "llava-bench": _llava_bench,
    "aokvqa": lambda root: fields.read_list(root / AOKVQA, _AOKVQA),
    "okvqa": _okvqa,
    "vizwiz_val": _vizwiz_val,
    "vsr": _vsr,
}
