"""Measure the caption scores against the straightforward loop over nltk and rouge-score: speed and largest difference.

Call `python -m tests.bench.bench_captions`. 1,000 pairs of 120 words, timed in CPU seconds of this process, the two in turns over
tenths of the pairs; importing packages and opening nltk's WordNet is not counted. The loop is what the official evaluator does per
pair, with CIDEr written out. Synonyms are those of WordNet 3.0 where lib.wordnet finds it, else both go without.
"""

import json
import math
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from lib import wordnet
from lib.metrics import captions
from tests.nltk_wordnet import open_with_nltk

PAIRS = 1_000
WORDS = 120
TURNS = 10
SCORES = ("bleu", "meteor", "rouge_l", "cider", "score")
LIMIT_RATIO = 5.0
LIMIT_DIFFERENCE = 1e-9

SENTENCES = (
    "The pedestrian, a {adjective} male in his {age}, was {moving} {slowly} on the {side} side of the {vehicle}.",
    "His line of sight {focused} on the {vehicle}, and he {noticed} it {slowly} while {moving}.",
    "The {vehicle} is {moving} straight ahead at a speed of {number} km/h and its field of view doesn't include the {adjective} person.",
    "Wearing a {adjective} T-shirt (and {adjective} slacks), the pedestrian's body was oriented diagonally to the {side}.",
    "The weather was {adjective}, the road surface {focused} dry; there weren't any sidewalks on {number} roads.",
    "It appeared that the {vehicle} {noticed} the danger: the relative distance is {adjective}, about {number} metres!",
)
CHOICES = {
    "adjective": "brown black clear bright cloudy dark near close distant unsafe wide narrow large big huge",
    "age": "20s 30s 40s 50s 60s 70s",
    "moving": "walking running standing moving travelling crossing proceeding rushing strolling halting stopping",
    "slowly": "slowly slow quickly rapidly hurriedly fast steadily carefully",
    "side": "left right opposite far near",
    "vehicle": "vehicle vehicles car automobile truck auto motorcar lorry bus",
    "focused": "focused focuses was is seemed looked rested appears concentrated",
    "noticed": "noticed notices observed detects saw perceived ignored recognizes",
    "number": "5 10 15 20 25 30 35 40 50 two three several",
}


def make_caption(generator: random.Random) -> str:
    """A caption of 120 words in the manner of the data set."""
    words: list[str] = []
    while len(words) < WORDS:
        sentence = generator.choice(SENTENCES).format(**{key: generator.choice(values.split()) for key, values in CHOICES.items()})
        words += sentence.split()
    return " ".join(words[:WORDS])


def make_pairs() -> list[tuple[str, str]]:
    """(prediction, reference) pairs; the seed is fixed."""
    generator = random.Random(0)
    return [(make_caption(generator), make_caption(generator)) for _ in range(PAIRS)]


def straightforward(folder: Path, found: wordnet.WordNet | None) -> Callable[[str, str], captions.CaptionScore]:
    """The loop's body: nltk's tokenizer, BLEU and METEOR, rouge-score's ROUGE-L, CIDEr written out."""
    from nltk.tokenize import TreebankWordTokenizer
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
    from nltk.translate.meteor_score import meteor_score
    from rouge_score.rouge_scorer import RougeScorer

    tokenizer, smoothing, rouge = TreebankWordTokenizer(), SmoothingFunction().method3, RougeScorer(["rougeL"], use_stemmer=True)
    reader = open_with_nltk(found, folder) if found else NoSynonyms()

    def score(prediction: str, reference: str) -> captions.CaptionScore:
        ours, theirs = (" ".join(tokenizer.tokenize(text)).split(" ") for text in (prediction, reference))
        return captions.CaptionScore(
            sentence_bleu([theirs], ours, smoothing_function=smoothing),
            meteor_score([theirs], ours, wordnet=reader),
            rouge.score(reference, prediction)["rougeL"].fmeasure,
            plain_cider(ours, theirs),
        )

    return score


class NoSynonyms:
    """A WordNet without words, for nltk."""

    def synsets(self, word: str) -> list:
        """No sense of any word."""
        return []


def plain_cider(ours: list[str], theirs: list[str]) -> float:
    """CIDEr-D of one caption alone, order by order."""
    total = 0.0
    for order in range(1, 5):
        left, right = (Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1)) for words in (ours, theirs))
        norms = [math.sqrt(sum(count**2 for count in grams.values())) for grams in (left, right)]
        product = sum(min(count, right[gram]) * right[gram] for gram, count in left.items())
        total += product / (norms[0] * norms[1]) if all(norms) else 0.0
    return 10 * total / 4 * math.exp(-((len(ours) - len(theirs)) ** 2) / (2 * 6.0**2))


def measure(folder: Path) -> dict:
    """Seconds of both, their ratio, and the largest difference of any of the four scores or the 0-100 score."""
    found = wordnet.find()
    synonyms = found.synonyms if found else None
    plain, pairs = straightforward(folder, found), make_pairs()
    scorers = {"kit": lambda *pair: captions.score(*pair, synonyms), "loop": plain}
    seconds = dict.fromkeys(scorers, 0.0)
    difference = 0.0
    for turn in range(TURNS):
        answers = {}
        for name, score in scorers.items():
            begin = time.process_time()
            answers[name] = [score(*pair) for pair in pairs[turn::TURNS]]
            seconds[name] += time.process_time() - begin
        for ours, theirs in zip(answers["kit"], answers["loop"], strict=True):
            difference = max(difference, *(abs(getattr(ours, name) - getattr(theirs, name)) for name in SCORES))
    return {
        "pairs": PAIRS,
        "words": WORDS,
        "synonyms": wordnet.VERSION if found else "none",
        "loop_cpu_seconds": round(seconds["loop"], 2),
        "kit_cpu_seconds": round(seconds["kit"], 2),
        "ratio": round(seconds["loop"] / seconds["kit"], 1),
        "largest_difference": difference,
    }


def main() -> int:
    """Print the figures and the limits; 1 when a limit is missed."""
    folder = Path(tempfile.mkdtemp())
    try:
        figures = measure(folder)
    finally:
        shutil.rmtree(folder)
    print(json.dumps(figures, indent=2))
    held = figures["ratio"] >= LIMIT_RATIO and figures["largest_difference"] <= LIMIT_DIFFERENCE
    print(f"limits: at least {LIMIT_RATIO:g} times as fast, equal to {LIMIT_DIFFERENCE:g}: {'held' if held else 'MISSED'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
