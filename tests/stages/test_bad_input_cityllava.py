"""Bad input to cityllava: what is odd is counted by reason and named, the rest goes on; what cannot be used is refused in one line.

Paths differ from machine to machine: HOME stands for the home of the small run, DATA for its data set, KEY for letters of a digest.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from lib import config, files, runs, services
from lib.errors import ConfigError, DataError, MissingInput, StageFailed, WeightsError
from lib.submissions.cityllava import data_prep, evaluate, filters, infer, official, short_qa
from lib.submissions.cityllava.short_qa import merge, parse_answer
from tests import small
from tests.small import SmallRun, plain, refusal

pytestmark = [pytest.mark.notebook, pytest.mark.slow]

SUBMISSION = "cityllava"
WTS, BDD = "WTS", "BDD_PC_5k"


def read(path: Path) -> dict | list:
    """A JSON file."""
    return json.loads(path.read_text())


def play(stage: str, changes: Mapping[str, str] | None = None) -> Path:
    """The folder of a stage of the small chain, played in this process."""
    return small.play(stage, changes, of="cityllava")


@contextmanager
def damaged(contents: Mapping[Path, bytes | None]) -> Iterator[None]:
    """The data set with other contents of these files, new ones among them, None for none; afterwards as it was, to its time stamps."""
    before = {path: (path.read_bytes(), path.stat()) if path.is_file() else None for path in contents}
    try:
        for path, content in contents.items():
            path.unlink(missing_ok=True) if content is None else (path.parent.mkdir(parents=True, exist_ok=True), path.write_bytes(content))
        yield
    finally:
        for path, known in before.items():
            if known is None:
                path.unlink()
                continue
            path.write_bytes(known[0])
            files.os.utime(path, ns=(known[1].st_atime_ns, known[1].st_mtime_ns))


def changed_json(path: Path, **changes: object) -> bytes:
    """The object of a file with other values."""
    return json.dumps(read(path) | changes).encode()


def with_first(path: Path, key: str, **changes: object) -> bytes:
    """The object of a file whose list `key` has other values in its first entry."""
    entries = read(path)[key]
    return changed_json(path, **{key: [entries[0] | changes, *entries[1:]]})


def reasons(folder: Path) -> dict[str, int]:
    """What a stage counted by reason."""
    return read(folder / "record.json")["dropped"]


# 01: the trees


@pytest.fixture
def captions(small_run: SmallRun) -> list[Path]:
    """The caption files of train: those of WTS from above, sorted, then those of BDD."""
    found = sorted((small_run.data / WTS / "annotations/caption/train").rglob("overhead_view/*_caption.json"))
    return [*found, *sorted((small_run.data / BDD / "annotations/caption/train").glob("*_caption.json"))]


def scenario_of(path: Path) -> str:
    """The scenario that a caption file tells of."""
    return path.name.removesuffix("_caption.json")


def box_file(run: SmallRun, caption: Path, kind: str = "pedestrian") -> Path:
    """The box file that belongs to the first video of a caption file of train."""
    if BDD in str(caption):
        return run.data / BDD / "annotations/bbox_annotated/train" / f"{scenario_of(caption)}_bbox.json"
    below = caption.parent.relative_to(run.data / WTS / "annotations/caption/train")
    camera = read(caption)["overhead_videos"][0].removesuffix(".mp4")
    return run.data / WTS / "annotations/bbox_annotated" / kind / "train" / below / f"{camera}_bbox.json"


def video_file(run: SmallRun, caption: Path) -> Path:
    """The first video of a caption file of train."""
    if BDD in str(caption):
        return run.data / BDD / "videos/train" / f"{scenario_of(caption)}.mp4"
    below = caption.parent.relative_to(run.data / WTS / "annotations/caption/train")
    return run.data / WTS / "videos/train" / below / read(caption)["overhead_videos"][0]


def test_everything_odd_in_the_trees_is_counted_by_reason_and_the_rest_is_trained_on(small_run, captions):
    boxed = [one for one in captions if box_file(small_run, one).is_file()]
    wts, bdd = [one for one in boxed if BDD not in str(one)], [one for one in boxed if BDD in str(one)]
    vehicles = box_file(small_run, wts[0], "vehicle")
    moved = [entry | {"image_id": entry["image_id"] + 1} for entry in read(vehicles)["annotations"]]
    outside = [entry | {"bbox": [5000.0, 5000.0, 10.0, 10.0]} for entry in read(box_file(small_run, bdd[0]))["annotations"]]
    phases = read(bdd[0])["event_phase"]
    double = bdd[1].with_name("video999_caption.json")
    again = small_run.data / WTS / "annotations/caption/train/normal_trimmed" / scenario_of(wts[0]) / "overhead_view" / wts[0].name
    whole = video_file(small_run, wts[1]).read_bytes()
    contents = {
        vehicles: changed_json(vehicles, annotations=moved),
        again: wts[0].read_bytes(),
        box_file(small_run, bdd[0]): changed_json(box_file(small_run, bdd[0]), annotations=[*outside, {"bbox": "wide"}]),
        bdd[0]: changed_json(
            bdd[0], fps="fast", event_phase=[phases[0] | {"caption_vehicle": "  "}, phases[1], phases[1], *phases[2:], "?"]
        ),
        box_file(small_run, bdd[1]): None,
        double: bdd[1].read_bytes(),
        video_file(small_run, wts[1]): whole[: len(whole) // 3],
        video_file(small_run, bdd[2]): None,
    }
    before = reasons(small_run.stage("data_prep"))
    with damaged(contents):
        folder = play("data_prep")
        trained = read(play("augmentation") / filters.CHECKED)
    shutil.rmtree(again.parents[1])
    added = {reason: count - before.get(reason, 0) for reason, count in reasons(folder).items()}
    expected = {
        "boxes of a phase on different frames": len(moved),
        "scenario twice": 1,
        "box reaches outside the frame": len(outside),
        "crop empty, whole frame used": len(outside),
        "box malformed": 1,
        "fps is no number": 1,
        "caption empty": 1,
        "record with an empty caption": 1,
        "phase captioned twice": 1,
        "phase without a usable label and times": 1,
        "video captioned twice": 1,
        "video unreadable": 1,
        "video missing": 1,
    }
    assert {reason: added.get(reason) for reason in expected} == expected
    assert added["captions without boxes"] == len(read(bdd[1])["event_phase"])
    findings = read(folder / "report.json")["findings"]
    assert findings["video missing"]["first"] == [str(video_file(small_run, bdd[2]).relative_to(small_run.data))]
    assert scenario_of(wts[0]) in findings["scenario twice"]["first"][0]
    lost = {scenario_of(one) for one in bdd[1:3]}
    assert trained and not lost & {one["id"] for one in trained}
    assert scenario_of(wts[0]) in {one["id"] for one in data_prep.read_records(folder, "train")}


def test_a_box_outside_the_frame_leaves_two_whole_frames(small_run, captions):
    caption = next(one for one in captions if BDD in str(one) and box_file(small_run, one).is_file())
    path = box_file(small_run, caption)
    outside = [entry | {"bbox": [5000.0, 5000.0, 10.0, 10.0]} for entry in read(path)["annotations"]]
    with damaged({path: changed_json(path, annotations=outside)}):
        folder = play("data_prep")
    video = str(video_file(small_run, caption).relative_to(small_run.data))
    for entry in outside:
        pair = [
            data_prep.open_picture(data_prep.media_root(folder) / data_prep.frames.picture_path(video, int(entry["phase_number"]), extent))
            for extent in ("global", "local")
        ]
        assert pair[0].size == pair[1].size


def test_a_data_set_without_any_training_video_is_refused_in_one_line(small_run):
    videos = [path for corpus in (WTS, BDD) for path in (small_run.data / corpus / "videos/train").rglob("*.mp4")]
    with damaged(dict.fromkeys(videos)):
        line = refusal(small_run, "run", "cityllava", "--stages", "1", *small.sets(of="cityllava"))
    assert re.fullmatch(
        r"cityllava data_prep: DATA: no training caption has a rendered picture; \d+ findings, the first: video missing, WTS/videos/train/\S+\.mp4 "
        r"\[HOME/log/\.stages/cityllava/01-data-prep/KEY/notebook\.ipynb\]",
        line,
    ), line


def test_a_split_without_a_single_clip_is_refused_in_one_line(small_run):
    place = small_run.data / "test_part"
    aside = place.rename(small_run.home / "aside")
    try:
        with pytest.raises(DataError) as error:
            play("data_prep")
    finally:
        aside.rename(place)
    assert plain(str(error.value), small_run) == (
        "DATA: no video and no caption of split test: neither test_part/WTS_DATASET_PUBLIC_TEST/annotations/caption/test/public_challenge "
        "nor test_part/WTS_DATASET_PUBLIC_TEST/external/BDD_PC_5K/annotations/caption/test/public_challenge holds any; see data/README.md "
        "for the trees"
    )


def test_without_the_reference_list_nothing_is_restricted_and_it_is_counted(small_run):
    path = next((small_run.data / "test_part").glob("view_used*.csv"))
    with damaged({path: None}):
        folder = play("data_prep")
        dropped = reasons(play("augmentation"))
    assert reasons(folder)["reference list missing"] == 1
    assert "camera not in the reference list" not in dropped
    assert read(folder / "reference_views.json") == {}


# 02: what a language model says


ODD = [
    "",
    "   \n\n",
    "I cannot help with that.",
    "1) a\n2) B\n3. option c",
    "1.a.\n2. d - weather",
    "0.a\n-3.b\n99.c",
    "1.a\n1.b",
    "1.z\n2.\n.a",
    "{\"1\": \"a\"}",
    "[1, 2, 3]",
    "1．ａ",
    "1.a " * 5000,
    "\x00\x01\ufffd",
    "9" * 400 + ".a",
    None,
]  # fmt: skip


@pytest.mark.parametrize("answer", ODD)
@pytest.mark.parametrize("letters", ["corrected", "as_published"])
def test_an_answer_of_any_shape_costs_short_questions_and_never_the_run(small_run, answer, letters):
    record = data_prep.read_records(small_run.stage("data_prep"), "train")[0]
    caption = short_qa.caption_of(record, "pedestrian")
    labelled, problems = parse_answer(answer, caption, letters=letters)
    sentences = short_qa.split_sentences(caption)
    assert {sentence for _, sentence in labelled} <= {f"{text.strip()}." for text in sentences.values()}
    samples, findings = merge([record | {"pedestrian_response": answer}], "pedestrian", letters=letters, glued_question="corrected")
    assert [one["full_flag"] for one in samples] == [0] * (len(samples) - 1) + [1]
    assert len(findings) == problems.total()
    assert problems or {letter for letter, _ in labelled} <= set("abcde")


def test_an_endpoint_that_answers_oddly_is_counted(small_run, monkeypatch):
    given = iter(range(10**6))

    def reply(request: services.Request) -> services.Outcome:
        text = ODD[next(given) % len(ODD)]
        return services.Outcome(None, "status 400", "no") if text is None else services.Outcome(text or "?")

    class Odd:
        def ask(self, requests: list[services.Request], progress: services.Progress) -> list[services.Outcome]:
            return [reply(one) for one in requests]

    changes = {"augmentation.service": "endpoint", "augmentation.language_model": "odd"}
    monkeypatch.setattr("lib.submissions.cityllava.augmentation._open_service", lambda *_: Odd())
    folder = play("augmentation", changes)
    counted = reasons(folder)
    assert counted["pedestrian caption not classified: status 400"] > 0
    assert counted["pedestrian answer: line without number and letter"] > 0 and counted["vehicle answer: no answer"] > 0
    trained = read(folder / filters.CHECKED)
    assert any(one["full_flag"] for one in trained) and any(not one["full_flag"] for one in trained)
    monkeypatch.undo()


def test_an_endpoint_that_is_not_set_is_named_with_its_variables(small_run, monkeypatch):
    monkeypatch.delenv(services.URL_VARIABLE, raising=False)
    with pytest.raises(MissingInput) as error:
        play("augmentation", {"augmentation.service": "endpoint", "augmentation.language_model": "gpt-4"})
    assert re.fullmatch(
        r"HOME/log/\.stages/cityllava/02-augmentation/KEY/answers\.jsonl lacks \d+ of \d+ answers and no endpoint is set; put its address "
        r"into PODIUM_LLM_URL and its key into PODIUM_LLM_KEY, or choose the offline stand-in",
        plain(str(error.value), small_run),
    )


def test_a_threshold_that_no_box_exceeds_leaves_nothing_to_train_on(small_run):
    with pytest.raises(DataError) as error:
        play("augmentation", {"augmentation.area_threshold": "10000000"})
    assert str(error.value) == "no training sample is left; the counts of this stage say what each step dropped"


# 03 and 04: settings that cannot be


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variant", "qlora"], "cityllava has no variant 'qlora'; it has: base, lora, sft"),
        (
            ["--set", "block_expansion.new_blocks=0"],
            "finetune.method is 'blocks', block_expansion.new_blocks 0; insert blocks, or train with finetune.method=lora or full",
        ),
        (
            ["--set", "pictures.views=[above]"],
            "cityllava base tiny: pictures.views.0 = 'above' cannot be: input should be 'local' or 'global'",
        ),
        (
            ["--set", "finetune.epochs=0.5"],
            "cityllava base tiny: finetune.epochs = 0.5 cannot be: input should be a valid integer, got a number with a fractional part",
        ),
        (
            ["--set", "infer.order=both"],
            "cityllava base tiny: infer.order = 'both' cannot be: input should be 'vehicle_first', 'pedestrian_first' or 'independent'",
        ),
        (
            ["--set", "augmentation.quirks.letter=corrected"],
            "cityllava base tiny: no setting 'augmentation.quirks.letter'; augmentation.quirks has: letters, glued_question, ego_wording",
        ),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_refused_before_anything_starts(small_run, arguments, message):
    before = sorted((small_run.home / "log" / "cityllava").iterdir())
    assert refusal(small_run, "run", "cityllava", *arguments) == message
    assert sorted((small_run.home / "log" / "cityllava").iterdir()) == before


def test_a_number_of_blocks_that_cannot_be_spread_is_refused_with_those_that_can(small_run):
    with pytest.raises(ConfigError) as error:
        play("block_expansion", {"block_expansion.new_blocks": "9"})
    assert str(error.value) == "9 new blocks cannot be spread evenly over 4 layers; counts that work: 0, 1, 2, 4"


def test_a_batch_larger_than_the_data_is_refused_before_training(small_run):
    with pytest.raises(ConfigError) as error:
        play("finetune", {"finetune.batch_size": "1000"})
    there = len(read(small_run.stage("augmentation") / filters.CHECKED))
    assert str(error.value) == f"finetune.batch_size: 1000 samples a step, there are {there}; make the batch smaller"


def test_what_needs_a_gpu_is_refused_on_a_machine_without_one(small_run):
    with pytest.raises(ConfigError) as error:
        play("infer", {"infer.precision": "nf4"})
    assert str(error.value) == "infer.precision is nf4 (4-bit weights), which needs an NVIDIA GPU; on a CPU it must be fp32 or bf16"


def test_a_released_checkpoint_that_is_not_there_or_damaged_is_named(small_run, tmp_path):
    missing = {"infer.checkpoint": str(tmp_path / "released")}
    line = refusal(small_run, "run", "cityllava", "--stages", "5", *small.sets(missing, of="cityllava"))
    assert line == (
        f"cityllava: file: {tmp_path}/released (infer.checkpoint) is missing (1 in all); python -m lib plan cityllava --profile tiny "
        "lists them"
    )
    released = shutil.copytree(small_run.stage("finetune") / "model", tmp_path / "released")
    weights = released / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(WeightsError) as error:
        play("infer", missing)
    assert str(error.value).startswith(f"{released}: cannot be loaded (") and str(error.value).endswith("; copy or convert it again")


def test_damaged_base_weights_are_found_before_anything_starts(small_run):
    (folder,) = (small_run.home / "data" / "base").glob("llava-????????????")
    path = folder / "model.safetensors"
    with damaged({path: path.read_bytes()[:5000]}):
        line = refusal(small_run, "run", "cityllava", "--stages", "3", *small.sets(of="cityllava"))
    assert line == (
        "HOME/data/base/llava-KEY/model.safetensors is not what its record says; delete HOME/data/base/llava-KEY, it is made again"
    )


# 05 and 06: phases that cannot be asked about, captions that cannot be scored


@pytest.fixture
def own_pictures(small_run: SmallRun, tmp_path: Path) -> runs.Run:
    """What 05 gets, with a copy of 01's results that a test may damage."""
    place = shutil.copytree(small_run.stage("data_prep"), tmp_path / "01")
    stages = {name: small_run.stage(name) for name in ("block_expansion", "finetune")} | {"data_prep": place}
    return runs.Run("cityllava", "infer", "tiny", tmp_path, tmp_path / "05", "", stages)


