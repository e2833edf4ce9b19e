"""Notebooks run by hand: through plain papermill, cell by cell in a kernel, and in ways that must not count."""

import json
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from lib import runner
from lib.errors import ConfigError
from tests.engine import checkout as checkouts
from tests.engine.checkout import Checkout, read, write_notebook


def papermill(kit: Checkout, stage: str, *arguments: str) -> tuple[int, str]:
    """(exit status, what was said) of `papermill NOTEBOOK OUT ARGUMENTS`."""
    output = kit.root / "executed.ipynb"
    answer = checkouts.ended(kit.start_program([sys.executable, "-m", "papermill", str(kit.notebook(stage)), str(output), *arguments]))
    return answer.returncode, answer.stdout + answer.stderr


def in_a_kernel(kit: Checkout, *steps: str) -> list[str]:
    """Run sources in one kernel as a person does, going on after errors; returns what each showed, errors as "Name: message".

    A step "SAVE stage old new" is an edit saved in between.
    """
    program = (
        "import json, sys\nfrom pathlib import Path\nfrom jupyter_client.manager import start_new_kernel\n"
        "manager, client = start_new_kernel(kernel_name='python3')\n"
        "answers = []\n"
        "for step in json.loads(sys.argv[1]):\n"
        "    if isinstance(step, list):\n"
        "        path = Path(step[0]); text = path.read_text(); assert step[1] in text; path.write_text(text.replace(step[1], step[2]))\n"
        "        continue\n"
        "    said = []\n"
        "    def hear(message):\n"
        "        content = message['content']\n"
        "        said.append(content.get('text', '') or content.get('data', {}).get('text/plain', '') or content.get('evalue', ''))\n"
        "    client.execute_interactive(step, output_hook=hear, timeout=100)\n"
        "    answers.append(''.join(said))\n"
        "client.stop_channels(); manager.shutdown_kernel(now=True)\n"
        "print('ANSWERS' + json.dumps(answers))\n"
    )
    path = kit.root / "by_hand.py"
    path.write_text(program)
    answer = checkouts.ended(kit.start_program([sys.executable, str(path), json.dumps(steps)]))
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout.partition("ANSWERS")[2])


@pytest.mark.engine
def test_plain_papermill_writes_the_same_record_and_key_as_the_runner(checkout: Checkout, finished_kit: Checkout):
    assert papermill(checkout, "data_prep", "-p", "SUBMISSION", "mini")[0] == 0
    mine, theirs = checkout.record("data_prep"), finished_kit.record("data_prep")
    differ = {name for name in mine if mine[name] != theirs[name]}
    assert differ <= {"started", "seconds", "peak_memory_mib"}
    assert checkout.entry("data_prep")["status"] == "done"
    assert checkout.run("1") == {"data_prep": "hit"}


@pytest.mark.engine
def test_a_missing_earlier_stage_names_the_notebook_to_run_first(checkout: Checkout):
    status, said = papermill(checkout, "augmentation", "-p", "SUBMISSION", "mini")
    assert status == 1
    expected = "MissingInput: mini: augmentation reads data_prep, which has no result here (waits for data); run notebooks/01-data-prep.ipynb first"
    assert expected in said


@pytest.mark.engine
def test_an_extra_cell_makes_a_result_that_is_shown_but_is_no_hit_for_the_runner(checkout: Checkout):
    opening, *verbs, closing = checkouts.cells("data_prep")
    begin = [opening, *verbs[:2], "run.out.joinpath('extra.txt').write_text('by hand')", *verbs[2:], closing]
    in_a_kernel(checkout, *begin)
    record = checkout.record("data_prep")
    assert record["interactive"] == ["run.out.joinpath('extra.txt').write_text('by hand')"]
    assert checkout.entry("data_prep")["status"] == "done"
    assert checkout.run("1") == {"data_prep": "done"}
    record = checkout.record("data_prep")
    assert (record["interactive"], list(record["outputs"])) == ([], ["samples.json"])


