"""The ten scenarios on which other engines broke (ecosystem.md section 3, rows A-J), each with a control."""

import json
import os
import shutil
from collections.abc import Callable

import pytest

from tests.engine import checkout as checkouts
from tests.engine.checkout import STAGES, Checkout, read

pytestmark = pytest.mark.engine

ALL = dict.fromkeys(STAGES, "hit")


def actions(kit: Checkout, *arguments: str) -> dict[str, tuple[str, str]]:
    """{stage: (what `plan` would do, why)}."""
    program = "from lib import config, plan\nimport json\n"
    program += f"rows = plan.stages(config.resolve('mini', overrides={list(arguments)}))\n"
    program += "print(json.dumps({row.stage: (row.action, row.because) for row in rows}))"
    answer = kit.python(program)
    assert answer.returncode == 0, answer.stderr
    return {stage: tuple(row) for stage, row in json.loads(answer.stdout).items()}


def test_a_first_run_makes_every_stage_and_its_folder_shows_them(finished_kit: Checkout):
    folder = finished_kit.folder()
    content = read(folder / "run.json")
    assert [(name, entry["status"], entry["hit"]) for name, entry in content["stages"].items()] == [
        (name, "done", False) for name in STAGES
    ]
    for stage in STAGES:
        place = folder / checkouts.numbered(stage)
        assert place.is_symlink() and read(place / "record.json")["key"] == content["stages"][stage]["key"]
        assert (place / "notebook.ipynb").is_file()
    assert content["stages"]["data_prep"]["dropped"] == {
        "too large": read(finished_kit.place("data_prep") / "record.json")["dropped"]["too large"]
    }
    assert (folder / "checkpoints").resolve() == finished_kit.place("finetune") / "checkpoints"
    assert (folder / "report.html").read_text().startswith("<p>mini: ")
    assert str(finished_kit.root) not in (finished_kit.place("finetune") / "notebook.ipynb").read_text()


def test_b_nothing_changed_is_a_hit_for_every_stage_in_the_same_folder(done: Checkout):
    assert done.run("1-7") == ALL
    assert len(done.folders()) == 1


def test_b_a_tag_names_the_folder_and_only_a_run_of_that_name_is_continued(done: Checkout):
    older = done.folder()
    for _ in range(2):
        assert list(done.run("1-7", "--tag", "second").values()) == ["hit"] * 7
        assert [folder.name.rpartition("_")[2] for folder in done.folders()] == ["base", "second"]
    assert list(done.run("1-7", "--tag", "base").values()) == ["hit"] * 7
    assert older in done.folders() and len(done.folders()) == 2


def test_c_outputs_saved_in_a_notebook_change_nothing_and_neither_does_an_empty_cell_below(done: Checkout):
    path = done.notebook("data_prep")
    content = read(path)
    for number, cell in enumerate(content["cells"]):
        cell |= {"execution_count": number, "outputs": [{"output_type": "stream", "name": "stdout", "text": ["seen\n"]}]}
    content["cells"].append({"cell_type": "code", "id": "below", "metadata": {}, "outputs": [], "execution_count": None, "source": []})
    path.write_text(json.dumps(content))
    assert done.run("1-7") == ALL


def test_c_control_code_changed_in_a_notebook_runs_its_stage_and_what_depends_on_it(done: Checkout):
    done.edit("notebooks/06-evaluate.ipynb", "show.table(evaluate.write_scores(cfg, run))", "evaluate.write_scores(cfg, run)")
    assert actions(done)["evaluate"] == ("run", "code of the notebook")
    assert done.run("1-7") == {**ALL, "evaluate": "done"}
    assert len(done.folders()) == 2, "the older result stays in its own run"


def test_d_a_comment_added_to_lib_changes_nothing(done: Checkout):
    for name in ("lib/files.py", "lib/submissions/mini/training.py"):
        path = done.root / name
        path.write_text(path.read_text() + "\n# a remark\n")
    assert done.run("1-7") == ALL


def test_d_control_code_changed_in_the_training_program_runs_the_training_again(done: Checkout):
    done.edit("lib/submissions/mini/training.py", "WEIGHTS = 8", "WEIGHTS = 9")
    assert actions(done)["finetune"] == ("run", "code of lib.submissions.mini.training")
    assert done.run("1-4") == {"data_prep": "hit", "augmentation": "hit", "block_expansion": "hit", "finetune": "done"}