def test_a_phase_whose_picture_is_broken_stays_empty_is_counted_and_takes_nobody_elses_captions(small_run, own_pictures):
    cfg = config.resolve("cityllava", overrides=small.overrides({"infer.tries": "2"}, of="cityllava")).for_stage("infer", infer.SETTINGS)
    prompts = [one for one in infer.build_prompts(cfg, own_pictures) if one.benchmark == "test"][:10]
    media = data_prep.media_root(own_pictures.of("data_prep"))
    cut, gone = media / prompts[1].pictures[0], media / prompts[7].pictures[1]
    whole = {path: path.read_bytes() for path in (cut, gone)}
    cut.write_bytes(whole[cut][:300])
    gone.unlink()
    model = infer.load_model(cfg, own_pictures)
    found = infer.predict(model, prompts, cfg, own_pictures)
    known = {one.label + one.scenario: one for one in infer.read_predictions(small_run.stage("infer") / "test-finetuned.jsonl")}
    for number, one in enumerate(found):
        if number not in (1, 7):
            assert one == known[one.label + one.scenario]
    assert [(one.pedestrian, one.vehicle) for one in (found[1], found[7])] == [("", "")] * 2
    assert plain(found[1].failure, small_run).startswith(f"{cut}: not a whole picture (")
    assert found[7].failure == f"{gone}: no such picture; run the stage that renders it again"
    assert own_pictures.dropped == {"finetuned: phase not answered": 2}

    content = {name: [{"labels": [label]} for label in phases] for name, phases in infer.as_captions(found).items()}
    assert sum(map(len, content.values())) == 8
    handed_in = own_pictures.out / "submission.json"
    official.write_submission(handed_in, infer.as_captions(found))
    problems = official.find_problems(read(handed_in), dict.fromkeys(one.scenario for one in found))
    assert [line for line in problems if line.endswith("the phase counts as zero")] == [
        f"{one.scenario}, label {one.label!r}: missing, the phase counts as zero" for one in (found[1], found[7])
    ]

    for path, content in whole.items():
        path.write_bytes(content)
    own_pictures.dropped.clear()
    again = infer.predict(model, prompts, cfg, own_pictures)  # asks what failed, and only that
    assert again == [known[one.label + one.scenario] for one in found] and own_pictures.dropped == {"finetuned: phase not answered": 0}


