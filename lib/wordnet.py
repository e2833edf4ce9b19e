"""Synonyms from WordNet 3.0, read straight from Princeton's files where the machine has them; nothing is ever downloaded.

Searched in this order: the folder named by WORDNET, the folders where nltk keeps its data (corpora/wordnet or wordnet.zip), and
/usr/share/wordnet (Debian's package wordnet-base). A lookup searches the sorted index by halves, so that nothing is parsed ahead.
Formats: wndb(5WN) of WordNet's manual; base forms as nltk's `synsets` finds them.
"""

import logging
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from lib.errors import ConfigError

log = logging.getLogger(__name__)

VARIABLE = "WORDNET"
DEBIAN = Path("/usr/share/wordnet")
VERSION = "WordNet 3.0"

# Suffix and replacement per part of speech: how an inflected form leads to its base forms.
INFLECTIONS = {
    "noun": (
        ("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y"),
    ),
    "verb": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "adj": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "adv": (),
}  # fmt: skip
FILES = tuple(f"{kind}.{part}" for part in INFLECTIONS for kind in ("index", "data")) + tuple(f"{part}.exc" for part in INFLECTIONS)
HEADER_BYTES = 2048


class WordNet:
    """WordNet's files in a folder or in nltk's wordnet.zip; each is read when first needed. Answers are kept."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._content: dict[str, bytes] = {}
        self._irregular: dict[str, dict[str, list[str]]] = {}
        self._synonyms: dict[str, frozenset[str]] = {}

    def read(self, name: str) -> bytes:
        """The content of one of the files, "index.noun" or "verb.exc"; raises OSError or KeyError if it is not there."""
        if name not in self._content:
            if self.place.suffix == ".zip":
                with zipfile.ZipFile(self.place) as archive:
                    self._content[name] = archive.read(f"wordnet/{name}")
            else:
                self._content[name] = (self.place / name).read_bytes()
        return self._content[name]

    def synonyms(self, word: str) -> frozenset[str]:
        """The single words that share a sense with a lower-case word or a base form of it, as WordNet spells them ("auto", "Paris")."""
        if word not in self._synonyms:
            self._synonyms[word] = frozenset(
                name
                for part in INFLECTIONS
                for form in self._base_forms(word, part)
                for offset in self._senses(form, part)
                for name in self._names(offset, part)
                if "_" not in name
            )
        return self._synonyms[word]

    def _base_forms(self, word: str, part: str) -> list[str]:
        """The word itself and the base forms it may be an inflection of, whether or not WordNet has them."""
        irregular = self._exceptions(part)
        if word in irregular:
            return [word, *irregular[word]]
        return [word, *(word.removesuffix(old) + new for old, new in INFLECTIONS[part] if word.endswith(old))]

    def _exceptions(self, part: str) -> dict[str, list[str]]:
        """Irregular form -> base forms."""
        if part not in self._irregular:
            lines = (line.split() for line in self.read(f"{part}.exc").decode("utf-8").splitlines())
            self._irregular[part] = {form: base for form, *base in lines}
        return self._irregular[part]

    def _senses(self, form: str, part: str) -> list[int]:
        """Where in the data file the senses of a base form stand, empty if it has none."""
        line = _find_line(self.read(f"index.{part}"), form.encode("utf-8"))
        if line is None:
            return []
        # form, part, number of senses, number of pointers, the pointers, and two more numbers before the offsets
        fields = line.split()
        return [int(offset) for offset in fields[6 + int(fields[3]) :]]

    def _names(self, offset: int, part: str) -> Iterator[str]:
        """The words of the sense at this offset, without the mark that some adjectives carry: "awake(p)"."""
        data = self.read(f"data.{part}")
        # offset, file, part, number of words in hexadecimal, then each word and its number
        fields = data[offset : data.index(b"|", offset)].decode("utf-8").split()
        words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
        return (word.partition("(")[0] if word.endswith(")") else word for word in words)


def find() -> WordNet | None:
    """WordNet 3.0 on this machine, None if there is none. Raises ConfigError when WORDNET names something else."""
    named = os.environ.get(VARIABLE)
    if named:
        problem = _problem(Path(named))
        if problem:
            raise ConfigError(f"{VARIABLE}={named}: {problem}; name a folder with the files of {VERSION}, or unset {VARIABLE}")
        return WordNet(Path(named))
    for place in filter(Path.exists, _places()):
        problem = _problem(place)
        if not problem:
            return WordNet(place)
        log.warning("%s is passed over: %s", place, problem)
    return None


def _places() -> Iterator[Path]:
    """Where WordNet may lie: nltk's folders in nltk's order, then Debian's."""
    folders = [Path(folder) for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    folders.append(Path.home() / "nltk_data")
    folders += [Path(sys.prefix) / folder for folder in ("nltk_data", "share/nltk_data", "lib/nltk_data")]
    folders += [Path(folder, "nltk_data") for folder in ("/usr/share", "/usr/local/share", "/usr/lib", "/usr/local/lib")]
    for folder in folders:
        yield folder / "corpora/wordnet"
        yield folder / "corpora/wordnet.zip"
    yield DEBIAN


def _problem(place: Path) -> str | None:
    """Why these are not the files of WordNet 3.0, None if they are."""
    wordnet = WordNet(place)
    try:
        if place.suffix == ".zip":
            with zipfile.ZipFile(place) as archive:
                missing = [name for name in FILES if f"wordnet/{name}" not in archive.namelist()]
        else:
            missing = [name for name in FILES if not (place / name).is_file()]
        if missing:
            return f"no {missing[0]} in it"
        return None if VERSION.encode() in wordnet.read("data.adv")[:HEADER_BYTES] else f"not {VERSION}"
    except (OSError, zipfile.BadZipFile) as error:
        return f"not readable ({error})"


def _find_line(text: bytes, key: bytes) -> bytes | None:
    """The line of a text sorted by bytes whose first field is the key, None if there is none."""
    low, high = 0, len(text)
    while low < high:
        start = text.rfind(b"\n", low, (low + high) // 2) + 1 or low
        end = text.find(b"\n", start)
        end = len(text) if end < 0 else end
        field = text[start : text.find(b" ", start)]
        if field == key and key:  # the licence's lines begin with a blank, so their first field is empty
            return text[start:end]
        low, high = (end + 1, high) if field < key else (low, start)
    return None
