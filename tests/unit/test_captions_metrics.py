"""BLEU-4, METEOR, ROUGE-L, CIDEr, the Porter stemmer and multiple choice: by example, and against nltk and rouge-score as references."""

import math
import random
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.errors import DataError
from lib.metrics import captions
from lib.metrics.choice import ChoiceScore, score_choices
from lib.metrics.porter import stem
from tests.bench.bench_captions import make_caption, plain_cider

SYNONYMS = {
    "car": {"auto", "automobile", "car"},
    "auto": {"auto", "car"},
    "walk": {"stroll", "walk", "pass"},
    "stroll": {"walk", "amble"},
    "pass": {"walk", "go", "overtak"},
    "road": {"Route", "street"},
}
WORDS = ["the", "The", "a", "car", "cars", "auto", "walk", "walks", "walking", "stroll", "pass", "road", "street", "left", "20", ",", ""]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join)
# What the Treebank rules look for, in any order, and what they do not.
PIECES = (
    "cannot d'ye gimme gonna gotta lemme more'n wanna 'tis 'twas Can't they'll I'm he's dog' dogs' n't It'd "
    "... .. . -- - , : ; @ # $ % & ? ! ( ) [ ] { } < > '' ' \" `` ` 3.5 3,5 1:2 car stops é 行人 \n \t"
)
ODD_TEXTS = st.lists(st.tuples(st.sampled_from(PIECES.split(" ")), st.sampled_from(["", " "])), max_size=15).map(
    lambda pieces: "".join(piece + blank for piece, blank in pieces)
)


def known(word: str) -> frozenset[str]:
    return frozenset(SYNONYMS.get(word, ()))


class Sense:
    """A sense of nltk's WordNet, as far as METEOR looks at it."""

    def __init__(self, words: set[str]) -> None:
        self.words = words

    def lemmas(self) -> list["Lemma"]:
        return [Lemma(word) for word in self.words]


class Lemma:
    """A word of a sense."""

    def __init__(self, word: str) -> None:
        self.word = word

    def name(self) -> str:
        return self.word


class Senses:
    """nltk's WordNet with the synonyms above, or with none."""

    def __init__(self, synonyms: dict[str, set[str]]) -> None:
        self.synonyms = synonyms

    def synsets(self, word: str) -> list[Sense]:
        return [Sense(self.synonyms[word])] if word in self.synonyms else []


def nltk_words(text: str) -> list[str]:
    """As the evaluator splits: joined and split again."""
    from nltk.tokenize import TreebankWordTokenizer

    return " ".join(TreebankWordTokenizer().tokenize(text)).split(" ")


def nltk_bleu(prediction: str, reference: str) -> float:
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    return sentence_bleu([nltk_words(reference)], nltk_words(prediction), smoothing_function=SmoothingFunction().method3)


def nltk_meteor(prediction: str, reference: str, synonyms: dict[str, set[str]]) -> float:
    from nltk.translate.meteor_score import meteor_score

    return meteor_score([nltk_words(reference)], nltk_words(prediction), wordnet=Senses(synonyms))


def rouge_score(prediction: str, reference: str) -> float:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True).score(reference, prediction)["rougeL"].fmeasure


def of_pair(metric: Callable[..., float], prediction: str, reference: str, *more: object) -> float:
    return metric(captions.parse(prediction), captions.parse(reference), *more)


# --- words ---


def test_a_caption_keeps_its_case_and_inner_periods_and_loses_the_last_one():
    assert captions.treebank_words("He stops. The car's 3.5 m away.") == ["He", "stops.", "The", "car", "'s", "3.5", "m", "away", "."]
    assert captions.treebank_words("  ") == []
    assert captions.parse("").words == ("",)


@given(ODD_TEXTS)
@settings(max_examples=120, deadline=None)
def test_words_are_those_of_nltk(text):
    from nltk.tokenize import TreebankWordTokenizer

    assert captions.treebank_words(text) == TreebankWordTokenizer().tokenize(text)


