"""What a stage's result depends on, as a digest: notebook code, library code, settings, inputs, versions.

Two stages with the same identity have the same result, so its sha256 is the stage's address in the store of results. Comments,
formatting, docstrings, notebook outputs, cell metadata and absolute paths are no part of it (ecosystem.md section 3, rows C and D).
"""

import ast
import functools
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lib import files, paths, runtime
from lib.errors import DataError

# Modules that only display: nothing they make is a stage's result, so they may change without a re-run.
DISPLAY = {"lib.show", "lib.plots", "lib.plots_llava", "lib.report"}

# A module named in a string is a program that the module starts (`lib.launch`), or one it imports by name.
MODULE_NAME = re.compile(r"lib(\.\w+)+")
FILE_NAME = re.compile(r"[\w-]+\.\w+")

# Import name -> distribution, where the two differ.
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "PyYAML", "open_clip": "open_clip_torch", "open_clip_train": "open_clip_torch"}


@dataclass(frozen=True)
class Identity:
    """The fields of a stage's identity, kept beside its results so that `plan` can say which of them changed."""

    notebook: str
    modules: Mapping[str, str]
    settings: Mapping[str, object]
    inputs: Mapping[str, str]
    environment: Mapping[str, str]

    @property
    def key(self) -> str:
        """sha256 (hex) over all fields."""
        return files.digest(self.fields())

    def fields(self) -> dict[str, object]:
        """The fields as plain data."""
        return {
            "notebook": self.notebook,
            "modules": dict(self.modules),
            "settings": dict(self.settings),
            "inputs": dict(self.inputs),
            "environment": dict(self.environment),
        }


def differences(old: Mapping, new: Mapping) -> list[str]:
    """Each field that differs between two identities as "field: old -> new", code fields by name only."""
    found = []
    if old["notebook"] != new["notebook"]:
        found.append("code of the notebook")
    for name in sorted(set(old["modules"]) | set(new["modules"])):
        if old["modules"].get(name) != new["modules"].get(name):
            found.append(f"code of {name}")
    for part in ("settings", "inputs", "environment"):
        for name in sorted(set(old[part]) | set(new[part])):
            before, after = old[part].get(name, "absent"), new[part].get(name, "absent")
            if before != after:
                found.append(f"{part} {name}: {_short(before)} -> {_short(after)}")
    return found


def notebook_digest(path: Path) -> str:
    """Digest of the code cells' syntax trees, the cell tagged `parameters` (its values are settings) and cells without code left out."""
    sources = [cell["source"] for cell in code_cells(path) if "parameters" not in cell["tags"]]
    return files.digest([_tree(source, paths.relative(path)) for source in sources if not is_blank(source)])


def code_cells(path: Path) -> list[dict]:
    """The notebook's code cells in order, each {"source": str, "tags": list of str}."""
    content = files.read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("cells"), list):
        raise DataError(f"{paths.relative(path)}: not a notebook (no list of cells)")
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    return [{"source": "".join(cell["source"]), "tags": cell.get("metadata", {}).get("tags", [])} for cell in cells]


def is_blank(source: str) -> bool:
    """Whether a cell holds no code: JupyterLab adds an empty one below the last cell that is run."""
    return all(line.strip().startswith("#") or not line.strip() for line in source.splitlines())


def same_code(one: str, other: str) -> bool:
    """Whether two cells are the same code, comments and formatting aside; what is no valid Python is like nothing else."""
    try:
        return _tree(one, "cell") == _tree(other, "cell")
    except DataError:
        return False


def module_digests(module: str) -> dict[str, str]:
    """Digest of the syntax tree of `module` and of every `lib` module it imports, near or far, display modules left out."""
    return {name: _module(name).tree for name in _closure(module)}


def file_digests(module: str, folder: Path) -> dict[str, str]:
    """Digest of every file of the folder that `module` or its `lib` imports name in a string: claims.yaml, published numbers."""
    named = {name for one in _closure(module) for name in _module(one).names}
    return {name: files.sha256_file(folder / name) for name in sorted(named) if (folder / name).is_file()}


def code_digest(module: str) -> str:
    """One digest over `module` and every `lib` module it imports."""
    return files.digest(module_digests(module))


def environment(module: str) -> dict[str, str]:
    """Versions of Python and of every package that `module` or its `lib` imports name, and the device where torch is one."""
    packages = {package for name in _closure(module) for package in _module(name).packages}
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    found |= runtime.versions([DISTRIBUTIONS.get(package, package) for package in packages])
    if "torch" in packages:
        found |= {"device": runtime.accelerator(), "threads": str(runtime.threads())}
    return found


def constant(module: str, name: str) -> tuple[str, ...]:
    """The value of a constant tuple of strings at the top of a module, read without importing it; () if it is not there."""
    for node in ast.parse(files.read_text(_file(module))).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return tuple(ast.literal_eval(node.value))
    return ()


def exists(module: str) -> bool:
    """Whether `lib` has this module."""
    return _path(module) is not None


@dataclass(frozen=True)
class _Module:
    tree: str
    imports: tuple[str, ...]
    packages: tuple[str, ...]
    names: tuple[str, ...]


def _closure(module: str) -> list[str]:
    seen, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name in seen or name in DISPLAY:
            continue
        seen.add(name)
        waiting.extend(_module(name).imports)
    return sorted(seen)


def _module(name: str) -> _Module:
    path = _file(name)
    return _parsed(name, path, path.stat().st_mtime_ns)


@functools.cache
def _parsed(name: str, path: Path, _changed: int) -> _Module:
    """Digest and imports of one module; the time of its last change keeps a long-lived kernel from answering with old code."""
    tree = ast.parse(files.read_text(path))
    imports, packages, names = set(), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            imports |= {node.value} if MODULE_NAME.fullmatch(node.value) and exists(node.value) else set()
            names |= {node.value} if FILE_NAME.fullmatch(node.value) else set()
        for imported in _imported(node):
            top = imported.partition(".")[0]
            if top == "lib":
                imports.add(imported if exists(imported) else imported.rpartition(".")[0])
            elif top not in sys.stdlib_module_names:
                packages.add(top)
    imports -= {"lib", name}
    return _Module(_dump(tree), tuple(sorted(imports)), tuple(sorted(packages)), tuple(sorted(names)))


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        if node.module.partition(".")[0] != "lib":
            return [node.module]
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _tree(source: str, where: str) -> str:
    try:
        return _dump(ast.parse(source))
    except SyntaxError as error:
        raise DataError(f"{where}: a code cell is not valid Python (line {error.lineno}: {error.msg})") from None


def _dump(tree: ast.AST) -> str:
    """Digest of a syntax tree without docstrings and positions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return files.digest(ast.dump(tree))


def _path(module: str) -> Path | None:
    base = paths.ROOT.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _file(module: str) -> Path:
    path = _path(module)
    assert path is not None, f"no module {module}"
    return path


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    is_digest = len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)
    return text[:12] if is_digest else text if len(text) <= 60 else text[:57] + "..."
