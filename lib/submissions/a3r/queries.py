"""Query texts as the text tower reads them, the result and submission files, their merge and the validator (specs/a3r.md 5, 6.1, 7)."""

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lib.errors import ConfigError, DataError
from lib.files import read_json, write_text
from lib.submissions.a3r.labels import FinalDot, cut_final_dot, shown
from lib.submissions.a3r.vocabulary import Query

TextConvention = Literal["plain", "strip", "suffix"]

TEXT_CONVENTIONS = ("plain", "strip", "suffix")
ARTICLE = re.compile(r"^(?:A|An|This is a|This is an) ")
# Appended to vehicle queries by the prompt script, the entry's last submission (specs/a3r.md 5).
SUFFIX = " image taken by traffic surveillance cameras"
VEHICLE_PREFIX = "vehicle_"
ENTRY_KEYS = {"text", "image_names"}


@dataclass(frozen=True)
class Result:
    """One entry of a result file: the query as in the query file, and the retrieved images, best first."""

    text: str
    image_names: tuple[str, ...]


@dataclass(frozen=True)
class Problem:
    """What is wrong with a submission: entry (from 0; None for the whole file), the offending value, the sentence for people."""

    index: int | None
    value: str
    message: str


def strip_article(sentence: str) -> str:
    """The sentence without a leading `A `, `An `, `This is a ` or `This is an `, removed once."""
    return ARTICLE.sub("", sentence)


def encoded_text(line: str, *, convention: TextConvention, final_dot: FinalDot) -> str:
    """What the text tower reads for a query line: stripped, without its final dot, then by convention.

    `plain` nothing more (pedestrians), `strip` without the article (vehicles, best submission), `suffix` with the words about
    surveillance cameras (vehicles, last submission).
    """
    if convention not in TEXT_CONVENTIONS:
        raise ConfigError(f"no query convention {convention!r}; it is one of: {', '.join(TEXT_CONVENTIONS)}")
    text = cut_final_dot(line.strip(), final_dot=final_dot)
    if convention == "strip":
        return strip_article(text)
    return text + SUFFIX if convention == "suffix" else text


def rerank_query(results: Sequence[Result], index: int, *, candidates: int, final_dot: FinalDot) -> Result:
    """Entry `index` as re-ranking reads it: text to encode and the first `candidates` images.

    The article goes only if the first image is a vehicle's by name. Raises DataError for an index outside the file.
    """
    if not 0 <= index < len(results):
        raise DataError(f"no entry {index} in a result file of {len(results)}; expected 0 to {len(results) - 1}")
    entry = results[index]
    convention = "strip" if entry.image_names and entry.image_names[0].startswith(VEHICLE_PREFIX) else "plain"
    return Result(encoded_text(entry.text, convention=convention, final_dot=final_dot), entry.image_names[:candidates])


def results_text(results: Iterable[Result]) -> str:
    """The JSON of a result or submission file exactly as published: 4 blanks of indent, ASCII escapes, no final line end."""
    return json.dumps({"results": [{"text": entry.text, "image_names": list(entry.image_names)} for entry in results]}, indent=4)


def write_results(path: Path, results: Iterable[Result]) -> None:
    """Write a result or submission file, whole or not at all."""
    write_text(path, results_text(results))


def read_results(path: Path) -> list[Result]:
    """The entries of a result file. Raises DataError with the first thing that is not in the format."""
    document = read_json(path)
    problems = find_format_problems(document)
    if problems:
        raise DataError(f"{path}: {problems[0].message}")
    return [Result(entry["text"], tuple(entry["image_names"])) for entry in document["results"]]


def merge_published(vehicles: Sequence[Result], pedestrians: Sequence[Result]) -> list[Result]:
    """Vehicles first, then pedestrians, as published: the server's order only if all vehicle queries come first in its file."""
    return [*vehicles, *pedestrians]


