"""Block expansion and the trainable set against what the published code returned."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from lib import blocks, shards
from lib.errors import ConfigError
from tests.golden.loading import cases

State = dict[str, torch.Tensor]
LAYER_NAMES = (
    "self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.o_proj.weight", "mlp.gate_proj.weight",
    "mlp.up_proj.weight", "mlp.down_proj.weight", "input_layernorm.weight", "post_attention_layernorm.weight",
)  # fmt: skip
TOWER_NAMES = ("self_attn.q_proj.weight", "self_attn.out_proj.weight", "mlp.fc1.weight", "mlp.fc2.bias", "layer_norm1.weight")


def expanded(folder: Path, state: State, case: dict, *, quirk: str = "corrected") -> State:
    """The state dict after expansion through files, as the case asks for it."""
    base, target = folder / "base", folder / quirk
    base.mkdir(exist_ok=True)
    save_file(state, base / shards.SINGLE)
    layers = case["input"]["original_layers"]
    (base / "config.json").write_text(json.dumps({"num_hidden_layers": layers}))
    blocks.expand_checkpoint(base, target, plan(case), quirk=quirk)
    assert json.loads((target / "config.json").read_text()) == {"num_hidden_layers": case["input"]["layers"]}
    return load_file(target / shards.SINGLE)


def plan(case: dict) -> blocks.Expansion:
    layers = case["input"]["original_layers"]
    return blocks.plan_expansion(layers, case["input"]["layers"] - layers)


def numbered(names: list[str]) -> State:
    """A tensor per name that tells which one it is: 1, 2, 3 ..."""
    return {name: torch.tensor([float(number)]) for number, name in enumerate(names, start=1)}


def decoder(layers: int) -> State:
    return numbered([f"model.layers.{layer}.{name}" for layer in range(layers) for name in LAYER_NAMES])


def test_layers_come_from_where_they_came_from_and_the_same_tensors_are_zero(tmp_path):
    for number, case in enumerate(cases("cityllava", "block_expansion.json")["cases"]):
        output = case.get("output", {})
        if "error" in output and case["input"]["layers"] == case["input"]["original_layers"]:
            assert plan(case).inserted == ()  # Intended: no new block is the identity, where the original divides by zero
        elif "error" in output:
            with pytest.raises(ConfigError):
                plan(case)
        elif "layers" in output:
            (tmp_path / str(number)).mkdir()
            assert described(decoder(case["input"]["original_layers"]), tmp_path / str(number), case) == output["layers"], case["name"]
            assert list(plan(case).inserted) == json.loads(output["printed_inserted_layer_ids"])
            assert list(plan(case).inserted) == output.get("inserted_layer_ids", list(plan(case).inserted))


def described(state: State, folder: Path, case: dict) -> dict[str, dict]:
    """The expanded layers in the form of the recorded ones."""
    sources = {value.item(): name for name, value in state.items()}
    result: dict[str, dict] = {}
    for name, value in sorted(expanded(folder, state, case).items()):
        _, _, layer, rest = name.split(".", 3)
        row = result.setdefault(layer, {"inserted": int(layer) in plan(case).inserted, "zeroed": []})
        if not value.item():
            row["zeroed"].append(rest)
            continue
        _, _, source, same = sources[value.item()].split(".", 3)
        assert same == rest
        assert row.setdefault("copied_from_layer", int(source)) == int(source)
    return result


def test_whole_tensors_are_expanded_as_recorded(tmp_path):
    whole = [case for case in cases("cityllava", "block_expansion.json")["cases"] if "state" in case["input"]]
    assert whole
    for case in whole:
        state = {name: torch.tensor(value) for name, value in case["input"]["state"].items()}
        (tmp_path / case["name"]).mkdir()
        result = expanded(tmp_path / case["name"], state, case)
        if "state" in case["output"]:
            assert {name: value.tolist() for name, value in result.items()} == case["output"]["state"]
        for name, source in case["output"]["mapping"].items():
            assert result[name].equal(torch.zeros_like(result[name]) if source == "ZERO" else state[source]), name


def test_the_vision_tower_is_left_alone_or_scrambled_as_recorded(tmp_path):
    with_tower = [case for case in cases("cityllava", "block_expansion.json")["cases"] if "vision_layers" in case["input"]]
    assert with_tower
    for case in with_tower:
        count, prefix = case["input"]["vision_layers"], case["input"]["vision_prefix"]
        tower = [f"{prefix}{layer}.{name}" for layer in range(count) for name in TOWER_NAMES]
        others = case["output_original"]["other_keys_unchanged"]
        state = decoder(case["input"]["original_layers"]) | numbered(tower) | numbered(others)
        original = {int(layer): source for layer, source in case["output_original"]["vision_layer_source"].items()}
        assert dict(enumerate(blocks.published_tower(count, plan(case)))) == original
        # Intended: of the published output only the layers are written that a tower of this size loads.
        loaded = {layer: source for layer, source in original.items() if layer < count}
        correct = {int(layer): source for layer, source in case["output_correct"]["vision_layer_source"].items()}
        for quirk, sources in (("as_published", loaded), ("corrected", correct)):
            result = expanded(tmp_path, state, case, quirk=quirk)
            assert sum(name.startswith(prefix) for name in result) == len(sources) * len(TOWER_NAMES)
            for layer, source in sources.items():
                assert all(result[f"{prefix}{layer}.{name}"].equal(state[f"{prefix}{source}.{name}"]) for name in TOWER_NAMES)
            assert all(result[name].equal(state[name]) for name in others)


def expansion_to(layers: int) -> blocks.Expansion:
    """The layer map of so many layers with a new block after every fifth, as published."""
    return blocks.Expansion(tuple(blocks.Block(layer, layer - (layer + 1) // 6, layer % 6 == 5) for layer in range(layers)))


def names_of(case: dict) -> list[str]:
    """All parameters of a recorded model, in the spelling of the original layout."""
    frozen, trained = case["output"]["frozen_groups"], case["output"]["other_trainable"]
    names = [name for name in frozen if not name.endswith("layers.N")] + trained
    layers = range(case["input"]["num_hidden_layers"])
    names += [f"model.layers.{layer}.{name}" for layer in layers for name in case["output"]["per_layer_trainable_names"]]
    tower = next(name for name in frozen if name.endswith("encoder.layers.N"))[:-1]
    return names + [f"{tower}{layer}.{name}" for layer in range(24) for name in TOWER_NAMES]


def test_the_trainable_set_is_the_recorded_one():
    assert expansion_to(72) == blocks.plan_expansion(60, 12)
    for case in cases("cityllava", "trainable_params.json")["cases"]:
        layers, output = case["input"]["num_hidden_layers"], case["output"]
        expansion = expansion_to(layers)
        # The recorded ids are hard-coded for 12 blocks in 60 layers; ours follow from the expansion.
        assert list(expansion.inserted) == [layer for layer in output["trainable_decoder_layers"] if layer < layers]
        expected = {f"model.layers.{layer}.{name}" for layer in expansion.inserted for name in output["per_layer_trainable_names"]}
        names = names_of(case)
        assert set(blocks.trainable_names(names, expansion, blocks.TRAINED["blocks_and_head"])) == expected | set(output["other_trainable"])
        assert set(blocks.trainable_names(names, expansion, blocks.TRAINED["blocks"])) == expected


def test_the_published_model_has_the_recorded_sizes_and_trains_seven_billion():
    golden = cases("cityllava", "parameter_counts.json")
    expansion = blocks.plan_expansion(60, 12)
    text = LlamaConfig(**golden["geometry"], num_hidden_layers=72)
    tower = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336, patch_size=14
    )
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(LlavaConfig(text_config=text, vision_config=tower))
    rows = {row.part: row for row in blocks.freeze(model, expansion, blocks.TRAINED["blocks_and_head"])}
    assert rows["new blocks"] == blocks.Part("new blocks", golden["inserted_12_layers"], golden["inserted_12_layers"])
    assert rows["head"] == blocks.Part("head", golden["lm_head"], golden["lm_head"])
    assert rows["old blocks"] == blocks.Part("old blocks", 60 * golden["per_decoder_layer"], 0)
    assert sum(row.trained for row in rows.values()) == golden["trainable_as_coded_12_blocks_plus_lm_head"]
    language_model = sum(row.parameters for part, row in rows.items() if part not in ("projector", "vision tower"))
    assert language_model == golden["llm_72_layers"]
    assert language_model - golden["inserted_12_layers"] == golden["llm_60_layers"]
    stated = blocks.freeze(model, expansion, blocks.TRAINED["blocks"])
    assert sum(row.trained for row in stated) == golden["inserted_12_layers"]
    assert round(sum(row.trained for row in rows.values()) / 1e9, 2) == 7.15