def test_rouge_sees_letters_a_to_z_and_digits_and_stems_from_four_letters_on():
    assert captions.rouge_words("The pedestrian's AGES, naïve: 20km/h 行人") == ["the", "pedestrian", "s", "age", "na", "ve", "20km", "h"]
    assert captions.rouge_words("his was cars") == ["his", "was", "car"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("caresses", "caress"), ("ponies", "poni"), ("ties", "tie"), ("dying", "die"), ("agreed", "agre"), ("feed", "feed"),
        ("motoring", "motor"), ("sing", "sing"), ("hopping", "hop"), ("falling", "fall"), ("filing", "file"), ("using", "use"),
        ("happy", "happi"), ("enjoy", "enjoy"), ("fly", "fli"), ("relational", "relat"), ("rationally", "ration"),
        ("geologi", "geolog"), ("hopefulness", "hope"), ("adoption", "adopt"), ("lion", "lion"), ("controlled", "control"),
        ("rate", "rate"), ("cease", "ceas"), ("syzygy", "syzygi"), ("is", "is"), ("", ""), ("行人", "行人"), ("...", "..."),
    ],
)  # fmt: skip
def test_stems_by_example(word, expected):
    assert stem(word) == expected


def test_stems_are_those_of_nltk():
    from nltk.stem.porter import PorterStemmer

    theirs, generator = PorterStemmer(), random.Random(0)
    endings = "s es ies ed ied eed ing ly y yy e ll al alli ational tional enci izer bli entli eli ousli ation ator alism iveness fulli "
    endings += "aliti iviti biliti logi icate ative alize iciti ical ful ness ance er ic able ement ment ent ion sion ou ism ate iti ize"
    for _ in range(5_000):
        word = "".join(generator.choices("aeiouybcstlzwx", k=generator.randint(0, 5))) + generator.choice(endings.split())
        assert stem(word) == theirs.stem(word), word


# --- BLEU ---


def test_bleu_of_equal_captions_is_one_from_four_words_on():
    assert of_pair(captions.bleu4, "a slowly moving vehicle", "a slowly moving vehicle") == 1.0
    # Two words have no runs of three and four, which smoothing makes 1/2 and 1/4.
    assert of_pair(captions.bleu4, "moving vehicle", "moving vehicle") == pytest.approx((1 / 2 * 1 / 4) ** (1 / 4))


def test_bleu_minds_case_and_brevity_and_is_zero_without_a_common_word():
    assert of_pair(captions.bleu4, "THE CAR STOPS HERE", "the car stops here") == 0.0
    assert of_pair(captions.bleu4, "a b c d", "a b c d e f") == pytest.approx(math.exp(1 - 6 / 4))
    assert of_pair(captions.bleu4, "", "a b c d") == 0.0


@given(TEXTS, TEXTS)
@settings(max_examples=80, deadline=None)
def test_bleu_is_that_of_nltk(prediction, reference):
    assert of_pair(captions.bleu4, prediction, reference) == pytest.approx(nltk_bleu(prediction, reference), abs=1e-9)


# --- METEOR ---


def test_meteor_aligns_equal_words_then_stems_then_synonyms_from_the_end():
    assert captions.align(["the", "car", "the"], ["the", "car"], None) == [(1, 1), (2, 0)]
    assert captions.align(["cars", "walked"], ["walks", "car"], None) == [(0, 1), (1, 0)]
    assert captions.align(["cars"], ["auto"], None) == []
    assert captions.align(["cars"], ["auto", "automobile", "auto"], known) == [(0, 2)]


def test_meteor_falls_with_the_number_of_pieces():
    assert of_pair(captions.meteor, "a b c d", "a b c d", None) == pytest.approx(1 - 0.5 * (1 / 4) ** 3)
    assert of_pair(captions.meteor, "c d a b", "a b c d", None) == pytest.approx(1 - 0.5 * (2 / 4) ** 3)
    assert of_pair(captions.meteor, "A B", "a b", None) == of_pair(captions.meteor, "a b", "a b", None)
    assert of_pair(captions.meteor, "x", "a b", None) == 0.0


@given(TEXTS, TEXTS)
@settings(max_examples=120, deadline=None)
def test_meteor_is_that_of_nltk_with_and_without_synonyms(prediction, reference):
    assert of_pair(captions.meteor, prediction, reference, None) == pytest.approx(nltk_meteor(prediction, reference, {}), abs=1e-9)
    ours = of_pair(captions.meteor, prediction, reference, known)
    assert ours == pytest.approx(nltk_meteor(prediction, reference, SYNONYMS), abs=1e-9)


# --- ROUGE-L ---


def test_rouge_is_the_f1_of_the_longest_common_subsequence():
    assert captions.common_subsequence("abcbdab", "bdcaba") == 4
    assert of_pair(captions.rouge_l, "a b c", "a x b y") == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))
    assert of_pair(captions.rouge_l, "行人", "行人") == 0.0


