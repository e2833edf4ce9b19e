"""The rules of design.md and style.md that code can check: layers, names, budgets, the notebooks' skeleton, what is tracked by git."""

import ast
import functools
import importlib
import inspect
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
LIB = ROOT / "lib"

# Level of each module (design.md section 5, as built): it imports from its own level and below. A package stands for all it holds.
LEVELS = {
    "errors": 0,
    "files": 1, "config": 1, "paths": 1, "runtime": 1, "records": 1, "progress": 1,
    "noise": 1, "consistency": 1,
    "identity": 2, "store": 2, "runs": 2, "claims": 2, "curves": 2, "sheet": 2, "synthetic": 2, "metrics": 2,
    "conversation": 2, "geometry": 2, "journal": 2, "media": 2, "scenes": 2, "services": 2, "snapshots": 2, "shards": 2, "wordnet": 2,
    "adapters": 3, "assembly": 3, "original_adapters": 3, "base_texts": 3, "snapshot_texts": 3, "word_tokenizer": 3, "blocks": 3, "checkpoints": 3, "datasets": 3, "llava": 3, "training_plan": 3, "llava_settings": 3,
    "models": 3, "plots": 3, "plots_llava": 3, "show": 3, "report": 3, "tiny_base": 3,
    "launch": 4, "base_open_clip": 4, "base_llava": 4, "block_expansion": 4, "quick_review": 4,
    "training": 4, "recorder": 4, "generation": 4, "choosing": 4, "reading": 4, "tuning": 4, "answering": 4,
    "submissions": 5,
    "inputs": 6, "chain": 6, "kernels": 6, "stages": 6, "review": 6,
    "runner": 7, "plan": 7, "console": 7, "reproduce": 7,
    "__main__": 8,
}  # fmt: skip
LOWEST_HEAVY_LEVEL = 3
HEAVY = {
    "accelerate", "bitsandbytes", "deepspeed", "flash_attn", "open_clip", "open_clip_train", "pandas", "peft", "sklearn", "timm",
    "torch", "torchvision", "transformers", "webdataset",
}  # fmt: skip

STAGES = ("data_prep", "augmentation", "block_expansion", "finetune", "infer", "evaluate", "quick_review")
NUMBERED = [f"{number:02d}-{stage.replace('_', '-')}" for number, stage in enumerate(STAGES, start=1)]
PARAMETERS = ["SUBMISSION", "VARIANT", "PROFILE", "RUN", "OVERRIDES"]

FUNCTION_LINES, LONG_FUNCTIONS = 60, {"training.train": 100}
MODULE_LINES = 400
ARGUMENTS = 6
NESTING = 3
CELL_LINES = 12

# design.md section 3: words that name nothing. As parts of file names, split at `_`, `-` and `.`.
EMPTY_WORDS = {
    "process", "handle", "handler", "manage", "manager", "do", "helper", "helpers", "util", "utils", "misc", "common", "info", "tmp",
    "new", "my", "final", "old", "stuff",
}  # fmt: skip


def module_name(path: Path) -> str:
    """The dotted name of a file below the checkout: lib/metrics/__init__.py -> lib.metrics."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(LIB.rglob("*.py"))}
SUBMISSIONS = sorted(path.parent.name for path in LIB.glob("submissions/*/config.yaml"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@functools.cache
def parsed(name: str) -> ast.Module:
    """The syntax tree of a module of lib."""
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def level(name: str) -> int:
    """The level of a module of lib, by the first part of its name below lib."""
    part = name.split(".")[1]
    assert part in LEVELS, f"{name} has no place in the layers; put {part!r} into LEVELS of {Path(__file__).name} and into design"
    return LEVELS[part]


def imported_names(node: ast.AST) -> list[str]:
    """What an import statement names, `from a import b` as a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"relative import in line {node.lineno}"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def imported_modules(name: str) -> set[str]:
    """The modules of lib that a module imports, anywhere in its text."""
    found = set()
    for node in ast.walk(parsed(name)):
        for imported in imported_names(node):
            if imported.startswith("lib."):
                found.add(imported if imported in MODULES else imported.rpartition(".")[0])
    return found - {name, "lib"}


