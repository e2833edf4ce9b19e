"""BLEU-4, METEOR, ROUGE-L and CIDEr of captions as the official evaluator of AI City Track 2 computes them (specs/cityllava.md 10).

Equal to 1e-9 to nltk's sentence_bleu (smoothing method 3) and meteor_score, to rouge_score's rougeL with stemmer and to the
evaluator's own CIDEr, on words of nltk's Treebank tokenizer; tests hold them against each other. A caption is parsed once for all
four, n-grams are counted once for BLEU and CIDEr, and stems and synonyms are kept per word.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lib.metrics.porter import stem

Synonyms = Callable[[str], frozenset[str]]
PlacedWords = list[tuple[int, str]]
Grams = Counter[str] | Counter[tuple[str, ...]]

ORDERS = 4
METEOR_ALPHA, METEOR_BETA, METEOR_GAMMA = 0.9, 3.0, 0.5  # nltk's
CIDER_SIGMA = 6.0  # CIDEr-D's
CIDER_MOST = 10.0
LONGEST_UNSTEMMED = 3  # rouge_score leaves shorter words alone

# The Penn Treebank's rules (R. MacIntyre's tokenizer.sed) as nltk's TreebankWordTokenizer applies them, in this order: first
# punctuation, then, with a blank at both ends, what hangs on a word.
PUNCTUATION = (
    (r'^"', "``"),
    (r"``", r" `` "),
    (r"([ (\[{<])(\"|'{2})", r"\1 `` "),
    (r"([:,])([^\d])", r" \1 \2"),
    (r"([:,])$", r" \1 "),
    (r"\.\.\.", " ... "),
    (r"[;@#$%&]", r" \g<0> "),
    (r"([^.])(\.)([\])}>\"']*)\s*$", r"\1 \2\3 "),  # only a period at the very end
    (r"[?!]", r" \g<0> "),
    (r"([^'])' ", r"\1 ' "),
    (r"[\]\[(){}<>]", r" \g<0> "),
    (r"--", " -- "),
)
ENDINGS = (
    (r"''|\"", " '' "),
    (r"([^' ])('[sSmMdD]?) ", r"\1 \2 "),
    (r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", r"\1 \2 "),
    (  # the look-ahead saves most of the search
        r"\b(?=[cdglmwCDGLMW])(?i:(can)(not)\b|(d)('ye)\b|(gim)(me)\b|(gon)(na)\b|(got)(ta)\b|(lem)(me)\b|(more)('n)\b|(wan)(na)(?=\s))",
        lambda match: f" {' '.join(filter(None, match.groups()))} ",
    ),
    (r"(?i) ('t)(is)\b", r" \1 \2 "),
    (r"(?i) ('t)(was)\b", r" \1 \2 "),
)
TREEBANK = tuple([(re.compile(pattern), replacement) for pattern, replacement in rules] for rules in (PUNCTUATION, ENDINGS))
ROUGE_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class Caption:
    """A caption as the metrics see it: Treebank words, their n-grams of one to four words, and ROUGE's stemmed words."""

    words: tuple[str, ...]
    grams: tuple[Grams, ...]
    rouge_words: tuple[str, ...]


@dataclass(frozen=True)
class CaptionScore:
    """The four scores of a caption, or their means over captions: CIDEr from 0 to 10, the others from 0 to 1."""

    bleu: float
    meteor: float
    rouge_l: float
    cider: float

    @property
    def score(self) -> float:
        """The challenge's score, 0 to 100: the mean of the four, each brought to 0 to 100."""
        return (100 * self.bleu + 100 * self.meteor + 100 * self.rouge_l + 10 * self.cider) / 4


ZERO = CaptionScore(0.0, 0.0, 0.0, 0.0)


def score(prediction: str, reference: str, synonyms: Synonyms | None) -> CaptionScore:
    """The four scores of one predicted caption against one reference; METEOR without synonyms where `synonyms` is None."""
    ours, theirs = parse(prediction), parse(reference)
    return CaptionScore(bleu4(ours, theirs), meteor(ours, theirs, synonyms), rouge_l(ours, theirs), cider(ours, theirs))


