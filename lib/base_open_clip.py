"""The tiny OpenCLIP base: trained once on generic pairs of picture and short caption, then kept (`python -m lib.base_open_clip`).

It plays the part that weights trained on web data play at full size: it knows colours, kinds of vehicles, men and women and what
they carry, and that a vehicle bears a plate in two colours, but no brand: its vehicles bore names made up for one picture each. No
item of any submission's data is used. `record.json` is written last, and only a folder that has one counts.
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator, default_rng
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from lib import models, synthetic, tiny_base
from lib.synthetic import COLOURS, TYPES, Pedestrian, Vehicle
from lib.tiny_base import Progress


@dataclass(frozen=True)
class BaseRecipe:
    """All that the base weights depend on: name and open_clip config of the architecture, and how it is trained."""

    name: str
    architecture: dict
    seed: int
    steps: int
    batch: int
    lr: float
    warmup: int
    weight_decay: float


def ensure_base(folder: Path, recipe: BaseRecipe, *, progress: Progress) -> Path:
    """The folder with the base weights of this recipe, trained now unless it is complete; the same weights each time.

    The folder belongs to this recipe alone (its name is the caller's to make, from a digest of the recipe). Two processes that need
    the weights at once train once; what an interrupted training left is thrown away. `progress(done, total)` follows each step.
    """

    def train() -> dict:
        bundle = models.build_open_clip(recipe.architecture, name=recipe.name, seed=recipe.seed)
        loss = train_base(bundle, recipe, progress=progress)
        models.save_weights(bundle, folder)
        return {"loss": round(loss, 4), "zero_shot": zero_shot_accuracy(bundle, seed=recipe.seed + 1)}

    return tiny_base.ensure(folder, recipe, train)


def train_base(bundle: models.OpenClip, recipe: BaseRecipe, *, progress: Progress) -> float:
    """Train the model in place on pairs drawn step by step, none twice; returns the mean loss of the last tenth of the steps."""
    model, rng = bundle.model.train(), default_rng([recipe.seed, 1])
    size = model.visual.image_size[0]
    optimizer = torch.optim.AdamW(_weight_groups(model, recipe.weight_decay), lr=recipe.lr, betas=(0.9, 0.98), eps=1e-6, fused=True)
    losses = []
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * _schedule(step, recipe)
        pictures, captions = draw_pairs(recipe.batch, rng, size)
        ids = bundle.tokenizer(captions)
        loss = _contrastive_loss(model, normalise(pictures, model.visual.preprocess_cfg), ids, captions)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        losses.append(loss.item())
        progress(step + 1, recipe.steps)
    model.eval()
    return float(np.mean(losses[-max(1, recipe.steps // 10) :]))


def _schedule(step: int, recipe: BaseRecipe) -> float:
    """Linear warm-up, then half a cosine down to zero, as open_clip's trainer has it."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    return 0.5 * (1 + math.cos(math.pi * (step - recipe.warmup) / (recipe.steps - recipe.warmup)))


def _weight_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Decay for matrices only, not for gains, biases and the temperature."""
    plain = [value for value in model.parameters() if value.ndim < 2]
    return [
        {"params": plain, "weight_decay": 0.0},
        {"params": [v for v in model.parameters() if v.ndim >= 2], "weight_decay": weight_decay},
    ]


def _contrastive_loss(model: nn.Module, pictures: Tensor, ids: Tensor, captions: list[str]) -> Tensor:
    """The symmetric contrastive loss; pairs of the batch with the same caption share the target instead of opposing each other."""
    images, texts = model.encode_image(pictures, normalize=True), model.encode_text(ids, normalize=True)
    logits = model.logit_scale.exp() * images @ texts.T  # (B, B)
    places = {caption: place for place, caption in enumerate(captions)}
    kind = torch.tensor([places[caption] for caption in captions])
    target = (kind[:, None] == kind[None, :]).float()
    target /= target.sum(dim=1, keepdim=True)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def draw_pairs(count: int, rng: Generator, size: int) -> tuple[np.ndarray, list[str]]:
    """Pictures (count, size, size, 3), bytes, and a short caption for each: half vehicles, half pedestrians."""
    pictures, captions = np.empty((count, size, size, 3), dtype=np.uint8), []
    for place in range(count):
        if rng.random() < 0.5:
            vehicle = synthetic.random_vehicle(rng, (made_up_name(rng),))
            picture, caption = synthetic.draw_vehicle(vehicle, rng), vehicle_caption(vehicle, rng)
        else:
            walker = synthetic.random_pedestrian(rng)
            picture, caption = synthetic.draw_pedestrian(walker, rng), pedestrian_caption(walker, rng)
        pictures[place] = np.asarray(_square(picture, size, whole=rng.random() < 0.7))
        captions.append(caption)
    return pictures, captions


def _square(picture: Image.Image, size: int, *, whole: bool) -> Image.Image:
    """The whole picture on a black square, or the square in its middle: the web shows both, and both are asked about later."""
    width, height = picture.size
    side = max(width, height) if whole else min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)


def normalise(pictures: np.ndarray, preprocess: dict) -> Tensor:
    """Bytes (B, S, S, 3) as the model's input (B, 3, S, S)."""
    values = torch.from_numpy(pictures).float().div_(255)
    return ((values - torch.tensor(preprocess["mean"])) / torch.tensor(preprocess["std"])).permute(0, 3, 1, 2).contiguous()


def made_up_name(rng: Generator) -> str:
    """A name of two or three syllables that means nothing, such as "Zorvemi"."""
    syllables = ["bdfgklmnprstvz"[rng.integers(14)] + "aeiou"[rng.integers(5)] for _ in range(rng.integers(2, 4))]
    return "".join(syllables).capitalize()


def vehicle_caption(vehicle: Vehicle, rng: Generator) -> str:
    """A short generic caption: colour, name and type of the vehicle and the colours of its plate, each left out at times."""
    colour = vehicle.colour if rng.random() < 0.85 else ""
    name = vehicle.brand if rng.random() < 0.3 else ""
    type_ = vehicle.type if rng.random() < 0.85 else "car"
    plate = "with a {} and {} plate".format(*synthetic.plate_of(vehicle.brand)) if rng.random() < 0.5 else ""
    return _opening(rng) + " ".join(part for part in (colour, name, type_, plate) if part)


_NOUNS = {
    ("male", "child"): ("boy", "male child", "male minor"),
    ("female", "child"): ("girl", "female child", "female minor"),
    ("male", "adult"): ("man", "male adult", "adult man"),
    ("female", "adult"): ("woman", "female adult", "adult woman"),
    ("male", "elder"): ("old man", "elderly man", "aged male"),
    ("female", "elder"): ("old woman", "elderly woman", "aged female"),
}
_POSES = {
    "front": ("facing the camera", "seen from the front"),
    "back": ("seen from the back", "with the back to the camera"),
    "side": ("standing sideways", "seen from the side"),
}
NAMED_SHARE = 0.7  # of what can be seen of a pedestrian, this share is named


def pedestrian_caption(walker: Pedestrian, rng: Generator) -> str:
    """A generic caption in one phrase: who it is, and most of the things that can be seen."""
    nouns = _NOUNS[walker.gender, walker.age]
    seen = [_POSES[walker.pose][rng.integers(2)]]
    seen += [f"with a {walker.bag}" if walker.bag != "objects" else "holding objects"] if walker.bag else []
    seen += [f"wearing {item}" if item in ("glasses", "boots") else f"wearing a {item}" for item in walker.wears]
    seen += [] if walker.wears else [f"in a {walker.sleeve} sleeve shirt"]
    seen += [f"with a {walker.pattern} on it"] if walker.pattern else []
    seen += ["in a skirt"] if walker.skirt else []
    return _opening(rng) + " ".join([nouns[rng.integers(len(nouns))], *(part for part in seen if rng.random() < NAMED_SHARE)])


def _opening(rng: Generator) -> str:
    return ("", "a ", "a ", "a photo of a ", "this is a ")[rng.integers(5)]


def zero_shot_accuracy(bundle: models.OpenClip, *, seed: int, pictures: int = 200) -> dict[str, float]:
    """Share of unseen vehicles whose colour, type and brand (of ten names) the model picks out of all; chance is 1/11, 1/6, 1/10."""
    rng = default_rng([seed, 2])
    names = tuple(made_up_name(rng) for _ in range(10))
    vehicles = [synthetic.random_vehicle(rng, names) for _ in range(pictures)]
    size, preprocess = bundle.model.visual.image_size[0], bundle.model.visual.preprocess_cfg
    drawn = np.stack([np.asarray(_square(synthetic.draw_vehicle(vehicle, rng), size, whole=True)) for vehicle in vehicles])
    scores = {}
    with torch.inference_mode():
        images = bundle.model.encode_image(normalise(drawn, preprocess), normalize=True)
        for part, choices, prompt in (("colour", tuple(COLOURS), "a {} car"), ("type", TYPES, "a {}"), ("brand", names, "a {} car")):
            texts = bundle.model.encode_text(bundle.tokenizer([prompt.format(choice) for choice in choices]), normalize=True)
            found = (images @ texts.T).argmax(dim=1).tolist()
            scores[part] = sum(choices[f] == getattr(v, part) for f, v in zip(found, vehicles, strict=True)) / pictures
    return scores


def main(arguments: list[str]) -> None:
    """Train in a process of its own: RECIPE.json FOLDER."""
    tiny_base.run_program(arguments, BaseRecipe, ensure_base)


if __name__ == "__main__":
    main(sys.argv[1:])