def test_d_control_a_changed_claim_runs_the_review_again(done: Checkout):
    done.edit("lib/submissions/mini/claims.yaml", '"0.5"', '"0.7"')
    action, because = actions(done)["quick_review"]
    assert action == "run" and because.startswith("inputs claims.yaml: ")
    assert done.run("6-7") == {"evaluate": "hit", "quick_review": "done"}
    assert read(done.folders()[-1] / "07-quick-review" / "claims.json")[0]["published"] == "0.7"


def test_e_a_changed_parameter_runs_exactly_the_stages_that_read_it(done: Checkout):
    override = "evaluate.scale=2.0"
    assert actions(done, override)["evaluate"] == ("run", "settings evaluate.scale: 1.0 -> 2.0")
    assert done.run("1-7", "--set", override) == {**ALL, "evaluate": "done", "quick_review": "done"}
    first, second = (read(folder / "06-evaluate" / "metrics.json")["scores"][0]["value"] for folder in done.folders())
    assert second == 2 * first


def test_e_a_stage_whose_result_stays_the_same_stops_the_change_there(done: Checkout):
    numbers = read(next(done.root.glob("data/mini/toy-*/datasets/numbers.json")))
    same = next(limit for limit in range(91, 100) if limit not in numbers)
    dropped = max(number for number in numbers if number <= same)
    assert dropped <= 90, "mini's toy data have to leave room for another limit that drops the same numbers"
    assert done.run("1-2", "--set", f"data_prep.largest={same}") == {"data_prep": "done", "augmentation": "hit"}


def test_f_a_failed_training_goes_on_where_it_broke_under_the_same_identity(
    finished_kit: Checkout, prepared: Checkout, weights: Callable[[Checkout], str]
):
    broken, setting = prepared, ("--set", "machine.crash_at=10")
    failed = broken.ask("run", "mini", "--stages", "4-5", *setting)
    assert failed.returncode == 1
    log = broken.place("finetune").relative_to(broken.root) / "train.log"
    reason = "training ended with status 1: lib.errors.StageFailed: crashed at step 10, as asked"
    assert failed.stderr == f"podium: mini finetune: {reason} ({log}) [{log.with_name('notebook.ipynb')}]\n"
    assert broken.entry("finetune")["status"] == "failed"
    assert not (broken.log / ".stages" / "mini" / "05-infer").exists(), "nothing downstream may run"
    assert actions(broken, "machine.crash_at=10")["finetune"][0] == "resume from step 8 of 24"
    key = broken.entry("finetune")["key"]
    assert broken.run("4", *setting) == {"finetune": "done"}
    assert broken.entry("finetune")["key"] == key == finished_kit.entry("finetune")["key"]
    assert "starts at step 8\n" in (broken.place("finetune") / "train.log").read_text()
    assert weights(broken) == weights(finished_kit)


def test_f_what_failed_is_put_right_in_the_run_where_it_failed(prepared: Checkout):
    setting = ("--set", "machine.crash_at=10")
    assert prepared.ask("run", "mini", "--stages", "4", *setting).returncode == 1
    folders = prepared.folders()
    prepared.edit("lib/submissions/mini/training.py", "WEIGHTS = 8", "WEIGHTS = 9")
    assert prepared.ask("run", "mini", "--stages", "4", *setting).returncode == 1
    assert prepared.run("4", *setting) == {"finetune": "done"}
    assert prepared.folders() == folders


def test_g_another_learning_rate_after_a_failure_starts_at_step_0(prepared: Checkout):
    assert prepared.ask("run", "mini", "--stages", "4", "--set", "machine.crash_at=10").returncode == 1
    assert prepared.run("4", "--set", "finetune.lr=0.1") == {"finetune": "done"}
    older, newer = prepared.places("finetune")
    assert "starts at step 0\n" in (newer / "train.log").read_text()
    assert (newer / "record.json").is_file() and not (older / "record.json").exists()


def test_h_back_to_an_earlier_parameter_is_a_hit_with_the_earlier_result(done: Checkout):
    done.run("6", "--set", "evaluate.scale=3.0")
    assert done.run("1-7") == ALL
    earlier, later = done.folders()
    assert read(earlier / "06-evaluate" / "metrics.json") != read(later / "06-evaluate" / "metrics.json")


