"""Bad input to dataengine: what is odd is counted by reason and named, the rest goes on; what cannot be used is refused in one line.

Paths differ from machine to machine: HOME stands for the home of the small run, DATA for its data set, RUN and BEFORE for the runs of
its second and first round, KEY for letters of a digest.
"""

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from lib import config, inputs, paths, runs, services
from lib.errors import ConfigError, DataError, MissingInput, StageFailed
from lib.submissions.dataengine import augmentation, benchmarks, data_prep, embeddings, infer, mix, toy
from tests import small
from tests.small import SmallRun, changed, plain, refusal

pytestmark = [pytest.mark.notebook, pytest.mark.slow]

SUBMISSION = "dataengine"
SEED = "eval/seed_bench/llava-seed-bench-image.jsonl"
TABLE = "eval/mmbench/mmbench_dev_20230712.tsv"


def read(path: Path) -> dict | list:
    """A JSON file."""
    return json.loads(path.read_text())


def play(stage: str, changes: Mapping[str, str] | None = None) -> Path:
    """The folder of a stage of one round, played in this process."""
    return small.play(stage, {"rounds.last": "0", **(changes or {})}, of="dataengine")


def second(parent: Path, **changes: str) -> dict[str, str]:
    """The settings of a second round after this run."""
    return {"rounds.number": "1", "rounds.last": "1", "rounds.parent": str(parent), "augmentation.source": "engine", **changes}


def refused(run: SmallRun, stage: str, changes: Mapping[str, str] | None = None) -> str:
    """The message with which a stage ends that is played in this process."""
    with pytest.raises((ConfigError, DataError, MissingInput, StageFailed)) as error:
        play(stage, changes)
    return plain(str(error.value), run)


def reasons(folder: Path) -> dict[str, int]:
    """What a stage counted by reason."""
    return read(folder / "record.json")["dropped"]


def in_json(samples: object) -> bytes:
    """What a file with this content holds."""
    return json.dumps(samples).encode()


# 01: the mix


def test_a_mix_that_is_not_there_is_refused_in_one_line_by_the_command_too(small_run):
    path = small_run.data / toy.MIX
    with changed(path, None):
        line = refusal(small_run, "run", "dataengine", "--stages", "1", *small.sets({"rounds.last": "0"}, of="dataengine"))
    assert line == (
        "dataengine data_prep: DATA/llava_v1_5_mix665k.json: no such file; bring it, or make it again "
        "[HOME/log/.stages/dataengine/01-data-prep/KEY/notebook.ipynb]"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "the list is empty; bring the published file, or make the toy data again"),
        (b'{"id": "1"}', 'found {"id": "1"}, expected a list; bring the published file'),
        (b'[{"id": "1", "conversations": []}, 7]', "row 2: found 7, expected an object; bring the published file"),
        (b'[{"conversations": []}]', "row 1: no id; bring the published file"),
        (b'[{"id": "1", "image": 5, "conversations": []}]', "row 1: image: found 5, expected text; bring the published file"),
        (
            b'[{"id": "1", "conversations": [{"from": "human"}]}]',
            "row 1: turn 1: no value; bring the published file",
        ),
        (
            b'[{"id": "1", "conversations": [{"from": "human", "value": "Hi"}]}]',
            "none of 1 samples can be trained; the first, 1: empty answer; bring the file and its pictures again",
        ),
        (
            b'[{"id": "a", "conversations": [{"from": "bot", "value": "Hi"}]}, {"id": "b", "conversations": []}]',
            "none of 2 samples can be trained; the first, a: bad roles; bring the file and its pictures again",
        ),
        (
            b'[{"id": "a", "conversations": [{"from": "gpt", "value": "Hi"}, {"from": "human", "value": "Hi"}]}]',
            "none of 1 samples can be trained; the first, a: empty answer; bring the file and its pictures again",
        ),
    ],
    ids=["empty", "no list", "no object", "no id", "image", "turn", "no answer", "roles", "not the first thing found"],
)
def test_a_mix_that_cannot_be_used_is_refused_with_its_row(small_run, content, message):
    with changed(small_run.data / toy.MIX, content):
        assert refused(small_run, "data_prep") == f"DATA/llava_v1_5_mix665k.json: {message}"


