"""What comes from outside the chain: which published files a run asks for, their digest, and base weights put together from parts."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lib import config, files, inputs, llava, paths, store
from lib.config import Resolved
from lib.errors import KitError, MissingInput, RecordError, StageFailed
from tests.tiny_parts import build_model, write_parts

PARTS = ("vicuna-7b-v1.5", "clip-vit-large-patch14-336", "llava-v1.5-mlp2x-336px-pretrain-vicuna-7b-v1.5")
BASE = "llava-v1.5-7b-assembled"


def resolve(*overrides: str, variant: str = "base") -> Resolved:
    return config.resolve("dataengine", variant, "full", overrides)


def refusal(kind: type[KitError], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def asked_for(resolved: Resolved, kind: str) -> set[str]:
    """The places below data/ that `missing` names as data or as weights."""
    below = re.compile(rf"{kind}: (?:.*?/data|data)/(?:dataengine|base)/(\S+) \(")
    return {found[1] for found in map(below.match, inputs.missing(resolved)) if found}


# --- the published data ---


@pytest.fixture
def small(kit_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data root of a submission with a file at it, a folder, and what only some runs read."""
    listed = [
        {"path": "mix.json", "required": True},
        {"path": "pictures/train", "required": True},
        {"path": "extra/records.json", "required": True, "read_by": "records"},
        {"path": "val.json", "required": False},
        {"path": "pretrain/captions.json", "required": False, "read_by": "captions"},
    ]
    listed = [{"what": "w", "where": "nowhere", **item} for item in listed]
    known = inputs.sources("dataengine")
    monkeypatch.setattr(inputs, "sources", lambda submission: {**known, "data": listed})
    root = kit_home / "data" / "dataengine"
    for name in ("mix.json", "pictures/train/0.jpg", "extra/records.json", "val.json", "pretrain/captions.json"):
        files.write_text(root / name, name)
    return root


def test_files_and_folders_at_the_root_count(small: Path):
    assert inputs.published_names("dataengine") == ("extra", "mix.json", "pictures")
    before = inputs.digest(resolve(), "data")
    assert before == files.digest(
        {
            "extra": store.digest_tree(small / "extra"),
            "mix.json": store.digest_tree(small, ("mix.json",)),
            "pictures": store.digest_tree(small / "pictures"),
        }
    )
    files.write_text(small / "val.json", "other")
    assert inputs.digest(resolve(), "data") == before
    found = {before}
    for name in ("mix.json", "pictures/train/0.jpg", "extra/records.json"):
        files.write_text(small / name, "changed")
        found.add(inputs.digest(resolve(), "data"))
    assert len(found) == 4


@pytest.mark.parametrize("name", ["mix.json", "pictures"])
def test_without_a_file_or_folder_at_the_root_there_are_no_data(small: Path, name: str):
    shutil.rmtree(small / name) if (small / name).is_dir() else (small / name).unlink()
    assert inputs.digest(resolve(), "data") is None
    assert refusal(MissingInput, lambda: inputs.prepare(resolve(), ("data",))) == (
        f"dataengine: {paths.relative(small / name)} is not there; "
        "python -m lib plan dataengine --profile full lists what to bring and where to put it"
    )


def test_what_only_some_runs_read_is_asked_of_them_alone(small: Path):
    baseline, published = resolve(variant="baseline"), resolve()
    assert inputs.digest(baseline, "data") == inputs.digest(published, "data")  # 01 is made once for both
    shutil.rmtree(small / "extra")
    assert asked_for(published, "data") == {"extra/records.json"} and inputs.digest(published, "data") is None
    assert asked_for(baseline, "data") == set() and inputs.digest(baseline, "data") is not None


def test_what_is_read_by_one_variant_only_counts_for_it_alone(small: Path):
    before = [inputs.digest(resolve(variant=variant), "data") for variant in ("base", "pretrain")]
    files.write_text(small / "pretrain/captions.json", "changed")
    after = [inputs.digest(resolve(variant=variant), "data") for variant in ("base", "pretrain")]
    assert before[0] == after[0] and before[1] != after[1]


def test_each_variant_of_dataengine_asks_for_what_it_reads(kit_home: Path):
    found = {variant: asked_for(resolve(variant=variant), "data") for variant in ("base", "baseline", "engine", "pretrain")}
    listed = inputs.sources("dataengine")["data"]
    required = {item["path"] for item in listed if item["required"]}
    instructions, captions = ({item["path"] for item in listed if item.get("read_by") == mix} for mix in ("instructions", "captions"))
    records = {"data_engine/dataengine_llava.json"}
    annotations = {f"coco/annotations/{name}.json" for name in ("instances_train2017", "captions_train2017", "instances_val2017")}
    assert found["base"] == required and records < required
    assert found["baseline"] == required - records
    assert found["pretrain"] == required - records - instructions | captions and instructions and captions
    assert found["engine"] == required - records | annotations
    last = resolve("rounds.number=2", "rounds.last=2", "rounds.parent=log/x", "augmentation.source=engine")
    assert asked_for(last, "data") == found["engine"]


def test_a_benchmark_that_is_left_out_is_not_asked_for(kit_home: Path):
    found = asked_for(resolve("infer.benchmarks=[seed, vqav2_val]"), "data")
    assert {path.split("/")[1] for path in found if path.startswith("eval/")} == {"seed_bench", "vqav2"}
    assert "eval/vqav2/val2014" in found and "eval/vqav2/test2015" not in found


