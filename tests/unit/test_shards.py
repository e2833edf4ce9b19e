"""Checkpoints as byte ranges: what is read is what safetensors and transformers wrote, and what is written they read."""

import json
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lib import shards
from lib.errors import ConfigError, DiskFull, MissingInput, WeightsError

TYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool, torch.float8_e4m3fn]


def bytes_of(stored: shards.Stored) -> bytes:
    return b"".join(bytes(chunk) for chunk in stored.read())


@given(st.lists(st.tuples(st.sampled_from(TYPES), st.lists(st.integers(0, 5), max_size=3)), max_size=6), st.randoms())
def test_written_shards_are_read_by_the_library_bit_for_bit(tmp_path_factory, described, chance):
    folder = tmp_path_factory.mktemp("shard")
    state = {f"t{chance.randrange(10**6)}.{number}": (torch.randn(shape) * 50).to(kind) for number, (kind, shape) in enumerate(described)}
    save_file(state, folder / "a.safetensors")
    shards.write_shard(folder / "b.safetensors", shards.read_shard(folder / "a.safetensors"))
    again = load_file(folder / "b.safetensors")
    assert again.keys() == state.keys()
    for name, value in state.items():
        assert (again[name].dtype, again[name].shape) == (value.dtype, value.shape)
        assert again[name].reshape(-1).view(torch.uint8).equal(value.reshape(-1).view(torch.uint8))


def test_a_tensor_longer_than_a_chunk_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "CHUNK_BYTES", 10)
    save_file({"a": torch.arange(6.0), "b": torch.zeros(6)}, tmp_path / "model.safetensors")
    [tensors] = shards.read_shards(tmp_path)
    assert bytes_of(tensors["a"]) == torch.arange(6.0).numpy().tobytes()
    assert bytes_of(tensors["a"].zeroed()) == bytes(24)
    assert tensors["a"].equals(tensors["a"]) and tensors["a"].zeroed().equals(tensors["b"])
    assert not tensors["a"].equals(tensors["b"])


def test_tensors_of_other_shape_or_type_are_not_equal(tmp_path):
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(3, 2), "c": torch.zeros(2, 3, dtype=torch.int32)}, tmp_path / "model.safetensors")
    [tensors] = shards.read_shards(tmp_path)
    assert not tensors["a"].equals(tensors["b"]) and not tensors["a"].equals(tensors["c"])


def sharded(folder: Path) -> Path:
    """A checkpoint of two shards with its index."""
    folder.mkdir()
    save_file({"a": torch.ones(3), "b": torch.ones(2)}, folder / "one.safetensors")
    save_file({"c": torch.ones(1)}, folder / "two.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}}
    (folder / shards.INDEX).write_text(json.dumps(index))
    return folder


def test_shards_are_named_and_indexed_as_transformers_does(tmp_path):
    read = shards.read_shards(sharded(tmp_path / "x"))
    assert [list(shard) for shard in read] == [["a", "b"], ["c"]]
    target = tmp_path / "y"
    target.mkdir()
    shards.write_shards(target, [*read, {}])
    assert sorted(path.name for path in target.iterdir()) == [
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
    ]  # fmt: skip
    assert json.loads((target / shards.INDEX).read_text()) == {
        "metadata": {"total_parameters": 6, "total_size": 24},
        "weight_map": {name: f"model-0000{1 + (name == 'c')}-of-00002.safetensors" for name in "abc"},
    }


def test_one_shard_needs_no_index(tmp_path):
    read = shards.read_shards(sharded(tmp_path / "x"))
    (tmp_path / "y").mkdir()
    shards.write_shards(tmp_path / "y", read[:1])
    assert [path.name for path in (tmp_path / "y").iterdir()] == ["model.safetensors"]


def message_of_reading(folder: Path, kind: type[Exception]) -> str:
    with pytest.raises(kind) as error:
        shards.read_shards(folder)
    return str(error.value)


def test_a_folder_without_safetensors_names_what_is_looked_for(tmp_path):
    assert message_of_reading(tmp_path, MissingInput) == (
        f"{tmp_path}: neither model.safetensors nor model.safetensors.index.json in it; name the folder of a checkpoint saved as safetensors"
    )


def test_a_missing_shard_is_named(tmp_path):
    (sharded(tmp_path / "x") / "two.safetensors").unlink()
    assert message_of_reading(tmp_path / "x", MissingInput) == (
        f"{tmp_path / 'x' / 'two.safetensors'}: no such shard; copy or download the checkpoint again"
    )


def test_a_shard_cut_off_is_named(tmp_path):
    path = sharded(tmp_path / "x") / "one.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    message = message_of_reading(tmp_path / "x", WeightsError)
    assert re.fullmatch(f"{re.escape(str(path))}: not a whole safetensors file \\(.+\\); copy or download it again", message)


@pytest.mark.parametrize("change", [{"d": "two.safetensors"}, {"b": "two.safetensors"}])
def test_an_index_that_disagrees_with_its_shards_is_refused(tmp_path, change):
    path = sharded(tmp_path / "x") / shards.INDEX
    index = json.loads(path.read_text())
    path.write_text(json.dumps({"weight_map": index["weight_map"] | change}))
    assert message_of_reading(tmp_path / "x", WeightsError) == (
        f"{path}: does not agree with its shards about {next(iter(change))}; copy the checkpoint again"
    )


def test_an_index_without_its_map_is_refused(tmp_path):
    (tmp_path / shards.INDEX).write_text("{}")
    assert message_of_reading(tmp_path, WeightsError) == (
        f"{tmp_path / shards.INDEX}: no weight_map in it, so not an index of shards; copy the checkpoint again"
    )


def test_a_config_is_a_json_object_that_is_there(tmp_path):
    with pytest.raises(MissingInput) as error:
        shards.read_config(tmp_path)
    assert str(error.value) == f"{tmp_path}: no config.json in it; name the folder of a checkpoint"
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(WeightsError) as error:
        shards.read_config(tmp_path)
    assert str(error.value) == f"{tmp_path / 'config.json'}: a JSON object expected, found list"


def test_everything_but_weights_and_config_is_copied(tmp_path):
    source, target = tmp_path / "x", tmp_path / "y"
    copied = ["tokenizer.model", "preprocessor_config.json", "templates/chat.jinja", shards.UNUSED]
    left = ["config.json", "model.safetensors", "pytorch_model.bin", "pytorch_model.bin.index.json", shards.INDEX, "original/a.pth", ".git"]
    for name in copied + left:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    target.mkdir()
    shards.copy_other_files(source, target)
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()) == sorted(copied)


def test_a_folder_gets_its_name_when_it_is_whole(tmp_path):
    target = tmp_path / "model"
    (tmp_path / ".model.unfinished" / "left by a killed process").mkdir(parents=True)
    with shards.unfinished(target) as folder:
        (folder / "a").touch()
        assert not target.exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "a"]


def test_an_error_leaves_no_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), shards.unfinished(tmp_path / "model"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_so(tmp_path):
    with pytest.raises(DiskFull) as error, shards.unfinished(tmp_path / "model"):
        raise OSError(28, "No space left on device")
    assert str(error.value).startswith(f"{tmp_path}: no space left on this disk")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_not_written_over(tmp_path):
    with pytest.raises(ConfigError) as error, shards.unfinished(tmp_path):
        pass
    assert str(error.value) == f"{tmp_path}: exists already; remove it, or name a folder that does not exist"


def test_many_names_are_cut():
    assert shards.name_list([str(number) for number in range(22)]).endswith(", 18, 19 and 2 more")