def test_where_nothing_can_be_answered_the_stage_fails_with_the_first_reason(own_pictures):
    cfg = config.resolve("cityllava", overrides=small.overrides({"infer.tries": "1"}, of="cityllava")).for_stage("infer", infer.SETTINGS)
    prompts = infer.build_prompts(cfg, own_pictures)[:3]
    shutil.rmtree(data_prep.media_root(own_pictures.of("data_prep")))
    with pytest.raises(StageFailed) as error:
        infer.predict(infer.load_model(cfg, own_pictures), prompts, cfg, own_pictures)
    assert re.fullmatch(
        r"asking finetuned: none of 3 conversations was answered; the first: .+\.jpg: no such picture; run the stage that renders it again",
        str(error.value),
    )


def test_an_empty_val_caption_is_left_out_of_the_score_and_counted(small_run):
    path = next((small_run.data / BDD / "annotations/caption/val").glob("*_caption.json"))
    run = runs.Run("cityllava", "evaluate", "tiny", small_run.home, small_run.home, "", {}, data=small_run.data)
    whole = evaluate.read_references(None, run)
    with damaged({path: with_first(path, "event_phase", caption_pedestrian="")}):
        found = evaluate.read_references(None, run)
    assert run.dropped == {"val phase with an empty caption, not scored": 1}
    assert len(found) == len(whole) - 1 and set(map(repr, found)) < set(map(repr, whole))


def test_predictions_that_break_off_are_refused_with_their_line(small_run):
    path = small_run.stage("infer") / "val-finetuned.jsonl"
    with small.changed(path, path.read_bytes()[:-30]), pytest.raises(DataError) as error:
        infer.read_predictions(path)
    lines = len(path.read_text().splitlines())
    assert re.match(
        rf"HOME/log/\.stages/cityllava/05-infer/KEY/val-finetuned\.jsonl:{lines}: not valid JSON", plain(str(error.value), small_run)
    )