def test_every_mark_of_a_source_is_one_that_settings_know():
    listed = inputs.sources("dataengine")
    marks = {item["read_by"] for item in [*listed["data"], *listed["weights"].values()] if "read_by" in item}
    benchmarks = (
        "infer.benchmarks=[seed, mmbench, mme, gqa, vqav2, vqav2_val, scienceqa, pope, textvqa, vizwiz, mm-vet, llava-bench, aokvqa, "
        "okvqa, vizwiz_val, vsr]"
    )
    others = [resolve(variant="engine"), resolve(variant="pretrain"), resolve("augmentation.wording=minigpt4")]
    known = resolve(benchmarks).settings.uses().union(*(one.settings.uses() for one in others))
    assert marks <= known and known - marks == {"aokvqa"}  # A-OKVQA is what every run validates on


# --- base weights in parts ---


@pytest.fixture
def parts(kit_home: Path) -> Path:
    """data/base with the three parts where they belong."""
    base = kit_home / "data" / "base"
    made = write_parts(kit_home / "made", build_model())
    for source, name in zip(made[:2], PARTS, strict=False):
        shutil.copytree(source, base / name)
    (base / PARTS[2]).mkdir()
    shutil.copy(made[2], base / PARTS[2] / "mm_projector.bin")
    return base


def test_missing_parts_are_listed_with_their_places(kit_home: Path):
    base = paths.relative(kit_home / "data" / "base")
    lines = [line for line in inputs.missing(resolve(variant="engine")) if line.startswith("weights")]
    assert lines == [
        (
            f"weights: {base}/ViT-B-32-openai/open_clip_model.safetensors (0.6 GiB; huggingface repository "
            "timm/vit_base_patch32_clip_224.openai, file open_clip_model.safetensors)"
        ),
        f"weights: {base}/vicuna-7b-v1.5/config.json (12.6 GiB; huggingface repository lmsys/vicuna-7b-v1.5, all its files)",
        (
            f"weights: {base}/clip-vit-large-patch14-336/config.json (0.6 GiB; huggingface repository openai/clip-vit-large-patch14-336, "
            "all its files)"
        ),
        f"weights: {base}/{PARTS[2]}/mm_projector.bin (0.04 GiB; huggingface repository liuhaotian/{PARTS[2]}, file mm_projector.bin)",
    ]
    assert asked_for(resolve("augmentation.embedding=tower", variant="engine"), "weights") == asked_for(resolve(), "weights")
    assert refusal(MissingInput, lambda: inputs.prepare(resolve(), ("base",))) == (
        f"dataengine: the base weights {base}/{BASE} are not there; python -m lib plan dataengine --profile full says which file goes there"
    )


def test_parts_are_put_together_once_on_first_need(parts: Path):
    resolved = resolve()
    assert asked_for(resolved, "weights") == set() and inputs.digest(resolved, "base") is None
    inputs.prepare(resolved, ("base",))
    folder = inputs.base_folder(resolved)
    assert folder == parts / BASE
    model, whole = llava.load(folder, dtype="fp32", quantize="none").model.state_dict(), build_model().state_dict()
    assert model.keys() == whole.keys() and all((model[name] == value).all() for name, value in whole.items())
    known, made = inputs.digest(resolved, "base"), (folder / "config.json").stat().st_mtime_ns
    assert known == store.digest_tree(folder)
    inputs.prepare(resolved, ("base",))
    assert (folder / "config.json").stat().st_mtime_ns == made
    for name in PARTS:
        shutil.rmtree(parts / name)
    assert inputs.digest(resolved, "base") == known and asked_for(resolved, "weights") == set()


def test_weights_of_other_parts_than_lie_there_now_are_refused(parts: Path):
    inputs.prepare(resolve(), ("base",))
    files.write_text(parts / PARTS[1] / "config.json", files.read_text(parts / PARTS[1] / "config.json") + " ")
    base = paths.relative(parts)
    assert refusal(RecordError, lambda: inputs.digest(resolve(), "base")) == (
        f"{base}/{BASE} was put together from other files than {base}/{PARTS[1]} has now; delete {base}/{BASE}, it is put together again"
    )
    shutil.rmtree(parts / BASE)
    inputs.prepare(resolve(), ("base",))
    assert inputs.digest(resolve(), "base") is not None


def test_a_part_that_does_not_fit_ends_with_its_own_words(parts: Path):
    (parts / PARTS[0] / "pytorch_model-00002-of-00002.bin").write_bytes(b"half")
    message = refusal(StageFailed, lambda: inputs.prepare(resolve(), ("base",)))
    damaged = parts / PARTS[0] / "pytorch_model-00002-of-00002.bin"
    log = paths.relative(paths.log() / ".stages" / f"{BASE}.log")
    assert message == (
        f"base weights ended with status 1: {damaged}: damaged, cut off or of a torch older than 1.6; copy or download it again ({log})"
    )
    assert not (parts / BASE).exists()


def test_weights_that_are_brought_whole_need_no_parts(parts: Path):
    shutil.copytree(parts / PARTS[0], parts / BASE)
    assert inputs.digest(resolve(), "base") == store.digest_tree(parts / BASE)