def imports_when_loaded(tree: ast.Module) -> Iterator[str]:
    """Top packages imported when the module is: at its top, in its classes and conditions, but not under TYPE_CHECKING or in functions."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
            continue
        yield from (imported.partition(".")[0] for imported in imported_names(node))
        waiting.extend(ast.iter_child_nodes(node))


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def public(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Public classes and functions at the top, and the public methods of public classes; properties and overrides among them."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        yield node
        if isinstance(node, ast.ClassDef):
            methods = (part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef))
            yield from (method for method in methods if not method.name.startswith("_"))


def tracked_files() -> list[Path]:
    """Files in git, and those that would be with `git add`: a rule holds before the commit, not after."""
    answer = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in answer.stdout.split("\0") if name and (ROOT / name).is_file()]


# --- layers ---


@pytest.mark.parametrize("name", [name for name in MODULES if name != "lib"])
def test_imports_go_down_only(name: str):
    upward = {imported: level(imported) for imported in imported_modules(name) if level(imported) > level(name)}
    assert not upward, f"{name} (level {level(name)}) imports {upward}"


def test_no_module_imports_itself_through_others():
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for imported in sorted(imported_modules(name)):
                visit(imported, (*path, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


@pytest.mark.parametrize("submission", SUBMISSIONS)
def test_a_submission_imports_no_other_submission(submission: str):
    own = f"lib.submissions.{submission}"
    for name in MODULES:
        if name == own or name.startswith(own + "."):
            foreign = [
                other
                for other in imported_modules(name)
                if other.startswith("lib.submissions.") and not (other + ".").startswith(own + ".")
            ]
            assert not foreign, f"{name} imports {foreign}"


def test_every_folder_of_submissions_is_one():
    folders = sorted(path.name for path in (LIB / "submissions").iterdir() if path.is_dir() and path.name != "__pycache__")
    assert folders == SUBMISSIONS


def test_lib_itself_imports_nothing():
    assert not [node for node in ast.walk(parsed("lib")) if isinstance(node, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize("name", [name for name in MODULES if name != "lib"])
def test_heavy_packages_are_loaded_from_level_three_on(name: str):
    heavy = HEAVY & set(imports_when_loaded(parsed(name)))
    assert not heavy or level(name) >= LOWEST_HEAVY_LEVEL, f"{name} (level {level(name)}) loads {sorted(heavy)}"


def test_command_line_and_review_load_nothing_heavy():
    light = ["lib.__main__", "lib.stages", "lib.review", "lib.quick_review", "lib.reproduce", "lib.show", "lib.plots", "lib.plan"]
    light += [f"lib.submissions.{name}.{stage}" for name in SUBMISSIONS for stage in ("data_prep", "evaluate")]
    program = f"import importlib, sys\nfor name in {light}:\n  importlib.import_module(name)\nprint(*sorted({HEAVY} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT, capture_output=True, text=True)
    assert (answer.returncode, answer.stdout.strip()) == (0, ""), answer.stdout + answer.stderr


# --- the stages' contract ---


def stage_module(submission: str, stage: str) -> str:
    """The module of a stage: the submission's own, else the shared one."""
    own = f"lib.submissions.{submission}.{stage}"
    return own if own in MODULES else f"lib.{stage}"


def calls_of_verbs(stage: str) -> list[ast.Call]:
    """The calls `<stage>.<verb>(...)` in the stage's notebook."""
    path = ROOT / "notebooks" / f"{NUMBERED[STAGES.index(stage)]}.ipynb"
    calls = []
    for source in code_sources(path):
        nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
        calls += [node for node in nodes if isinstance(node.func.value, ast.Name) and node.func.value.id == stage]
    return calls


@pytest.mark.parametrize("stage", STAGES)
def test_every_submission_has_the_verbs_its_notebook_calls(stage: str):
    for submission in SUBMISSIONS:
        module = importlib.import_module(stage_module(submission, stage))
        for call in calls_of_verbs(stage):
            verb = getattr(module, call.func.attr, None)
            assert verb is not None, f"{module.__name__} has no {call.func.attr}, which the notebook of {stage} calls"
            inspect.signature(verb).bind(*call.args, **{keyword.arg: keyword.value for keyword in call.keywords})


