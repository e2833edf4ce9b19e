"""A mix of conversations in LLaVA's format: reading it, and the check that every sample can be trained before the training begins.

The original meets a missing picture in the middle of an epoch and masks samples without a word (dataengine specification, sections 5
and 9). Here a sample that cannot be trained is left out, one that can be put right is, and either is a finding, counted by reason and
by the folder that its picture is from. Pictures are identified by the beginning of their files, not decoded.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image, UnidentifiedImageError

from lib.conversation import IMAGE, SPEAKERS, move_image_first
from lib.submissions.dataengine import fields

TEXT_ONLY = "text only"  # the source of samples without a picture

# Why a sample is left out ...
PICTURE_MISSING = "picture missing"
NO_PICTURE = "not a picture"
BAD_ROLES = "bad roles"
NOT_ALTERNATING = "turns do not alternate"
EMPTY_ANSWER = "empty answer"
NOT_ONE_PLACE = "placeholder not in exactly one question"
DROPPING = (PICTURE_MISSING, NO_PICTURE, BAD_ROLES, NOT_ALTERNATING, EMPTY_ANSWER, NOT_ONE_PLACE)
# ... and what is kept but counted.
GIF_AS_JPG = "GIF named jpg"
FIRST_ANSWER = "leading assistant turn dropped"
LAST_QUESTION = "last question dropped, it has no answer"
PLACEHOLDER_MOVED = "placeholder moved to the front"
SEVERAL_PLACEHOLDERS = "several placeholders"
DUPLICATE_ID = "duplicate id"
KEEPING = (GIF_AS_JPG, FIRST_ANSWER, LAST_QUESTION, PLACEHOLDER_MOVED, SEVERAL_PLACEHOLDERS, DUPLICATE_ID)


@dataclass(frozen=True)
class Finding:
    """One thing about one sample: the reason, the folder of its picture, and the sample's id."""

    reason: str
    source: str
    sample: str

    @property
    def drops(self) -> bool:
        """Whether the sample was left out because of it."""
        return self.reason in DROPPING


def read_mix(path: Path, pictures: str = "") -> list[dict]:
    """The samples: `id`, `conversations` (a list of {"from", "value"}) and, unless text-only, `image`; further fields stay.

    The file names pictures relative to the folder `pictures`, which comes before them here. Raises DataError, naming row and field, for
    anything that is not of this form.
    """
    samples = fields.read_list(path, {"id": (str, int), "conversations": list})
    for number, sample in enumerate(samples, start=1):
        if "image" in sample:
            fields.require(sample["image"], str, f"{path}: row {number}: image")
            sample["image"] = str(PurePosixPath(pictures, sample["image"]))
        for turn, said in enumerate(sample["conversations"], start=1):
            fields.require_fields(said, {"from": str, "value": str}, f"{path}: row {number}: turn {turn}")
    return samples


def check_mix(samples: Iterable[dict], media_root: Path) -> tuple[list[dict], list[Finding]]:
    """The samples that can be trained, put right where need be, and what was found; the given ones are not changed.

    NOTE: ids come twice in the published mix, which names samples after their pictures; such samples are kept.
    """
    kept: list[dict] = []
    findings: list[Finding] = []
    seen: set[str | int] = set()
    pictures: dict[str, str | None] = {}
    for sample in samples:
        image = sample.get("image")
        turns, reasons = _check_turns(sample["conversations"], has_image=image is not None)
        if image is not None:
            if image not in pictures:
                pictures[image] = _check_picture(media_root / image)
            reasons += [pictures[image]] if pictures[image] else []
        if sample["id"] in seen:
            reasons.append(DUPLICATE_ID)
        seen.add(sample["id"])
        found = [Finding(reason, source_of(sample), str(sample["id"])) for reason in reasons]
        findings += found
        if not any(finding.drops for finding in found):
            kept.append(sample | {"conversations": turns})
    return kept, findings


def source_of(sample: dict) -> str:
    """The collection of the sample's picture, two folders below the media root, as coco/train2017; TEXT_ONLY without one."""
    return str(PurePosixPath(*PurePosixPath(sample["image"]).parts[:-1][:2])) if "image" in sample else TEXT_ONLY


def count(findings: Iterable[Finding]) -> dict[str, dict[str, int]]:
    """How many samples by reason and source; reasons in the order of DROPPING and KEEPING, sources by name."""
    counts: dict[str, dict[str, int]] = {reason: {} for reason in (*DROPPING, *KEEPING)}
    for finding in findings:
        counts[finding.reason][finding.source] = counts[finding.reason].get(finding.source, 0) + 1
    return {reason: dict(sorted(sources.items())) for reason, sources in counts.items() if sources}


def _check_picture(path: Path) -> str | None:
    """What is wrong with a picture, None if nothing is."""
    try:
        with Image.open(path) as picture:
            return GIF_AS_JPG if picture.format == "GIF" and path.suffix == ".jpg" else None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return PICTURE_MISSING
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return NO_PICTURE


def _check_turns(turns: list[dict], *, has_image: bool) -> tuple[list[dict], list[str]]:
    """The turns put right as far as they can be, and what was found; the first thing that drops a sample ends the search."""
    if not all(turn["from"] in SPEAKERS for turn in turns):
        return turns, [BAD_ROLES]
    reasons = []
    if turns and turns[0]["from"] == "gpt":
        turns = turns[1:]
        reasons.append(FIRST_ANSWER)
    if any(turn["from"] != ("human", "gpt")[number % 2] for number, turn in enumerate(turns)):
        return turns, [*reasons, NOT_ALTERNATING]
    if len(turns) % 2 and len(turns) > 1:
        turns = turns[:-1]
        reasons.append(LAST_QUESTION)
    if len(turns) < 2 or not all(turn["value"].strip() for turn in turns[1::2]):
        return turns, [*reasons, EMPTY_ANSWER]
    if not has_image:
        return turns, reasons
    return _place_image(turns, reasons)


def _place_image(turns: list[dict], reasons: list[str]) -> tuple[list[dict], list[str]]:
    """The turns with one placeholder in front of the question that has it, and the reasons with what was found of it."""
    holders = [number for number, turn in enumerate(turns) if IMAGE in turn["value"]]
    if len(holders) != 1 or holders[0] % 2:
        return turns, [*reasons, NOT_ONE_PLACE]
    number = holders[0]
    text = turns[number]["value"]
    if text.count(IMAGE) > 1:
        reasons = [*reasons, SEVERAL_PLACEHOLDERS]
    elif not text.startswith(IMAGE):
        reasons = [*reasons, PLACEHOLDER_MOVED]
    placed = turns[number] | {"value": move_image_first(text)}
    return [*turns[:number], placed, *turns[number + 1 :]], reasons