def test_a_mix_that_breaks_off_is_refused_with_line_and_column(small_run):
    path = small_run.data / toy.MIX
    with changed(path, path.read_bytes()[:1000]):
        message = refused(small_run, "data_prep")
    assert re.fullmatch(
        r"DATA/llava_v1_5_mix665k\.json:1: not valid JSON at column \d+ \(.+\); is the file cut off\? bring or make it again", message
    )


def test_a_damaged_picture_of_the_mix_drops_its_samples_and_is_counted_by_folder(small_run):
    kept = data_prep.read_mix(small_run.stage("data_prep"))
    image = next(one["image"] for one in kept if "image" in one)
    before = reasons(small_run.stage("data_prep"))
    with changed(small_run.data / image, b"<html>"):
        folder = play("data_prep")
    assert reasons(folder) == {**before, mix.NO_PICTURE: before[mix.NO_PICTURE] + 1}
    assert data_prep.read_mix(folder) == [one for one in kept if one.get("image") != image]
    assert image.rpartition("/")[0] in read(folder / "report.json")["findings"][mix.NO_PICTURE]["folders"]


# 01: benchmarks and validation questions


@pytest.mark.parametrize("content", [b"[]", b'[{"question": "?"}]', None], ids=["empty", "no question", "missing"])
def test_validation_questions_that_cannot_be_used_are_refused_with_their_row(small_run, content):
    message = {
        b"[]": "the list is empty; bring the validation questions, or make the toy data again",
        b'[{"question": "?"}]': "row 1: no question_id; bring the published file",
        None: "no such file; bring it, or make it again",
    }[content]
    with changed(small_run.data / benchmarks.AOKVQA, content):
        assert refused(small_run, "data_prep", {"infer.benchmarks": "[seed]"}) == f"DATA/aokvqa/aokvqa_v1p0_val.json: {message}"


def test_questions_that_nobody_can_sort_are_refused_with_what_was_wrong(small_run):
    path = small_run.data / benchmarks.AOKVQA
    odd = [one | {"question": "Why?"} for one in read(path)[:3]]
    with changed(path, in_json(odd)):
        assert refused(small_run, "data_prep", {"infer.benchmarks": "[seed]"}) == (
            "none of 3 validation questions was given a type (unknown type 3, question without a type 3); see data_prep.types and service"
        )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{", *[""] * 3], "DATA/{file}:1: not valid JSON (Expecting property name enclosed in double quotes); {again}"),
        (['{"question_id": 1, "image": "a.jpg", "text": "?"}', '{"question_id": 2, "text": "?"}'], "DATA/{file}:2: no image; {bring}"),
        (
            ['{"question_id": 1.5, "image": "a", "text": "?"}'],
            "DATA/{file}:1: question_id: found 1.5, expected text or a whole number; {bring}",
        ),
        (["[1]"], "DATA/{file}:1: found [1], expected an object; {bring}"),
        (["", " "], "DATA: the question file of seed is empty; bring it, or take seed out of infer.benchmarks"),
    ],
    ids=["no JSON", "no image", "id", "no object", "empty"],
)
def test_a_malformed_question_of_a_benchmark_is_refused_with_its_line(small_run, lines, message):
    words = {"file": SEED, "bring": "bring the published file", "again": "is the file cut off? bring or make it again"}
    with changed(small_run.data / SEED, "\n".join(lines).encode()):
        assert refused(small_run, "data_prep") == message.format(**words)


def test_a_table_of_mmbench_that_breaks_off_is_refused_with_its_line(small_run):
    path = small_run.data / TABLE
    header, first, second_ = path.read_text().split("\n")[:3]
    with changed(path, "\n".join([header, first, second_[:60]]).encode()):
        message = refused(small_run, "data_prep")
    assert re.fullmatch(rf"DATA/{TABLE}:3: \d cells, expected {len(header.split(chr(9)))}; is the file cut off\? bring it again", message)


