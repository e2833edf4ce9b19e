"""The tiny LLaVA base: trained once on generic scenes and texts, then kept (`python -m lib.base_llava RECIPE.json FOLDER`).

It plays the part of a model that was trained on web data: it sees scenes of the traffic world and lists in plain words what pedestrian
or vehicle look like; no item and no sentence of any submission's data is used. First the picture tower learns to tell attributes from
the mean of its patches, for without that the language model stays blind; then the language model, the tower frozen, to describe.
`record.json` is written last, and only a folder that has one counts.
"""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
import torch
from numpy.random import Generator, default_rng
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional

from lib import base_texts, conversation, geometry, llava, scenes, snapshot_texts, snapshots, tiny_base
from lib.conversation import IGNORED, Encoded, Rendered
from lib.llava import Llava
from lib.scenes import ATTRIBUTES, Picture
from lib.tiny_base import Progress

TEST_SCENES = 160
GATE = 0.9  # share of captions in which every attribute should be right; the record names those below
LAST_STEPS = 20  # whose mean loss the record names
TOWER_BATCHES = 2  # pictures are cheap, conversations are not
WARMUP = 0.1
BETAS = (0.8, 0.95)  # of AdamW: steps are few, so its averages are short
CLIP_NORM = 1.0

# The marks that CityLLaVA draws: green for the pedestrian, blue for the vehicle (specs/cityllava.md section 2).
GREEN, BLUE = (0, 255, 0), (0, 0, 255)
GLOBAL_LINE, LOCAL_LINE = 4, 3
BOX_SCALE, CROP_SCALE = 1.2, 1.5


@dataclass(frozen=True)
class BaseRecipe:
    """All that the base weights depend on: name and architecture (as of llava.configure) of the model, and how it is trained."""

    name: str
    architecture: dict
    lessons: Literal["marked", "snapshots"]
    seed: int
    scenes: int
    tower_steps: int
    base_steps: int
    batch: int
    tower_lr: float
    base_lr: float

    @property
    def steps(self) -> int:
        """The steps of both stages."""
        return self.tower_steps + self.base_steps


@dataclass(frozen=True)
class Album:
    """Scenes as the model sees them: pictures (N, V, 3, S, S), V of each scene; the values of each, and its view."""

    pictures: Tensor
    values: tuple[dict[str, str], ...]
    views: tuple[scenes.View, ...]


@dataclass(frozen=True)
class Lessons:
    """What a base sees and learns to say: how its album is drawn (count, generator, side of a picture), and the module of its texts."""

    draw: Callable[[int, Generator, int], Album]
    texts: ModuleType


def ensure_base(folder: Path, recipe: BaseRecipe, *, progress: Progress) -> Path:
    """The folder with the base weights of this recipe, trained now unless it is complete; the same weights each time.

    The folder belongs to this recipe alone. Two processes that need the weights at once train once; what an interrupted training left
    is thrown away. `progress(done, total)` follows each step.
    """

    def train() -> dict:
        lessons = LESSONS[recipe.lessons]
        tokenizer = lessons.texts.build_tokenizer(recipe.architecture["text"]["vocab_size"])
        bundle = Llava(llava.build(recipe.architecture, tokenizer.image_token_id, seed=recipe.seed), tokenizer)
        losses = train_base(bundle, recipe, progress=progress)
        named = caption_accuracy(bundle, lessons.draw(TEST_SCENES, default_rng([recipe.seed, 9]), bundle.image_size), lessons.texts)
        llava.save(bundle, folder)
        return {"losses": losses, "named": named, "below_gate": sorted(name for name, share in named.items() if share < GATE)}

    return tiny_base.ensure(folder, recipe, train)


