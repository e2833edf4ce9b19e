"""What is part of a stage's identity and what is not, on small notebooks and modules written for each test."""

import json
from pathlib import Path

import pytest

from lib import files, identity, paths
from lib.errors import DataError
from lib.identity import Identity
from tests.engine.checkout import write_notebook


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `lib` to put modules into."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "lib").mkdir()
    return tmp_path / "lib"


def digest_of(folder: Path, *cells: str) -> str:
    """The digest of a notebook with these cells behind its parameters."""
    path = folder / "one.ipynb"
    write_notebook(path, ["A = 1", *cells])
    return identity.notebook_digest(path)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 1  # why"),
        ("x = 1", "# why\nx = 1\n"),
        ("x = f(1, 2)", "x = f(\n    1,\n    2,\n)"),
        ("x = 'a'", 'x = "a"'),
        ('def f():\n    """Old."""\n    return 1', 'def f():\n    """New."""\n    return 1'),
    ],
)
def test_comments_formatting_and_docstrings_are_no_part_of_a_notebooks_identity(tmp_path: Path, one: str, other: str):
    assert digest_of(tmp_path, one) == digest_of(tmp_path, other)


@pytest.mark.parametrize(
    ("one", "other"), [("x = 1", "x = 2"), ("x = 1", "y = 1"), ("x = 1", "x = 1\nx"), ("f('a')", "f('A')"), ("x = 1", "x = 1.0")]
)
def test_code_is_part_of_a_notebooks_identity(tmp_path: Path, one: str, other: str):
    assert digest_of(tmp_path, one) != digest_of(tmp_path, other)


def test_the_order_of_cells_is_part_of_a_notebooks_identity(tmp_path: Path):
    assert digest_of(tmp_path, "x = 1", "y = 2") != digest_of(tmp_path, "y = 2", "x = 1")


def test_an_empty_cell_and_one_of_comments_are_no_part_of_a_notebooks_identity(tmp_path: Path):
    assert digest_of(tmp_path, "x = 1", "", "# a remark\n\n  # another") == digest_of(tmp_path, "x = 1")


def test_outputs_metadata_counts_and_text_cells_are_no_part_of_a_notebooks_identity(tmp_path: Path):
    before = digest_of(tmp_path, "x = 1")
    path = tmp_path / "one.ipynb"
    content = json.loads(path.read_text())
    content["metadata"]["widgets"] = {"state": {}}
    content["cells"][1] |= {"execution_count": 7, "outputs": [{"output_type": "stream", "name": "stdout", "text": "hello"}]}
    content["cells"][1]["metadata"] = {"collapsed": True, "tags": ["mine"]}
    content["cells"].append({"cell_type": "markdown", "id": "text", "metadata": {}, "source": ["# Title"]})
    path.write_text(json.dumps(content))
    assert identity.notebook_digest(path) == before


def test_the_values_in_the_parameters_cell_are_no_part_of_a_notebooks_identity(tmp_path: Path):
    before = digest_of(tmp_path, "x = 1")
    path = tmp_path / "one.ipynb"
    path.write_text(path.read_text().replace("A = 1", "A = 2"))
    assert identity.notebook_digest(path) == before


def test_a_notebooks_place_is_no_part_of_its_identity(tmp_path: Path):
    assert digest_of(tmp_path / "here", "x = 1") == digest_of(tmp_path / "there", "x = 1")


def test_a_file_that_is_no_notebook_is_named(library: Path):
    path = library.parent / "one.ipynb"
    files.write_json(path, [1])
    with pytest.raises(DataError) as raised:
        identity.notebook_digest(path)
    assert str(raised.value) == "one.ipynb: not a notebook (no list of cells)"


def test_a_cell_that_is_not_python_is_named(library: Path):
    with pytest.raises(DataError) as raised:
        digest_of(library.parent, "x = 1", "x = ")
    assert str(raised.value) == "one.ipynb: a code cell is not valid Python (line 1: invalid syntax)"


def test_a_cell_that_is_not_python_is_like_no_other():
    assert not identity.same_code("x = ", "x = 1")
    assert identity.same_code("x = 1", "x = 1  # why")


def test_modules_imported_near_and_far_are_part_of_identity(library: Path):
    (library / "near.py").write_text("from lib import far\n")
    (library / "far.py").write_text("def f():\n    return 1\n")
    (library / "other.py").write_text("x = 1\n")
    (library / "stage.py").write_text("def f():\n    from lib.near import far\n")
    assert list(identity.module_digests("lib.stage")) == ["lib.far", "lib.near", "lib.stage"]


