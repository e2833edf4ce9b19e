"""Block expansion: which counts work, what is written, that the model computes what it did before, and what is then trained."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from lib import blocks, plots_llava, shards
from lib.errors import ConfigError, WeightsError

SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 60,
    "initializer_range": 0.2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
TOWER = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "initializer_factor": 9.0,
}


def save_llama(folder: Path, layers: int, *, shard: str = "60KB", **more: object) -> Path:
    """A LLaMA with random weights, saved by transformers in shards of about that size."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SMALL, num_hidden_layers=layers, **more))
    model.save_pretrained(folder, max_shard_size=shard)
    (folder / "tokenizer.model").write_bytes(b"pieces")
    return folder


def save_llava(folder: Path, layers: int, tower_layers: int) -> Path:
    """A LLaVA with random weights, in several shards."""
    torch.manual_seed(0)
    config = LlavaConfig(
        text_config=LlamaConfig(**SMALL, num_hidden_layers=layers),
        vision_config=CLIPVisionConfig(**TOWER, num_hidden_layers=tower_layers),
        image_token_index=59,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder, max_shard_size="60KB")
    return folder


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the checkpoint's shards."""
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


def rename(folder: Path, spelling: dict[str, str]) -> Path:
    """Rename the beginnings of the tensors' names in a checkpoint, which becomes one file."""
    state = tensors(folder)
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    old = {name: next((begin for begin in spelling if name.startswith(begin)), "") for name in state}
    renamed = {spelling.get(begin, "") + name.removeprefix(begin): state[name] for name, begin in old.items()}
    save_file(renamed, folder / shards.SINGLE, metadata={"format": "pt"})
    return folder


# --- the plan ---


def test_twelve_blocks_in_sixty_layers_stand_behind_every_fifth():
    expansion = blocks.plan_expansion(60, 12)
    assert expansion.inserted == (5, 11, 17, 23, 29, 35, 41, 47, 53, 59, 65, 71)
    assert (expansion.base_layers, len(expansion.blocks)) == (60, 72)
    assert expansion.blocks[5:7] == (blocks.Block(5, 4, True), blocks.Block(6, 5, False))


def test_eight_blocks_in_thirty_two_layers_are_llama_pro():
    assert blocks.plan_expansion(32, 8).inserted == (4, 9, 14, 19, 24, 29, 34, 39)


def test_no_block_is_the_identity():
    assert blocks.plan_expansion(3, 0).blocks == tuple(blocks.Block(layer, layer, False) for layer in range(3))


def test_a_remainder_of_layers_follows_the_last_block():
    assert [(block.source, block.inserted) for block in blocks.plan_expansion(5, 2).blocks] == [
        (0, False), (1, False), (1, True), (2, False), (3, False), (3, True), (4, False),
    ]  # fmt: skip


@pytest.mark.parametrize("inserted", [9, 11, 13, 14, 16, 61, -1])
def test_a_count_that_cannot_be_spread_is_refused_with_those_that_can(inserted):
    with pytest.raises(ConfigError) as error:
        blocks.plan_expansion(60, inserted)
    assert str(error.value) == (
        f"{inserted} new blocks cannot be spread evenly over 60 layers; counts that work: 0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 60"
    )


def test_a_model_without_layers_cannot_be_expanded():
    with pytest.raises(ConfigError) as error:
        blocks.plan_expansion(0, 0)
    assert str(error.value) == "a model of 0 layers cannot be expanded; it has at least 1"


@given(st.integers(1, 130), st.data())
def test_every_working_count_keeps_the_base_in_order(layers, data):
    inserted = data.draw(st.sampled_from(blocks.working_counts(layers)))
    expansion = blocks.plan_expansion(layers, inserted)
    assert [block.source for block in expansion.blocks if not block.inserted] == list(range(layers))
    assert [block.layer for block in expansion.blocks] == list(range(layers + inserted))
    assert len(expansion.inserted) == inserted
    for new in expansion.inserted:
        assert expansion.blocks[new].source == expansion.blocks[new - 1].source


# --- the expanded checkpoint ---


def expand(source: Path, layers: int, inserted: int, *, quirk: str = "corrected") -> tuple[Path, blocks.Expansion]:
    """The expanded checkpoint beside its base, and the plan."""
    expansion, target = blocks.plan_expansion(layers, inserted), source.with_name("expanded")
    blocks.expand_checkpoint(source, target, expansion, quirk=quirk)
    return target, expansion


