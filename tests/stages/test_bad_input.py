"""Bad input to a3r: one line that names the thing, the value, what would be right and the next step; nothing lost, and it goes on.

Paths differ from machine to machine: HOME stands for the home of the small run, DATA for its data set, KEY for letters of a digest.
"""

import pickle
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lib import config, files, runs, store
from lib.config import StageSettings
from lib.errors import ConfigError, DataError, StageFailed, WeightsError
from lib.submissions.a3r import features, infer
from tests import small
from tests.small import SmallRun, plain, refusal

pytestmark = [pytest.mark.notebook, pytest.mark.slow]

TRAIN_LABELS = "datasets/train/train_label.txt"


def finished_stages(run: SmallRun) -> dict[str, str]:
    """Digest of every record in the store."""
    places = (run.home / "log" / ".stages").glob(f"*/*/*/{store.RECORD}")
    return {str(path): files.sha256_file(path) for path in places}


@contextmanager
def nothing_is_lost(run: SmallRun) -> Iterator[None]:
    """What was finished before the block is finished after it, and the run's own stages are hits again."""
    before = finished_stages(run)
    yield
    after = finished_stages(run)
    assert {name: after.get(name) for name in before} == before
    answer = small.kit(run.home, "plan", "a3r", *small.sets())
    assert len(re.findall(r"^\w+ +hit ", answer.stdout, flags=re.MULTILINE)) == len(small.STAGES), answer.stdout + answer.stderr


def with_line(path: Path, number: int, line: str) -> bytes:
    """The file's content with another line in that place (counted from 1)."""
    lines = path.read_text().splitlines()
    lines[number - 1] = line
    return "".join(f"{one}\n" for one in lines).encode()


# names and values that the kit does not know


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "b4s"], "no submission 'b4s'; the kit has: a3r, cityllava, dataengine"),
        (["run", "a3r", "--variant", "first"], "a3r has no variant 'first'; it has: base, last, l-smoke"),
        (["run", "a3r", "--profile", "large"], "a3r has no profile 'large'; it has: full, tiny"),
        (["run", "a3r", "--stages", "8"], "no stages '8'; give a number or range from 1 to 7, or one of: " + ", ".join(small.STAGES)),
        (["run", "a3r", "--set", "finetune.lr"], "override 'finetune.lr' is not of the form section.key=value, as in finetune.lr=1e-4"),
        (
            ["run", "a3r", "--set", "infer.qery=plain"],
            (
                "a3r base tiny: no setting 'infer.qery'; infer has: checkpoint, query, gallery, padding, top_k, rerank, candidates, "
                "adapt_from, neighbours, quirks"
            ),
        ),
        (
            ["run", "a3r", "--set", "infer.query=short"],
            "a3r base tiny: infer.query = 'short' cannot be: input should be 'plain', 'strip' or 'suffix'",
        ),
        (["run", "a3r", "--set", "finetune.lr=0"], "a3r base tiny: finetune.lr = 0 cannot be: input should be greater than 0"),
        (
            ["run", "a3r", "--set", "finetune.use_epoch=9", "--set", "finetune.epochs=8"],
            "finetune.use_epoch is 9, the schedule has 8 epochs; it must be one of them",
        ),
        (
            ["run", "a3r", "--set", "finetune.epochs=8", "--set", "finetune.use_epoch=3", "--set", "finetune.save_frequency=2"],
            "finetune.use_epoch names epoch 3, of which no checkpoint is saved; with save_frequency 2 and use_epoch 3 there are: 2",
        ),
        (
            ["run", "a3r", *small.sets({"finetune.soup": "greedy", "finetune.soup_epochs": "[1, 3]"})],
            "finetune.soup_epochs names epoch 3, of which no checkpoint is saved; with save_frequency 1 and use_epoch 2 there are: 1, 2",
        ),
        (["run", "a3r", "--set", "infer.top_k=5"], "infer.top_k is 5, evaluate.k 10; mAP@10 needs as many names per query"),
        (["verify", "yesterday"], "no run 'yesterday'; the newest are: "),
    ],
)
def test_a_name_or_value_the_kit_does_not_know_is_refused_with_the_known_ones(small_run, arguments, message):
    line = refusal(small_run, *arguments)
    assert line == message or (message.endswith(": ") and line.startswith(message))