@pytest.mark.parametrize(
    ("benchmark", "content", "message"),
    [
        ("okvqa", b'[{"question_id": 7, "question": "?"}]', "okvqa/okvqa_test_split.json: row 1: no image_id; bring the published file"),
        ("vizwiz_val", b'[{"image": "a.jpg", "question": "?"}]', "vizwiz/val.json: row 1: no answers; bring the published file"),
        (
            "vsr",
            b'{"image": "a.jpg", "caption": "It is.", "label": 3}',
            "vsr/test.jsonl: statement 1: label is 3, expected 0 or 1; bring the published file",
        ),
        ("vsr", None, "vsr/test.jsonl: no such file; bring it, or make it again"),
    ],
    ids=["okvqa", "vizwiz_val", "vsr", "missing"],
)
def test_a_question_that_minigpt4_v2_is_asked_is_refused_with_its_row(small_run, benchmark, content, message):
    changes = {"infer.benchmarks": f"[seed, {benchmark}]", "infer.wording": "minigpt4"}
    with changed(small_run.data / "eval" / message.partition(":")[0], content):
        assert refused(small_run, "data_prep", changes) == f"DATA/eval/{message}"


def test_an_annotation_that_breaks_off_is_refused_when_scores_are_due(small_run):
    path = small_run.data / "eval/gqa/data/testdev_balanced_questions.json"
    with changed(path, in_json({"1": {"question": "?"}})), pytest.raises(DataError) as error:
        benchmarks.read_references(small_run.data, "gqa")
    assert plain(str(error.value), small_run) == (
        "DATA/eval/gqa/data/testdev_balanced_questions.json: item 1: no answer; bring the published file"
    )


