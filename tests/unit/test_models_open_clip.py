"""OpenCLIP models: building, saving and loading, and one clear line for every file that cannot be used."""

import json
import math
import pickle
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors import SafetensorError

from lib import models
from lib.errors import ConfigError, DiskFull, MissingInput, WeightsError
from lib.models import OpenClip, build_open_clip, load_open_clip, save_weights, weights_digest

SMALL = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
WIDER = {**SMALL, "embed_dim": 16}
TEXTS = ["a red bus", "A walking man who is a minor, and is standing sideways. He is in a long sleeve shirt.", ""]


@pytest.fixture
def small() -> OpenClip:
    return build_open_clip(SMALL, name="ViT-small", seed=1)


def checkpoint(bundle: OpenClip, path: Path, *, prefix: str = "") -> Path:
    """A training checkpoint as open_clip's trainer writes it."""
    state = {f"{prefix}{name}": value for name, value in bundle.model.state_dict().items()}
    torch.save({"epoch": 5, "name": "run", "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}, path)
    return path


def test_weights_come_from_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    digests = [weights_digest(build_open_clip(SMALL, name="ViT-small", seed=seed).model) for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]
    assert torch.rand(1) == expected


def test_a_model_known_by_name_is_built_by_name():
    models.register_architecture("ViT-by-name", SMALL)
    assert build_open_clip("ViT-by-name").config == SMALL


def test_an_unknown_name_lists_the_closest():
    with pytest.raises(ConfigError) as error:
        build_open_clip("ViT-bigG-15")
    assert str(error.value) == "open_clip knows no model 'ViT-bigG-15'; closest: ViT-bigG-14, ViT-g-14, ViT-bigG-14-CLIPA"


def test_a_config_without_a_tower_is_refused():
    with pytest.raises(ConfigError) as error:
        models.register_architecture("half", {"embed_dim": 8, "vision_cfg": {}})
    assert str(error.value) == "architecture half: text_cfg missing; an open_clip config has embed_dim, vision_cfg, text_cfg"


def test_saved_weights_come_back_the_same(small: OpenClip, tmp_path: Path):
    path = save_weights(small, tmp_path)
    loaded = load_open_clip(tmp_path)
    assert path == tmp_path / "open_clip_model.safetensors"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["open_clip_config.json", "open_clip_model.safetensors"]
    assert weights_digest(path) == weights_digest(loaded.model) == weights_digest(small.model)
    assert not loaded.model.training
    assert json.loads(json.dumps(loaded.model.visual.preprocess_cfg)) == json.loads(json.dumps(small.model.visual.preprocess_cfg))


def test_open_clip_itself_loads_the_folder(small: OpenClip, tmp_path: Path):
    save_weights(small, tmp_path)
    model = open_clip.create_model(f"local-dir:{tmp_path}")
    assert weights_digest(model) == weights_digest(small.model)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_a_training_checkpoint_loads_whatever_wrapped_the_model(small: OpenClip, tmp_path: Path, prefix: str):
    path = checkpoint(small, tmp_path / "epoch_5.pt", prefix=prefix)
    assert weights_digest(path) == weights_digest(load_open_clip(path, model=SMALL).model) == weights_digest(small.model)


def test_weights_of_another_architecture_are_refused_in_one_line(small: OpenClip, tmp_path: Path):
    models.register_architecture("ViT-wider", WIDER)
    path = checkpoint(small, tmp_path / "epoch_5.pt")
    with pytest.raises(WeightsError) as error:
        load_open_clip(path, model="ViT-wider")
    assert str(error.value) == (
        f"{path}: weights of another architecture than ViT-wider: 2 of another shape (text_projection (16, 8) for (16, 16), "
        "visual.proj (16, 8) for (16, 16)); name the model they were trained with"
    )


def test_missing_and_unknown_tensors_are_listed(small: OpenClip):
    state = dict(small.model.state_dict())
    for name in sorted(state)[:4]:
        del state[name]
    state["extra"] = torch.zeros(1)
    with pytest.raises(WeightsError) as error:
        models.load_state(small.model, state, "file.pt", "ViT-small")
    assert str(error.value) == (
        "file.pt: weights of another architecture than ViT-small: 4 missing (ln_final.bias, ln_final.weight, logit_scale, ...); "
        "1 unknown (extra); name the model they were trained with"
    )


def test_a_cut_off_checkpoint_is_damaged(small: OpenClip, tmp_path: Path):
    path = checkpoint(small, tmp_path / "epoch_5.pt")
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(WeightsError) as error:
        load_open_clip(path, model=SMALL)
    assert str(error.value) == f"{path}: damaged or cut off, torch cannot read it; copy or download it again"


@pytest.mark.parametrize("content", [b"", b"not weights at all"])
def test_a_file_that_never_was_a_checkpoint_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "epoch_5.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="^[^\n]*epoch_5.pt: [^\n]*$"):
        load_open_clip(path, model=SMALL)


class Bomb:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("exploded"),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Bomb()}, "new.pt")
    Path("old.pt").write_bytes(pickle.dumps({"state_dict": Bomb()}))
    for name in ("new.pt", "old.pt"):
        with pytest.raises(WeightsError) as error:
            load_open_clip(Path(name), model=SMALL)
        assert (
            str(error.value)
            == f"{name}: holds more than tensors and plain values, which may be code; nothing of it was run; ask for a file of tensors only"
        )
    assert not Path("exploded").exists()