def train_base(bundle: Llava, recipe: BaseRecipe, *, progress: Progress) -> dict[str, float]:
    """Train the model in place, stage by stage; returns the mean loss of the last steps of each."""
    album = LESSONS[recipe.lessons].draw(recipe.scenes, default_rng([recipe.seed, 1]), bundle.image_size)
    stages = (
        ("tower", recipe.tower_steps, train_tower(bundle, album, recipe)),
        ("base", recipe.base_steps, train_captions(bundle, album, recipe)),
    )
    done, losses = 0, {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        for stage, steps, training in stages:
            last: list[float] = []
            for step, loss in enumerate(training, start=1):
                last = [*last[1 - LAST_STEPS :], loss]
                progress(done + step, recipe.steps)
            done += steps
            losses[stage] = round(float(np.mean(last)), 4)
    bundle.model.eval().requires_grad_(True)
    return losses


def train_tower(bundle: Llava, album: Album, recipe: BaseRecipe) -> Iterator[float]:
    """Train the picture tower to tell all attributes from the mean over the patches of a scene's pictures; yields the loss of each step.

    NOTE: heads on the patches side by side become as accurate, but the language model then learns nothing from the patches.
    """
    rng, tower = default_rng([recipe.seed, 2]), bundle.model.model.vision_tower
    width = bundle.model.config.vision_config.hidden_size
    heads = nn.ModuleList(nn.Linear(width, len(values)) for values in ATTRIBUTES.values())
    targets = torch.tensor([[ATTRIBUTES[name].index(value) for name, value in values.items()] for values in album.values])

    def loss() -> Tensor:
        chosen = torch.from_numpy(rng.integers(len(targets), size=TOWER_BATCHES * recipe.batch))
        means = functional.layer_norm(see(bundle, album.pictures[chosen]).mean(dim=1), (width,))
        return torch.stack([functional.cross_entropy(head(means), targets[chosen, place]) for place, head in enumerate(heads)]).mean()

    yield from _descend([*tower.parameters(), *heads.parameters()], recipe.tower_steps, recipe.tower_lr, loss)
    tower.requires_grad_(False)


def train_captions(bundle: Llava, album: Album, recipe: BaseRecipe) -> Iterator[float]:
    """Train projector and language model on captions of the scenes, the tower as it is; yields the loss of each step."""
    rng, model, texts = default_rng([recipe.seed, 4]), bundle.model, LESSONS[recipe.lessons].texts
    features, views = see_all(bundle, album), album.pictures.shape[1]

    def loss() -> Tensor:
        chosen = rng.integers(len(features), size=recipe.batch)
        talks = [texts.draw_conversation(album.values[place], album.views[place], rng) for place in chosen]
        logits, labels = answer_logits(bundle, features[chosen], encode(talks, bundle, views))
        return functional.cross_entropy(logits, labels)

    parameters = [*model.model.multi_modal_projector.parameters(), *model.model.language_model.parameters(), *model.lm_head.parameters()]
    yield from _descend(parameters, recipe.base_steps, recipe.base_lr, loss)


def _descend(parameters: list[nn.Parameter], steps: int, lr: float, loss_of: Callable[[], Tensor]) -> Iterator[float]:
    """AdamW over so many steps, a short warm-up and half a cosine; yields the loss of each."""
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=BETAS, weight_decay=0.0, fused=True)
    warmup = max(1, round(WARMUP * steps))
    for step in range(steps):
        share = (step + 1) / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
        for group in optimizer.param_groups:
            group["lr"] = lr * share
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        yield loss.item()


def see(bundle: Llava, pictures: Tensor) -> Tensor:
    """The tower's features of pictures (B, V, 3, S, S), the layer the projector takes: (B, V * patches, width)."""
    states = bundle.model.model.vision_tower(pixel_values=pictures.flatten(0, 1), output_hidden_states=True).hidden_states
    return states[bundle.model.config.vision_feature_layer][:, 1:].unflatten(0, pictures.shape[:2]).flatten(1, 2)


@torch.no_grad()
def see_all(bundle: Llava, album: Album) -> Tensor:
    """The features of every scene of an album."""
    return torch.cat([see(bundle, part) for part in album.pictures.split(64)])