def mean(scores: Sequence[CaptionScore]) -> CaptionScore:
    """The mean of each of the four over at least one caption."""
    totals = (math.fsum(values) for values in zip(*((s.bleu, s.meteor, s.rouge_l, s.cider) for s in scores), strict=True))
    return CaptionScore(*(total / len(scores) for total in totals))


def parse(text: str) -> Caption:
    """Split a caption for all four metrics. The evaluator joins and splits the words again, so an empty caption is one empty word."""
    words = tuple(treebank_words(text)) or ("",)
    return Caption(words, count_grams(words), tuple(rouge_words(text)))


def treebank_words(text: str) -> list[str]:
    """The words and punctuation marks of a caption; case is kept, and "end. Next" keeps its period."""
    for rules in TREEBANK:
        for pattern, replacement in rules:
            text = pattern.sub(replacement, text)
        text = f" {text} "
    return text.split()


def rouge_words(text: str) -> list[str]:
    """ROUGE's words: runs of a-z and 0-9 of the lower-cased text, stemmed from four letters on."""
    return [stem(word) if len(word) > LONGEST_UNSTEMMED else word for word in ROUGE_WORD.findall(text.lower())]


def count_grams(words: Sequence[str]) -> tuple[Grams, ...]:
    """How often each run of one, two, three and four words occurs. Single words are counted as they are, not as tuples."""
    return (Counter(words), *(Counter(zip(*(words[start:] for start in range(order)), strict=False)) for order in range(2, ORDERS + 1)))


def bleu4(prediction: Caption, reference: Caption) -> float:
    """Sentence BLEU of one to four words, case-sensitive; the n-th precision that is zero becomes 1 / (2^n * its denominator)."""
    logarithms, zeros = [], 0
    for ours, theirs in zip(prediction.grams, reference.grams, strict=True):
        hits = sum(min(ours[gram], theirs[gram]) for gram in ours.keys() & theirs.keys())
        if hits == 0 and not logarithms:
            return 0.0
        if hits == 0:
            zeros += 1
        possible = max(1, ours.total())
        logarithms.append(math.log(hits / possible if hits else 1 / (2**zeros * possible)))
    brevity = min(0.0, 1 - len(reference.words) / len(prediction.words))
    return math.exp(brevity + math.fsum(logarithms) / ORDERS)


def meteor(prediction: Caption, reference: Caption, synonyms: Synonyms | None) -> float:
    """METEOR of lower-cased words: weighted precision and recall of aligned words, less the more pieces the alignment falls into."""
    pairs = align([word.lower() for word in prediction.words], [word.lower() for word in reference.words], synonyms)
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(prediction.words), len(pairs) / len(reference.words)
    f_mean = precision * recall / (METEOR_ALPHA * precision + (1 - METEOR_ALPHA) * recall)
    chunks = 1 + sum(second != (first[0] + 1, first[1] + 1) for first, second in pairwise(pairs))
    return f_mean * (1 - METEOR_GAMMA * (chunks / len(pairs)) ** METEOR_BETA)


def align(prediction: Sequence[str], reference: Sequence[str], synonyms: Synonyms | None) -> list[tuple[int, int]]:
    """Aligned positions (in the prediction, in the reference), ascending: equal words first, then equal stems, then synonyms.

    Each stage goes through the prediction from its end and takes the last reference word still free, as nltk does.
    NOTE the third stage looks up the synonyms of stems, not of words: nltk hands the stems on.
    """
    pairs, ours, theirs = _pair_equal(list(enumerate(prediction)), list(enumerate(reference)))
    by_stem, ours, theirs = _pair_equal([(at, stem(word)) for at, word in ours], [(at, stem(word)) for at, word in theirs])
    pairs += by_stem
    if synonyms is not None:
        pairs += _pair_synonyms(ours, theirs, synonyms)
    return sorted(pairs)