@pytest.mark.parametrize("shard", ["60KB", "1GB"])
def test_a_llama_is_expanded_and_computes_exactly_the_same(tmp_path, shard):
    base = save_llama(tmp_path / "base", 4, shard=shard)
    target, expansion = expand(base, 4, 2)
    proof = blocks.prove_identity(base, target, positions=9, seed=3)
    assert proof == blocks.LogitProof(positions=9, logits=9 * 60, max_difference=0.0)
    assert proof.identical
    assert blocks.prove_structure(base, target, expansion) == blocks.WeightProof(tensors=6 * 9 + 3, zeroed=4, different=())

    before, after = tensors(base), tensors(target)
    assert not after["model.layers.2.self_attn.o_proj.weight"].any() and not after["model.layers.2.mlp.down_proj.weight"].any()
    assert after["model.layers.2.self_attn.q_proj.weight"].equal(before["model.layers.1.self_attn.q_proj.weight"])
    assert after["model.layers.3.mlp.down_proj.weight"].equal(before["model.layers.2.mlp.down_proj.weight"])
    assert LlamaForCausalLM.from_pretrained(target).config.num_hidden_layers == 6
    assert (target / "tokenizer.model").read_bytes() == b"pieces"


def test_the_index_lists_the_expanded_shards(tmp_path):
    base = save_llama(tmp_path / "base", 4)
    target, _ = expand(base, 4, 4)
    index = json.loads((target / shards.INDEX).read_text())
    state = tensors(target)
    assert index["weight_map"].keys() == state.keys()
    assert set(index["weight_map"].values()) == {path.name for path in target.glob("*.safetensors")}
    assert len(set(index["weight_map"].values())) > 1
    assert index["metadata"] == {
        "total_parameters": sum(value.numel() for value in state.values()),
        "total_size": sum(value.numel() * 4 for value in state.values()),
    }


def test_zero_blocks_give_the_same_checkpoint(tmp_path):
    base = save_llama(tmp_path / "base", 2)
    target, _ = expand(base, 2, 0)
    before, after = tensors(base), tensors(target)
    assert before.keys() == after.keys() and all(after[name].equal(before[name]) for name in before)
    assert shards.read_config(target) == shards.read_config(base)


def test_half_precision_and_biases_are_expanded_too(tmp_path):
    torch.manual_seed(0)
    config = LlamaConfig(**SMALL, num_hidden_layers=2, attention_bias=True, mlp_bias=True)
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    for name, value in model.named_parameters():
        torch.nn.init.normal_(value) if name.endswith("bias") else None
    model.save_pretrained(tmp_path / "base")
    target, expansion = expand(tmp_path / "base", 2, 1)
    assert blocks.prove_identity(tmp_path / "base", target, positions=5, seed=0).max_difference == 0.0
    assert blocks.prove_structure(tmp_path / "base", target, expansion).zeroed == 4
    assert tensors(target)["model.layers.2.mlp.down_proj.bias"].dtype == torch.bfloat16


def test_another_model_of_the_family_with_a_list_per_layer_is_expanded(tmp_path):
    torch.manual_seed(0)
    kinds = ["full_attention", "sliding_attention"] * 2
    config = Qwen2Config(
        **SMALL, num_hidden_layers=4, layer_types=kinds, use_sliding_window=True, sliding_window=3, tie_word_embeddings=True
    )
    Qwen2ForCausalLM(config).save_pretrained(tmp_path / "base")
    target, _ = expand(tmp_path / "base", 4, 4)
    assert shards.read_config(target)["layer_types"] == [kind for kind in kinds for _ in "12"]
    assert blocks.prove_identity(tmp_path / "base", target, positions=8, seed=0).identical


IN_MEMORY = {
    "language_model.lm_head.": "lm_head.", "language_model.model.": "model.language_model.",
    "vision_tower.": "model.vision_tower.", "multi_modal_projector.": "model.multi_modal_projector.",
}  # fmt: skip
OF_OLDER_VERSIONS = {"vision_tower.": "vision_tower.vision_model."}


@pytest.mark.parametrize("spelling", [{}, IN_MEMORY, OF_OLDER_VERSIONS], ids=["written", "in_memory", "older"])
def test_a_llava_is_expanded_in_every_spelling_and_keeps_its_tower(tmp_path, spelling):
    base = save_llava(tmp_path / "base", 4, 3)
    rename(base, spelling)
    target, expansion = expand(base, 4, 2)
    proof = blocks.prove_identity(base, target, positions=6, seed=0)
    assert (proof.positions, proof.max_difference) == (4 + 6, 0.0)  # 4 places of the image
    assert blocks.prove_structure(base, target, expansion).identical
    config = shards.read_config(target)
    assert (config["text_config"]["num_hidden_layers"], config["vision_config"]["num_hidden_layers"]) == (6, 3)
    before, after = tensors(base), tensors(target)
    assert all(after[name].equal(before[name]) for name in before if "vision_tower" in name)


