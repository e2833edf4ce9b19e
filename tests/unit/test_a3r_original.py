"""The kept record of the published runs, and - where the published files are at hand - its extraction again."""

import json
import os
from pathlib import Path

import pytest

from lib.submissions.a3r import original


@pytest.fixture
def published() -> Path:
    root = os.environ.get("PODIUM_REAL_DATA")
    if not root:
        pytest.skip("PODIUM_REAL_DATA is not set: the published files of a3r are not at hand")
    return Path(root) / "a3r"


def test_the_kept_record_holds_all_seven_runs_and_is_small():
    record = original.read_published_runs()
    assert original.PUBLISHED_RUNS.stat().st_size < 40_000
    assert [run["state"] for run in record["runs"]] == [
        "stopped",
        "died before epoch 0",
        "died before epoch 0",
        "stopped",
        "stopped",
        "died before epoch 0",
        "stopped",
    ]
    assert [run["steps_logged"] for run in record["runs"]] == [520, 0, 0, 0, 14, 0, 6]
    assert not any(run["damaged_lines"] for run in record["runs"])


def test_the_published_curves_are_ready_to_draw():
    run = original.published_curves()
    assert (len(run.train), run.steps_per_epoch, run.train[-1].step) == (520, 5044, 50439)
    assert run.metric("text_to_image_R@10")[4] == (5, 0.4094)
    assert all(point.lr is not None for point in run.train)


def test_the_mean_losses_per_epoch_are_those_of_the_specification():
    run = original.published_curves()
    losses = [[point.loss for point in run.train if point.epoch == epoch] for epoch in range(10)]
    means = [sum(values) / len(values) for values in losses]
    stated = [0.7434, 0.3203, 0.2602, 0.2489, 0.2169, 0.2218, 0.2022, 0.1620, 0.1671, 0.1684]
    assert means == pytest.approx(stated, abs=6e-5)  # half a printed digit, and the log's own five digits


def test_the_published_files_give_the_kept_record_again(published):
    assert original.extract_published_runs(published) == original.read_published_runs()


def test_writing_the_record_again_gives_the_same_bytes(published, tmp_path):
    original.write_published_runs(published, tmp_path / "runs.json")
    assert (tmp_path / "runs.json").read_bytes() == original.PUBLISHED_RUNS.read_bytes()


def test_every_published_run_folder_tells_its_fate(published):
    evidence = {run["folder"].split("-model")[0]: run["evidence"] for run in original.extract_published_runs(published)["runs"]}
    assert evidence == {
        "best-result-review": "10 of 30 planned epochs done; last logged step at 100 % of epoch 9",
        "logs/2023_05_19-19_43_45": "no 'Start epoch' in the log; its last message is 'preprocess_val: Compose('",
        "logs/2023_05_19-19_44_45": "no 'Start epoch' in the log; its last message is 'preprocess_val: Compose('",
        "logs/2023_05_19-20_01_01": "'Start epoch 0' was logged and no step after it",
        "logs/2023_05_19-20_02_19": "0 of 30 planned epochs done; last logged step at 26 % of epoch 0",
        "logs/2023_05_19-20_13_04": "no 'Start epoch' in the log; its last message is 'Loaded ViT-bigG-14 model config.'",
        "logs/2023_05_19-20_13_22": "1 of 30 planned epochs done; last logged step at 0 % of epoch 1",
    }


def test_the_record_agrees_with_an_independent_extraction():
    """`PODIUM_SHIPPED_RUNS` names a JSON of the same curves that other code extracted."""
    place = os.environ.get("PODIUM_SHIPPED_RUNS")
    if not place:
        pytest.skip("PODIUM_SHIPPED_RUNS is not set: no independent extraction at hand")
    theirs = json.loads(Path(place).read_text())["best_run"]
    ours = original.published_curves()
    assert [point.step for point in ours.train] == theirs["train"]["step"]
    assert [point.loss for point in ours.train] == theirs["train"]["loss"]
    assert [point.lr for point in ours.train] == pytest.approx(theirs["train"]["lr"], rel=1e-4)