# settings that cannot be


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variant", "qlora"], "dataengine has no variant 'qlora'; it has: base, baseline, engine, pretrain"),
        (
            ["--set", "finetune.method=blocks"],
            "finetune.method is blocks, and dataengine inserts none; it is lora, full or projector",
        ),
        (
            ["--set", "data_prep.mix=captions"],
            (
                "data_prep.mix is captions, on which the projector alone is trained; set finetune.method=projector and "
                "augmentation.source=none, or take instructions"
            ),
        ),
        (
            ["--set", "augmentation.prompt=prompts/none.txt"],
            (
                "dataengine: file: prompts/none.txt (augmentation.prompt) is missing (1 in all); "
                "python -m lib plan dataengine --profile tiny lists them"
            ),
        ),
        (  # read in the last round only, and refused before the first
            ["--set", "evaluate.prompt_reviews=sheets"],
            (
                "dataengine: file: sheets (evaluate.prompt_reviews) is missing (1 in all); "
                "python -m lib plan dataengine --profile tiny lists them"
            ),
        ),
        (
            ["--set", "augmentation.source=engine"],
            (
                "augmentation.source is engine, which reads the bad cases of an earlier round, and rounds.parent names none; "
                "give its run folder, or run the rounds from the first with rounds.last=1"
            ),
        ),
        (
            ["--set", "infer.benchmarks=[seed, mmebench]"],
            (
                "dataengine base tiny: infer.benchmarks.1 = 'mmebench' cannot be: input should be 'seed', 'mme', 'gqa', 'vqav2', "
                "'vqav2_val', 'pope', 'textvqa', 'vizwiz', 'mm-vet', 'llava-bench', 'mmbench', 'scienceqa', 'aokvqa', 'okvqa', 'vizwiz_val' or 'vsr'"
            ),
        ),
        (
            ["--set", "infer.benchmarks=[seed, aokvqa, seed]"],
            "infer.benchmarks names seed more than once; name each benchmark once",
        ),
        (
            ["--set", "infer.benchmarks=[seed]"],
            (
                "rounds.last is 1, and every round but the last has to answer aokvqa, whose bad cases the next one reads; "
                "add it to infer.benchmarks, or set rounds.last=0"
            ),
        ),
        (
            ["--set", "infer.wording=minigpt4"],
            (
                "infer.wording is minigpt4, which has no words for mme, gqa, vqav2, vqav2_val, scienceqa, pope, textvqa, vizwiz, mm-vet, "
                "llava-bench; it has them for: seed, mmbench, okvqa, vizwiz_val, vsr, aokvqa; shorten infer.benchmarks, or set "
                "infer.wording=llava"
            ),
        ),
        (
            ["--set", "augmentation.wording=minigpt"],
            "dataengine base tiny: augmentation.wording = 'minigpt' cannot be: input should be 'llava' or 'minigpt4'",
        ),
        (
            ["--set", "augmentation.view=letter"],
            "dataengine base tiny: augmentation.view = 'letter' cannot be: input should be 'mc', 'mcp', 'da', 'short' or 'mixed'",
        ),
        (
            ["--set", "augmentation.smoothing=-1"],
            "dataengine base tiny: augmentation.smoothing = -1 cannot be: input should be greater than or equal to 0",
        ),
        (
            ["--set", "rounds.parent=log/dataengine/no-run"],
            (
                "dataengine: run: log/dataengine/no-run (the round before; a finished run folder of dataengine) is missing (1 in all); "
                "python -m lib plan dataengine --profile tiny lists them"
            ),
        ),
        (
            ["--set", "augmentation.quirks.reply=corrected"],
            "dataengine base tiny: no setting 'augmentation.quirks.reply'; augmentation.quirks has: replies",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_anything_starts(small_run, arguments, message):
    before = sorted((small_run.home / "log" / "dataengine").iterdir())
    assert refusal(small_run, "run", "dataengine", *arguments) == message
    assert sorted((small_run.home / "log" / "dataengine").iterdir()) == before


def test_a_batch_larger_than_the_mix_is_refused_before_training(small_run):
    there = len(augmentation.read_merged(small_run.before.stage("augmentation")))
    assert refused(small_run, "finetune", {"finetune.batch_size": "1000"}) == (
        f"finetune.batch_size: 1000 samples a step, there are {there}; make the batch smaller"
    )


# 02: the round before, the pool, the writer


def without(run: SmallRun, stage: str, name: str) -> Path:
    """A copy of a run's folder that lacks this stage."""
    copy = run.home / "log" / "dataengine" / name
    shutil.copytree(run.folder, copy, symlinks=True)
    (copy / paths.numbered(stage)).unlink()
    content = read(copy / runs.RUN_FILE)
    content["stages"].pop(stage)
    (copy / runs.RUN_FILE).write_text(json.dumps(content))
    return copy


@pytest.mark.parametrize("stage", ["evaluate", "augmentation"])
def test_a_round_before_that_is_not_finished_is_named_with_the_notebook_to_run(small_run, stage):
    copy = without(small_run.before, stage, f"unfinished-{stage}")
    try:
        message = refused(small_run, "augmentation", second(copy))
    finally:
        shutil.rmtree(copy)
    assert message == f"unfinished-{stage}: no results of {stage}; open notebooks/{paths.numbered(stage)}.ipynb first"


def test_a_folder_that_is_no_run_is_missing_as_a_round_before(small_run, tmp_path):
    resolved = config.resolve("dataengine", overrides=small.overrides(second(tmp_path), of="dataengine"))
    assert inputs.missing(resolved) == [f"run: {tmp_path} (the round before; a finished run folder of dataengine)"]
    assert refused(small_run, "augmentation", second(tmp_path)) == (
        f"dataengine: rounds.parent is {tmp_path}, which is no run folder; name a finished one of log/dataengine"
    )


def before_02(run: SmallRun, out: Path, changes: Mapping[str, str]) -> tuple[config.StageSettings, runs.Run]:
    """The settings of 02 with these changes, and what it gets, with a place of its own to write to."""
    resolved = config.resolve("dataengine", overrides=small.overrides({"rounds.last": "0", **changes}, of="dataengine"))
    found = runs.Run(
        "dataengine",
        "augmentation",
        "tiny",
        out,
        out,
        "",
        {"data_prep": run.stage("data_prep")},
        data=run.data,
        base=inputs.base_folder(resolved),
        parent=inputs.parent_folder(resolved),
    )
    return resolved.for_stage("augmentation", augmentation.SETTINGS), found


def test_results_of_the_round_before_that_break_off_are_refused_with_their_line(small_run, tmp_path):
    path = small_run.before.stage("evaluate") / "evaluation/aokvqa_eval.json"
    cfg, run = before_02(small_run, tmp_path, second(small_run.before.folder))
    with changed(path, path.read_bytes()[:500]), pytest.raises(DataError) as error:
        augmentation.read_samples(cfg, run)
    assert re.fullmatch(
        r"HOME/log/dataengine/BEFORE/06-evaluate/evaluation/aokvqa_eval\.json:\d+: not valid JSON at column \d+ \(.+\); "
        r"is the file cut off\? bring or make it again",
        plain(str(error.value), small_run),
    )


def test_pictures_of_the_pool_that_are_lost_are_counted_and_without_any_nothing_is_written_about(small_run, tmp_path):
    cfg, run = before_02(small_run, tmp_path, second(small_run.before.folder))
    place = small_run.data / augmentation.POOL_FOLDER
    names = [one["file_name"] for one in read(small_run.data / augmentation.POOL)["images"]]
    with changed(place / names[0], None):
        known = augmentation.read_samples(cfg, run)
    assert run.dropped == {"picture of the pool missing": 1}
    assert [one.file_name for one in known.pool.images] == names[1:]
    aside = place.rename(place.with_name("aside"))
    try:
        with pytest.raises(DataError) as error:
            augmentation.read_samples(cfg, run)
    finally:
        aside.rename(place)
    assert plain(str(error.value), small_run) == (
        f"DATA/coco/train2017: none of the {len(names)} pictures of coco/annotations/instances_train2017.json is there; bring them"
    )


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (augmentation.POOL, {"categories": None}, "categories: found null, expected a list; bring the published file"),
        (augmentation.POOL, {"images": [{"id": 1}]}, "images 1: no file_name; bring the published file"),
        (augmentation.CAPTIONS, {"annotations": [{"image_id": "1"}]}, 'annotations 1: image_id: found "1", expected a whole number; {}'),
    ],
)
def test_annotations_of_the_pool_that_cannot_be_used_are_refused_with_their_entry(small_run, tmp_path, name, change, message):
    cfg, run = before_02(small_run, tmp_path, second(small_run.before.folder))
    path = small_run.data / name
    with changed(path, in_json(read(path) | change)), pytest.raises(DataError) as error:
        augmentation.read_samples(cfg, run)
    assert plain(str(error.value), small_run) == f"DATA/{name}: {message.format('bring the published file')}"


