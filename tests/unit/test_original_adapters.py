"""Adapters of the original LLaVA code to PEFT's format and back: the documented names, the same tensors, the same logits, or a refusal."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn

from lib import adapters, llava, original_adapters
from lib.adapters import Lora
from lib.errors import ConfigError, KitError, MissingInput, WeightsError
from lib.llava import Llava
from tests.tiny_llava import build_bundle

State = dict[str, torch.Tensor]
RECIPE = Lora(r=4, alpha=8, dropout=0.05)
FIELDS = {
    "mm_vision_tower": "openai/small-clip", "image_aspect_ratio": "pad", "mm_patch_merge_type": "flat",
    "tokenizer_model_max_length": 2048, "tokenizer_padding_side": "right",
}  # fmt: skip
# Layer -> (outputs, inputs) in the tiny model: width 32, inner width 64, two heads of eight for keys and values.
LAYERS = {
    "self_attn.q_proj": (32, 32), "self_attn.k_proj": (16, 32), "self_attn.v_proj": (16, 32), "self_attn.o_proj": (32, 32),
    "mlp.gate_proj": (64, 32), "mlp.up_proj": (64, 32), "mlp.down_proj": (32, 64),
}  # fmt: skip
PROJECTOR = {"0.weight": (32, 16), "0.bias": (32,), "2.weight": (32, 32), "2.bias": (32,)}
# As peft 0.4 wrote it for LLaVA's published adapters.
ORIGINAL_ADAPTER_CONFIG = {
    "auto_mapping": None, "base_model_name_or_path": "lmsys/vicuna-7b-v1.5", "bias": "none", "fan_in_fan_out": False,
    "inference_mode": True, "init_lora_weights": True, "layers_pattern": None, "layers_to_transform": None, "lora_alpha": 8,
    "lora_dropout": 0.05, "modules_to_save": None, "peft_type": "LORA", "r": 4, "revision": None,
    "target_modules": ["k_proj", "down_proj", "v_proj", "gate_proj", "o_proj", "up_proj", "q_proj"], "task_type": "CAUSAL_LM",
}  # fmt: skip
ORIGINAL_CONFIG = {
    "architectures": ["LlavaLlamaForCausalLM"], "model_type": "llava_llama", "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 343, "mm_hidden_size": 16,
    "mm_projector_type": "mlp2x_gelu", "mm_vision_select_layer": -2, "mm_vision_select_feature": "patch", **FIELDS,
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved LLaVA."""
    folder = tmp_path_factory.mktemp("base")
    llava.save(build_bundle(folder / "tokenizer"), folder / "model")
    return folder / "model"


@pytest.fixture
def bundle(base: Path) -> Llava:
    return llava.load(base, dtype="fp32", quantize="none")


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of PEFT on Hugging Face's class, with values as of a training."""
    model = adapters.attach(llava.load(base, dtype="fp32", quantize="none").model, RECIPE)
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    folder = tmp_path_factory.mktemp("trained") / "adapter"
    adapters.save(model, model.state_dict(), folder)
    return folder


def documented_tensors() -> tuple[State, State]:
    """Adapters and projector under the original's names (dataengine specification, section 3)."""
    generator = torch.Generator().manual_seed(3)
    lora = {}
    for number in (0, 1):
        for layer, (outputs, inputs) in LAYERS.items():
            name = f"base_model.model.model.layers.{number}.{layer}"
            lora[f"{name}.lora_A.weight"] = 0.2 * torch.randn((4, inputs), generator=generator)
            lora[f"{name}.lora_B.weight"] = 0.2 * torch.randn((outputs, 4), generator=generator)
    projector = {
        f"base_model.model.model.mm_projector.{name}": torch.randn(shape, generator=generator) for name, shape in PROJECTOR.items()
    }
    return lora, projector