@pytest.mark.parametrize("stage", STAGES)
def test_verbs_have_the_same_parameters_in_every_submission(stage: str):
    modules = {name: importlib.import_module(stage_module(name, stage)) for name in SUBMISSIONS}
    for verb in {call.func.attr for call in calls_of_verbs(stage)}:
        parameters = {name: list(inspect.signature(getattr(module, verb)).parameters) for name, module in modules.items()}
        assert len({tuple(names) for names in parameters.values()}) == 1, f"{stage}.{verb}: {parameters}"


# --- budgets (style.md section 8) ---


@pytest.mark.parametrize("name", MODULES)
def test_module_stays_within_its_budgets(name: str):
    tree, lines = parsed(name), MODULES[name].read_text(encoding="utf-8").count("\n")
    assert lines <= MODULE_LINES, f"{name} has {lines} lines, budget {MODULE_LINES}"
    over = []
    for function in functions(tree):
        where = f"{name}.{function.name}"
        length = function.end_lineno - function.lineno + 1
        if length > LONG_FUNCTIONS.get(f"{name.rpartition('.')[2]}.{function.name}", FUNCTION_LINES):
            over.append(f"{where}: {length} lines, budget {FUNCTION_LINES}")
        if len(parameters(function)) > ARGUMENTS:
            over.append(f"{where}: {len(parameters(function))} arguments, budget {ARGUMENTS}")
        if nesting(function) > NESTING:
            over.append(f"{where}: {nesting(function)} levels of nesting, budget {NESTING}")
    assert not over, "; ".join(over)


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    """All parameters but self and cls."""
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    return [one for one in every if one.arg not in ("self", "cls")]


def nesting(function: ast.AST, depth: int = 0) -> int:
    """The deepest level of blocks inside a function; functions inside it start anew, `elif` counts as its `if`."""
    deepest = depth
    for node in ast.iter_child_nodes(function):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        is_block = isinstance(node, ast.If | ast.For | ast.While | ast.With | ast.Try | ast.Match | ast.AsyncFor | ast.AsyncWith)
        is_elif = isinstance(function, ast.If) and function.orelse == [node] and isinstance(node, ast.If)
        deepest = max(deepest, nesting(node, depth + (is_block and not is_elif)))
    return deepest


def test_nesting_counts_blocks_and_not_elif():
    source = "def f():\n if a:\n  pass\n elif b:\n  for c in d:\n   with e:\n    pass\n else:\n  pass\n"
    assert nesting(ast.parse(source).body[0]) == 3


@pytest.mark.parametrize("name", MODULES)
def test_module_and_all_public_names_have_docstrings(name: str):
    tree = parsed(name)
    first = MODULES[name].read_text(encoding="utf-8").partition("\n")[0]
    assert first.startswith('"""'), f"{name}: the first line does not say what the module is for"
    bare = [node.name for node in public(tree) if not ast.get_docstring(node)]
    assert not bare, f"{name}: no docstring: {', '.join(bare)}"


@pytest.mark.parametrize("name", MODULES)
def test_every_signature_is_typed(name: str):
    untyped = []
    for function in functions(parsed(name)):
        missing = [one.arg for one in parameters(function) if one.annotation is None]
        untyped += [f"{function.name}({', '.join(missing)})"] if missing else []
        untyped += [f"{function.name} -> ?"] if function.returns is None else []
    assert not untyped, f"{name}: {'; '.join(untyped)}"


# --- notebooks (style.md section 7) ---


def code_sources(path: Path) -> list[str]:
    """The sources of the code cells, in order."""
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def lines_of_code(source: str) -> list[str]:
    """Lines that are neither blank nor only a comment."""
    return [line for line in source.splitlines() if line.strip() and not line.strip().startswith("#")]