@pytest.mark.engine
def test_cells_beside_the_notebooks_own_may_be_comments_or_broken_and_finish_may_be_asked_twice(checkout: Checkout):
    parameters, imports, begin, *verbs, finish = checkouts.cells("data_prep")
    answers = in_a_kernel(checkout, parameters, imports, begin, "# a remark", finish, "x = (", *verbs, finish)
    assert answers[4] == (
        "notebooks/01-data-prep.ipynb: the cell beginning 'samples = data_prep.write_samples(cfg, run)' was not run as it is saved; "
        "save the notebook and run all cells"
    )
    assert "done in" in answers[-1]
    assert checkout.record("data_prep")["interactive"] == ["x = ("]


@pytest.mark.engine
def test_a_cell_changed_and_not_saved_is_refused_and_a_saved_change_belongs_to_another_identity(checkout: Checkout):
    parameters, imports, begin, verb, look, finish = checkouts.cells("data_prep")
    path = str(checkout.notebook("data_prep"))
    changed = "samples = data_prep.write_samples(cfg, run)[:3]"
    answers = in_a_kernel(checkout, parameters, imports, begin, changed, look, finish, [path, verb, changed], finish)
    assert answers[5].startswith(
        "notebooks/01-data-prep.ipynb: the cell beginning 'samples = data_prep.write_samples(cfg, run)' was not run"
    )
    assert answers[6] == "code of the notebook changed while data_prep ran; run the stage again"
    assert not (checkout.place("data_prep") / "record.json").exists()
    in_a_kernel(checkout, parameters, imports, begin, changed, look, finish)
    assert [(place / "record.json").exists() for place in checkout.places("data_prep")].count(True) == 1


@pytest.mark.engine
def test_a_stage_done_before_is_compared_when_repeated_and_stays_in_its_run(done: Checkout):
    before = read(done.folder() / "run.json")
    cells = [cell.replace('RUN = "new"', 'RUN = "latest"') for cell in checkouts.cells("data_prep")]
    answers = in_a_kernel(done, *cells)
    assert "data_prep was done before; this repetition gave identical files" in answers[-1]
    after = read(done.folder() / "run.json")
    assert list(after["stages"]) == list(before["stages"])
    assert not list(done.place("data_prep").parent.glob("*.again"))


@pytest.mark.engine
def test_a_repetition_that_differs_says_in_what_and_the_first_result_stays(done: Checkout):
    cells = [cell.replace('RUN = "new"', 'RUN = "latest"') for cell in checkouts.cells("data_prep")]
    before = done.record("data_prep")
    answers = in_a_kernel(done, *cells[:-1], "run.out.joinpath('samples.json').write_text('[]')", cells[-1])
    assert "data_prep was done before; this repetition differs in samples.json; the first result stays" in answers[-1]
    assert done.record("data_prep") == before


@pytest.mark.engine
def test_finish_without_begin_and_begin_with_a_wrong_run_are_refused(done: Checkout):
    name = done.folder().name
    program = (
        "from lib import runs, stages\nfrom lib.errors import KitError\nfrom pathlib import Path\n"
        "def told(function, *arguments):\n    try:\n        function(*arguments)\n    except KitError as error:\n        print(error)\n"
        "run = runs.Run('mini', 'infer', 'tiny', Path('.'), Path('x'), 'key', {})\n"
        "told(stages.finish, run)\n"
        "told(run.of, 'evaluate')\n"
        "told(stages.story, 'training', 'mini')\n"
        f"told(stages.begin, 'infer', 'mini', 'last', 'tiny', {name!r}, '')\n"
        "told(stages.begin, 'infer', 'mini', 'base', 'tiny', 'best', '')\n"
        "told(stages.begin, 'quick_review', 'mini', 'base', 'tiny', 'best', '')\n"
        "told(stages.begin, 'infer', 'mini', 'base', 'tiny', 'yesterday', '')\n"
    )
    answer = done.python(program)
    said = [line for line in answer.stdout.splitlines() if not line[:2].isdigit()]
    assert said == [
        "infer is not open in this kernel; run the notebook from its first cell",
        "infer asks for the results of evaluate, which its identity does not hold; add it to READS",
        "mini: story.md has no section 'training'; it has: data_prep, augmentation, block_expansion, finetune, infer, evaluate, quick_review",
        f"run {name} was made with other settings than variant last, profile tiny, overrides none; use RUN latest or new, or its own settings",
        "RUN best is the kept run, which only 07-quick-review reads; infer takes new, latest or a run's name",
        "mini has no kept run in best-result-review; keep one with: python -m lib keep RUN",
        f"no run 'yesterday'; the newest are: {name}",
    ], answer.stderr