def test_as_published_the_tower_is_scrambled_and_the_proofs_say_so(tmp_path):
    base = save_llava(tmp_path / "base", 4, 3)
    target, expansion = expand(base, 4, 4, quirk="as_published")
    before, after = tensors(base), tensors(target)
    assert [name for name in after if "vision_tower" in name] == [name for name in before if "vision_tower" in name]
    layer = "vision_tower.encoder.layers.{}.mlp.fc1.weight".format
    assert after[layer(1)].equal(before[layer(0)])  # the copy of layer 0
    assert after[layer(2)].equal(before[layer(1)])  # layer 2 is lost
    assert not blocks.prove_identity(base, target, positions=6, seed=0).identical
    proof = blocks.prove_structure(base, target, expansion)
    assert not proof.identical
    assert {name[:29] for name in proof.different} == {"vision_tower.encoder.layers.1", "vision_tower.encoder.layers.2"}


def test_as_published_a_tower_deeper_than_the_language_model_would_lose_layers(tmp_path):
    base = save_llava(tmp_path / "base", 2, 5)
    with pytest.raises(ConfigError) as error:
        expand(base, 2, 1, quirk="as_published")
    assert str(error.value) == (
        "as_published would leave 3 of the vision tower's 5 layers, since the language model has only 2; take corrected"
    )


def test_a_changed_weight_is_found_by_both_proofs(tmp_path):
    base = save_llama(tmp_path / "base", 2, shard="1GB")
    target, expansion = expand(base, 2, 1)
    state = load_file(target / shards.SINGLE)
    state["model.layers.2.mlp.down_proj.weight"][0, 0] = 1.0
    state["model.surplus"] = torch.zeros(1)
    save_file(state, target / shards.SINGLE, metadata={"format": "pt"})
    proof = blocks.prove_structure(base, target, expansion)
    assert (proof.identical, proof.different) == (False, ("model.layers.2.mlp.down_proj.weight", "model.surplus"))
    assert blocks.prove_identity(base, target, positions=4, seed=0).max_difference > 0


def test_a_model_without_all_its_weights_proves_nothing(tmp_path):
    base = save_llama(tmp_path / "base", 1, shard="1GB")
    state = load_file(base / shards.SINGLE)
    del state["model.norm.weight"]
    save_file(state, base / shards.SINGLE, metadata={"format": "pt"})
    with pytest.raises(WeightsError) as error:
        blocks.prove_identity(base, base, positions=4, seed=0)
    assert str(error.value) == f"{base}: weights missing: model.norm.weight; copy the checkpoint again"


# --- what is refused, with nothing written ---


def refused(source: Path, expansion: blocks.Expansion, kind: type[Exception]) -> str:
    """The message of the error; asserts that the target folder is not there."""
    target = source.with_name("expanded")
    with pytest.raises(kind) as error:
        blocks.expand_checkpoint(source, target, expansion, quirk="corrected")
    assert not target.exists() and not target.with_name(".expanded.unfinished").exists()
    return str(error.value)


def test_a_plan_for_another_model_is_refused(tmp_path):
    base = save_llama(tmp_path / "base", 4)
    message = refused(base, blocks.plan_expansion(6, 2), ConfigError)
    assert message == f"the expansion is planned for 6 layers, {base} has 4; plan it for those"


def test_a_config_that_declares_other_layers_than_the_weights_is_refused(tmp_path):
    base = save_llama(tmp_path / "base", 4)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 6}))
    message = refused(base, blocks.plan_expansion(6, 2), WeightsError)
    assert message == f"{base}: config.json declares 6 layers, the weights hold 4; correct num_hidden_layers"


def write_state(folder: Path, state: dict[str, torch.Tensor]) -> Path:
    folder.mkdir()
    save_file(state, folder / shards.SINGLE)
    (folder / "config.json").write_text('{"num_hidden_layers": 1}')
    return folder


def test_a_model_of_another_family_is_refused(tmp_path):
    base = write_state(tmp_path / "base", {"transformer.h.0.attn.weight": torch.ones(1)})
    message = refused(base, blocks.plan_expansion(1, 1), WeightsError)
    assert message == f"{base}: no layer named model.layers.<i>. or model.language_model.layers.<i>.; not of the LLaMA family"


def test_a_layer_without_the_output_projections_is_refused(tmp_path):
    base = write_state(tmp_path / "base", {"model.layers.0.mlp.fc1.weight": torch.ones(1)})
    message = refused(base, blocks.plan_expansion(1, 1), WeightsError)
    assert message == f"{base}: no o_proj and no down_proj in layer 0, so a copy cannot start as the identity"