def test_a_change_in_a_far_module_changes_only_its_own_field(library: Path):
    (library / "far.py").write_text("x = 1\n")
    (library / "stage.py").write_text("import lib.far\n")
    before = identity.module_digests("lib.stage")
    (library / "far.py").write_text("x = 2  # other\n")
    after = identity.module_digests("lib.stage")
    assert [name for name in after if after[name] != before[name]] == ["lib.far"]


def test_a_comment_and_a_docstring_in_a_module_change_nothing(library: Path):
    (library / "stage.py").write_text('"""One."""\nx = 1\n')
    before = identity.module_digests("lib.stage")
    (library / "stage.py").write_text('"""Another."""\n\n# why\nx = (1)\n')
    assert identity.module_digests("lib.stage") == before


def test_a_program_named_in_a_string_is_part_of_identity(library: Path):
    (library / "program.py").write_text("from lib import deep\n")
    (library / "deep.py").write_text("x = 1\n")
    (library / "stage.py").write_text('PROGRAM = "lib.program"\nOTHER = "lib.nothing", "lib.", "library"\n')
    assert list(identity.module_digests("lib.stage")) == ["lib.deep", "lib.program", "lib.stage"]


def test_modules_that_only_display_are_no_part_of_identity(library: Path):
    (library / "plots.py").write_text("x = 1\n")
    (library / "stage.py").write_text("from lib import plots\n")
    assert list(identity.module_digests("lib.stage")) == ["lib.stage"]


def test_files_that_the_code_names_are_part_of_identity(library: Path):
    folder = library / "submissions" / "one"
    folder.mkdir(parents=True)
    (library / "stage.py").write_text('FILE = "claims.yaml"\nabsent = "reference.json"\n')
    (folder / "claims.yaml").write_text("a: 1")
    (folder / "story.md").write_text("not named")
    before = identity.file_digests("lib.stage", folder)
    assert list(before) == ["claims.yaml"]
    (folder / "claims.yaml").write_text("a: 2")
    (folder / "reference.json").write_text("{}")
    after = identity.file_digests("lib.stage", folder)
    assert list(after) == ["claims.yaml", "reference.json"]
    assert after["claims.yaml"] != before["claims.yaml"]


def test_the_environment_names_python_and_the_packages_that_the_modules_import(library: Path):
    (library / "near.py").write_text("import yaml\n")
    (library / "stage.py").write_text("import json\nfrom lib import near\nfrom nowhere import thing\n")
    found = identity.environment("lib.stage")
    assert list(found) == ["python", "PyYAML", "nowhere"]
    assert found["nowhere"] == "not installed"


def test_device_and_threads_count_where_torch_does(library: Path, monkeypatch: pytest.MonkeyPatch):
    (library / "stage.py").write_text("import torch\n")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = identity.environment("lib.stage")
    assert (found["device"], found["threads"]) == ("cpu", "3")


def test_constants_are_read_without_importing_the_module(library: Path):
    (library / "stage.py").write_text('READS = ("data", "base")\nraise SystemExit("imported")\n')
    assert identity.constant("lib.stage", "READS") == ("data", "base")
    assert identity.constant("lib.stage", "SETTINGS") == ()


FIELDS = {
    "notebook": "n",
    "modules": {"lib.a": "1" * 64},
    "settings": {"a.b": 1},
    "inputs": {"data": "2" * 64},
    "environment": {"python": "3.11"},
}
CHANGES = {
    "notebook": ("m", "code of the notebook"),
    "modules": ({"lib.a": "3" * 64}, "code of lib.a"),
    "settings": ({"a.b": 2}, "settings a.b: 1 -> 2"),
    "inputs": ({"data": "4" * 64}, "inputs data: 222222222222 -> 444444444444"),
    "environment": ({"python": "3.12"}, "environment python: 3.11 -> 3.12"),
}


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_changes_the_key_and_is_named_as_the_difference(field: str):
    value, words = CHANGES[field]
    one, other = Identity(**FIELDS), Identity(**{**FIELDS, field: value})
    assert one.key != other.key
    assert identity.differences(one.fields(), other.fields()) == [words]


def test_equal_fields_make_equal_keys_whatever_their_order():
    turned = {**FIELDS, "settings": dict(reversed({"a.b": 1, "c": 2}.items()))}
    assert Identity(**{**FIELDS, "settings": {"a.b": 1, "c": 2}}).key == Identity(**turned).key
    assert identity.differences(FIELDS, FIELDS) == []


def test_a_setting_that_came_or_went_is_named():
    other = {**FIELDS, "settings": {"new": "x" * 80}}
    assert identity.differences(FIELDS, other) == ["settings a.b: 1 -> absent", f"settings new: absent -> {'x' * 57}..."]
