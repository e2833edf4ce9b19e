"""Every choice of cityllava's settings by one override each, asserted for what it does; the stages before it are hits.

The stages are played in this process from the cells of their notebooks (tests/small.py); choices that do not touch share a training.
"""

import functools
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from lib import blocks, chain, checkpoints, config, curves, files, generation, runs, services
from lib.errors import MissingInput
from lib.submissions.cityllava import block_expansion, costs, data_prep, filters, infer, official, short_qa
from tests import small
from tests.small import SmallRun

pytestmark = [pytest.mark.notebook, pytest.mark.slow]

SUBMISSION = "cityllava"
PLACES = (64 // 16) ** 2  # of one picture in the prompt
KEY = "sk-never-to-be-seen-0123456789"
ORIGINAL_FIELDS = {
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "image_aspect_ratio": "anyres",
    "mm_patch_merge_type": "spatial_unpad",
    "tokenizer_model_max_length": 4096,
    "tokenizer_padding_side": "right",
}


def read(path: Path) -> dict | list:
    """A JSON file."""
    return json.loads(path.read_text())


@functools.cache
def _played_once(stage: str, changes: tuple[tuple[str, str], ...]) -> Path:
    return small.play(stage, dict(changes), of="cityllava")


def played(stage: str, changes: Mapping[str, str]) -> Path:
    """The folder of a stage played with these changes, played once for all tests that look at it."""
    return _played_once(stage, tuple(changes.items()))


def of_variant(name: str) -> dict[str, str]:
    """The changes that make the small chain that of a variant; what the tiny profile sets anyway stays."""
    of_profile = dict(config.flatten(config.layers("cityllava")["profiles"]["tiny"]))
    own = config.flatten(config.layers("cityllava")["variants"][name])
    return {key: yaml.safe_dump(value, default_flow_style=True).split("\n")[0] for key, value in own if key not in of_profile}


LORA, SFT = (of_variant(name) | {"block_expansion.new_blocks": "0"} for name in ("lora", "sft"))
FEWER = {"augmentation.short_qa": "false"}
SHORT = {**FEWER, "finetune.evaluations_per_epoch": "1", "finetune.saves_per_epoch": "1"}  # enough to see what moves
LOCAL = {"pictures.views": "[local]", "finetune.trained": "blocks"}
TILES = {
    "pictures.views": "[global]",
    "pictures.resize": "anyres",
    "block_expansion.new_blocks": "1",
    "finetune.trained": "head",
}  # fmt: skip


def state(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a folder by name, all in one spelling."""
    found = {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}
    return {checkpoints.from_hugging_face(name): value for name, value in found.items()}


def changed_names(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> set[str]:
    """Names of the weights that differ; both hold the same names."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def predictions(folder: Path, benchmark: str = "val", model: str = "finetuned") -> list[infer.Prediction]:
    """What 05 wrote."""
    return infer.read_predictions(folder / f"{benchmark}-{model}.jsonl")


def base_of(run: SmallRun) -> Path:
    """The tiny base weights of the small run."""
    (folder,) = (run.home / "data" / "base").glob("llava-????????????")
    return folder


# 01: which view is asked about


def views_of(folder: Path, split: str = "val") -> dict[str, str]:
    """The video that stands for each scenario."""
    return read(folder / f"processed_anno/best_view_for_{split}.json")


def test_without_view_selection_the_first_camera_from_above_stands_for_its_scenario(small_run):
    folder = played("data_prep", {"data_prep.best_view": "false"})
    for split in ("val", "test"):
        layout = data_prep.annotations.layout_of(small_run.data, "wts", split)
        for scenario, video in views_of(folder, split).items():
            found = next((small_run.data / layout.captions).rglob(f"overhead_view/{scenario}_caption.json"), None)
            assert video == (read(found)["overhead_videos"][0] if found else f"{scenario}.mp4")
    assert views_of(folder) != views_of(small_run.stage("data_prep"))


def test_corrected_a_camera_without_boxes_borrows_no_area_and_the_view_is_the_cameras(small_run):
    folder = played("data_prep", {"data_prep.quirks.borrowed_area": "corrected", "data_prep.quirks.perspective": "corrected"})
    published = small_run.stage("data_prep")
    by_vehicle = {}
    for split in ("val", "test"):
        found, before = views_of(folder, split), views_of(published, split)
        by_vehicle |= {name: video for name, video in found.items() if "vehicle_view" in video and "vehicle_view" not in before[name]}
        asked = {(one.scenario, one.label): one.view for one in data_prep.read_frames(folder, split)}
        for (scenario, _), view in asked.items():
            assert view == ("vehicle" if "vehicle_view" in found[scenario] or scenario.startswith("video") else "overhead")
        assert "overhead" in {one.view for one in data_prep.read_frames(published, split) if not one.scenario.startswith("video")}
    for scenario in by_vehicle:  # whose cameras from above have no box of the pedestrian
        boxed = {path: entry["ped_bboxes"] for split in ("val", "test") for path, entry in data_prep.read_extraction(folder, split).items()}
        assert not any(boxes for path, boxes in boxed.items() if scenario in path and "overhead_view" in path)
    assert by_vehicle


# 02: what is trained on


def samples(folder: Path, name: str = filters.CHECKED) -> list[dict]:
    """The samples of a step of 02."""
    return read(folder / name)


def questions(folder: Path, name: str = filters.CHECKED) -> set[str]:
    """What is asked, without the sentence on the stage."""
    return {one["conversations"][0]["value"].partition("stage. ")[2] for one in samples(folder, name)}


def test_without_short_questions_every_sample_is_a_whole_caption_and_nobody_is_asked(small_run):
    folder = played("augmentation", FEWER)
    assert {one["full_flag"] for one in samples(folder)} == {1}
    full = [one for one in samples(small_run.stage("augmentation")) if one["full_flag"]]
    assert [one["conversations"] for one in samples(folder)] == [one["conversations"] for one in full]
    assert not any(" answer: " in reason for reason in read(folder / "record.json")["dropped"])


def test_without_the_reference_list_every_camera_is_trained_on(small_run):
    folder = played("augmentation", {"augmentation.reference_views": "false"})
    dropped = read(small_run.stage("augmentation") / "report.json")["dropped"]["camera not in the reference list"]
    assert "camera not in the reference list" not in read(folder / "report.json")["dropped"]
    added = {one["image"] for one in samples(folder)} - {one["image"] for one in samples(small_run.stage("augmentation"))}
    assert added and added & set(dropped["first"])


def test_every_box_has_to_exceed_the_area_of_the_settings(small_run):
    folder = played("augmentation", {"augmentation.area_threshold": "0"})
    assert "pedestrian too small" not in read(folder / "report.json")["dropped"]
    assert len(samples(folder)) > len(samples(small_run.stage("augmentation")))


def test_corrected_questions_stand_alone_and_speak_of_the_vehicle_that_films_as_at_inference(small_run):
    changes = {"augmentation.quirks.glued_question": "corrected", "augmentation.quirks.ego_wording": "corrected"}
    folder, published = played("augmentation", changes), small_run.stage("augmentation")
    driving = "Describe the driving status of the vehicle in the blue bounding box."
    assert f"{driving}Describe the attributes of the pedestrian with the green bounding box." in questions(published)
    assert driving in questions(folder) and not any(".Describe" in text for text in questions(folder))
    for one in samples(folder):
        if filters.is_ego_view(one["image"]):
            assert "blue" not in one["conversations"][0]["value"]
    assert any("blue" in one["conversations"][0]["value"] for one in samples(published) if filters.is_ego_view(one["image"]))
    asked = {question for one in ask_all(small_run) if one.view == "vehicle" for question in one.questions[0]}
    assert {text.partition("stage. \n")[2] for text in asked} <= questions(folder)


def test_the_stand_ins_answers_are_read_alike_by_both_rules(small_run):
    folder = played("augmentation", {"augmentation.quirks.letters": "as_published"})
    assert samples(folder, short_qa.MERGED) == samples(small_run.stage("augmentation"), short_qa.MERGED)


class Server:
    """A chat endpoint on the loopback; it keeps what it was asked, and `reply` decides what it says."""

    def __init__(self, reply: Callable[[str], str]) -> None:
        self.bodies: list[dict] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.bodies.append(body)
                text = reply(body["messages"][-1]["content"])
                content = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Nothing on stderr."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


def in_words(prompt: str) -> str:
    """An answer as a language model might word it: the option's letter with its first words, which hold other letters."""
    sentences = [line.partition(".")[0] for line in prompt.partition(short_qa.TEXT_FOLLOWS)[2].splitlines() if line]
    return "\n".join(f"{number}.b (relative position)" for number in sentences)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running endpoint that the environment names."""
    served = Server(in_words)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv(services.URL_VARIABLE, f"http://127.0.0.1:{served.http.server_port}/v1")
    monkeypatch.setenv(services.KEY_VARIABLE, KEY)
    yield served
    served.http.shutdown()


def test_an_endpoint_is_asked_once_per_caption_and_what_it_said_is_replayed_without_it(small_run, server, monkeypatch):
    asked = {"augmentation.service": "endpoint", "augmentation.language_model": "qwen-tiny"}
    folder = small.play("augmentation", asked, of="cityllava")
    prompts = [body["messages"][-1]["content"] for body in server.bodies]
    captions = {
        short_qa.build_prompt(short_qa.caption_of(one, kind), kind) for one in trained_records(small_run) for kind in short_qa.KINDS
    }
    assert sorted(prompts) == sorted(captions)
    assert all(body["messages"][0] == {"role": "system", "content": short_qa.QWEN_SYSTEM} for body in server.bodies)
    assert not any(KEY.encode() in path.read_bytes() for path in files.list_files(folder))
    # Read as people read it, every sentence is about positions; by the published rule "relative" begins with its a.
    assert letters_of(folder) == {"pedestrian": "b", "vehicle": "b"}

    monkeypatch.delenv(services.URL_VARIABLE)
    replayed = {**asked, "augmentation.quirks.letters": "as_published"}
    with pytest.raises(MissingInput, match="answers and no endpoint is set"):
        small.play("augmentation", replayed, of="cityllava")
    place = place_of("augmentation", replayed)
    shutil.copy(folder / "answers.jsonl", place / "answers.jsonl")
    assert small.play("augmentation", replayed, of="cityllava") == place
    assert len(server.bodies) == len(prompts)
    assert samples(place, short_qa.MERGED) != samples(folder, short_qa.MERGED)
    assert letters_of(place) == {"pedestrian": "a", "vehicle": "a"}


def trained_records(run: SmallRun) -> list[dict]:
    """The training records that 01 wrote."""
    return data_prep.read_records(run.stage("data_prep"), "train")


def letters_of(folder: Path) -> dict[str, str]:
    """The letters, in one word, whose short questions occur for each kind of caption."""
    return {
        kind: "".join(
            letter
            for letter, question in short_qa.SHORT_QUESTIONS[kind].items()
            if any(
                one["conversations"][0]["value"].startswith(short_qa.IMAGE + question) for one in read(folder / short_qa.MERGED_KIND[kind])
            )
        )
        for kind in short_qa.KINDS
    }


def place_of(stage: str, changes: Mapping[str, str]) -> Path:
    """Where the result of a stage with these changes belongs."""
    resolved = config.resolve("cityllava", overrides=small.overrides(changes, of="cityllava"))
    return chain.links(resolved, until=stage, by_hand=True)[stage].place


# 03: the blocks


def test_as_published_the_expansion_scrambles_the_tower_and_the_proof_says_so(small_run):
    place = played("block_expansion", {"block_expansion.quirks.vision_tower": "as_published"})
    assert blocks.prove_identity(base_of(small_run), place / block_expansion.MODEL, positions=40, seed=0).max_difference > 0
    differing = blocks.prove_structure(base_of(small_run), place / block_expansion.MODEL, block_expansion.read_expansion(place)).different
    assert differing and all("vision_tower" in name for name in differing)
    tower = {name for name in differing if re.search(r"layers\.(2|3)\.", name)}
    assert tower == set(differing)  # of four layers come 0, 1, 1, 2; the last two are no longer themselves


@pytest.fixture
def original_base(small_run: SmallRun) -> Iterator[Path]:
    """The tiny base weights in the layout of the LLaVA repository, where published ones would lie, beside their CLIP's config."""
    place = small_run.home / "data" / "base" / "llava-tiny-original"
    to_original(base_of(small_run), place)
    yield place
    shutil.rmtree(place)
    shutil.rmtree(place.parent / block_expansion.CLIP)


def to_original(source: Path, target: Path) -> None:
    """Write the weights of a folder in the original layout, and the tower's config beside them, as it is no published one."""
    checkpoints.to_original(source, target, fields=ORIGINAL_FIELDS)
    (target.parent / block_expansion.CLIP).mkdir(exist_ok=True)
    files.write_json(target.parent / block_expansion.CLIP / "config.json", read(source / "config.json")["vision_config"])


def test_weights_of_the_original_layout_stand_for_base_and_training_wherever_they_lie(small_run, original_base, tmp_path):
    published = {"model.base": "null", "model.pretrained": "original"}
    assert checkpoints.is_original_layout(original_base)
    place = played("block_expansion", published)
    assert not changed_names(state(small_run.stage("block_expansion") / block_expansion.MODEL), state(place / block_expansion.MODEL))

    released = tmp_path / "released"
    to_original(small_run.stage("finetune") / "model", released)
    changes = {**published, "infer.checkpoint": str(released)}
    folder = small.play("infer", changes, of="cityllava")
    for benchmark in ("val", "test"):
        for model in ("base", "finetuned"):
            assert predictions(folder, benchmark, model) == predictions(small_run.stage("infer"), benchmark, model)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("released", block_expansion.CLIP):
        (tmp_path / name).rename(elsewhere / name)
    assert place_of("infer", {**published, "infer.checkpoint": str(elsewhere / "released")}) == folder


# 04: what is trained


def trained(changes: Mapping[str, str]) -> Path:
    """The folder of a short training with these changes, and of the expansion that it starts from."""
    played("augmentation", FEWER)
    played("block_expansion", {**changes, **SHORT})
    return played("finetune", {**changes, **SHORT})


def pictures_of(folder: Path) -> set[tuple[str, ...]]:
    """Which pictures the samples of a training have, in their order."""
    return {
        tuple(re.search(r"bbox_(\w+)", path)[1] for path in one["pictures"])
        for name in ("train", "val")
        for one in files.read_jsonl(folder / f"{name}.jsonl")
    }


def test_the_crop_alone_is_seen_and_the_blocks_alone_are_trained(small_run):
    folder = trained(LOCAL)
    assert pictures_of(folder) == {("local",)}
    before = state(small_run.stage("block_expansion") / block_expansion.MODEL)
    changed = changed_names(before, state(folder / "model"))
    assert changed and all(re.search(r"\.layers\.(2|5)\.", name) and "vision_tower" not in name for name in changed)
    assert [one.pictures for one in ask_all(small_run, LOCAL)] == [(filters.local_image(one.pictures[1]),) for one in ask_all(small_run)]


def test_the_whole_frame_in_tiles_is_seen_and_the_head_alone_is_trained(small_run):
    folder = trained(TILES)
    assert pictures_of(folder) == {("global",)}
    expansion = block_expansion.read_expansion(played("block_expansion", {**TILES, **SHORT}))
    assert expansion.inserted == (4,) and expansion.base_layers == 4
    before = state(played("block_expansion", {**TILES, **SHORT}) / block_expansion.MODEL)
    assert {name.removesuffix(".weight").rpartition(".")[2] for name in changed_names(before, state(folder / "model"))} == {"lm_head"}
    heard = listen(small_run, TILES, finetuned=folder / "model")
    assert {one.places % PLACES for one in heard} == {0} and all(one.places >= 3 * PLACES for one in heard)
    # A frame of 16:9 is seen whole, and in tiles two beside each other or more.


@pytest.mark.parametrize(("name", "changes"), [("lora", LORA), ("sft", SFT)])
def test_a_variant_is_these_changes_of_the_settings(name, changes):
    as_variant = config.resolve("cityllava", variant=name, overrides=small.overrides({"block_expansion.new_blocks": "0"}, of="cityllava"))
    assert config.resolve("cityllava", overrides=small.overrides(changes, of="cityllava")).values() == as_variant.values()


def test_adapters_are_trained_with_the_projector_and_merged_into_the_weights_that_are_asked(small_run):
    folder = trained(LORA)
    assert pictures_of(folder) == {("global",)}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in (folder / "adapter").iterdir()}
    changed = changed_names(state(base_of(small_run)), state(folder / "model"))
    linear = r"\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\.weight"
    assert {re.sub(r"\.layers\.\d+\.", ".", name) for name in changed if "multi_modal_projector" not in name}
    for name in changed:
        assert "multi_modal_projector" in name or (re.search(linear, name) and "vision_tower" not in name)
    assert sum("multi_modal_projector" in name for name in changed) == 4 and len(changed) == 4 + 7 * 4
    assert curves.read_params(folder / "params.txt")["projector_lr"] == "2e-05"
    asked = played("infer", {**LORA, **SHORT})
    assert predictions(asked, model="base") and predictions(asked) != predictions(asked, model="base")


def test_full_training_changes_everything_but_the_tower(small_run):
    folder = trained(SFT)
    assert pictures_of(folder) == {("global",)}
    before, after = state(base_of(small_run)), state(folder / "model")
    changed = changed_names(before, after)
    assert not any("vision_tower" in name for name in changed)
    untouched = {name for name in before if name not in changed and "vision_tower" not in name}
    assert not untouched
    # Padded to a square, the same frame is another picture than squashed.
    frame = data_prep.media_root(small_run.stage("data_prep")) / trained_records(small_run)[0]["image"]
    padded, squashed = (generation.llava.pixel_values([frame], 64, way) for way in ("pad", "squash"))
    assert padded.shape == squashed.shape and not torch.equal(padded, squashed)


# 05: how is asked


class Heard:
    """One question as the model read it: the whole text, and how many places of it the pictures take."""

    def __init__(self, name: str, text: str, places: int) -> None:
        self.name, self.text, self.places = name, text, places


def settings_of(changes: Mapping[str, str]) -> config.StageSettings:
    """The settings of 05 with these changes."""
    return config.resolve("cityllava", overrides=small.overrides(changes, of="cityllava")).for_stage("infer", infer.SETTINGS)


def as_run(run: SmallRun, out: Path, finetuned: Path | None = None) -> runs.Run:
    """What 05 gets, with a place of its own to write to."""
    stages = {name: run.stage(name) for name in ("data_prep", "block_expansion", "finetune")}
    stages |= {} if finetuned is None else {"finetune": finetuned.parent}
    return runs.Run("cityllava", "infer", "tiny", out, out, "", stages, base=base_of(run))


def ask_all(run: SmallRun, changes: Mapping[str, str] | None = None) -> list[infer.Prompt]:
    """Everything that 05 asks with these changes."""
    return infer.build_prompts(settings_of(changes or {}), as_run(run, run.home))


def ask(run: SmallRun, out: Path, changes: Mapping[str, str], finetuned: Path | None = None) -> list[infer.Prediction]:
    """The answers of the trained model about every ninth phase."""
    cfg, own = settings_of(changes), as_run(run, out, finetuned)
    return infer.predict(infer.load_model(cfg, own), infer.build_prompts(cfg, own)[::9], cfg, own)


def listen(run: SmallRun, changes: Mapping[str, str], finetuned: Path | None = None) -> list[Heard]:
    """What the model gets to read of it, and answers with "I saw <place of the question>."."""
    heard = []

    def answer(bundle: object, prompts: list[list[int]], views: list[torch.Tensor], names: list[str], how: generation.How) -> list[str]:
        token = bundle.tokenizer.image_token_id
        for name, ids in zip(names, prompts, strict=True):
            text = bundle.tokenizer.decode([one for one in ids if one != token], skip_special_tokens=False)
            heard.append(Heard(name, text, ids.count(token)))
        assert sum(map(len, views)) * PLACES == sum(ids.count(token) for ids in prompts)
        return [f"I saw {name}.<|im_end|>" for name in names]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(generation, "_generate", answer)
        out = run.home / "heard"
        try:
            heard.append(ask(run, out, changes, finetuned))
        finally:
            shutil.rmtree(out)
    said = heard.pop()
    for one in said:
        kinds = [kind for conversation_ in infer.ORDERS[settings_of(changes).infer.order] for kind in conversation_]
        for kind in kinds:
            (asked,) = [each for each in heard if getattr(one, kind) == f"I saw {each.name}."]
            last = asked.text.rpartition("<|im_start|>user\n")[2]
            assert ("Describe the pedestrian" in last) == (kind == "pedestrian")
    return heard


def test_the_vehicle_is_asked_about_first_and_its_answer_is_in_the_history_as_published(small_run):
    heard = listen(small_run, {})
    first, second = ([one for one in heard if one.name.endswith(f" {turn}")] for turn in (0, 1))
    assert len(first) == len(second) == len(heard) / 2
    assert {one.places for one in heard} == {2 * PLACES}
    for before, after in zip(first, second, strict=True):
        assert re.search(
            r"stage\. \nThis picture shows the relationship between the (vehicle in the blue bounding box|ego-vehicle) and", before.text
        )
        assert after.text.startswith(before.text)
        assert f"assistant\nI saw {before.name}.<|im_end|><|im_end|><|im_start|>user" in after.text
        assert "<|im_end|><|im_end|>" not in before.text


def test_corrected_the_history_ends_its_answers_once_and_the_stage_no_line(small_run):
    changes = {"infer.quirks.history": "corrected", "infer.quirks.stage_line": "corrected", "infer.order": "pedestrian_first"}
    heard = listen(small_run, changes)
    for one in heard:
        assert re.search(r"stage\. This picture shows", one.text) and "stage. \n" not in one.text
        assert "<|im_end|><|im_end|>" not in one.text
        asked = re.findall(r"Describe the (pedestrian|vehicle|ego-vehicle)", one.text)
        assert asked[0] == "pedestrian" and len(asked) == int(one.name[-1]) + 1


def test_independent_questions_know_nothing_of_each_other(small_run):
    heard = listen(small_run, {"infer.order": "independent"})
    assert all(one.text.count("<|im_start|>user") == 1 for one in heard)
    assert {one.places for one in heard} == {2 * PLACES}
    assert len(heard) == 2 * len({one.name.rpartition(" ")[0].rpartition(" ")[0] for one in heard})


def test_another_order_gives_other_captions_through_to_the_score(small_run):
    changes = {"infer.order": "independent"}
    folder = played("infer", changes)
    for found, before in zip(predictions(folder), predictions(small_run.stage("infer")), strict=True):
        assert (found.scenario, found.label) == (before.scenario, before.label)
        assert found.vehicle == before.vehicle  # nothing stands before it in either order
    assert (
        official.find_problems(read(played("evaluate", changes) / "submission.json"), views_of(small_run.stage("data_prep"), "test")) == []
    )


def test_what_is_drawn_depends_on_its_seed_and_not_on_batches_or_processes(small_run, tmp_path):
    drawn = {"infer.sample": "true", "infer.temperature": "1.0"}
    first = ask(small_run, tmp_path / "first", drawn)
    assert ask(small_run, tmp_path / "batches", {**drawn, "machine.batch": "3"}) == first
    assert ask(small_run, tmp_path / "processes", {**drawn, "machine.shards": "2"}) == first
    assert ask(small_run, tmp_path / "seed", {**drawn, "infer.sampling_seed": "7"}) != first
    greedy = [one for benchmark in ("val", "test") for one in predictions(small_run.stage("infer"), benchmark)][::9]
    assert ask(small_run, tmp_path / "greedy", {"machine.batch": "5"}) == greedy != first


# before anything starts


def test_the_full_recipe_is_estimated_from_the_parameters_and_the_readmes_hours():
    settings = config.resolve("cityllava", profile="full").settings
    rows = {row["stage"]: row for row in costs.estimate(settings, gpus=8)}
    assert rows["finetune"]["hours"] == 8.0 and "README" in rows["finetune"]["basis"]
    # 41.4 billion parameters of two bytes, and fourteen more for each of the 7.15 billion that train, over eight GPUs.
    assert rows["finetune"]["gpu_gib"] == pytest.approx((2 * 41.44e9 + 14 * 7.153e9) / 8 / 2**30, rel=0.01)
    sft = config.resolve("cityllava", variant="sft", profile="full").settings
    assert {row["stage"]: row for row in costs.estimate(sft, gpus=8)}["finetune"]["gpu_gib"] > rows["finetune"]["gpu_gib"]
    assert costs.estimate(config.resolve("cityllava").settings, gpus=1) == []