def test_a_damaged_picture_of_the_pool_is_named(small_run, tmp_path):
    cfg, run = before_02(small_run, tmp_path, second(small_run.before.folder))
    path = small_run.data / augmentation.POOL_FOLDER / read(small_run.data / augmentation.POOL)["images"][3]["file_name"]
    with changed(path, b"<html>"), pytest.raises(DataError) as error:
        augmentation.read_samples(cfg, run)
    assert plain(str(error.value), small_run).startswith(f"DATA/coco/train2017/{path.name}: not a whole picture (")


def test_a_round_before_without_errors_leaves_nothing_to_learn_from(small_run, tmp_path):
    cfg, run = before_02(small_run, tmp_path, second(small_run.before.folder))
    path = small_run.before.stage("evaluate") / augmentation.RESULTS
    right = [one | {"model_answer": one["choices"][one["correct_choice_idx"]]} for one in read(path)]
    known = augmentation.read_samples(cfg, run)
    with pytest.raises(DataError) as error:
        augmentation.propose(dataclasses.replace(known, results=right), cfg)
    assert str(error.value) == (
        "no question type has 2 bad cases and a weight above 0 (bad cases: none); evaluate on more questions, or smooth the weights"
    )


def test_weights_of_clip_that_are_not_there_are_named_with_the_way_round(small_run):
    message = refused(small_run, "augmentation", second(small_run.before.folder, **{"augmentation.embedding": "ViT-B-32"}))
    assert message == (
        f"HOME/data/base/{embeddings.CLIP} is not there: the weights of OpenAI's ViT-B/32 as an OpenCLIP folder; bring them, or choose "
        "augmentation.embedding=tower"
    )


def test_a_writer_that_is_not_set_is_named_with_its_variables(small_run, monkeypatch):
    monkeypatch.delenv(services.URL_VARIABLE, raising=False)
    asked = {"augmentation.service": "endpoint", "augmentation.language_model": "gpt-4"}
    assert re.fullmatch(
        r"HOME/log/\.stages/dataengine/02-augmentation/KEY/answers\.jsonl lacks 24 of 24 answers and no endpoint is set; put its address "
        r"into PODIUM_LLM_URL and its key into PODIUM_LLM_KEY, or choose the offline stand-in",
        refused(small_run, "augmentation", second(small_run.before.folder, **asked)),
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"instruction": "?"}]', "row 1: no answer; bring the published file"),
        (b"[{", "1: not valid JSON (Expecting property name enclosed in double quotes); is the file cut off? bring or make it again"),
        (b"{}", "found {}, expected a list; bring the published file"),
    ],
    ids=["no answer", "broken off", "no list"],
)
def test_published_records_that_cannot_be_read_are_refused_with_their_row(small_run, tmp_path, content, message):
    path = small_run.data / augmentation.PUBLISHED["llava"]
    cfg, run = before_02(small_run, tmp_path, {"augmentation.source": "published"})
    with changed(path, content), pytest.raises(DataError) as error:
        augmentation.accept(augmentation.propose(augmentation.read_samples(cfg, run), cfg), cfg, run)
    assert plain(str(error.value), small_run) == f"DATA/data_engine/dataengine_llava.json:{'' if message[0] == '1' else ' '}{message}"