def test_the_ten_notebooks_are_there():
    expected = {*NUMBERED, "notebook-reproduce", "notebook-quick-review", "notebook-quick-review-last"}
    assert {path.stem for path in NOTEBOOKS} == expected


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_source_only(path: Path):
    content = nbformat.read(path, as_version=4)
    nbformat.validate(content)
    assert "papermill" not in content.metadata
    for number, cell in enumerate(content.cells):
        assert "injected-parameters" not in cell.metadata.get("tags", []), f"cell {number} was injected by papermill"
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, f"cell {number} was saved with its outputs"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_cells_are_short_and_plain(path: Path):
    for source in code_sources(path):
        assert len(source.splitlines()) <= CELL_LINES, source
        assert not re.search(r"(?m)^\s*[!%]", source), f"shell or magic command: {source}"
        forbidden = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.Try, ast.With)
        found = [type(node).__name__ for node in ast.walk(ast.parse(source)) if isinstance(node, forbidden)]
        assert not found, f"{found} in a cell belongs in lib: {source}"
    assert statistics.median(len(lines_of_code(source)) for source in code_sources(path)) <= 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_starts_with_title_parameters_and_imports(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    tagged = [number for number, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
    assert tagged == [1], "the second cell, and no other, is tagged `parameters`"
    body = ast.parse(cells[1].source).body
    assert all(isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) for node in body), "name = literal, line by line"
    if path.stem in NUMBERED:
        assert [node.targets[0].id for node in body] == PARAMETERS
        number, word = path.stem.split("-", 1)
        assert cells[0].source.splitlines()[0].lower() == f"# {number} · {word.replace('-', ' ')}"
    importing = [number for number, cell in enumerate(cells) if cell.cell_type == "code" and re.search(r"(?m)^(import|from) ", cell.source)]
    assert importing == [2], "the third cell, and no other, imports"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_of_code_is_introduced(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    for number, cell in enumerate(cells):
        if cell.cell_type == "code" and number != 2:
            assert cells[number - 1].cell_type == "markdown", f"cell {number} follows code: {cell.source}"
    assert cells[-1].cell_type == "markdown"


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem in NUMBERED], ids=lambda path: path.stem)
def test_stage_notebook_has_the_common_form(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    stage = STAGES[NUMBERED.index(path.stem)]
    assert 15 <= len(cells) <= 30, f"{len(cells)} cells"
    first, *_, last = code_sources(path)[2:]
    assert first.splitlines()[0] == f'cfg, run, {stage} = stages.begin("{stage}", SUBMISSION, VARIANT, PROFILE, RUN, OVERRIDES)'
    assert last.strip() == "stages.finish(run)"
    for word in ("**Question.**", "**Reads**", "**Writes**", "**Takes**"):
        assert word in cells[0].source, f"the first cell does not say {word}"
    assert cells[-1].source.startswith("## Next")


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem in NUMBERED], ids=lambda path: path.stem)
def test_no_cell_depends_on_a_name_that_an_earlier_cell_binds_twice(path: Path):
    bound: dict[str, int] = {}
    for number, source in enumerate(code_sources(path)):
        names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        again = sorted(name for name in names if name in bound)
        assert not again, f"code cell {number} binds {again} again"
        bound |= dict.fromkeys(names, number)


# --- what is tracked ---


def test_git_does_not_ignore_the_library():
    answer = subprocess.run(["git", "-C", str(ROOT), "check-ignore", "lib", "lib/errors.py"], check=False, capture_output=True, text=True)
    assert (answer.returncode, answer.stdout) == (1, ""), "a stock Python .gitignore ignores lib/"


def test_tracked_files_name_no_machine_and_no_package_index():
    # Written so that this file does not contain what it looks for.
    machine = r"/w[o]rk/(main|shared|notes|scratch|steering|[.]library)|/tmp/bash[_]jobs|/opt/p[o]dium|/f[a]rm/|/r[o]ot/"
    index = r"p[y]pi\.org|python[h]osted|download\.p[y]torch|anac[o]nda\.(org|com)|--(extra-)?index-u[r]l[ =]|--find-l[i]nks"
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in re.finditer(f"{machine}|{index}", text)]
    assert not found, "; ".join(found[:10])


def test_file_names_use_words_that_say_something():
    parts = {path: set(re.split(r"[._\-]", path.name.lower())) & EMPTY_WORDS for path in tracked_files()}
    empty = [f"{path.relative_to(ROOT)} ({', '.join(words)})" for path, words in parts.items() if words]
    assert not empty, "; ".join(empty)