def answer_logits(bundle: Llava, features: Tensor, encoded: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    """Logits (answer tokens of the batch, vocabulary) and the tokens that should be; `features` as of `see`."""
    model, longest = bundle.model, max(len(one.input_ids) for one in encoded)
    # What pads on the right is seen by no token before it, so no attention mask is needed.
    ids = torch.tensor([one.input_ids + [bundle.tokenizer.pad_token_id] * (longest - len(one.input_ids)) for one in encoded])
    labels = torch.tensor([one.labels + [IGNORED] * (longest - len(one.labels)) for one in encoded])
    places = (ids == bundle.tokenizer.image_token_id).unsqueeze(-1)
    words = model.get_input_embeddings()(ids)
    states = words.masked_scatter(places, model.model.multi_modal_projector(features))
    states = model.model.language_model(inputs_embeds=states, use_cache=False).last_hidden_state
    trained = labels[:, 1:] != IGNORED
    return model.lm_head(states[:, :-1][trained]), labels[:, 1:][trained]


def encode(talks: Sequence[Rendered], bundle: Llava, views: int) -> list[Encoded]:
    """Conversations about the pictures of a scene, so many, as the model reads them."""
    return [conversation.encode(talk, bundle.tokenizer, views * bundle.image_tokens, 10**6) for talk in talks]


@torch.no_grad()
def caption_accuracy(bundle: Llava, album: Album, texts: ModuleType) -> dict[str, float]:
    """Share of captions, every kind of every scene, in which each attribute comes out right, given what stands before it."""
    features, rng, views = see_all(bundle, album), default_rng(0), album.pictures.shape[1]
    found: dict[str, list[bool]] = {name: [] for names in texts.DESCRIBED.values() for name in names}
    for kind in texts.DESCRIBED:
        scenes_of = zip(album.values, album.views, strict=True)
        encoded = encode([texts.conversation(kind, *scene, rng) for scene in scenes_of], bundle, views)
        logits, labels = answer_logits(bundle, features, encoded)
        right = (logits.argmax(dim=1) == labels).split([one.supervised for one in encoded])
        for values, tokens in zip(album.values, right, strict=True):
            for name, place in texts.value_places(kind, values, bundle.tokenizer).items():
                found[name].append(bool(tokens[place].all()))
    return {name: sum(hits) / len(hits) for name, hits in found.items()}


def draw_album(count: int, rng: Generator, size: int) -> Album:
    """So many scenes, seen from the roadside and from the vehicle in turn, as pairs of pictures with their marks."""
    pictures, values, views = [], [], []
    for place in range(count):
        scene, view = scenes.random_scene(rng, 1), ("overhead", "vehicle")[place % 2]
        seen = scenes.draw(scene, 0, scenes.random_camera(rng, view), time=float(rng.random()))
        pictures.append(llava.prepare(mark(seen), size, "squash"))
        values.append(scene.values(0))
        views.append(view)
    return Album(torch.from_numpy(np.stack(pictures)), tuple(values), tuple(views))


def draw_snapshots(count: int, rng: Generator, size: int) -> Album:
    """So many scenes as one picture each, padded to a square."""
    drawn = [scenes.random_scene(rng, 1) for _ in range(count)]
    pictures = [llava.prepare([snapshots.take(scene, rng).picture], size, "pad") for scene in drawn]
    return Album(torch.from_numpy(np.stack(pictures)), tuple(scene.values(0) for scene in drawn), ("overhead",) * count)


LESSONS = {"marked": Lessons(draw_album, base_texts), "snapshots": Lessons(draw_snapshots, snapshot_texts)}


def mark(picture: Picture) -> tuple[Image.Image, Image.Image]:
    """The crop around the marked boxes and the whole picture with its marks, in this order."""
    whole = Image.fromarray(picture.pixels)
    local, pen = whole.copy(), ImageDraw.Draw(whole)
    local_pen, around = ImageDraw.Draw(local), None
    for box, ink in ((picture.pedestrian, GREEN), (picture.vehicle, BLUE)):
        if box is None:
            continue
        pen.rectangle(geometry.truncate(geometry.to_corners(box)), outline=ink, width=GLOBAL_LINE)
        larger = geometry.clip(geometry.to_corners(geometry.enlarge(box, BOX_SCALE)), *whole.size)
        local_pen.rectangle(larger, outline=ink, width=LOCAL_LINE)
        larger = geometry.from_corners(larger)
        around = larger if around is None else geometry.union(around, larger)
    return local.crop(geometry.clip(geometry.to_corners(geometry.square(around, CROP_SCALE)), *whole.size)), whole


def main(arguments: list[str]) -> None:
    """Train in a process of its own: RECIPE.json FOLDER."""
    tiny_base.run_program(arguments, BaseRecipe, ensure_base)


if __name__ == "__main__":
    main(sys.argv[1:])
