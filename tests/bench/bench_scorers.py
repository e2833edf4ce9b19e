"""Measure how long 100,000 predictions take to score: `python -m tests.bench.bench_scorers`, a limit of 10 s for each benchmark.

Made-up questions in the published layout, answered by chance from a fixed seed; CPU seconds of this process, files are not read. Each
scorer is that of dataengine's stage 06 (lib.submissions.dataengine.scoring), rows of metrics.json and all.
"""

import random
import sys
import time
from collections.abc import Callable

from lib.submissions.dataengine import scoring
from lib.submissions.dataengine.scoring import Answers

PREDICTIONS = 100_000
LIMIT_SECONDS = 10.0
WORDS = [
    "red", "blue", "green", "yellow", "white", "black", "man", "woman", "child", "car", "truck", "bus", "street", "table", "left", "right",
    "two", "three", "nothing",
]  # fmt: skip
LETTERS = "ABCD"


def lines(texts: list[str], **fields: Callable[[int], object]) -> list[dict]:
    """Answer lines 0, 1, ... with these texts."""
    return [{"question_id": number, "text": text, **{name: of(number) for name, of in fields.items()}} for number, text in enumerate(texts)]


def cases(rng: random.Random) -> dict[str, tuple[object, list[dict]]]:
    """Benchmark -> its annotations and 100,000 answers."""
    letters = [rng.choice(LETTERS) for _ in range(PREDICTIONS)]
    words = [rng.choice(WORDS) for _ in range(PREDICTIONS)]
    people = [[{"answer": rng.choice(WORDS[:4])} for _ in range(10)] for _ in range(PREDICTIONS)]
    options = dict(zip(LETTERS, WORDS, strict=False))
    seed = {
        "question_type": {f"type {number}": number for number in range(9)},
        "questions": [
            {"question_id": number, "question_type_id": number % 9, "data_type": "image", "answer": rng.choice(LETTERS)}
            for number in range(PREDICTIONS)
        ],
    }
    mmbench = [
        {"index": number % 25_000 + number // 25_000 * 1_000_000, **options, "answer": rng.choice(LETTERS), "category": str(number % 20)}
        for number in range(PREDICTIONS)
    ]
    truth = {
        "existence": {
            f"{number}.txt": [["Is it A? Please answer yes or no.", "Yes"], ["Is it B? Please answer yes or no.", "No"]]
            for number in range(PREDICTIONS // 2)
        }
    }
    asked = "\nAnswer the question using a single word or phrase."
    gqa = {
        str(number): {
            "question": "What is it?", "answer": rng.choice(WORDS), "isBalanced": True, "entailed": [], "semantic": [{"operation": "query", "argument": "name"}],
            "types": {"structural": "query", "semantic": "attr"}, "groups": {"global": str(number % 50)},
        }
        for number in range(PREDICTIONS)
    }  # fmt: skip
    problems = {str(number): {"choices": WORDS[:4], "answer": number % 4} for number in range(PREDICTIONS)}
    yes_no = [rng.choice(["Yes", "No"]) for _ in range(PREDICTIONS)]
    aokvqa = [
        {"question_id": number, "question": "What?", "choices": WORDS[:4], "correct_choice_idx": number % 4, "question_type": str(number % 9),
         "direct_answers": WORDS[:10], "difficult_direct_answer": False}
        for number in range(PREDICTIONS)
    ]  # fmt: skip
    official = {"annotations": {"annotations": [{"question_id": n, "answers": own} for n, own in enumerate(people)]}}
    return {
        "seed": (seed, lines(letters)),
        "mmbench": (mmbench, [line | {"question_id": row["index"]} for line, row in zip(lines(letters), mmbench, strict=True)]),
        "mme": (truth, [
            {"question_id": f"existence/{number // 2}.jpg", "prompt": f"Is it {'AB'[number % 2]}?{asked}", "text": text}
            for number, text in enumerate(yes_no)
        ]),
        "gqa": (gqa, [line | {"question_id": str(line["question_id"])} for line in lines(words)]),
        "vqav2_val": (official, lines(words)),
        "okvqa": (official, lines(words)),
        "vizwiz_val": (
            [{"image": str(number), "answers": own} for number, own in enumerate(people)],
            [line | {"question_id": str(line["question_id"])} for line in lines(words)],
        ),
        "vsr": ([{"label": number % 2} for number in range(PREDICTIONS)], lines(words)),
        "scienceqa": ({"problems": problems, "splits": {"test": list(problems)}}, [
            {"question_id": str(number), "prompt": "<image>\nWhat?", "text": text} for number, text in enumerate(letters)
        ]),
        "pope": ({"random": [{"question_id": n, "label": rng.choice(["yes", "no"])} for n in range(PREDICTIONS)]}, lines(yes_no)),
        "textvqa": (
            {"data": [{"image_id": n, "question": "What?", "answers": [one["answer"] for one in own]} for n, own in enumerate(people)]},
            lines(words, prompt=lambda number: f"What?\nReference OCR token: a{asked}"),
        ),
        "aokvqa": (aokvqa, lines(letters)),
    }  # fmt: skip


def main() -> int:
    """Print seconds per benchmark; 1 when a limit is missed."""
    held = True
    print(f"{'benchmark':12}{'CPU s for 100,000':>20}{'rows':>6}")
    for name, (references, answers) in cases(random.Random(0)).items():
        began = time.process_time()
        rows = scoring.score(name, references, Answers("finetuned", answers), aokvqa="corrected")
        seconds = time.process_time() - began
        held = held and seconds <= LIMIT_SECONDS and bool(rows)
        print(f"{name:12}{seconds:20.2f}{len(rows):6}")
    print(f"limit: {LIMIT_SECONDS:g} s each: {'held' if held else 'MISSED'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