def test_a_cut_off_safetensors_file_is_refused(small: OpenClip, tmp_path: Path):
    path = save_weights(small, tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"open_clip_model.safetensors: not a whole safetensors file \(.*\); copy or download it again$"):
        load_open_clip(tmp_path)


def test_a_checkpoint_without_weights_is_refused(tmp_path: Path):
    torch.save({"epoch": 3, "state_dict": {}}, tmp_path / "epoch_3.pt")
    with pytest.raises(WeightsError) as error:
        load_open_clip(tmp_path / "epoch_3.pt", model=SMALL)
    assert (
        str(error.value)
        == f"{tmp_path / 'epoch_3.pt'}: no weights in it; expected tensors by name, or a training checkpoint with state_dict"
    )


def test_what_is_missing_is_named(small: OpenClip, tmp_path: Path):
    with pytest.raises(MissingInput) as error:
        load_open_clip(tmp_path / "epoch_5.pt", model=SMALL)
    assert str(error.value) == f"{tmp_path / 'epoch_5.pt'}: no such file of weights; give the path of one that is there"
    with pytest.raises(MissingInput) as error:
        load_open_clip(tmp_path)
    assert str(error.value) == f"{tmp_path}: no open_clip_config.json in it, so not a folder of open_clip weights"
    with pytest.raises(MissingInput) as error:
        load_open_clip("laion3b", model="ViT-bigG-14")
    assert str(error.value) == "laion3b: neither a file nor a tag of ViT-bigG-14; its tags: laion2b_s39b_b160k, metaclip_fullcc"
    path = checkpoint(small, tmp_path / "epoch_5.pt")
    with pytest.raises(ConfigError) as error:
        load_open_clip(path)
    assert str(error.value) == f"{path}: a file of weights does not say which model it is of; name the model"


def test_a_config_of_something_else_is_refused(tmp_path: Path):
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(WeightsError) as error:
        load_open_clip(tmp_path)
    assert str(error.value) == f"{tmp_path / 'open_clip_config.json'}: no model_cfg in it; expected what save_weights or open_clip writes"


def test_weights_of_the_sigmoid_loss_keep_their_bias(tmp_path: Path):
    siglip = build_open_clip(SMALL, name="ViT-small", siglip=True)
    assert siglip.model.logit_bias.item() == -10 and siglip.model.logit_scale.item() == pytest.approx(math.log(10))
    with torch.no_grad():
        siglip.model.logit_bias.fill_(-7)
    path = checkpoint(siglip, tmp_path / "epoch_1.pt")
    # The trap of open_clip itself: a plain config has no bias to put the tensor into.
    with pytest.raises(AttributeError):
        open_clip.load_checkpoint(build_open_clip(SMALL, name="ViT-small").model, str(path))
    assert load_open_clip(path, model=SMALL).model.logit_bias.item() == -7
    save_weights(siglip, tmp_path / "model")
    assert load_open_clip(tmp_path / "model").model.logit_bias.item() == -7
    assert open_clip.create_model(f"local-dir:{tmp_path / 'model'}").logit_bias.item() == -7


def test_softmax_weights_start_a_sigmoid_model_with_its_own_bias(small: OpenClip):
    siglip = build_open_clip(SMALL, name="ViT-small", siglip=True, seed=2)
    models.load_state(siglip.model, small.model.state_dict(), "base", "ViT-small")
    assert siglip.model.logit_bias.item() == -10
    assert torch.equal(siglip.model.text_projection, small.model.text_projection)


def test_a_scale_of_one_element_fits_a_scalar(small: OpenClip):
    state = {**small.model.state_dict(), "logit_scale": torch.tensor([3.0])}
    models.load_state(small.model, state, "base", "ViT-small")
    assert small.model.logit_scale.shape == () and small.model.logit_scale.item() == 3


def test_texts_read_to_their_end_token_have_the_features_of_the_whole_length(small: OpenClip):
    ids = small.tokenizer(TEXTS)
    ours = small.model.encode_text(ids, normalize=True)
    whole = open_clip.CLIP.encode_text(small.model, ids, normalize=True)
    assert torch.allclose(ours, whole, atol=1e-6)
    assert torch.allclose(small.model.encode_text(ids), open_clip.CLIP.encode_text(small.model, ids), atol=1e-5)
    ours.sum().backward()
    assert small.model.token_embedding.weight.grad is not None


def test_a_tower_that_is_not_causal_is_left_as_it_is():
    whole = {**SMALL, "text_cfg": {**SMALL["text_cfg"], "no_causal_mask": True}}
    assert "encode_text" not in vars(build_open_clip(whole, name="ViT-whole").model)


def test_the_digest_covers_names_and_shapes(small: OpenClip, tmp_path: Path):
    torch.save({"a": torch.zeros(4)}, tmp_path / "a.pt")
    torch.save({"a": torch.zeros(2, 2)}, tmp_path / "b.pt")
    torch.save({"b": torch.zeros(4)}, tmp_path / "c.pt")
    assert len({weights_digest(tmp_path / name) for name in ("a.pt", "b.pt", "c.pt")}) == 3


def test_a_full_disk_leaves_nothing_half_written(small: OpenClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(state: dict, path: Path, metadata: dict) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(models, "save_file", fail)
    with pytest.raises(DiskFull) as error:
        save_weights(small, tmp_path)
    assert str(error.value) == f"{tmp_path}: no space left on this disk; free some and give the same command again, finished work is kept"
    assert list(tmp_path.iterdir()) == []