def test_a_review_without_a_kept_run_names_the_command_that_keeps_one(tmp_path):
    answer = small.kit(tmp_path, "review", "a3r")
    assert answer.returncode == 1
    kept = f"{tmp_path}/best-result-review"
    assert answer.stderr == f"podium: a3r has no kept run in {kept}; keep one with: python -m lib keep RUN\n"


def test_the_full_profile_without_data_says_what_is_missing_and_which_command_lists_it_all(small_run):
    line = refusal(small_run, "run", "a3r", "--profile", "full")
    assert line == (
        "a3r: data: HOME/data/a3r/datasets/train/train_label.txt (training labels, 126,117 lines of three fields separated by $; "
        "Baidu pan, https://pan.baidu.com/s/1RXR7q_LAxRusSlamfmoG9A, code tjz2; needs an account, no mirror is known) is missing "
        "(7 in all); python -m lib plan a3r --profile full lists them"
    )
    answer = small.kit(small_run.home, "plan", "a3r", "--profile", "full")
    assert answer.returncode == 1 and len(re.findall("^missing: ", answer.stdout, flags=re.MULTILINE)) == 7


# a data set that is not as it should be


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (TRAIN_LABELS, None, "DATA/datasets/train/train_label.txt: no such file; bring it, or make it again"),
        (
            TRAIN_LABELS,
            lambda path: with_line(path, 3, "abcdefghij.jpg$This is a white Audi."),
            (
                "DATA/datasets/train/train_label.txt:3: 2 field(s) between $ signs in 'abcdefghij.jpg$This is a white Audi.'; "
                "expected 3: name$attribute$caption"
            ),
        ),
        (
            TRAIN_LABELS,
            lambda path: with_line(path, 2, "abcdefghij.jpg$white Audi.$This is a\twhite Audi."),
            "DATA/datasets/train/train_label.txt:2: control character '\\t' in the caption 'This is a\\twhite Audi.'; replace it by a blank",
        ),
        ("datasets/val/val_label.txt", lambda path: b"\xff\xfe" + path.read_bytes(), "DATA/datasets/val/val_label.txt: not UTF-8 text (byte 0); save it as UTF-8"),
        ("datasets/val/val_label.txt", lambda path: b"", "DATA/datasets/val/val_label.txt: no label in this file; expected one line name$attribute$caption per image"),
        (
            "datasets/test/test_text.txt",
            lambda path: with_line(path, 4, ""),
            "DATA/datasets/test/test_text.txt:4: blank line between queries; every line is one query, remove it or fill it",
        ),
    ],
)  # fmt: skip
def test_a_label_or_query_file_is_refused_with_its_line_and_goes_on_once_repaired(small_run, name, damage, message):
    path = small_run.data / name
    with nothing_is_lost(small_run), small.changed(path, damage and damage(path)):
        line = refusal(small_run, "run", "a3r", "--stages", "1", *small.sets())
    assert line == f"a3r data_prep: {message} [HOME/log/.stages/a3r/01-data-prep/KEY/notebook.ipynb]"


def test_an_empty_gallery_cannot_be_ranked(small_run):
    folder = small_run.data / "datasets/test/test_images"
    aside = folder.with_name("aside")
    with nothing_is_lost(small_run):
        folder.rename(aside)
        folder.mkdir()
        line = refusal(small_run, "run", "a3r", "--stages", "1", *small.sets())
        folder.rmdir()
        aside.rename(folder)
    assert line == (
        "a3r data_prep: DATA/datasets/test/test_images: no picture here (.jpg, .jpeg, .png); put the gallery there, an empty one cannot be ranked "
        "[HOME/log/.stages/a3r/01-data-prep/KEY/notebook.ipynb]"
    )


def test_a_jpeg_that_is_cut_off_stops_the_stage_that_looks_at_it_and_the_same_command_goes_on(small_run):
    name = (small_run.data / TRAIN_LABELS).read_text().partition("$")[0]
    path = small_run.data / "datasets/train/train_images" / name
    with nothing_is_lost(small_run), small.changed(path, path.read_bytes()[:900]):
        line = refusal(small_run, "run", "a3r", "--stages", "1-2", *small.sets())
    assert re.fullmatch(
        rf"a3r augmentation: DATA/datasets/train/train_images/{name}: the picture is cut off or damaged \(.+\); copy it again "
        r"\[HOME/log/\.stages/a3r/02-augmentation/KEY/notebook\.ipynb\]",
        line,
    )
    again = small.run_chain(small_run.home, "--stages", "1-2")
    assert small.outcomes(again.output) == {"data_prep": "hit", "augmentation": "hit"}