def write_original(folder: Path, lora: State, projector: State, *, pickled: bool = True, **entries: object) -> Path:
    """The files of the original code; `entries` go over those of adapter_config.json."""
    folder.mkdir()
    if pickled:
        torch.save(lora, folder / "adapter_model.bin")
    else:
        save_file(lora, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    torch.save(projector, folder / "non_lora_trainables.bin")
    (folder / "adapter_config.json").write_text(json.dumps({**ORIGINAL_ADAPTER_CONFIG, **entries}))
    (folder / "config.json").write_text(json.dumps(ORIGINAL_CONFIG))
    (folder / "trainer_state.json").write_text("{}")
    return folder


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return write_original(tmp_path / "original", *documented_tensors())


def logits(model: nn.Module, bundle: Llava) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    text = torch.randint(5, 300, (1, 12), generator=generator)
    ids = torch.cat([torch.full((1, bundle.image_tokens), bundle.tokenizer.image_token_id), text], dim=1)
    with torch.no_grad():
        return model(input_ids=ids, pixel_values=torch.randn((1, 3, 28, 28), generator=generator)).logits


def adapted_logits(base: Path, adapter: Path) -> torch.Tensor:
    bundle = llava.load(base, dtype="fp32", quantize="none")
    return logits(PeftModel.from_pretrained(bundle.model, adapter).eval(), bundle)


def assert_same_tensors(left: State, right: State) -> None:
    assert left.keys() == right.keys()
    assert not [name for name in left if left[name].dtype != right[name].dtype or not torch.equal(left[name], right[name])]


def refusal(kind: type[KitError], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# --- there and back ---


def test_an_adapter_of_peft_comes_back_from_the_original_layout_as_it_was(base: Path, trained: Path, tmp_path: Path):
    original_adapters.to_original(trained, tmp_path / "original", model=base, fields=FIELDS)
    assert original_adapters.is_original_adapter(tmp_path / "original") and not original_adapters.is_original_adapter(trained)
    original_adapters.to_peft(tmp_path / "original", tmp_path / "back")
    assert {path.name for path in (tmp_path / "back").iterdir()} == {path.name for path in trained.iterdir()}
    assert (tmp_path / "back/adapter_config.json").read_text() == (trained / "adapter_config.json").read_text()
    assert_same_tensors(load_file(tmp_path / "back/adapter_model.safetensors"), load_file(trained / "adapter_model.safetensors"))
    assert torch.equal(adapted_logits(base, tmp_path / "back"), adapted_logits(base, trained))


def test_the_original_layout_has_the_documented_files_names_and_entries(base: Path, trained: Path, tmp_path: Path):
    folder = tmp_path / "original"
    original_adapters.to_original(trained, folder, model=base, fields=FIELDS)
    expected = {"adapter_config.json", "adapter_model.bin", "non_lora_trainables.bin", "config.json"}
    assert {path.name for path in folder.iterdir()} == expected
    for filename, tensors in zip(("adapter_model.bin", "non_lora_trainables.bin"), documented_tensors(), strict=True):
        written = torch.load(folder / filename, weights_only=True)
        assert {name: value.shape for name, value in written.items()} == {name: value.shape for name, value in tensors.items()}
    entries = json.loads((folder / "adapter_config.json").read_text())
    assert entries.keys() == ORIGINAL_ADAPTER_CONFIG.keys()
    named = {"base_model_name_or_path": "", "target_modules": sorted(ORIGINAL_ADAPTER_CONFIG["target_modules"])}
    assert {**entries, "target_modules": sorted(entries["target_modules"])} == ORIGINAL_ADAPTER_CONFIG | named
    config = json.loads((folder / "config.json").read_text())
    assert {name: config[name] for name in ORIGINAL_CONFIG} == ORIGINAL_CONFIG
    assert config["unfreeze_mm_vision_tower"] is False


@pytest.mark.parametrize("pickled", [True, False])
def test_a_folder_of_the_original_code_says_on_hugging_faces_class_what_it_says(base: Path, bundle: Llava, tmp_path: Path, pickled: bool):
    lora, projector = documented_tensors()
    original_adapters.to_peft(write_original(tmp_path / "original", lora, projector, pickled=pickled), tmp_path / "peft")
    # W + alpha / r * B A, without the code under test or peft.
    for number, layer in enumerate(bundle.model.model.language_model.layers):
        for name in LAYERS:
            down, up = (lora[f"base_model.model.model.layers.{number}.{name}.lora_{side}.weight"] for side in "AB")
            layer.get_submodule(name).weight.data += 8 / 4 * up @ down
    for number, linear in ((0, bundle.model.model.multi_modal_projector.linear_1), (2, bundle.model.model.multi_modal_projector.linear_2)):
        linear.load_state_dict({kind: projector[f"base_model.model.model.mm_projector.{number}.{kind}"] for kind in ("weight", "bias")})
    torch.testing.assert_close(adapted_logits(base, tmp_path / "peft"), logits(bundle.model, bundle), atol=1e-5, rtol=1e-5)


def test_the_original_layout_comes_back_too(base: Path, original: Path, tmp_path: Path):
    original_adapters.to_peft(original, tmp_path / "peft")
    original_adapters.to_original(tmp_path / "peft", tmp_path / "back", model=base, fields=FIELDS)
    for filename, tensors in zip(("adapter_model.bin", "non_lora_trainables.bin"), documented_tensors(), strict=True):
        assert_same_tensors(torch.load(tmp_path / "back" / filename, weights_only=True), tensors)


def test_types_stay_as_they_are(tmp_path: Path):
    lora, projector = ({name: value.to(torch.bfloat16) for name, value in state.items()} for state in documented_tensors())
    original_adapters.to_peft(write_original(tmp_path / "original", lora, projector), tmp_path / "peft")
    assert {value.dtype for value in load_file(tmp_path / "peft/adapter_model.safetensors").values()} == {torch.bfloat16}


def test_the_published_adapters_have_their_size():
    config = {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32, "mm_hidden_size": 1024,
    }  # fmt: skip
    lora, projector = original_adapters.original_shapes(Path("x"), config, 128)
    counts = [sum(torch.Size(shape).numel() for shape in shapes.values()) for shapes in (lora, projector)]
    assert counts == [319_815_680, 20_979_712]
    assert len(lora) == 2 * 7 * 32 and len(projector) == 4


# --- refusals ---


def test_tensors_that_are_missing_unexpected_or_of_another_rank_are_listed(tmp_path: Path):
    lora, projector = documented_tensors()
    begin = "base_model.model.model.layers."
    del lora[f"{begin}0.mlp.up_proj.lora_A.weight"]
    lora |= {f"{begin}1.self_attn.q_proj.lora_A.weight": torch.ones(8, 32), "base_model.model.lm_head.lora_A.weight": torch.ones(4, 32)}
    source = write_original(tmp_path / "original", lora, projector)
    assert refusal(WeightsError, lambda: original_adapters.to_peft(source, tmp_path / "peft")) == (
        f"{source / 'adapter_model.bin'}: not the tensors that the config describes; 1 missing: {begin}0.mlp.up_proj.lora_A.weight; "
        f"1 unexpected: base_model.model.lm_head.lora_A.weight; 1 of another shape: {begin}1.self_attn.q_proj.lora_A.weight (8, 32) "
        "for (4, 32); copy it again, or name the one that fits"
    )
    assert not (tmp_path / "peft").exists()


def test_a_projector_that_is_not_whole_is_refused(tmp_path: Path):
    lora, projector = documented_tensors()
    name = "base_model.model.model.mm_projector.2.bias"
    projector["base_model.model.model.vision_tower.x"] = projector.pop(name)
    source = write_original(tmp_path / "original", lora, projector)
    assert refusal(WeightsError, lambda: original_adapters.to_peft(source, tmp_path / "peft")) == (
        f"{source / 'non_lora_trainables.bin'}: not the tensors that the config describes; 1 missing: {name}; "
        "1 unexpected: base_model.model.model.vision_tower.x; copy it again, or name the one that fits"
    )


def test_hugging_faces_names_are_not_taken_for_the_originals(tmp_path: Path):
    lora, projector = documented_tensors()
    renamed = {name.replace("model.layers", "model.language_model.layers"): value for name, value in lora.items()}
    source = write_original(tmp_path / "original", renamed, projector)
    message = refusal(WeightsError, lambda: original_adapters.to_peft(source, tmp_path / "peft"))
    assert "28 missing: " in message and "28 unexpected: " in message


def test_an_adapter_of_another_model_does_not_go_back(base: Path, trained: Path, tmp_path: Path):
    source = Path(shutil.copytree(trained, tmp_path / "adapter"))
    tensors = load_file(source / "adapter_model.safetensors")
    begin = "base_model.model.model."
    tensors["surplus"] = tensors.pop(f"{begin}multi_modal_projector.linear_1.bias")
    tensors[f"{begin}language_model.layers.0.mlp.up_proj.lora_B.weight"] = torch.ones(64, 2)
    save_file(tensors, source / "adapter_model.safetensors", metadata={"format": "pt"})
    assert refusal(WeightsError, lambda: original_adapters.to_original(source, tmp_path / "o", model=base, fields=FIELDS)) == (
        f"{source / 'adapter_model.safetensors'}: not the tensors that the config describes; "
        f"1 missing: {begin}multi_modal_projector.linear_1.bias; 1 unexpected: surplus; 1 of another shape: "
        f"{begin}language_model.layers.0.mlp.up_proj.lora_B.weight (64, 2) for (64, 4); copy it again, or name the one that fits"
    )
    assert not (tmp_path / "o").exists()


OTHER_KINDS = {
    "target_modules": (["q_proj"], f"target_modules ['q_proj'] (expected {sorted(ORIGINAL_ADAPTER_CONFIG['target_modules'])})"),
    "modules_to_save": (["lm_head"], "modules_to_save ['lm_head'] (expected None)"),
    "bias": ("all", "bias 'all' (expected 'none')"),
    "peft_type": ("IA3", "peft_type 'IA3' (expected 'LORA')"),
    "use_dora": (True, "use_dora True (expected False)"),
    "rank_pattern": ({"q_proj": 8}, "rank_pattern {'q_proj': 8} (expected {})"),
    "of_a_later_peft": (1, "of_a_later_peft 1 (expected None)"),
}  # fmt: skip


@pytest.mark.parametrize("entry", OTHER_KINDS)
def test_an_adapter_that_computes_something_else_is_refused(tmp_path: Path, entry: str):
    value, message = OTHER_KINDS[entry]
    source = write_original(tmp_path / "original", *documented_tensors(), **{entry: value})
    assert refusal(WeightsError, lambda: original_adapters.to_peft(source, tmp_path / "peft")) == (
        f"{source / 'adapter_config.json'}: an adapter of another kind: {message}; only LLaVA's own recipe can be translated"
    )


def test_empty_entries_of_other_versions_of_peft_change_nothing(tmp_path: Path):
    source = write_original(tmp_path / "original", *documented_tensors(), of_a_later_peft=None, use_qalora=False, peft_version="9.0")
    original_adapters.to_peft(source, tmp_path / "peft")


def test_an_adapter_config_without_its_entries_is_refused(original: Path, tmp_path: Path):
    path = original / "adapter_config.json"
    change_json(path, r=0)
    assert refusal(WeightsError, lambda: original_adapters.to_peft(original, tmp_path / "peft")) == (
        f"{path}: not rank, alpha and dropout of LoRA: Input should be greater than 0; copy the adapter again"
    )
    path.write_text('{"r": 4, "target_modules": [], "modules_to_save": null}')
    assert refusal(WeightsError, lambda: original_adapters.to_peft(original, tmp_path / "peft")) == (
        f"{path}: no lora_alpha, lora_dropout in it; copy the adapter's own adapter_config.json"
    )


def test_a_config_without_sizes_is_refused(original: Path, tmp_path: Path):
    (original / "config.json").write_text(json.dumps({"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}))
    assert refusal(WeightsError, lambda: original_adapters.to_peft(original, tmp_path / "peft")) == (
        f"{original}: config.json has no intermediate_size, mm_hidden_size; copy the adapter's own config.json"
    )


MISSING = {
    "adapter_config.json": "{}: no adapter_config.json in it; name the folder of an adapter",
    "adapter_model.bin": "{}: neither adapter_model.safetensors nor adapter_model.bin in it; copy the adapter's own files again",
    "non_lora_trainables.bin": "{}/non_lora_trainables.bin: no such shard; copy or download the checkpoint again",
    "config.json": "{}: no config.json in it; name the folder of a checkpoint",
}


@pytest.mark.parametrize("filename", MISSING)
def test_a_file_that_is_not_there_is_named(original: Path, tmp_path: Path, filename: str):
    (original / filename).unlink()
    assert refusal(MissingInput, lambda: original_adapters.to_peft(original, tmp_path / "peft")) == MISSING[filename].format(original)


class Evil:
    """Unpickled carelessly, this would write a file."""

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (Path("was run"),)


@pytest.mark.parametrize("filename", ["adapter_model.bin", "non_lora_trainables.bin"])
def test_code_in_a_pickle_is_not_run(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filename: str):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Evil()}, original / filename)
    assert refusal(WeightsError, lambda: original_adapters.to_peft(original, tmp_path / "peft")) == (
        f"{original / filename}: holds more than tensors and plain values, which may be code; refused, nothing of it was run"
    )
    assert not (tmp_path / "was run").exists()


def test_an_adapter_that_is_what_it_should_become_is_refused(base: Path, original: Path, trained: Path, tmp_path: Path):
    assert refusal(WeightsError, lambda: original_adapters.to_peft(trained, tmp_path / "a")) == (
        f"{trained}: neither non_lora_trainables.bin nor config.json in it, so not of the original code; PEFT loads it as it is"
    )
    assert refusal(WeightsError, lambda: original_adapters.to_original(original, tmp_path / "b", model=base, fields=FIELDS)) == (
        f"{original}: non_lora_trainables.bin or config.json in it, so of the original code already; use it as it is"
    )


def test_a_base_of_another_layout_is_refused(original: Path, trained: Path, tmp_path: Path):
    assert refusal(WeightsError, lambda: original_adapters.to_original(trained, tmp_path / "o", model=original, fields=FIELDS)) == (
        f"{original}: not a LLaVA of Hugging Face layout; name the model that the adapter was trained on"
    )


def test_fields_of_the_original_code_are_asked_for_and_an_existing_folder_is_kept(base: Path, trained: Path, tmp_path: Path):
    assert refusal(ConfigError, lambda: original_adapters.to_original(trained, tmp_path / "o", model=base, fields={})).startswith(
        "the original code needs mm_vision_tower, image_aspect_ratio"
    )
    assert refusal(ConfigError, lambda: original_adapters.to_original(trained, tmp_path, model=base, fields=FIELDS)) == (
        f"{tmp_path}: exists already; remove it, or name a folder that does not exist"
    )
