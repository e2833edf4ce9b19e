"""Released weights as dataengine's 05 takes them in: adapters and whole checkpoints, of both layouts, answer as the merged model does."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lib import adapters, checkpoints, generation, llava, original_adapters
from lib.adapters import Lora
from lib.assembly import assemble
from lib.errors import KitError, MissingInput, WeightsError
from lib.generation import Conversation, How
from lib.llava import Llava
from lib.submissions.dataengine import finetune, infer
from tests.tiny_parts import build_model, write_parts

FIELDS = {
    "mm_vision_tower": "openai/clip-vit-large-patch14-336", "image_aspect_ratio": "pad", "mm_patch_merge_type": "flat",
    "tokenizer_model_max_length": 2048, "tokenizer_padding_side": "right",
}  # fmt: skip
HOW = How(
    template=finetune.TEMPLATE, resize=finetune.RESIZE, history="corrected", max_new_tokens=12, sample=False, temperature=1.0,
    sampling_seed=0, tries=1,
)  # fmt: skip
QUESTIONS = ("Where is the vehicle?", "Describe the road.", "Is the pedestrian in the box?")
VICUNA_FILES = ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base/`, assembled from `vicuna/`, the tower and the projector; `adapter/`, trained on it; `merged/`; and a picture."""
    folder = tmp_path_factory.mktemp("home")
    language, tower, projector = write_parts(folder, build_model())
    tower = Path(shutil.move(tower, folder / "clip-vit-large-patch14-336"))
    assemble(language, tower, projector, folder / "base")
    bundle = llava.load(folder / "base", dtype="fp32", quantize="none")
    model = adapters.attach(bundle.model, Lora(r=4, alpha=8, dropout=0.05))
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    adapters.save(model, model.state_dict(), folder / "adapter")
    merged = adapters.merge(llava.load(folder / "base", dtype="fp32", quantize="none").model, folder / "adapter")
    llava.save(replace(bundle, model=merged), folder / "merged")
    Image.new("RGB", (40, 30), (200, 40, 40)).save(folder / "0.jpg")
    return folder


def adapter_of_the_original(home: Path, folder: Path) -> Path:
    original_adapters.to_original(home / "adapter", folder, model=home / "base", fields=FIELDS)
    return folder


def checkpoint_of_the_original(home: Path, folder: Path, *, tower: bool) -> Path:
    """As LLaVA-1.5's own: Vicuna's other files beside weights that may leave the tower to a folder of CLIP."""
    checkpoints.to_original(home / "merged", folder, fields=FIELDS)
    for path in folder.glob("*token*"):
        path.unlink()
    for name in VICUNA_FILES:
        shutil.copy(home / "vicuna" / name, folder / name)
    if not tower:
        state = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        torch.save({name: value for name, value in state.items() if "vision_tower" not in name}, folder / "pytorch_model.bin")
    return folder


RELEASED: dict[str, Callable[[Path, Path], Path]] = {
    "an adapter of the original": lambda home, out: adapter_of_the_original(home, out / "lora"),
    "an adapter of PEFT": lambda home, out: home / "adapter",
    "a checkpoint of the original": lambda home, out: checkpoint_of_the_original(home, out / "llava", tower=True),
    "one without its tower": lambda home, out: checkpoint_of_the_original(home, out / "llava", tower=False),
    "a checkpoint of Hugging Face": lambda home, out: home / "merged",
}


def load(home: Path, out: Path, released: Path | None, precision: str = "fp32") -> infer.Answerer:
    cfg = SimpleNamespace(infer=SimpleNamespace(checkpoint=released, precision=precision))
    return infer.load_model(cfg, SimpleNamespace(base=home / "base", out=out, of=lambda stage: home / stage))


def answers(bundle: Llava, home: Path) -> list[tuple[str, ...]]:
    asked = [Conversation(str(number), ("0.jpg",), (text,)) for number, text in enumerate(QUESTIONS)]
    rows = generation.answer_batch(bundle, asked, home, HOW)
    assert not any(row.failure for row in rows)
    return [row.answers for row in rows]


def refusal(kind: type[KitError], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("kind", RELEASED)
def test_released_weights_answer_as_the_merged_model(home: Path, tmp_path: Path, kind: str):
    merged, base = (llava.load(home / name, dtype="fp32", quantize="none") for name in ("merged", "base"))
    expected = answers(merged, home)
    assert expected != answers(base, home)
    released = RELEASED[kind](home, tmp_path)
    found = load(home, tmp_path / "out", released)
    assert (found.name, found.precision) == ("finetuned", "fp32")
    assert found.folder == (released if kind == "a checkpoint of Hugging Face" else tmp_path / "out" / infer.RELEASED)
    assert answers(found.bundle, home) == expected
    assert all(torch.equal(value, merged.model.state_dict()[name]) for name, value in found.bundle.model.state_dict().items())
    tokenizer = found.bundle.tokenizer
    assert (tokenizer.image_token_id, tokenizer.eos_token) == (258, "</s>")
    # legacy tokenizers put a blank behind </s>
    assert tokenizer("</s>the", add_special_tokens=False)["input_ids"] == [2, *tokenizer.convert_tokens_to_ids(["the"])]


def test_they_are_taken_in_once_and_nothing_else_is_left(home: Path, tmp_path: Path):
    released = adapter_of_the_original(home, tmp_path / "lora")
    folder = load(home, tmp_path / "out", released).folder
    before = {path: path.stat().st_mtime_ns for path in folder.parent.rglob("*")}
    assert load(home, tmp_path / "out", released).folder == folder
    assert {path: path.stat().st_mtime_ns for path in folder.parent.rglob("*")} == before
    assert [path.name for path in folder.parent.iterdir()] == ["released"]


def test_merged_weights_are_kept_as_they_are_computed_with(home: Path, tmp_path: Path):
    folder = load(home, tmp_path, adapter_of_the_original(home, tmp_path / "lora"), precision="bf16").folder
    stored, exact = (load_file(place / "model.safetensors") for place in (folder, home / "merged"))
    assert stored.keys() == exact.keys()
    assert all(torch.equal(stored[name], value.to(torch.bfloat16)) for name, value in exact.items())


def test_without_released_weights_those_of_04_answer(home: Path, tmp_path: Path):
    assert load(home, tmp_path, None).folder == home / "finetune" / "model"


def test_an_adapter_of_another_model_is_refused(home: Path, tmp_path: Path):
    released = Path(shutil.copytree(home / "adapter", tmp_path / "adapter"))
    config = json.loads((released / "adapter_config.json").read_text())
    (released / "adapter_config.json").write_text(json.dumps({**config, "r": 8}))
    message = refusal(WeightsError, lambda: load(home, tmp_path / "out", released))
    assert message.startswith(f"{released}: not the tensors that the config describes; 28 of another shape: base_model.model.model.")
    assert message.endswith("; copy it again, or name the one that fits")
    assert not (tmp_path / "out" / infer.RELEASED).exists()


def test_a_folder_without_weights_is_named(home: Path, tmp_path: Path):
    assert (
        refusal(MissingInput, lambda: load(home, tmp_path, tmp_path))
        == f"{tmp_path}: no config.json in it; name the folder of a checkpoint"
    )