def test_a_picture_that_is_none_stops_training_with_its_name(small_run):
    path = max((small_run.data / "datasets/train/train_images").glob("0*.jpg"))  # a pedestrian: 02 does not look at it
    changes = {"augmentation.enabled": "false"}
    with nothing_is_lost(small_run), small.changed(path, b"not a picture"):
        small.play("data_prep", changes)
        small.play("augmentation", changes)
        with pytest.raises(StageFailed) as error:
            small.play("finetune", changes)
    assert plain(str(error.value), small_run) == (
        f"training ended with status 1: {plain(str(path), small_run)}: not a picture; replace it or take it out of the folder "
        "(HOME/log/.stages/a3r/04-finetune/KEY/train.log)"
    )


@pytest.fixture
def gallery(small_run: SmallRun, tmp_path: Path) -> tuple[features.Encoder, Path]:
    """The fine-tuned model, and a folder with four pictures of which the last is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in sorted((small_run.data / "datasets/test/test_images").iterdir())[:3]:
        shutil.copy(path, folder)
    (folder / "zz.jpg").write_bytes(b"not a picture")
    return features.load_encoder("finetuned", small_run.stage("finetune") / "model", model=None, padding="none"), folder


def machine(**changes: object) -> StageSettings:
    """The section `machine` of the tiny profile with these changes."""
    return config.resolve("a3r").settings.machine.model_copy(update=changes)


@pytest.mark.parametrize("changes", [{}, {"workers": 1}])
def test_a_gallery_picture_that_is_none_is_named_whoever_reads_it(gallery, tmp_path, changes):
    encoder, folder = gallery
    names = sorted(path.name for path in folder.iterdir())
    with pytest.raises(DataError) as error:
        features.encode_gallery(encoder, folder, names, tmp_path / "out", machine(**changes))
    assert str(error.value) == f"{folder}/zz.jpg: not a picture; replace it or take it out of the folder"


def test_a_gallery_picture_that_is_none_is_named_by_the_shard_that_reads_it_and_the_others_work_is_kept(gallery, tmp_path):
    encoder, folder = gallery
    names = sorted(path.name for path in folder.iterdir())
    out = tmp_path / "out"
    with pytest.raises(StageFailed) as error:
        features.encode_gallery(encoder, folder, names, out, machine(shards=2))
    log = out / "part-1.log"
    assert str(error.value) == (
        f"encoding part 2 of 2 ended with status 1: {folder}/zz.jpg: not a picture; replace it or take it out of the folder ({log})"
    )
    assert (out / "pictures-1-of-2.npy").is_file()


def test_a_batch_larger_than_the_data_is_refused_before_training(small_run):
    with pytest.raises(ConfigError) as error:
        small.play("finetune", {"finetune.batch_size": "100"})
    assert str(error.value) == "finetune.batch_size: 100 pairs a step, the table has 72; make the batch smaller"


# checkpoints that are damaged or unsafe


def test_damaged_base_weights_are_found_before_anything_starts(small_run):
    (folder,) = (small_run.home / "data" / "base").glob("open_clip-*")
    path = folder / "open_clip_model.safetensors"
    with nothing_is_lost(small_run), small.changed(path, path.read_bytes()[:5000]):
        line = refusal(small_run, "run", "a3r", "--stages", "2", *small.sets())
    assert line == (
        "HOME/data/base/open_clip-KEY/open_clip_model.safetensors is not what its record says; delete HOME/data/base/open_clip-KEY, "
        "it is made again"
    )


def test_a_damaged_result_of_training_is_no_hit_and_what_follows_waits(small_run):
    path = small_run.stage("finetune") / "model" / "open_clip_model.safetensors"
    with nothing_is_lost(small_run), small.changed(path, path.read_bytes()[:-1]):
        answer = small.kit(small_run.home, "plan", "a3r", *small.sets())
    assert not re.search(r"^finetune +hit ", answer.stdout, flags=re.MULTILINE)
    assert re.search(r"^infer +run +waits for finetune", answer.stdout, flags=re.MULTILINE)


class Bomb:
    """What a malicious checkpoint holds: code that runs when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return exec, (f"open({str(self.trace)!r}, 'w')",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda whole, trace: whole[:4096], "damaged or cut off, torch cannot read it; copy or download it again"),
        (lambda whole, trace: pickle.dumps({"state_dict": Bomb(trace)}), "holds more than tensors and plain values, which may be code; nothing of it was run; ask for a file of tensors only"),
    ],
    ids=["cut off", "with code"],
)  # fmt: skip
def test_a_released_checkpoint_that_is_damaged_or_holds_code_is_refused(small_run, tmp_path, content, message):
    whole = (small_run.folder / "checkpoints" / "epoch_2.pt").read_bytes()
    path, trace = tmp_path / "epoch_5.pt", tmp_path / "it ran"
    path.write_bytes(content(whole, trace))
    with nothing_is_lost(small_run), pytest.raises(WeightsError) as error:
        small.play("infer", {"infer.checkpoint": str(path)})
    assert str(error.value) == f"{path}: {message}"
    assert not trace.exists()


