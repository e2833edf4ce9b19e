"""What a newcomer's machine installs and starts: pyproject, lock and conda environment agree, scripts are whole, sources are complete."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lib import identity

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = {name: [Requirement(line) for line in lines] for name, lines in PROJECT["project"]["optional-dependencies"].items()}
SCRIPTS = [*sorted((ROOT / "script").glob("*.sh")), ROOT / ".ci" / "run"]
SOURCED = {"environment.sh"}

# Names of conda-forge where they differ from those of the Python index, and what conda needs beside the kit's packages.
CONDA_NAMES = {"pytorch-gpu": "torch"}
CONDA_TOOLS = {"python", "pip", "git", "cuda-nvcc", "gxx", "ninja"}
# What DEVELOPERS and the issue ask the conda environment to name.
ASKED_OF_CONDA = {
    "jupyterlab", "papermill", "nbconvert", "torch", "transformers", "deepspeed", "flash-attn", "open-clip-torch", "tensorboard",
    "matplotlib", "peft", "accelerate", "pydantic",
}  # fmt: skip
BUILT_WITH_TORCH = {"torch", "torchvision", "flash-attn", "bitsandbytes"}


def declared(*extras: str) -> dict[str, str]:
    """Package -> version bounds of the core dependencies and of the extras, followed through the kit's own extras."""
    found, waiting = {}, [*map(Requirement, PROJECT["project"]["dependencies"]), *(one for extra in extras for one in EXTRAS[extra])]
    while waiting:
        requirement = waiting.pop()
        if requirement.name == PROJECT["project"]["name"]:
            waiting += [one for extra in requirement.extras for one in EXTRAS[extra]]
        else:
            found[canonicalize_name(requirement.name)] = str(requirement.specifier)
    return found


