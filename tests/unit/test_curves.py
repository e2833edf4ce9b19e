"""Run folders are read whatever state they are in: complete, cut off, resumed, damaged, without log or without TensorBoard."""

import json
import math

import pytest

from lib import curves
from lib.errors import DataError, MissingInput

STAMP = "2026-11-20,10:00:0{} | INFO | "
PARAMS = "batch_size: 25\nepochs: 2\nname: one\nmodel: tiny\n"


def start(epoch: int) -> str:
    return STAMP.format(1) + f"Start epoch {epoch}"


def train(epoch: int, samples: int, loss: float, *, total: int = 110) -> str:
    return STAMP.format(2) + (
        f"Train Epoch: {epoch} [{samples:>6}/{total} ({100 * samples / total:.0f}%)] Data (t): 0.001 Batch (t): 1.119, "
        f"22.2814/s, 22.2814/s/gpu LR: 0.000000 Logit Scale: 100.000 Contrastive_loss: {loss:#.5g} ({loss:#.5g}) "
        f"Loss: {loss:#.5g} ({loss:#.5g})"
    )


def validation(epoch: int, recall: float) -> str:
    return STAMP.format(3) + f"Eval Epoch: {epoch} text_to_image_R@10: {recall:.4f}\tepoch: {epoch}.0000\tnum_samples: 50.0000"


def folder(tmp_path, lines: list[str], *, params: str | None = PARAMS):
    (tmp_path / "out.log").write_text("\n".join(lines))
    if params is not None:
        (tmp_path / "params.txt").write_text(params)
    return tmp_path


WHOLE = [
    STAMP.format(0) + "Model:",
    STAMP.format(0) + "CLIP(",
    "  (visual): Tower()",
    start(0),
    train(0, 25, 2.0),
    train(0, 100, 1.5),
    validation(1, 0.1),
    start(1),
    train(1, 25, 1.25),
    train(1, 100, 1.0),
    validation(2, 0.3),
]


def test_a_finished_run_gives_steps_validations_and_its_fate(tmp_path):
    run = curves.read_run_folder(folder(tmp_path, WHOLE))
    assert [(point.step, point.epoch, point.loss) for point in run.train] == [(0, 0, 2.0), (3, 0, 1.5), (4, 1, 1.25), (7, 1, 1.0)]
    assert run.epochs() == [0.25, 1.0, 1.25, 2.0]
    assert run.metric("text_to_image_R@10") == [(1, 0.1), (2, 0.3)]
    assert run.fate == "finished: 2 of 2 planned epochs done; last logged step at 91 % of epoch 1"
    assert (run.name, run.steps_per_epoch, run.samples_per_epoch, run.damaged, run.replaced) == ("one", 4, 110, 0, 0)
    assert run.times == ("2026-11-20,10:00:00", "2026-11-20,10:00:03")


def test_a_stopped_run_says_how_far_it_came(tmp_path):
    run = curves.read_run_folder(folder(tmp_path, WHOLE[:9]))
    assert run.fate == "stopped: 1 of 2 planned epochs done; last logged step at 23 % of epoch 1"


def test_a_run_that_logged_no_step_and_one_that_never_started_are_told_apart(tmp_path):
    stopped = curves.read_run_folder(folder(tmp_path, WHOLE[:4]))
    died = curves.read_run_folder(folder(tmp_path, WHOLE[:3]))
    assert stopped.fate == "stopped: 'Start epoch 0' was logged and no step after it"
    assert died.fate == "died before epoch 0: no 'Start epoch' in the log; its last message is 'CLIP('"


def test_an_empty_log_is_a_run_that_died(tmp_path):
    assert curves.read_run_folder(folder(tmp_path, [""], params=None)).state == curves.DIED


def test_a_resumed_run_counts_its_last_attempt_only(tmp_path):
    again = [start(1), train(1, 25, 1.2), train(1, 100, 0.9), validation(2, 0.4)]
    run = curves.read_run_folder(folder(tmp_path, [*WHOLE, *again]))
    assert [(point.step, point.loss) for point in run.train] == [(0, 2.0), (3, 1.5), (4, 1.2), (7, 0.9)]
    assert run.metric("text_to_image_R@10") == [(1, 0.1), (2, 0.4)]
    assert run.replaced == 3


def test_a_resumed_run_that_broke_off_again_keeps_nothing_of_the_epochs_it_took_back(tmp_path):
    run = curves.read_run_folder(folder(tmp_path, [*WHOLE, start(1), train(1, 25, 1.2)]))
    assert run.train[-1].loss == 1.2
    assert run.metric("text_to_image_R@10") == [(1, 0.1)]
    assert run.state == curves.STOPPED


def test_damaged_lines_are_counted_and_the_rest_is_read(tmp_path):
    lines = WHOLE.copy()
    lines[5] = lines[5][:-9]  # cut inside the last mean
    lines[6] = lines[6].replace("0.1000", "0.1")  # a value cut short
    lines[8] = lines[8][20:]  # the head is gone
    lines.append("\0\0\0\0")
    run = curves.read_run_folder(folder(tmp_path, lines))
    assert run.damaged == 4
    assert [point.step for point in run.train] == [0, 7]
    assert run.metric("text_to_image_R@10") == [(2, 0.3)]