def test_a_released_checkpoint_that_is_not_there_is_named(small_run, tmp_path):
    line = refusal(small_run, "run", "a3r", "--stages", "5", *small.sets({"infer.checkpoint": str(tmp_path / "epoch_5.pt")}))
    assert line == (
        f"a3r: file: {tmp_path}/epoch_5.pt (infer.checkpoint) is missing (1 in all); python -m lib plan a3r --profile tiny lists them"
    )


# JSON that breaks off


def test_a_truncated_result_is_made_again_and_is_the_same(small_run):
    path = small_run.stage("data_prep") / "queries.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    again = small.run_chain(small_run.home)
    assert small.outcomes(again.output) == {**dict.fromkeys(small.STAGES, "hit"), "data_prep": "done"}
    assert path.read_bytes() == whole


def test_truncated_predictions_are_refused_with_the_number_of_the_line(small_run, tmp_path):
    path = tmp_path / "test-finetuned.jsonl"
    path.write_bytes((small_run.stage("infer") / "test-finetuned.jsonl").read_bytes()[:1500])
    number = path.read_bytes().count(b"\n") + 1
    with pytest.raises(DataError) as error:
        infer.read_predictions(path)
    assert re.fullmatch(
        rf"{re.escape(str(path))}:{number}: not valid JSON \(.+\); is the file cut off\? bring or make it again", str(error.value)
    )


CUT_OFF = r":\d+: not valid JSON at column \d+ \(.+\); "


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("06-evaluate/metrics.json", r"is the file cut off\? bring or make it again"),
        ("run.json", "restore it, or if it is in log delete its folder: finished stages stay"),
    ],
)
def test_a_truncated_file_of_a_run_is_refused_with_its_line_by_whoever_looks_at_the_run(small_run, name, step):
    path = small_run.folder / name
    with nothing_is_lost(small_run), small.changed(path, path.read_bytes()[:60]):
        line = refusal(small_run, "review", "a3r", "--run", small_run.folder.name)
    assert re.fullmatch(re.escape(f"HOME/log/a3r/RUN/{name}") + CUT_OFF + step, line), line


def test_a_truncated_list_of_stages_stops_the_runner_which_goes_on_without_its_folder(small_run):
    newest = runs.latest(config.resolve("a3r", overrides=small.overrides()))
    path = newest / runs.RUN_FILE
    command = ("run", "a3r", "--stages", "1", *small.sets())
    with nothing_is_lost(small_run), small.changed(path, path.read_bytes()[:60]):
        line = refusal(small_run, *command)
        aside = newest.rename(small_run.home / "aside")
        answer = small.kit(small_run.home, *command)
        aside.rename(newest)
    step = "restore it, or if it is in log delete its folder: finished stages stay"
    assert re.fullmatch(re.escape(plain(str(path), small_run)) + CUT_OFF + step, line), line
    assert small.outcomes(answer.stdout) == {"data_prep": "hit"}


def test_a_truncated_record_is_refused_and_says_what_to_delete(small_run):
    path = small_run.stage("data_prep") / store.RECORD
    with nothing_is_lost(small_run), small.changed(path, path.read_bytes()[:60]):
        line = refusal(small_run, "run", "a3r", "--stages", "1", *small.sets())
    expected = r"HOME/log/\.stages/a3r/01-data-prep/KEY/record\.json cannot be read \(not valid JSON at column \d+ \(.+\)\); delete its folder, and the stage is made again"
    assert re.fullmatch(expected, line), line
