"""The journal of a training: appended line by line, read back whatever kills and resumptions did to it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import files, journal
from lib.curves import FINISHED, STOPPED
from lib.errors import MissingInput

OF, PER_EPOCH = 8, 4


def train_row(step: int, loss: float = 1.0) -> dict:
    place = {"kind": "train", "step": step, "of": OF, "per_epoch": PER_EPOCH, "epoch": step / PER_EPOCH}
    return {**place, "loss": loss, "lr": 0.1, "grad_norm": 2.0, "samples_per_second": 3.0, "memory_mib": 4}


def val_row(step: int, loss: float = 2.0) -> dict:
    place = {"kind": "val", "step": step, "of": OF, "per_epoch": PER_EPOCH, "epoch": step / PER_EPOCH}
    return {**place, "metrics": {"val_loss": loss}}


def training(first: int, last: int) -> list[dict]:
    """What a training writes from one step to another: every step, and a validation after every fourth."""
    rows = [] if first else [val_row(0)]
    for step in range(first + 1, last + 1):
        rows += [train_row(step), *([val_row(step)] if step % PER_EPOCH == 0 else [])]
    return rows


def write(folder: Path, rows: list[dict]) -> Path:
    for row in rows:
        journal.append(folder, row)
    return folder


def test_what_is_appended_is_read(tmp_path: Path):
    write(tmp_path, training(0, 8))
    assert journal.read(tmp_path) == training(0, 8)
    assert (tmp_path / "training.jsonl").read_text().count("\n") == 11


def test_no_journal_names_the_stage_that_writes_it(tmp_path: Path):
    with pytest.raises(MissingInput) as caught:
        journal.read(tmp_path)
    assert str(caught.value) == f"{tmp_path / 'training.jsonl'} is not there; it is written by the training of 04-finetune"
    assert journal.last_step(tmp_path) is None


def test_a_resumed_training_takes_back_what_it_repeats(tmp_path: Path):
    write(tmp_path, [*training(0, 7), train_row(5, 0.5), train_row(6, 0.4)])
    assert journal.read(tmp_path) == [*training(0, 4), train_row(5, 0.5), train_row(6, 0.4)]


def test_a_validation_follows_the_step_it_is_made_after(tmp_path: Path):
    write(tmp_path, [train_row(4), val_row(4), train_row(4, 0.5), val_row(4, 0.6)])
    assert journal.read(tmp_path) == [train_row(4, 0.5), val_row(4, 0.6)]


def test_a_line_that_was_cut_off_is_left_out_and_then_removed(tmp_path: Path):
    path = write(tmp_path, training(0, 2)) / "training.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert journal.read(tmp_path) == training(0, 1)
    write(tmp_path, [train_row(2, 0.5)])
    assert journal.read(tmp_path) == [*training(0, 1), train_row(2, 0.5)]
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize(("content", "kept"), [(b"", b""), (b"abc", b""), (b"a\n", b"a\n"), (b"a\nb", b"a\n"), (b"a\nb\n\nc", b"a\nb\n\n")])
def test_only_what_follows_the_last_line_end_is_cut(tmp_path: Path, content: bytes, kept: bytes):
    (tmp_path / "lines").write_bytes(content)
    files.cut_last_line(tmp_path / "lines")
    assert (tmp_path / "lines").read_bytes() == kept


def test_a_file_that_is_not_there_has_no_last_line(tmp_path: Path):
    files.cut_last_line(tmp_path / "lines")
    assert not (tmp_path / "lines").exists()


@given(kills=st.lists(st.tuples(st.integers(1, OF), st.integers(0, 60)), max_size=4), every=st.integers(1, 4))
def test_however_often_it_was_killed_it_reads_as_if_it_never_was(tmp_path_factory: pytest.TempPathFactory, kills: list, every: int):
    folder, saved = tmp_path_factory.mktemp("killed"), 0
    for step, bytes_lost in kills:
        # Killed in the middle of writing the row of that step; the next attempt begins at the newest checkpoint.
        if step > saved:
            path = write(folder, training(saved, step)) / "training.jsonl"
            lost = min(bytes_lost, len(path.read_bytes().splitlines()[-1]))
            path.write_bytes(path.read_bytes()[: -lost or None])
            saved = max(saved, (step - 1) // every * every)
    write(folder, training(saved, OF))
    assert journal.read(folder) == training(0, OF)


def test_the_last_step_is_found_at_the_end_of_a_long_file(tmp_path: Path):
    write(tmp_path, training(0, 8) * 40)
    assert (tmp_path / "training.jsonl").stat().st_size > 2 * journal.TAIL_BYTES
    assert journal.last_step(tmp_path) == train_row(8)
    write(tmp_path, [train_row(5, 0.5)])
    with (tmp_path / "training.jsonl").open("a") as stream:
        stream.write('{"kind": "train", "step": 6, "lo')
    assert journal.last_step(tmp_path) == train_row(5, 0.5)


def test_before_the_first_step_there_is_none(tmp_path: Path):
    assert journal.last_step(write(tmp_path, [val_row(0)])) is None


def test_curves_count_steps_from_zero_and_validations_by_epochs_done(tmp_path: Path):
    found = journal.curves(write(tmp_path, training(0, 8)))
    assert [(point.step, point.epoch) for point in found.train] == [(step - 1, step // PER_EPOCH) for step in range(1, 9)]
    assert found.epochs()[-1] == 2.0
    assert found.metric("val_loss") == [(0.0, 2.0), (1.0, 2.0), (2.0, 2.0)]
    assert (found.state, found.evidence, found.steps_per_epoch) == (FINISHED, "8 of 8 planned steps done", 4)


def test_curves_of_a_training_that_goes_on_say_how_far_it_is(tmp_path: Path):
    found = journal.curves(write(tmp_path, training(0, 3)))
    assert (found.state, found.evidence) == (STOPPED, "3 of 8 planned steps done")
    assert journal.read_training(tmp_path) == found


def test_without_a_journal_a_training_is_read_in_the_layout_of_open_clip(tmp_path: Path):
    (tmp_path / "out.log").write_text("2024-05-01,10:00:00 | INFO | Start epoch 0\n")
    assert journal.read_training(tmp_path).train == ()


def test_rows_of_a_jsonl_file_end_at_line_ends_only(tmp_path: Path):
    rows = [{"text": "one\u2028line"}, {"text": "next\u0085to it"}]
    files.write_jsonl(tmp_path / "rows.jsonl", rows)
    assert files.read_jsonl(tmp_path / "rows.jsonl") == rows