def test_bytes_that_are_no_text_are_damage_not_a_crash(tmp_path):
    (tmp_path / "out.log").write_bytes("\n".join(WHOLE).encode() + b"\n\xff\xfe Train Epoch")
    run = curves.read_run_folder(tmp_path)
    assert (run.damaged, len(run.train)) == (1, 4)


def test_a_diverged_loss_is_read_as_one(tmp_path):
    line = train(0, 25, 2.0).replace("2.0000", "nan")
    assert math.isnan(curves.read_log_line(line)["loss"])


def test_a_damaged_line_is_named():
    with pytest.raises(DataError) as error:
        curves.read_log_line(STAMP.format(1) + "Start epoch")
    assert str(error.value) == "damaged log line: '2026-11-20,10:00:01 | INFO | Start epoch'"


def test_other_lines_are_no_events():
    assert [curves.read_log_line(line) for line in ("", "  (0): Block()", STAMP.format(1) + "Params:")] == [None] * 3


def test_the_settings_are_taken_from_the_log_where_params_txt_is_missing(tmp_path):
    printed = [STAMP.format(0) + f"  {line}" for line in PARAMS.splitlines()]
    run = curves.read_run_folder(folder(tmp_path, [*printed, *WHOLE], params=None))
    assert dict(run.params) == {"batch_size": "25", "epochs": "2", "name": "one", "model": "tiny"}
    assert run.state == curves.FINISHED


def test_several_processes_and_accumulation_make_longer_steps(tmp_path):
    run = curves.read_run_folder(folder(tmp_path, WHOLE, params="batch_size: 5\nworld_size: 1\naccum_freq: 5\nepochs: 2\n"))
    assert [point.step for point in run.train] == [0, 3, 4, 7]


def test_results_jsonl_refines_the_log_and_its_broken_last_line_is_counted(tmp_path):
    found = folder(tmp_path, WHOLE)
    (found / "checkpoints").mkdir()
    row = {"text_to_image_R@10": 0.30004, "epoch": 2, "num_samples": 50}
    (found / "checkpoints/results.jsonl").write_text(json.dumps(row) + '\n{"text_to_im')
    run = curves.read_run_folder(found)
    assert [(one.epoch, one.metrics["text_to_image_R@10"], one.source) for one in run.validations] == [
        (1, 0.1, "out.log"),
        (2, 0.30004, "results.jsonl"),
    ]
    assert (run.damaged, run.disagreements) == (1, ())


def test_files_that_contradict_each_other_are_reported(tmp_path):
    found = folder(tmp_path, WHOLE)
    (found / "results.jsonl").write_text(json.dumps({"text_to_image_R@10": 0.9, "epoch": 2}))
    assert curves.read_run_folder(found).disagreements == ("epoch 2 text_to_image_R@10: results.jsonl 0.9000, before 0.3000",)


def write_events(place, steps: list[tuple[int, float]], *, tag: str = "train/lr", name: str = "1") -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(place), filename_suffix=f".{name}")
    for step, value in steps:
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        writer.add_event(Event(step=step, wall_time=float(step), summary=summary))
    writer.close()


def test_the_learning_rate_comes_from_tensorboard_and_the_last_attempt_wins(tmp_path):
    board = folder(tmp_path, WHOLE) / "tensorboard"
    write_events(board, [(0, 0.5), (3, 0.25), (4, 0.125), (7, 1.0), (4, 0.0625)])
    run = curves.read_run_folder(tmp_path)
    assert [point.lr for point in run.train] == [0.5, 0.25, 0.0625, None]


def test_without_a_log_tensorboard_alone_is_enough(tmp_path):
    write_events(tmp_path / "tensorboard", [(0, 2.0), (10, 1.0)], tag="train/loss")
    run = curves.read_run_folder(tmp_path)
    assert [(point.step, point.loss) for point in run.train] == [(0, 2.0), (10, 1.0)]


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(MissingInput) as error:
        curves.read_run_folder(tmp_path)
    assert str(error.value) == f"{tmp_path}: neither out.log nor tensorboard/ is there; name the folder of a training run"


def test_a_log_that_is_not_there_and_a_setting_that_is_none_are_named(tmp_path):
    with pytest.raises(DataError) as error:
        curves.read_out_log(tmp_path / "out.log")
    assert str(error.value) == f"{tmp_path / 'out.log'}: no such file"
    with pytest.raises(DataError) as error:
        curves.parse_params("lr: 1\nbroken\n", "params.txt")
    assert str(error.value) == "params.txt:2: 'broken' is no setting; `name: value` expected"


def test_a_name_of_another_form_is_refused():
    with pytest.raises(DataError) as error:
        curves.read_run_name("my run")
    assert str(error.value) == "'my run' is no open_clip run name; YYYY_MM_DD-HH_MM_SS-model_M-lr_L-b_B-j_W-p_P expected"


def test_a_run_survives_the_way_through_json(tmp_path):
    run = curves.read_run_folder(folder(tmp_path, WHOLE))
    assert curves.curves_from_record(json.loads(json.dumps(curves.curves_record(run)))) == run