def test_quantized_weights_are_refused(tmp_path):
    state = {f"model.layers.0.{name}.weight": torch.ones(4, dtype=torch.uint8) for name in ("self_attn.o_proj", "mlp.down_proj")}
    message = refused(write_state(tmp_path / "base", state), blocks.plan_expansion(1, 1), WeightsError)
    assert message == "model.layers.0.mlp.down_proj.weight holds U8, quantized weights; expand the checkpoint they were made from"


# --- what is trained ---


def trained(model: torch.nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def tiny_llava(layers: int) -> LlavaForConditionalGeneration:
    text = LlamaConfig(**SMALL, num_hidden_layers=layers)
    return LlavaForConditionalGeneration(LlavaConfig(text_config=text, vision_config=CLIPVisionConfig(**TOWER, num_hidden_layers=1)))


def test_new_blocks_and_head_are_trained_and_nothing_else():
    model, expansion = tiny_llava(6), blocks.plan_expansion(4, 2)
    rows = blocks.freeze(model, expansion, blocks.TRAINED["blocks_and_head"])
    names = trained(model)
    assert len(names) == 2 * 9 + 1 and names[-1] == "lm_head.weight"
    assert {name.split(".")[3] for name in names[:-1]} == {"2", "5"}
    layer = sum(value.numel() for name, value in model.named_parameters() if "layers.5." in name)
    assert rows[:5] == [
        blocks.Part("embeddings", 60 * 32, 0),
        blocks.Part("old blocks", 4 * layer, 0),
        blocks.Part("new blocks", 2 * layer, 2 * layer),
        blocks.Part("final norm", 32, 0),
        blocks.Part("head", 60 * 32, 60 * 32),
    ]
    assert [(row.part, row.trained) for row in rows[5:]] == [("projector", 0), ("vision tower", 0)]
    assert sum(row.parameters for row in rows) == sum(value.numel() for value in model.parameters())


def test_as_stated_the_head_stays_frozen():
    model, expansion = tiny_llava(6), blocks.plan_expansion(4, 2)
    blocks.freeze(model, expansion, blocks.TRAINED["blocks_and_head"])
    blocks.freeze(model, expansion, blocks.TRAINED["blocks"])
    assert len(trained(model)) == 2 * 9 and "lm_head.weight" not in trained(model)


def test_a_model_of_other_depth_cannot_be_frozen_by_the_plan():
    with pytest.raises(ConfigError) as error:
        blocks.freeze(tiny_llava(4), blocks.plan_expansion(4, 2), blocks.TRAINED["blocks_and_head"])
    assert str(error.value) == "the model has 4 layers, the expansion 6; load the expanded checkpoint"


def test_nothing_to_train_is_an_error():
    with pytest.raises(ConfigError) as error:
        blocks.freeze(tiny_llava(2), blocks.plan_expansion(2, 0), blocks.TRAINED["blocks"])
    assert str(error.value) == (
        "no block was inserted and the head stays frozen, so nothing would be trained; insert blocks or train the head"
    )


def test_a_head_tied_to_the_embeddings_cannot_be_trained_alone():
    model = LlamaForCausalLM(LlamaConfig(**SMALL, num_hidden_layers=3, tie_word_embeddings=True))
    with pytest.raises(ConfigError) as error:
        blocks.freeze(model, blocks.plan_expansion(2, 1), blocks.TRAINED["blocks_and_head"])
    assert str(error.value) == (
        "the output head shares its weights with the embeddings, which stay frozen; train the blocks without the head"
    )
    assert blocks.freeze(model, blocks.plan_expansion(2, 1), blocks.TRAINED["blocks"])[-1].part == "final norm"


def test_an_unknown_parameter_is_counted_apart_and_frozen():
    assert blocks.part_of("model.image_newline", blocks.plan_expansion(2, 1)) == "other"


# --- the figure ---


@pytest.mark.parametrize(("layers", "inserted"), [(4, 2), (60, 12), (3, 0)])
def test_the_layer_map_numbers_the_new_blocks_and_the_layers_they_copy(layers, inserted):
    expansion = blocks.plan_expansion(layers, inserted)
    axes = plots_llava.layer_map(expansion.blocks).axes[0]
    numbers = [text.get_text() for text in axes.texts]
    assert set(map(str, expansion.inserted)) <= set(numbers)
    assert len(axes.patches) == 2 * layers + inserted
    assert axes.get_title(loc="left") == f"Where each layer comes from: {inserted} new blocks"
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"base\n{layers} layers", f"expanded\n{layers + inserted} layers"]