def test_i_a_result_that_was_tampered_with_is_found_and_made_again(done: Checkout):
    path = done.place("infer") / "test.jsonl"
    before = path.read_text()
    path.write_text(before.replace("0", "1"))
    assert actions(done)["infer"][0] == "run"
    assert done.run("1-7") == {**ALL, "infer": "done"}
    assert path.read_text() == before


def test_i_a_result_that_was_deleted_counts_no_more(done: Checkout):
    (done.place("augmentation") / "samples.json").unlink()
    planned = actions(done)
    assert [planned[stage][0] for stage in STAGES[:3]] == ["hit", "run", "hit"]
    assert planned["finetune"] == ("run", "waits for augmentation")


def test_i_a_result_replaced_by_one_of_the_same_size_and_time_is_found_by_verify(done: Checkout):
    path = done.place("infer") / "test.jsonl"
    status = path.stat()
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    answer = done.ask("verify", str(done.folder()))
    assert answer.returncode == 1
    assert "BROKEN  infer: 1 results re-hashed; changed or missing: test.jsonl" in answer.stdout


def test_i_a_record_that_is_cut_off_is_named_with_what_to_do(done: Checkout):
    path = done.place("infer") / "record.json"
    path.write_text(path.read_text()[:40])
    answer = done.ask("run", "mini")
    assert answer.returncode == 1
    assert answer.stderr == (
        f"podium: {path.relative_to(done.root)} cannot be read (not valid JSON at column 12 (Unterminated string starting at)); "
        "delete its folder, and the stage is made again\n"
    )
    shutil.rmtree(path.parent)
    assert actions(done)["infer"][0] == "run"


def test_i_a_record_of_another_kind_is_named_with_what_to_do(done: Checkout):
    path = done.place("infer") / "record.json"
    path.write_text('{"submission": "mini"}')
    answer = done.ask("plan", "mini")
    assert answer.returncode == 1
    expected = (
        f"podium: {path.relative_to(done.root)} cannot be read (stage: Field required); delete its folder, and the stage is made again\n"
    )
    assert answer.stderr == expected


def test_j_a_misspelt_parameter_is_refused_before_a_kernel_starts(checkout: Checkout):
    answer = checkout.ask("run", "mini", "--set", "finetune.learning_rate=1")
    assert answer.returncode == 1
    expected = "podium: mini base tiny: no setting 'finetune.learning_rate'; finetune has: steps, save_every, lr, label\n"
    assert answer.stderr == expected
    assert not checkout.log.exists() and not checkout.processes()


def test_a_later_stage_alone_names_the_notebook_to_run_first_and_makes_no_folder(checkout: Checkout):
    answer = checkout.ask("run", "mini", "--stages", "4")
    assert answer.returncode == 1
    assert answer.stderr == (
        "podium: mini: finetune reads augmentation, which has no result here (waits for data_prep); "
        "run notebooks/02-augmentation.ipynb first\n"
    )
    assert not checkout.folders()


def test_an_older_result_is_not_shown_while_its_stage_is_made_again_nor_those_after_it(done: Checkout):
    (done.place("infer") / "test.jsonl").unlink()
    assert done.run("5-5") == {"infer": "done"}
    content = read(done.folder() / "run.json")["stages"]
    assert list(content) == list(STAGES[:5]), "what was made from the older result is shown again once it is known to be right"
    assert not (done.folder() / "06-evaluate").exists() and not (done.folder() / "report.html").exists()
    assert done.run("1-7") == ALL
    assert list(read(done.folder() / "run.json")["stages"]) == list(STAGES)


def test_code_edited_while_its_stage_runs_is_refused_because_the_result_would_belong_to_neither(prepared: Checkout):
    checkout = prepared
    driver = checkout.start("run", "mini", "--stages", "4", "--set", "machine.pause=0.2")
    checkouts.wait_until(lambda: list((checkout.log / ".stages/mini/04-finetune").glob("*/progress.json")), "a checkpoint")
    checkout.edit("lib/submissions/mini/training.py", "WEIGHTS = 8", "WEIGHTS = 9")
    answer = checkouts.ended(driver)
    assert answer.returncode == 1
    place = checkout.place("finetune").relative_to(checkout.root)
    assert answer.stderr == (
        "podium: mini finetune: code of lib.submissions.mini.training changed while finetune ran; run the stage again "
        f"[{place}/notebook.ipynb]\n"
    )
    assert not (checkout.place("finetune") / "record.json").exists()