def test_records_without_a_single_picture_are_refused_and_counted(small_run, tmp_path):
    path = small_run.data / augmentation.PUBLISHED["llava"]
    lost = [one | {"image": "vg/VG_100K/none.jpg"} for one in read(path)]
    cfg, run = before_02(small_run, tmp_path, {"augmentation.source": "published"})
    with changed(path, in_json(lost)), pytest.raises(DataError) as error:
        augmentation.accept(augmentation.propose(augmentation.read_samples(cfg, run), cfg), cfg, run)
    assert str(error.value) == "augmentation.source is published, and no record joins the mix; the counts of this stage say why"
    assert run.dropped[mix.PICTURE_MISSING] == len(lost)


# 05: pictures that cannot be seen


@pytest.fixture
def asked(small_run: SmallRun, tmp_path: Path) -> tuple[config.StageSettings, runs.Run]:
    """The settings of an inference on two benchmarks, and what it gets, with a place of its own to write to."""
    changes = {"infer.benchmarks": "[mme, gqa]", "rounds.last": "0", "infer.tries": "2"}
    cfg = config.resolve("dataengine", overrides=small.overrides(changes, of="dataengine")).for_stage("infer", infer.SETTINGS)
    stages = {name: small_run.before.stage(name) for name in ("data_prep", "block_expansion", "finetune")}
    return cfg, runs.Run("dataengine", "infer", "tiny", tmp_path, tmp_path / "05", "", stages, data=small_run.data)


def test_a_question_whose_picture_is_broken_stays_empty_is_counted_and_takes_nobody_elses_answer(small_run, asked):
    cfg, run = asked
    prompts = infer.build_prompts(cfg, run)
    first = small_run.data / prompts[0].picture
    with changed(first, first.read_bytes()[:300]):
        model = infer.load_model(cfg, run)
        found = infer.predict(model, prompts, cfg, run)
        kept = infer.write_samples(found, run)
        infer.write_predictions(found, model, cfg, run)
    hit = [one for one in found if one.prompt.picture == prompts[0].picture]
    assert run.dropped == {"finetuned: question not answered": len(hit)} and len(hit) == 2
    for one in hit:
        assert one.text == "" and plain(one.failure, small_run).startswith(f"DATA/{prompts[0].picture}: not a whole picture (")
    lines = infer.read_answers(run.out, "mme", "finetuned")
    assert [bool(line["metadata"]) for line in lines] == [number < 2 for number in range(len(lines))]
    known = infer.read_answers(small_run.before.stage("infer"), "mme", "finetuned")
    assert lines[2:] == known[2:]
    assert infer.read_answers(run.out, "gqa", "finetuned") == infer.read_answers(small_run.before.stage("infer"), "gqa", "finetuned")
    assert len(kept) >= infer.SHOWN


def test_where_nothing_can_be_answered_the_stage_fails_with_the_first_reason(small_run, asked):
    cfg, run = asked
    prompts = [one for one in infer.build_prompts(cfg, run) if one.asked.benchmark == "gqa"][:3]
    place = small_run.data / "eval/gqa/data/images"
    aside = place.rename(place.with_name("aside"))
    try:
        with pytest.raises(StageFailed) as error:
            infer.predict(infer.load_model(cfg, run), prompts, cfg, run)
    finally:
        aside.rename(place)
    assert plain(str(error.value), small_run) == (
        f"asking finetuned: gqa: none of 3 conversations was answered; the first: DATA/{prompts[0].picture}: no such picture; "
        "run the stage that renders it again"
    )