@pytest.mark.engine
def test_a_result_made_by_a_program_instead_of_the_notebook_is_no_hit_for_the_runner(checkout: Checkout):
    program = (
        "from lib import stages\n"
        "cfg, run, data_prep = stages.begin('data_prep', 'mini', 'base', 'tiny', 'new', '')\n"
        "data_prep.write_samples(cfg, run)\nstages.finish(run)\n"
    )
    assert checkout.python(program).returncode == 0
    record = checkout.record("data_prep")
    assert (record["entry"], record["interactive"]) == ("python", ["a Python program, not the notebook"])
    assert checkout.run("1") == {"data_prep": "done"}


@pytest.mark.engine
def test_the_review_of_the_kept_run_reads_it_and_writes_nothing_into_it(done: Checkout):
    assert done.ask("keep", done.folder().name).returncode == 0
    kept = done.root / "best-result-review" / "mini"
    before = {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()}
    status, said = papermill(done, "quick_review", "-p", "SUBMISSION", "mini")
    assert status == 0, said
    assert {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()} == before
    program = (
        "from lib import stages\nfrom lib.errors import KitError\n"
        "try:\n    stages.begin('infer', 'mini', 'base', 'tiny', 'best/mini', '')\nexcept KitError as error:\n    print(error)\n"
    )
    expected = "run 'best/mini' is a kept run, which is only read; use RUN latest, new or the name of a run in log"
    assert done.python(program).stdout.splitlines()[-1] == expected


@pytest.mark.engine
def test_a_notebook_that_does_not_close_its_record_fails(checkout: Checkout):
    write_notebook(checkout.notebook("data_prep"), checkouts.cells("data_prep")[:-1])
    answer = checkout.ask("run", "mini", "--stages", "1")
    assert answer.returncode == 1
    assert answer.stderr == "podium: mini data_prep: the notebook ended without closing its record; its last cell calls stages.finish\n"


@pytest.mark.engine
def test_an_override_with_quotes_reaches_the_notebook_as_it_was_given(prepared: Checkout):
    answer = prepared.ask("run", "mini", "--stages", "4", "--set", "finetune.label='1e5'")
    assert answer.returncode == 0, answer.stderr
    assert read(prepared.place("finetune") / "identity.json")["settings"]["finetune.label"] == "1e5"


@pytest.mark.parametrize("name", ["SUBMISION", "X; open('pwned', 'w') #", "SUBMISSION = 1; x", "# five", "run"])
def test_a_parameter_that_the_notebook_does_not_declare_is_refused_whatever_it_holds(tmp_path: Path, name: str):
    path = tmp_path / "01.ipynb"
    write_notebook(path, checkouts.cells("data_prep"))
    with pytest.raises(ConfigError) as raised:
        runner.execute_notebook(path, tmp_path / "out.ipynb", {"SUBMISSION": "mini", name: 1}, no_kernel)
    assert str(raised.value) == f"{path} has no parameter {name!r}; it declares: SUBMISSION, VARIANT, PROFILE, RUN, OVERRIDES"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["01.ipynb"]


def no_kernel() -> NoReturn:
    """In place of a kernel: none may be started."""
    raise AssertionError("a kernel was started")


def test_the_control_papermill_itself_would_run_the_code_in_a_parameters_name(checkout: Checkout):
    name = f"X = 1; open({str(checkout.root / 'pwned')!r}, 'w').close() #"
    program = (
        "import papermill\n"
        f"papermill.execute_notebook({str(checkout.root / 'one.ipynb')!r}, {str(checkout.root / 'out.ipynb')!r}, parameters={{{name!r}: 1}}, kernel_name='python3', progress_bar=False)\n"
    )
    write_notebook(checkout.root / "one.ipynb", ["A = 1", "A"])
    checkout.python(program)
    assert (checkout.root / "pwned").exists()
