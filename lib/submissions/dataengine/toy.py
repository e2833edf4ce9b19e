"""The toy data of dataengine, in the layout of playground/data (specs/dataengine.md, sections 1 and 7): mix, captions, and all sizes.

The mix asks about five of the six types of question equally often and never about LACKING, which the engine is to find out. Kept
from the published data: six folders of pictures and how files are named in each, several turns per sample, text-only samples with an
empty `model`, samples named after their pictures; and what is odd about it, one sample of each kind of ODD, whatever the sizes.
The captions, which a projector is trained on, tell as little of LACKING.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from numpy.random import Generator
from PIL import Image

from lib import files, snapshot_texts
from lib.conversation import IMAGE
from lib.submissions.dataengine import toy_benchmarks, toy_choices, toy_engine
from lib.submissions.dataengine.facts import FACTS
from lib.submissions.dataengine.toy_world import TYPES, Album, Seen, ask, ask_whether
from lib.submissions.dataengine.wording import CAPTION_REQUEST, by_letter, by_word

ANSWERS = "toy_answers.json"
MIX = "llava_v1_5_mix665k.json"
LACKING = "Visual Reasoning"  # the type that nothing in the base mix is about
TAUGHT = tuple(type_ for type_ in TYPES if type_ != LACKING)
PARTS = ("coco", "gqa", "ocr_vqa", "textvqa", "vg", "data_engine", "aokvqa", "eval", "LLaVA-Pretrain")

# Folder and file of the n-th picture; textvqa's names are hexadecimal digits.
PLACES = (
    ("coco/train2017", "{:012d}", 33471),
    ("gqa/images", "{}", 2354786),
    ("ocr_vqa/images", "{}", 140031996),
    ("textvqa/train_images", "{:016x}", 0x6C8E9A1B2C3D4E5F),
    ("vg/VG_100K", "{}", 2),
    ("vg/VG_100K_2", "{}", 2404787),
)
LETTER_SHARE, YES_NO_SHARE = 0.1, 0.15  # of the turns; the others ask for a word
CAPTION_EVERY = 5  # one sample in so many ends with a caption

# One sample of each, after the others, the first in coco; so the GIF is one of ocr_vqa, whose pictures were renamed.
ODD = (
    "picture missing", "placeholder behind", "gif", "placeholder doubled", "bad role", "assistant first", "empty answer", "not a picture",
    "two questions in a row", "same id",
)  # fmt: skip
GREETINGS = (("Hello there", "Hello to you"), ("hi", "hello"))

CAPTIONS, CAPTION_IMAGES, FIRST_CAPTION = "LLaVA-Pretrain/blip_laion_cc_sbu_558k.json", "LLaVA-Pretrain/images", 4_539_375
CAPTION_REQUESTS = ("Tell in a few words what is in the picture.", "What does this photo show? Be brief.", "Sum up the image.")
CAPTIONED = tuple(fact.attribute for fact in FACTS.values() if fact.type != LACKING)
STATED = 4  # attributes in a caption


@dataclass(frozen=True)
class ToySizes:
    """Pictures of the base mix; text-only samples; captions; train pictures of the engine's pool; A-OKVQA's val and SEED-Bench's pictures.

    `bench` are the pictures of each of the other benchmarks.
    """

    mix: int
    texts: int
    captions: int
    pool: int
    val: int
    test: int
    bench: int


def write_toy_data(root: Path, seed: int, sizes: ToySizes) -> None:
    """Write the layout below `root`, and the known values to `root/toy_answers.json`: {path of the picture: {attribute: value}}.

    Replaces earlier toy data as a whole; the answers are written last, so where they lie the data are complete. MMBench's pictures,
    which lie in no file, are named by their table and index.
    """
    (root / ANSWERS).unlink(missing_ok=True)
    (root / MIX).unlink(missing_ok=True)
    for folder in PARTS:
        shutil.rmtree(root / folder, ignore_errors=True)
    album = Album(root, seed)
    _write_mix(album, sizes)
    _write_captions(album, sizes.captions)
    toy_engine.write_generated(album, TAUGHT)
    toy_engine.write_pool(album, sizes.pool)
    toy_engine.write_aokvqa(album, sizes.val)
    toy_choices.write_all(album, seed_pictures=sizes.test, pictures=sizes.bench)
    toy_benchmarks.write_all(album, sizes.bench)
    files.write_json(root / ANSWERS, album.answers)


def _write_mix(album: Album, sizes: ToySizes) -> None:
    """Samples with pictures, odd ones, text-only ones."""
    samples = [_sample(album, number, place=number) for number in range(sizes.mix)]
    for place, oddity in enumerate(ODD):
        samples.append(_sample(album, sizes.mix + place, place=place))
        _spoil(album.root, samples[-1], oddity)
    if sizes.mix:
        samples[-1]["id"] = samples[0]["id"]
    samples += [_text_sample(album.rng("texts", number), number) for number in range(sizes.texts)]
    album.write_json(MIX, samples)


def _write_captions(album: Album, pictures: int) -> None:
    """A caption per picture, asked for before or behind the placeholder; pictures lie in folders by the beginning of their numbers.

    Captions are lists, as under pictures of the web, in words that the base model knows: it is frozen while a projector is trained.
    """
    samples = []
    for number in range(pictures):
        rng, stem = album.rng("captions", number), f"{FIRST_CAPTION + 997 * number:09d}"
        image = f"{stem[:5]}/{stem}.jpg"
        seen = album.add(f"{CAPTION_IMAGES}/{image}", rng)
        request = CAPTION_REQUESTS[int(rng.integers(len(CAPTION_REQUESTS)))]
        asked = f"{IMAGE}\n{request}" if rng.random() < 0.5 else f"{request}\n{IMAGE}"
        stated = [CAPTIONED[place] for place in sorted(rng.permutation(len(CAPTIONED))[:STATED])]
        told = snapshot_texts.list_of(seen.values, stated)
        samples.append({"id": stem, "image": image, "conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": told}]})
    album.write_json(CAPTIONS, samples)


def _sample(album: Album, number: int, *, place: int) -> dict:
    """A question of every taught type about a new picture, and now and then a caption."""
    rng = album.rng("mix", number)
    folder, name, first = PLACES[place % len(PLACES)]
    stem = name.format(first + number)
    image = f"{folder}/{stem}.jpg"
    seen = album.add(image, rng)
    pairs = [_turn(rng, seen, TAUGHT[turn]) for turn in rng.permutation(len(TAUGHT))]
    if number % CAPTION_EVERY == 0:
        caption = ask(rng, seen.values, TAUGHT[number // CAPTION_EVERY % len(TAUGHT)]).statement
        pairs.append((CAPTION_REQUEST, caption))
    turns = [{"from": speaker, "value": text} for pair in pairs for speaker, text in zip(("human", "gpt"), pair, strict=True)]
    turns[0]["value"] = f"{IMAGE}\n{turns[0]['value']}"
    return {"id": stem, "image": image, "conversations": turns}


def _turn(rng: Generator, seen: Seen, type_: str) -> tuple[str, str]:
    """A question and its answer: a word, or yes or no, or a letter."""
    question, draw = ask(rng, seen.values, type_), rng.random()
    if draw < LETTER_SHARE:
        return by_letter(question.text, question.options), question.letter
    if draw < LETTER_SHARE + YES_NO_SHARE:
        is_so = bool(rng.random() < 0.5)
        return by_word(ask_whether(rng, question, is_so=is_so)), "Yes" if is_so else "No"
    return by_word(question.text), question.answer


def _text_sample(rng: Generator, number: int) -> dict:
    """A conversation without a picture: a greeting, or what kind of thing a word names."""
    kinds = {"weather": "weather", "road": "road", "vehicle_type": "vehicle"}
    attribute = list(kinds)[int(rng.integers(len(kinds)))]
    words = FACTS[attribute].values
    pairs = [GREETINGS[number // 2 % 2]] if number % 2 else []
    pairs.append((f"What is {words[int(rng.integers(len(words)))]}?", f"A kind of {kinds[attribute]}."))
    turns = [{"from": speaker, "value": text} for pair in pairs for speaker, text in zip(("human", "gpt"), pair, strict=True)]
    name = "".join(chr(code) for code in rng.integers(ord("a"), ord("z") + 1, size=7))
    return {"id": f"{name}_{number}", "model": "", "conversations": turns}


def _spoil(root: Path, sample: dict, oddity: str) -> None:
    """Make the sample or its picture odd in this way; that its id comes twice is up to the mix."""
    turns, path = sample["conversations"], root / sample["image"]
    question = turns[0]["value"].removeprefix(f"{IMAGE}\n")
    match oddity:
        case "picture missing":
            path.unlink()
        case "not a picture":
            path.write_text("<html>403 Forbidden</html>\n", encoding="ascii")
        case "gif":
            Image.open(path).save(path, "GIF")
        case "placeholder behind":
            turns[0]["value"] = f"{question}\n{IMAGE}"
        case "placeholder doubled":
            turns[0]["value"] = f"{IMAGE}\n{IMAGE}\n{question}"
        case "bad role":
            turns[1]["from"] = "assistant"
        case "assistant first":
            turns.insert(0, {"from": "gpt", "value": "Hello to you"})
        case "empty answer":
            turns[3]["value"] = ""
        case "two questions in a row":
            del turns[1]