def locked() -> dict[str, list[tuple[str, list[str]]]]:
    """Package -> its (version, hashes) in the lock; more than one version where the Python version decides."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, list[tuple[str, list[str]]]] = {}
    for line in text.splitlines():
        if line and line[0] not in "# ":
            name, version = re.match(r"([A-Za-z0-9._-]+)==([^ ;]+)", line).groups()
            found.setdefault(canonicalize_name(name), []).append((version, re.findall(r"--hash=sha256:([0-9a-f]{64})", line)))
    return found


def conda() -> dict[str, str]:
    """Package -> version bounds of environment.yml, names as the Python index has them."""
    content = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    found = {}
    for entry in content["dependencies"]:
        for line in entry["pip"] if isinstance(entry, dict) else [entry]:
            requirement = Requirement(line)
            found[canonicalize_name(CONDA_NAMES.get(requirement.name, requirement.name))] = str(requirement.specifier)
    return found


# --- dependencies ---


def test_conda_environment_has_the_packages_and_bounds_of_pyproject():
    packages = {name: bounds for name, bounds in conda().items() if name not in CONDA_TOOLS}
    assert packages == declared("gpu", "dev")


def test_conda_environment_names_what_the_gpu_machine_was_promised():
    assert set(conda()) >= ASKED_OF_CONDA


def test_conda_takes_what_is_compiled_against_cuda_from_one_channel():
    content = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    by_conda = {
        canonicalize_name(CONDA_NAMES.get(name := Requirement(e).name, name)) for e in content["dependencies"] if isinstance(e, str)
    }
    assert by_conda >= BUILT_WITH_TORCH
    assert content["channels"] == ["conda-forge", "nodefaults"]


def test_review_needs_no_heavy_package_even_indirectly():
    heavy = {"torch", "torchvision", "transformers", "open-clip-torch", "peft", "deepspeed", "accelerate", "pandas"}
    assert not heavy & set(declared("review"))
    assert not heavy & installed_closure(declared("review"))


def installed_closure(names: dict[str, str]) -> set[str]:
    """The packages and all that they require here, by the metadata of what is installed."""
    import importlib.metadata

    found, waiting = set(), list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        for line in importlib.metadata.requires(name) or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({**default_environment(), "extra": ""}):
                waiting.append(requirement.name)
    return found


def test_review_environment_carries_the_command_line(tmp_path: Path):
    """Packages outside `review` are hidden from a fresh interpreter; list, show and the modules of the quick review still work."""
    hidden = sorted(import_names() - {import_name(name) for name in installed_closure(declared("review"))})
    assert {"torch", "open_clip", "transformers"} <= set(hidden)
    lines = [
        "import sys",
        f"hidden = {set(hidden)!r}",
        "class Hide:",
        "    def find_spec(self, name, path=None, target=None):",
        "        if name.partition('.')[0] in hidden:",
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)",
        "sys.meta_path.insert(0, Hide())",
        "import lib.review, lib.quick_review, lib.reproduce",
        "from lib.__main__ import main",
        "sys.exit(main(['list']) or main(['show', 'a3r', 'finetune']))",
    ]
    answer = subprocess.run([sys.executable, "-c", "\n".join(lines)], check=False, cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "a3r" in answer.stdout and "finetune.lr" in answer.stdout


def import_names() -> set[str]:
    """Import names of the packages that the kit imports anywhere or that stand behind an extra."""
    return imported_packages() | {import_name(name) for name in declared("run", "dev")}


def import_name(package: str) -> str:
    """The name under which a package is imported."""
    own = {canonicalize_name(package): name for name, package in identity.DISTRIBUTIONS.items() if name != "open_clip_train"}
    return own.get(package, {"scikit-learn": "sklearn"}.get(package, package.replace("-", "_")))


def imported_packages() -> set[str]:
    """Top packages that lib imports, other than Python's own."""
    found = set()
    for path in (ROOT / "lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"lib"}


def test_everything_that_lib_imports_is_declared():
    packages = {canonicalize_name(identity.DISTRIBUTIONS.get(name, name)) for name in imported_packages()}
    assert packages <= set(declared("run")), f"not in extra run: {sorted(packages - set(declared('run')))}"


def test_only_lib_is_packaged_and_its_data_files_go_along():
    tool = PROJECT["tool"]["setuptools"]
    assert tool["packages"]["find"]["include"] == ["lib", "lib.*"]
    suffixes = {f"*{path.suffix}" for path in (ROOT / "lib").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert suffixes <= set(tool["package-data"]["*"])


def test_every_folder_of_lib_with_python_is_a_package():
    bare = {path.parent for path in (ROOT / "lib").rglob("*.py")} - {path.parent for path in (ROOT / "lib").rglob("__init__.py")}
    assert not bare


def test_the_console_script_is_the_command_line():
    assert PROJECT["project"]["scripts"] == {"podium": "lib.__main__:main"}


# --- lock ---


def test_lock_has_a_hash_for_every_package_and_no_address():
    bare = [f"{name}=={version}" for name, entries in locked().items() for version, hashes in entries if not hashes]
    assert not bare
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"://|^-|--index|--extra-index|--find-[l]inks|--trusted-host| @ ", re.sub(r"(?m)^#.*$", "", text), re.MULTILINE)
    assert not re.search(r"://|(^|[ =])/", text, re.MULTILINE), "an address or an absolute path, in a comment perhaps"


def test_lock_holds_every_declared_package_within_its_bounds():
    entries = locked()
    for name, bounds in declared("run", "dev").items():
        assert name in entries, f"{name} is not in requirements.lock; its second line says how to make it anew"
        outside = [version for version, _ in entries[name] if not Requirement(f"{name}{bounds}").specifier.contains(version)]
        assert not outside, f"{name} {outside} in requirements.lock is outside {bounds}"


def test_lock_holds_what_builds_the_kit_itself():
    assert set(locked()) >= {canonicalize_name(Requirement(line).name) for line in PROJECT["build-system"]["requires"]}


# --- scripts ---


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_script_is_whole(path: Path):
    assert subprocess.run(["bash", "-n", str(path)], check=False, capture_output=True, text=True).stderr == ""
    text = path.read_text(encoding="utf-8")
    if path.name in SOURCED:
        return
    assert os.access(path, os.X_OK), f"{path.name} cannot be executed; chmod +x"
    assert text.startswith("#!/usr/bin/env bash\n#"), "first line bash, then what the script is for"
    assert "\nset -euo pipefail\n" in text
    assert "\r" not in text and "\t" not in text


def test_shellcheck_finds_nothing_in_the_scripts():
    """Unquoted paths (a checkout below a folder with blanks in its name), masked failures, and the like."""
    program = Path(sys.executable).with_name("shellcheck")
    if not program.is_file():
        pytest.skip("shellcheck is not installed beside this Python; the extra dev has it")
    command = [str(program), "--shell=bash", "--external-sources", "--source-path=SCRIPTDIR", *map(str, SCRIPTS)]
    answer = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def run_script(name: str, *arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """Run a script with this interpreter as its environment, unless told otherwise.

    NOTE a call of test.sh names a selection of tests that does not hold the calling test: it would start itself again and again.
    """
    given = {**os.environ, "PODIUM_PYTHON": sys.executable, **environment}
    return subprocess.run(
        ["bash", str(ROOT / "script" / name), *arguments], check=False, cwd=cwd, env=given, capture_output=True, text=True
    )


def test_reproduce_hands_its_arguments_to_the_command_line_from_any_folder(tmp_path: Path):
    answer = run_script("reproduce.sh", "no-such-submission", "--profile", "tiny", cwd=tmp_path)
    assert answer.returncode == 1
    assert answer.stderr.startswith("podium: ") and "no-such-submission" in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_scripts_name_a_wrong_interpreter():
    answer = run_script("reproduce.sh", PODIUM_PYTHON="/no/python")
    assert (answer.returncode, answer.stderr) == (
        1,
        "podium: PODIUM_PYTHON is /no/python, which is no Python >= 3.11; unset it to use .venv\n",
    )


@pytest.fixture
def bare_machine(tmp_path: Path) -> dict[str, str]:
    """Environment variables of a machine without Python and uv, and with no environment made yet."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "env", "date", "dirname", "mkdir", "cat", "flock", "mktemp", "rm", "grep"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    return {"PATH": str(tools), "PODIUM_PYTHON": "", "PODIUM_VENV": str(tmp_path / "no venv"), "PIP_INDEX_URL": "", "HOME": str(tmp_path)}


def test_a_machine_without_python_is_told_so(bare_machine: dict[str, str]):
    answer = run_script("reproduce.sh", **bare_machine)
    expected = "podium: no Python >= 3.11 with pip found (looked for python3, python, python3.11 to python3.14); install one\n"
    assert (answer.returncode, answer.stderr) == (1, expected)


def test_too_small_a_disk_is_told_before_anything_is_downloaded(bare_machine: dict[str, str], tmp_path: Path):
    python = tmp_path / "bin" / "python3"
    # Reports pip as there, and 3 GiB free.
    python.write_text(
        f'#!{shutil.which("bash")}\ncase "$*" in *disk_usage*) echo 3 ;; *pip*) exit 0 ;; *) exec "{sys.executable}" "$@" ;; esac\n'
    )
    python.chmod(0o755)
    answer = run_script("reproduce.sh", **bare_machine)
    expected = f"podium: 3 GiB free in {ROOT}, the environment needs 8; free some, or set PODIUM_VENV to a folder on a larger disk\n"
    assert (answer.returncode, answer.stderr) == (1, expected)


def test_bench_names_the_programs_there_are():
    answer = run_script("bench.sh", "no-such-bench")
    assert answer.returncode == 1
    assert re.fullmatch(r"podium: no bench no-such-bench; there are: .*\branking\b.*\n", answer.stderr)


def test_test_script_names_its_parts():
    answer = run_script("test.sh", "everything")
    expected = "podium: no part everything; give unit, engine, notebooks, browser or all, then options of pytest\n"
    assert (answer.returncode, answer.stderr) == (1, expected)


def test_test_script_refuses_a_folder_of_cases_that_is_not_there():
    answer = run_script("test.sh", "unit", "--version", GOLDEN_DIR="/no/cases")
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1] == "podium: GOLDEN_DIR is /no/cases, which is no folder"


def test_test_script_runs_the_part_asked_for_and_ends_in_its_summary(tmp_path: Path):
    answer = run_script("test.sh", "unit", "tests/unit/test_packaging.py", "-q", "-k", "test_the_console_script", cwd=tmp_path)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert re.search(r"unit +.*1 passed", answer.stdout.splitlines()[-1])


@pytest.mark.parametrize(("number", "queued"), [(signal.SIGUSR1, ["requeue 7"]), (signal.SIGTERM, [])])
def test_batch_job_stops_the_run_and_queues_itself_again_at_the_time_limit(tmp_path: Path, number: int, queued: list[str]):
    called, started = tmp_path / "called", tmp_path / "started"
    python, scontrol = tmp_path / "python", tmp_path / "scontrol"
    # Stands for a run that needs a moment to write its checkpoint when it is told to stop.
    python.write_text(
        f"""#!{sys.executable}
import os, signal, sys, time
if "run" in sys.argv:
    def stop(number, frame):
        time.sleep(0.3)
        print("stopped", *sys.argv[1:], flush=True)
        sys.exit(143)
    signal.signal(signal.SIGTERM, stop)
    open({str(started)!r}, "w").close()
    time.sleep(60)
"""
    )
    scontrol.write_text(f'#!/bin/sh\necho "$@" >>"{called}"\n')
    for program in (python, scontrol):
        program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PODIUM_PYTHON": str(python),
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_JOB_ID": "7",
    }
    command = ["bash", str(ROOT / "script" / "slurm.sh"), "a3r", "--set", "finetune.lr=1e-7"]
    job = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not started.exists():
        assert job.poll() is None, job.communicate()
        time.sleep(0.02)
    job.send_signal(number)
    output, _ = job.communicate(timeout=30)
    assert output == "stopped -m lib run a3r --set finetune.lr=1e-7 --profile full\n"
    assert job.returncode == 143
    assert (called.read_text().splitlines() if called.exists() else []) == queued


# --- DeepSpeed and sources ---


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_settings_leave_the_recipe_to_the_trainer(stage: int):
    content = json.loads((ROOT / "script" / "deepspeed" / f"zero{stage}.json").read_text(encoding="utf-8"))
    assert content["zero_optimization"]["stage"] == stage
    assert content["bf16"] == {"enabled": "auto"}
    for key in ("gradient_accumulation_steps", "gradient_clipping", "train_batch_size", "train_micro_batch_size_per_gpu"):
        assert content[key] == "auto"


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_accepts_the_settings_of_its_zero_section(stage: int):
    config = pytest.importorskip("deepspeed.runtime.zero.config", reason="deepspeed is in the extra run")
    content = json.loads((ROOT / "script" / "deepspeed" / f"zero{stage}.json").read_text(encoding="utf-8"))
    section = {key: value for key, value in content["zero_optimization"].items() if value != "auto"}
    accepted = config.DeepSpeedZeroConfig(**section)
    assert accepted.stage == stage
    assert set(content["zero_optimization"]) <= set(config.DeepSpeedZeroConfig.model_fields) | {
        field.alias for field in config.DeepSpeedZeroConfig.model_fields.values() if field.alias
    }


def test_every_submission_says_where_its_data_and_weights_come_from():
    for folder in sorted((ROOT / "lib" / "submissions").glob("*/config.yaml")):
        sources = yaml.safe_load((ROOT / "data" / folder.parent.name / "sources.yaml").read_text(encoding="utf-8"))
        assert set(sources) >= {"licence", "data", "weights", "released"}
        for item in [*sources["data"], *sources["released"]]:
            assert {"path", "what", "where", "sha256"} <= set(item)
            assert not Path(item["path"]).is_absolute() and ".." not in Path(item["path"]).parts
        assert all(isinstance(item["required"], bool) for item in sources["data"])
        for name, weights in sources["weights"].items():
            assert {"repository", "file", "gib", "dtype", "licence", "sha256"} <= set(weights), name


def test_the_weights_of_every_variant_have_a_source():
    from lib import config, inputs

    for submission in config.submissions():
        for variant in ["base", *config.layers(submission)["variants"]]:
            model = config.resolve(submission, variant, "full", []).settings.model
            weights = inputs.sources(submission)["weights"][f"{model.name}-{model.pretrained}"]
            if model.parameters:
                size = {"float32": 4, "bfloat16": 2}[weights["dtype"]]
                assert weights["gib"] == pytest.approx(size * model.parameters / 2**30, abs=0.05)


def test_the_licence_is_apache_and_names_the_maintainers():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text and "Podium maintainers" in text
    assert PROJECT["project"]["license"] == "Apache-2.0"
