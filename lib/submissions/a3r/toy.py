"""The toy data of a3r: synthetic traffic pictures in exactly the published layout (specs/a3r.md, 1.2 to 1.4), answers known.

Kept from the published data: where files lie and how they are named, vehicles before pedestrians, label lines that name only part
of what a vehicle shows (so that augmentation has something to complete), the shares of those kinds of lines, both caption forms,
`an` on orange only, the two brands that come without a colour, and the whole grammar of the pedestrian sentences with its
misspelling. Pictures share captions about as often as in the published validation set (R@1 ceiling near .55, spec 4.4).
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from numpy.random import Generator, default_rng
from PIL.Image import Image

from lib import files
from lib.synthetic import COLOURS, TYPES, Pedestrian, Vehicle, draw_pedestrian, draw_vehicle, random_pedestrian

# Regular brands come with a colour; of the published 65, and no two of them share a plate, not even with its halves exchanged.
REGULAR_BRANDS = ("Golden Dragon", "Ford", "Geely", "MORRIS-GARAGE", "Volvo", "Toyota", "KINGLONG", "BMW", "Iveco", "Kia")
# The two brands whose lines never name a colour (spec 1.3); both build trucks.
BARE_BRANDS = ("Hongyan", "Balong Heavy Truck")

# Shares of the 42,704 published vehicle lines (spec 1.3).
TYPE_ONLY_SHARE = 6023 / 42704
BRAND_ONLY_SHARE = 542 / 42704
# Distinct captions per picture of the published validation set (spec 4.4: the R@1 ceilings of vehicles and pedestrians).
VEHICLE_KINDS_SHARE, PEDESTRIAN_KINDS_SHARE = 0.393, 0.629
PARTIAL_QUERY_SHARE = 0.05
ALIKE = 4  # brands per colour and type in the test gallery

JPEG_QUALITY = 92
ATTRIBUTES = 21


@dataclass(frozen=True)
class ToySizes:
    """How many pictures of each kind, and how many of REGULAR_BRANDS occur; the test split has as many queries as pictures."""

    train_vehicles: int
    train_pedestrians: int
    val_vehicles: int
    val_pedestrians: int
    test_vehicles: int
    test_pedestrians: int
    brands: int


def write_toy_data(root: Path, seed: int, sizes: ToySizes) -> None:
    """Write `root/datasets/{train,val,test}` as published, and the known answers of test to `root/toy_answers.json`.

    Replaces earlier toy data below `root` as a whole; the answers are written last, so where they lie the data are complete.
    The answers: {index of the query line, as text: names of the relevant test pictures in order}.
    """
    answers = root / "toy_answers.json"
    answers.unlink(missing_ok=True)
    draft = root / ".datasets-unfinished"
    shutil.rmtree(draft, ignore_errors=True)
    numbers = default_rng([seed, 0]).permutation(sizes.train_pedestrians + sizes.val_pedestrians) + 1
    split_at = sizes.train_pedestrians
    _write_labelled(draft / "train", default_rng([seed, 1]), sizes, sorted(numbers[:split_at].tolist()))
    _write_labelled(draft / "val", default_rng([seed, 2]), sizes, sorted(numbers[split_at:].tolist()))
    relevant = _write_test(draft / "test", default_rng([seed, 3]), sizes)
    shutil.rmtree(root / "datasets", ignore_errors=True)
    draft.rename(root / "datasets")
    files.write_json(answers, relevant)


def _write_labelled(folder: Path, rng: Generator, sizes: ToySizes, numbers: list[int]) -> None:
    """Write one labelled split: `<split>_images/` and `<split>_label.txt`."""
    split, brands = folder.name, REGULAR_BRANDS[: sizes.brands]
    images = folder / f"{split}_images"
    images.mkdir(parents=True)
    named = [
        _named_vehicle(rng, part, brands) for part in _label_kinds(rng, sizes.train_vehicles if split == "train" else sizes.val_vehicles)
    ]
    if split == "val":
        named = _few_kinds(rng, named, VEHICLE_KINDS_SHARE)
    lines = []
    # Lines of one phrase stand together, type-only lines last, as in the published file.
    for vehicle, phrase in sorted(named, key=lambda item: (len(item[1].split()) == 1 and item[1] in TYPES, item[1])):
        name = _letters(rng, images)
        _save(draw_vehicle(vehicle, rng), images / name)
        lines.append(f"{name}${phrase}.${article(phrase, rng)}{phrase}.")
    walkers = [random_pedestrian(rng) for _ in numbers]
    if split == "val":
        walkers = _few_kinds(rng, walkers, PEDESTRIAN_KINDS_SHARE)
    for number, walker in zip(numbers, walkers, strict=True):
        name = f"{number:06d}.jpg"
        _save(draw_pedestrian(walker, rng), images / name)
        lines.append(f"{name}${','.join(map(str, attribute_values(walker)))}${pedestrian_caption(walker, rng)}")
    files.write_text(folder / f"{split}_label.txt", "".join(f"{line}\n" for line in lines))


def _label_kinds(rng: Generator, count: int) -> list[str]:
    """Which part each vehicle line names, "both" (colour and brand), "type" or a bare brand, in the published shares, shuffled."""
    bare = max(len(BARE_BRANDS), round(BRAND_ONLY_SHARE * count))
    typed = max(1, round(TYPE_ONLY_SHARE * count))
    kinds = [BARE_BRANDS[place % len(BARE_BRANDS)] for place in range(bare)] + ["type"] * typed
    kinds += ["both"] * (count - len(kinds))
    return [kinds[place] for place in rng.permutation(len(kinds))[:count]]


def _named_vehicle(rng: Generator, part: str, brands: tuple[str, ...]) -> tuple[Vehicle, str]:
    """A vehicle and the phrase of its label, which names only `part` of it."""
    colour, type_ = tuple(COLOURS)[rng.integers(len(COLOURS))], TYPES[rng.integers(len(TYPES))]
    if part in BARE_BRANDS:
        return Vehicle(colour, part, "Truck"), part
    vehicle = Vehicle(colour, brands[rng.integers(len(brands))], type_)
    return vehicle, type_ if part == "type" else f"{colour} {vehicle.brand}"


def _few_kinds(rng: Generator, records: list, share: float) -> list:
    """As many records, but only about `share` of them different: every one of the first ones is used, then they repeat."""
    kinds = max(1, round(share * len(records)))
    return [records[place if place < kinds else rng.integers(kinds)] for place in range(len(records))]


def _write_test(folder: Path, rng: Generator, sizes: ToySizes) -> dict[str, list[str]]:
    """Write the test split; returns the relevant pictures per query line.

    Picture and query lie in different orders, and query i describes a picture of its own. For a vehicle all pictures are relevant
    of which everything is true that the query names; for a pedestrian those whose sentence would name the same attributes.
    """
    images = folder / "test_images"
    images.mkdir(parents=True)
    brands = REGULAR_BRANDS[: sizes.brands]
    vehicles = _few_kinds(rng, _alike_vehicles(rng, sizes.test_vehicles, brands), VEHICLE_KINDS_SHARE)
    walkers = _few_kinds(rng, [random_pedestrian(rng) for _ in range(sizes.test_pedestrians)], PEDESTRIAN_KINDS_SHARE)
    names = [f"vehicle_{number:07d}.jpg" for number in rng.permutation(sizes.test_vehicles) + 1]
    names += [f"{90001 + number:06d}.jpg" for number in rng.permutation(sizes.test_pedestrians)]
    for record, name in zip([*vehicles, *walkers], names, strict=True):
        _save(draw_vehicle(record, rng) if isinstance(record, Vehicle) else draw_pedestrian(record, rng), images / name)
    partial = set(rng.permutation(sizes.test_vehicles)[: max(1, round(PARTIAL_QUERY_SHARE * sizes.test_vehicles))].tolist())
    queries, relevant = [], []
    for place in rng.permutation(sizes.test_vehicles).tolist():
        parts = [vehicles[place].colour, vehicles[place].brand, vehicles[place].type]
        if place in partial:
            parts[rng.integers(3)] = ""
        phrase = " ".join(part for part in parts if part)
        queries.append(f"{article(phrase, rng)}{phrase}.")
        relevant.append([name for vehicle, name in zip(vehicles, names, strict=False) if _fits(vehicle, parts)])
    for place in rng.permutation(sizes.test_pedestrians).tolist():
        queries.append(pedestrian_caption(walkers[place], rng))
        same = [named_attributes(other) == named_attributes(walkers[place]) for other in walkers]
        relevant.append([name for name, fits in zip(names[sizes.test_vehicles :], same, strict=True) if fits])
    files.write_text(folder / "test_text.txt", "".join(f"{query}\n" for query in queries))
    return {str(index): sorted(found) for index, found in enumerate(relevant)}


def _alike_vehicles(rng: Generator, count: int, brands: tuple[str, ...]) -> list[Vehicle]:
    """Vehicles in groups of one colour and type and different brands: in the published gallery dozens of brands share each of the
    66 pairs, so that colour and type alone do not find a vehicle, and a small gallery should not make that any easier."""
    found: list[Vehicle] = []
    while len(found) < count:
        kind = _named_vehicle(rng, "both", brands)[0]
        chosen = rng.permutation(len(brands))[:ALIKE]
        found += [Vehicle(kind.colour, brands[place], kind.type) for place in chosen]
    return found[:count]


def _fits(vehicle: Vehicle, parts: list[str]) -> bool:
    return all(part in ("", seen) for part, seen in zip(parts, (vehicle.colour, vehicle.brand, vehicle.type), strict=True))


def article(phrase: str, rng: Generator) -> str:
    """One of the two caption forms, half and half, with its blank; `an` exactly where the colour is orange (spec 1.3)."""
    letter = "an" if phrase.startswith("orange ") else "a"
    return f"This is {letter} " if rng.random() < 0.5 else f"{letter.capitalize()} "


def attribute_values(walker: Pedestrian) -> list[int]:
    """The 21 values 0/1 of a pedestrian's label line.

    The published order is not documented and nothing reads the values; places 0 (not female), 2 (age 18-60), 4 (facing the
    camera), 8 (short sleeve) and 14 (logo) follow the one published example, the others are ours.
    """
    seen = (
        walker.gender == "male",
        *(walker.age == age for age in ("elder", "adult", "child")),
        *(walker.pose == pose for pose in ("front", "side", "back")),
        "hat" in walker.wears,
        walker.sleeve == "short",
        *(item in walker.wears for item in ("longcoat", "glasses")),
        *(walker.bag == bag for bag in ("handbag", "shoulder bag", "backpack")),
        *(walker.pattern == pattern for pattern in ("logo", "stripe", "plaid", "splice")),
        walker.bag == "objects",
        walker.skirt,
        "boots" in walker.wears,
    )
    assert len(seen) == ATTRIBUTES
    return [int(value) for value in seen]


def named_attributes(walker: Pedestrian) -> tuple:
    """What the sentences about a pedestrian name; those that list what is worn say nothing of the shirt."""
    shirt = () if walker.wears else (walker.sleeve, walker.pattern, walker.skirt)
    return walker.gender, walker.age, walker.pose, walker.bag, walker.wears, shirt


_AGES = {
    "adult": ("is between 18 and 60 years old", "is an adult person aged 18-60"),
    "child": ("is age 18 or younger", "is less than 18 years old", "is not an adult", "is a minor"),
    "elder": ("is an elderly person over 60 years old", "is at least 60 years old", "is aged 60 or older", "is aged over 60"),
}
_BAGS = {
    "": ("",),
    "backpack": (" and with a backpack", " and carrying a backpack"),
    "handbag": (" and with a handbag", " and carrying a handbag", " and holding a handbag", " and clutching a handbag"),
    "shoulder bag": (
        " and with a shoulderbag",
        " and is carrying a shoulder bag",
        " and has a shoulderbag",
        " and has a bag over the shoulder",
    ),
    "objects": (" and holds objects in front",),
}
_TOPS = ("a {} sleeve shirt", "a shirt with {} sleeves", "a tee shirt with {} sleeves")
_SKIRTS = (" and in a skirt or dress", " and wearing skirt or dress")
_WORN = {"glasses": ("glasses",), "hat": ("a hat",), "longcoat": ("a longcoat", "a coat that is long"), "boots": ("boots",)}


def pedestrian_caption(walker: Pedestrian, rng: Generator) -> str:
    """The two sentences about a pedestrian in one of the published wordings (spec 1.4), "wearning" as published."""
    his, he = ("his", "He") if walker.gender == "male" else ("her", "She")
    pose = {
        "back": f"with {his} body back to the camera",
        "front": f"with {his} body facing the camera",
        "side": "and is standing sideways",
    }[walker.pose]
    first = f"{_subject(walker.gender, _one(rng, _AGES[walker.age]), rng)}, {pose}{_one(rng, _BAGS[walker.bag])}."
    if walker.wears:
        return f"{first} {he} is wearning {','.join(_one(rng, _WORN[item]) for item in walker.wears)}."
    top = _one(rng, _TOPS).format(walker.sleeve)
    # NOTE: of stripes the published captions know one wording only.
    wordings = (" with an upper {}",) if walker.pattern == "stripe" else (" with an upper {}", " with a {} on the upper")
    pattern = _one(rng, wordings).format(walker.pattern) if walker.pattern else ""
    return f"{first} {he} is in {top}{pattern}{_one(rng, _SKIRTS) if walker.skirt else ''}."


def _subject(gender: str, age: str, rng: Generator) -> str:
    if rng.random() < 0.25:
        return f"A {gender} pedestrian is someone who walks on foot, {age}"
    walking = "A walking man" if gender == "male" else "A walking woman"
    return _one(rng, (f"A {gender} pedestrian who {age}", f"{walking} who {age}", f"A pedestrian who is {gender} {age}"))


def _one(rng: Generator, wordings: tuple[str, ...]) -> str:
    return wordings[rng.integers(len(wordings))]


def _letters(rng: Generator, folder: Path) -> str:
    """A picture name of ten lower-case letters that is still free in the folder."""
    while True:
        name = "".join(chr(ord("a") + letter) for letter in rng.integers(26, size=10)) + ".jpg"
        if not (folder / name).exists():
            return name


def _save(picture: Image, path: Path) -> None:
    picture.save(path, quality=JPEG_QUALITY)