def rouge_l(prediction: Caption, reference: Caption) -> float:
    """F1 of the longest common subsequence of ROUGE's words, 0 where either has none."""
    common = common_subsequence(prediction.rouge_words, reference.rouge_words)
    if common == 0:
        return 0.0
    precision, recall = common / len(prediction.rouge_words), common / len(reference.rouge_words)
    return 2 * precision * recall / (precision + recall)


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence; one row of the usual table is one integer (Hyyrö 2004)."""
    places: defaultdict[str, int] = defaultdict(int)
    for place, word in enumerate(second):
        places[word] |= 1 << place
    full = row = (1 << len(second)) - 1  # a zero bit: here the subsequence grew by one
    for word in first:
        if word in places:
            hits = row & places[word]
            row = ((row + hits) | (row - hits)) & full
    return len(second) - row.bit_count()


def cider(prediction: Caption, reference: Caption) -> float:
    """CIDEr-D of a caption scored alone, so that every n-gram weighs the same. 0 if either caption is empty.

    NOTE for an empty reference the evaluator breaks off; reading the ground truth refuses one.
    """
    if prediction.words == ("",) or reference.words == ("",):
        return 0.0
    return CIDER_MOST * _similarity(prediction.grams, reference.grams, lengths=(len(prediction.words), len(reference.words)))


def corpus_cider(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D of each prediction against its references; an n-gram weighs log(documents / documents with it in a reference).

    Texts are words joined by blanks. For a single document that weight would be 0 throughout; there it is 1, as in the evaluator.
    """
    ours = [text.split() for text in predictions]
    theirs = [[text.split() for text in texts] for texts in references]
    documents = Counter(gram for texts in theirs for gram in {gram for words in texts for grams in count_grams(words) for gram in grams})

    def weigh(words: list[str]) -> list[dict]:
        return [{gram: count * weight(gram) for gram, count in grams.items()} for grams in count_grams(words)]

    def weight(gram: str | tuple[str, ...]) -> float:
        return math.log(len(theirs) / max(1, documents[gram])) if len(theirs) > 1 else 1.0

    scores = []
    for own, others in zip(ours, theirs, strict=True):
        parts = [_similarity(weigh(own), weigh(other), lengths=(len(own), len(other))) for other in others]
        scores.append(CIDER_MOST * math.fsum(parts) / len(parts))
    return scores


def _places(words: PlacedWords) -> defaultdict[str, list[int]]:
    """Where each word stands, ascending."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for at, word in sorted(words):
        places[word].append(at)
    return places


def _pair_equal(ours: PlacedWords, theirs: PlacedWords) -> tuple[list[tuple[int, int]], PlacedWords, PlacedWords]:
    """(pairs of places, our words left, their words left): our words from the last on, each with the last equal one still free."""
    free = _places(theirs)
    pairs, left = [], []
    for at, word in sorted(ours, reverse=True):
        if free.get(word):
            pairs.append((at, free[word].pop()))
        else:
            left.append((at, word))
    return pairs, left, [(at, word) for word, places in free.items() for at in places]


def _pair_synonyms(ours: PlacedWords, theirs: PlacedWords, synonyms: Synonyms) -> list[tuple[int, int]]:
    """Pairs of places: our words from the last on, each with the last word still free that is a synonym or equal."""
    free = _places(theirs)
    pairs = []
    for at, word in sorted(ours, reverse=True):
        known = synonyms(word)
        fitting = [places for other, places in free.items() if places and (other in known or other == word)]
        if fitting:
            pairs.append((at, max(fitting, key=lambda places: places[-1]).pop()))
    return pairs


def _similarity(ours: Sequence[Mapping], theirs: Sequence[Mapping], lengths: tuple[int, int]) -> float:
    """CIDEr-D of weighted n-gram counts, 0 to 1: the mean cosine over one to four words, less for another length in words.

    NOTE the evaluator measures length in pairs of words, so a caption of one word is as long as an empty one.
    """
    cosines = math.fsum(_clipped_cosine(own, other) for own, other in zip(ours, theirs, strict=True))
    difference = max(lengths[0] - 1, 0) - max(lengths[1] - 1, 0)
    return cosines / ORDERS * math.exp(-(difference**2) / (2 * CIDER_SIGMA**2))


def _clipped_cosine(ours: Mapping, theirs: Mapping) -> float:
    """The cosine of two count vectors, where a count of ours above theirs counts as theirs in the product."""
    product = math.fsum(min(ours[gram], theirs[gram]) * theirs[gram] for gram in ours.keys() & theirs.keys())
    return product / (math.hypot(*ours.values()) * math.hypot(*theirs.values())) if product else 0.0