def slow_subsequence(first: str, second: str) -> int:
    rows = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            rows[i + 1][j + 1] = rows[i][j] + 1 if a == b else max(rows[i][j + 1], rows[i + 1][j])
    return rows[-1][-1]


@given(st.text("abc", max_size=80), st.text("abcd", max_size=80))
@settings(max_examples=60, deadline=None)
def test_the_common_subsequence_is_that_of_the_table(first, second):
    assert captions.common_subsequence(first, second) == slow_subsequence(first, second)


@given(TEXTS, TEXTS)
@settings(max_examples=60, deadline=None)
def test_rouge_is_that_of_rouge_score(prediction, reference):
    assert of_pair(captions.rouge_l, prediction, reference) == pytest.approx(rouge_score(prediction, reference), abs=1e-9)


# --- CIDEr ---


def test_cider_of_equal_captions_is_ten_from_four_words_on():
    assert of_pair(captions.cider, "a b c d", "a b c d") == pytest.approx(10)
    assert of_pair(captions.cider, "a b c", "a b c") == pytest.approx(7.5)


def test_cider_falls_fast_with_a_difference_in_length():
    longer = " ".join(f"w{number}" for number in range(40))
    shorter = " ".join(longer.split()[:20])
    assert of_pair(captions.cider, shorter, longer) < 10 * math.exp(-(20**2) / 72)


def test_cider_of_an_empty_caption_is_zero_on_either_side():
    assert of_pair(captions.cider, "", "a b") == of_pair(captions.cider, "a b", "") == of_pair(captions.cider, "", "") == 0.0


def test_words_that_every_document_has_weigh_nothing_in_a_corpus():
    assert captions.corpus_cider(["the car", "the bus"], [["the man"], ["the road"]]) == [0.0, 0.0]
    assert captions.corpus_cider(["the car", "the bus"], [["the car"], ["the bus"]]) == pytest.approx([5.0, 5.0])


def test_a_document_with_several_references_has_the_mean_over_them():
    both = captions.corpus_cider(["a b", "x y"], [["a b", "c d"], ["x y"]])
    assert both == pytest.approx([2.5, 5.0])


@given(TEXTS, TEXTS)
@settings(max_examples=60, deadline=None)
def test_cider_of_one_document_is_cider_alone(prediction, reference):
    ours, theirs = (" ".join(captions.treebank_words(text)) for text in (prediction, reference))
    alone = of_pair(captions.cider, ours, theirs)
    assert captions.corpus_cider([ours], [[theirs]]) == pytest.approx([alone], abs=1e-9)
    assert alone == pytest.approx(plain_cider(ours.split(), theirs.split()), abs=1e-9)


# --- all four ---


def test_the_score_brings_all_four_to_a_hundred():
    assert captions.CaptionScore(1.0, 1.0, 1.0, 10.0).score == 100.0
    assert captions.CaptionScore(0.2, 0.4, 0.6, 1.0).score == pytest.approx(32.5)
    assert captions.ZERO.score == 0.0


def test_means_are_taken_metric_by_metric():
    scores = [captions.CaptionScore(0.2, 0.4, 0.6, 1.0), captions.ZERO]
    assert captions.mean(scores) == captions.CaptionScore(0.1, 0.2, 0.3, 0.5)


def test_realistic_captions_score_as_with_nltk_and_rouge_score():
    generator = random.Random(1)
    for _ in range(10):
        prediction, reference = make_caption(generator), make_caption(generator)
        score = captions.score(prediction, reference, None)
        assert score.bleu == pytest.approx(nltk_bleu(prediction, reference), abs=1e-9)
        assert score.meteor == pytest.approx(nltk_meteor(prediction, reference, {}), abs=1e-9)
        assert score.rouge_l == pytest.approx(rouge_score(prediction, reference), abs=1e-9)


def test_scoring_loads_neither_nltk_nor_numpy():
    program = (
        "import sys; from lib.metrics import captions; captions.score('a b', 'a c', None); print({'nltk', 'numpy'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"


# --- multiple choice ---


def test_choices_are_right_whatever_their_case_and_missing_ones_count_as_wrong():
    score = score_choices({"1": "a", "2": "b", "3": "c", "4": "d"}, {"1": "A", "2": "a", "3": None, "5": "a"})
    assert score == ChoiceScore(correct=1, wrong=1, missing=2)
    assert score.accuracy == 0.25


def test_no_question_has_no_accuracy():
    with pytest.raises(DataError) as error:
        score_choices({}, {"1": "a"})
    assert str(error.value) == "no reference answer to compare with; give the ground truth of at least one question"
