"""Low-rank adapters: where they sit, what trains, how many values they have, and merged weights that say the same."""

import json
import math
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn

from lib import adapters, llava, recorder, training
from lib.adapters import Lora
from lib.llava import Llava
from tests.tiny_training import write_plan, write_world

RECIPE = Lora(r=4, alpha=8, dropout=0.0)
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"), train=4, val=1)


@pytest.fixture
def bundle(world: Path) -> Llava:
    return llava.load(world / "model", dtype="fp32", quantize="none")


@pytest.fixture
def attached(bundle: Llava) -> nn.Module:
    return adapters.attach(bundle.model, RECIPE)


def logits(model: nn.Module, bundle: Llava) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    text = torch.randint(5, 300, (1, 12), generator=generator)
    ids = torch.cat([torch.full((1, bundle.image_tokens), bundle.tokenizer.image_token_id), text], dim=1)
    with torch.no_grad():
        return model(input_ids=ids, pixel_values=torch.randn((1, 3, 28, 28), generator=generator)).logits


def set_values(model: nn.Module) -> None:
    """Give everything that trains values of its own, as a training would: fresh adapters add nothing."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)


def test_adapters_sit_on_every_linear_layer_of_the_language_model_but_the_head(attached: nn.Module):
    adapted = {name.partition("base_model.model.")[2] for name, module in attached.named_modules() if hasattr(module, "lora_A")}
    parts = {name: "self_attn" if name in LINEAR[:4] else "mlp" for name in LINEAR}
    assert adapted == {f"model.language_model.layers.{layer}.{part}.{name}" for layer in (0, 1) for name, part in parts.items()}


def test_only_adapters_and_projector_train(attached: nn.Module):
    trained = {name for name, parameter in attached.named_parameters() if parameter.requires_grad}
    projector = {name for name in trained if "lora_" not in name}
    assert {name.rpartition("multi_modal_projector.")[2] for name in projector} == {
        f"modules_to_save.default.linear_{number}.{kind}" for number in (1, 2) for kind in ("weight", "bias")
    }
    assert len(trained - projector) == 2 * 2 * len(LINEAR)


@pytest.mark.parametrize("layout", ["in memory", "on disk"])
def test_the_count_is_that_of_the_adapters_made(bundle: Llava, world: Path, layout: str):
    state = bundle.model.state_dict() if layout == "in memory" else load_file(world / "model/model.safetensors")
    counted = adapters.count_values({name: tuple(value.shape) for name, value in state.items()}, RECIPE.r)
    attached = adapters.attach(bundle.model, RECIPE)
    assert counted == sum(parameter.numel() for name, parameter in attached.named_parameters() if "lora_" in name)


def test_fresh_adapters_change_nothing(bundle: Llava):
    before = logits(bundle.model, bundle)
    assert torch.equal(logits(adapters.attach(bundle.model, RECIPE).eval(), bundle), before)


def test_merged_weights_say_what_the_adapters_say(world: Path, bundle: Llava, attached: nn.Module, tmp_path: Path):
    set_values(attached)
    expected = logits(attached.eval(), bundle)
    adapters.save(attached, attached.state_dict(), tmp_path / "adapter")
    start = llava.load(world / "model", dtype="fp32", quantize="none")
    assert not torch.allclose(logits(start.model, bundle), expected, atol=1e-2)
    merged = adapters.merge(start.model, tmp_path / "adapter")
    torch.testing.assert_close(logits(merged, bundle), expected, atol=1e-5, rtol=1e-5)
    assert merged.state_dict().keys() == start.model.state_dict().keys()


def test_the_adapter_is_a_folder_that_peft_loads(world: Path, bundle: Llava, attached: nn.Module, tmp_path: Path):
    set_values(attached)
    expected = logits(attached.eval(), bundle)
    adapters.save(attached, attached.state_dict(), tmp_path)
    loaded = PeftModel.from_pretrained(llava.load(world / "model", dtype="fp32", quantize="none").model, tmp_path)
    assert torch.equal(logits(loaded.eval(), bundle), expected)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (4, 8, "")
    assert {path.name for path in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert str(world) not in (tmp_path / "adapter_config.json").read_text()


def test_a_trained_adapter_and_the_model_it_was_merged_into_agree(
    world: Path, bundle: Llava, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recorder, "SHOWN_TOKENS", 1)
    training.train(training.training_plan.read_plan(write_plan(world, tmp_path, method="lora", projector_lr=0.01, epochs=2)))
    merged = llava.load(tmp_path / "model", dtype="fp32", quantize="none")
    by_adapter = PeftModel.from_pretrained(bundle.model, tmp_path / "adapter").eval()
    torch.testing.assert_close(logits(merged.model, merged), logits(by_adapter, merged), atol=1e-5, rtol=1e-5)


def test_the_published_adapters_have_their_size():
    with torch.device("meta"):
        model = llava.build(llava.ARCHITECTURES["llava-v1.6-34b"], llava.YI_IMAGE_TOKEN, seed=0)
    counted = adapters.count_values({name: tuple(value.shape) for name, value in model.named_parameters()}, 256)
    width, inner, keys = 7168, 20480, 8 * 128
    per_layer = [(width, width), (width, keys), (width, keys), (width, width), *[(width, inner)] * 3]
    assert counted == 60 * 256 * sum(map(sum, per_layer)) and math.isclose(counted, 1.97e9, rel_tol=0.01)
