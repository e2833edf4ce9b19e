"""The Porter stemmer (Program 14.3, 1980) with the extensions that nltk has on by default: what METEOR and ROUGE stem with.

Written out because loading nltk loads pandas, scipy and scikit-learn, and that takes longer than scoring a whole validation set.
"""

import functools

VOWELS = frozenset("aeiou")

# Forms that the rules would tear apart (nltk's extension).
IRREGULAR = {
    "skies": "sky", "sky": "sky", "dying": "die", "lying": "lie", "tying": "tie", "news": "news", "innings": "inning",
    "inning": "inning", "outings": "outing", "outing": "outing", "cannings": "canning", "canning": "canning", "howe": "howe",
    "proceed": "proceed", "exceed": "exceed", "succeed": "succeed",
}  # fmt: skip

# Suffix and replacement. The first suffix that fits decides, whether or not enough word is left before it.
PLURALS = (("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", ""))
LONG_SUFFIXES = (
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("bli", "ble"), ("alli", "al"),
    ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"), ("ator", "ate"), ("alism", "al"),
    ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"), ("iviti", "ive"), ("biliti", "ble"),
    ("fulli", "ful"),
)  # fmt: skip
SUFFIXES = (("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", ""))
ENDINGS = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti", "ous", "ive",
    "ize",
)  # fmt: skip


@functools.lru_cache(maxsize=2**16)
def stem(word: str) -> str:
    """The stem of a lower-case word ("crossing" -> "cross"); words of one or two letters are their own."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) <= 2:
        return word
    for step in (_cut_plural, _cut_past, _turn_y, _shorten_long_suffix, _shorten_suffix, _cut_ending, _cut_e, _cut_double_l):
        word = step(word)
    return word


def _shape(word: str) -> str:
    """One letter c or v per letter of the word: y is a vowel after a consonant."""
    shape = ""
    for letter in word:
        vowel = letter in VOWELS or (letter == "y" and shape.endswith("c"))
        shape += "v" if vowel else "c"
    return shape


def _measure(word: str) -> int:
    """How often a consonant follows a vowel: 0 for "tree", 1 for "trouble", 2 for "private"."""
    return _shape(word).count("vc")


def _ends_short(word: str) -> bool:
    """Whether the word ends like "hop" (no w, x or y at the end) or is like "us"; such a word lost an e."""
    shape = _shape(word)
    return (shape.endswith("cvc") and word[-1] not in "wxy") or shape == "vc"


def _replace_first(word: str, rules: tuple[tuple[str, str], ...], least_measure: int) -> str:
    """The word after the first rule whose suffix fits; unchanged if what stands before the suffix measures less."""
    for suffix, replacement in rules:
        if word.endswith(suffix):
            rest = word.removesuffix(suffix)
            return rest + replacement if _measure(rest) >= least_measure else word
    return word


def _cut_plural(word: str) -> str:
    """Step 1a: caresses -> caress, ponies -> poni, but ties -> tie."""
    if word.endswith("ies") and len(word) == 4:
        return word[:-1]
    return _replace_first(word, PLURALS, 0)


def _cut_past(word: str) -> str:
    """Step 1b: agreed -> agree, motoring -> motor, hopping -> hop, filing -> file."""
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    suffix = next((suffix for suffix in ("ed", "ing") if word.endswith(suffix)), "")
    rest = word.removesuffix(suffix)
    if not suffix or "v" not in _shape(rest):
        return word
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if rest[-1] == rest[-2:-1] and _shape(rest)[-1] == "c":
        return rest if rest[-1] in "lsz" else rest[:-1]
    return rest + "e" if _measure(rest) == 1 and _ends_short(rest) else rest


def _turn_y(word: str) -> str:
    """Step 1c: happy -> happi, fly -> fli, but enjoy and by stay."""
    rest = word[:-1]
    return rest + "i" if word.endswith("y") and len(rest) > 1 and _shape(rest)[-1] == "c" else word


def _shorten_long_suffix(word: str) -> str:
    """Step 2: relational -> relate, digitizer -> digitize."""
    if word.endswith("alli") and _measure(word[:-4]) > 0:
        return _shorten_long_suffix(word[:-2])
    if word.endswith("logi"):  # the l counts as part of the word, so that "geologi" and "archaeologi" both end in log
        return word[:-1] if _measure(word[:-3]) > 0 else word
    return _replace_first(word, LONG_SUFFIXES, 1)


def _shorten_suffix(word: str) -> str:
    """Step 3: electrical -> electric, goodness -> good."""
    return _replace_first(word, SUFFIXES, 1)


def _cut_ending(word: str) -> str:
    """Step 4: revival -> reviv, adoption -> adopt (ion after s or t only)."""
    ending = next((ending for ending in ENDINGS if word.endswith(ending)), "")
    rest = word.removesuffix(ending)
    if _measure(rest) <= 1 or (ending == "ion" and rest[-1] not in "st"):
        return word
    return rest


def _cut_e(word: str) -> str:
    """Step 5a: probate -> probat, cease -> ceas, but rate stays."""
    rest = word.removesuffix("e")
    measure = _measure(rest)
    return rest if measure > 1 or (measure == 1 and not _ends_short(rest)) else word


def _cut_double_l(word: str) -> str:
    """Step 5b: controll -> control, but roll stays."""
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word