def merge_ordered(parts: Iterable[tuple[Sequence[Query], Sequence[Result]]]) -> list[Result]:
    """All entries in the order of the query file, from (queries, their results) of each part.

    Raises DataError if results and queries differ in number or text, or the queries together leave a line out or name one twice.
    """
    placed: dict[int, Result] = {}
    for queries, results in parts:
        if len(queries) != len(results):
            raise DataError(f"{len(results)} results for {len(queries)} queries; each query needs one, infer this part again")
        for query, entry in zip(queries, results, strict=True):
            if entry.text != query.text:
                raise DataError(f"result {shown(entry.text)} stands for query {query.index} {shown(query.text)}; infer this part again")
            if query.index in placed:
                raise DataError(f"query {query.index} {shown(query.text)} is in two parts; route the queries again")
            placed[query.index] = entry
    absent = next((index for index in range(len(placed)) if index not in placed), None)
    if absent is not None:
        raise DataError(f"no part holds query {absent}; route the queries again")
    return [placed[index] for index in range(len(placed))]


def find_problems(document: object, lines: Sequence[str], gallery: Collection[str], *, top_k: int) -> list[Problem]:
    """Everything the challenge server would object to in a parsed submission.json; empty if it is valid.

    `lines` is the query file, `gallery` the image names; each entry needs exactly `top_k` different names from it.
    """
    problems = find_format_problems(document)
    if problems:
        return problems
    entries = document["results"]
    if len(entries) != len(lines):
        message = f"{len(entries)} entries for {len(lines)} queries; expected one per line of the query file"
        problems.append(Problem(None, str(len(entries)), message))
    names = frozenset(gallery)
    for index, entry in enumerate(entries):
        if index < len(lines):
            problems.extend(_text_problems(index, entry["text"], lines[index].strip()))
        problems.extend(_name_problems(index, entry["image_names"], names, top_k))
    return problems


def find_format_problems(document: object) -> list[Problem]:
    """What keeps a parsed JSON from being a result file: one key `results`, a list of {text, image_names} with strings in them."""
    if not isinstance(document, dict) or set(document) != {"results"} or not isinstance(document["results"], list):
        value = ", ".join(map(str, document)) if isinstance(document, dict) else type(document).__name__
        return [Problem(None, value, f"found {shown(value)}; expected one key 'results' with a list")]
    problems = []
    for index, entry in enumerate(document["results"]):
        if not isinstance(entry, dict) or set(entry) != ENTRY_KEYS:
            value = ", ".join(map(str, entry)) if isinstance(entry, dict) else type(entry).__name__
            problems.append(Problem(index, value, f"entry {index}: found {shown(value)}; expected the keys text, image_names"))
            continue
        names = entry["image_names"]
        if not isinstance(entry["text"], str):
            problems.append(Problem(index, repr(entry["text"]), f"entry {index}: text is {entry['text']!r}; expected the query sentence"))
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            message = f"entry {index}: image_names is {shown(str(names))}; expected a list of file names"
            problems.append(Problem(index, str(names), message))
    return problems


def _text_problems(index: int, text: str, line: str) -> list[Problem]:
    """The problem of an entry whose text is not its line of the query file."""
    if text == line:
        return []
    message = f"entry {index}: text {shown(text)} is not line {index + 1} of the query file, {shown(line)}; keep order and wording"
    return [Problem(index, text, message)]


def _name_problems(index: int, image_names: Sequence[str], gallery: frozenset[str], top_k: int) -> list[Problem]:
    """The problems of an entry's names: their number, repetitions, and names that no gallery image has."""
    problems = []
    if len(image_names) != top_k:
        message = f"entry {index}: {len(image_names)} image names; expected exactly {top_k}"
        problems.append(Problem(index, str(len(image_names)), message))
    for position, name in enumerate(image_names):
        if name in image_names[:position]:
            problems.append(Problem(index, name, f"entry {index}: {shown(name)} is named twice; names must differ"))
        elif name not in gallery:
            problems.append(Problem(index, name, f"entry {index}: {shown(name)} is no image of the gallery"))
    return problems
