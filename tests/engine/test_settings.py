"""Settings: layers, strictness, and the exact words of each refusal; on mini's config.yaml."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib import config, paths
from lib.errors import ConfigError
from tests.engine.checkout import MINI

CONFIG = "lib/submissions/mini/config.yaml"


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """mini as the only submission of this process; returns its config.yaml, which a test may change."""
    target = tmp_path / CONFIG
    target.parent.mkdir(parents=True)
    target.write_text((MINI / "config.yaml").read_text())
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "SUBMISSIONS", tmp_path / "lib" / "submissions")
    specification = importlib.util.spec_from_file_location("lib.submissions.mini.settings", MINI / "settings.py")
    monkeypatch.setitem(sys.modules, "lib.submissions.mini.settings", importlib.util.module_from_spec(specification))
    specification.loader.exec_module(sys.modules["lib.submissions.mini.settings"])
    monkeypatch.setattr(config, "schema", lambda name: sys.modules["lib.submissions.mini.settings"].Settings)
    return target


def refusal(*arguments: object, **named: object) -> str:
    """What `resolve` answers instead of settings."""
    with pytest.raises(ConfigError) as raised:
        config.resolve(*arguments, **named)
    return str(raised.value)


def test_later_layers_win_and_each_value_knows_its_layer(mini: Path):
    resolved = config.resolve("mini", "last", "tiny", ["finetune.lr=1e-4"])
    assert resolved.settings.infer.offset == 1.0
    assert resolved.settings.data.source == "toy"
    assert resolved.settings.finetune.lr == 0.0001
    keys = ("infer.offset", "data.source", "finetune.lr", "finetune.steps")
    assert [resolved.sources[key] for key in keys] == ["variant last", "profile tiny", "override", "base"]


def test_an_override_is_split_at_its_first_equals_sign_only(mini: Path):
    assert config.resolve("mini", overrides=["finetune.label=a=b=c"]).settings.finetune.label == "a=b=c"


def test_overrides_of_a_notebook_are_one_line_with_quotes_where_needed(mini: Path):
    resolved = config.resolve("mini", overrides="finetune.steps=3 'finetune.label=two words'")
    assert (resolved.settings.finetune.steps, resolved.settings.finetune.label) == (3, "two words")


@pytest.mark.parametrize("text", ["finetune.lr", "=3", "lr"])
def test_an_override_without_key_or_value_is_refused(mini: Path, text: str):
    assert refusal("mini", overrides=[text]) == f"override {text!r} is not of the form section.key=value, as in finetune.lr=1e-4"


def test_an_override_that_is_not_yaml_is_refused(mini: Path):
    assert refusal("mini", overrides=["finetune.label=[a"]) == "override finetune.label=[a: the value is not valid YAML; quote it"


def test_an_unknown_submission_lists_the_known(mini: Path):
    assert refusal("nano") == "no submission 'nano'; the kit has: mini"


def test_an_unknown_variant_lists_the_known(mini: Path):
    assert refusal("mini", "first") == "mini has no variant 'first'; it has: base, last"


def test_an_unknown_profile_lists_the_known(mini: Path):
    assert refusal("mini", "base", "huge") == "mini has no profile 'huge'; it has: full, tiny"


def test_an_unknown_key_lists_the_keys_of_its_section(mini: Path):
    expected = "mini base tiny: no setting 'finetune.rate'; finetune has: steps, save_every, lr, label"
    assert refusal("mini", overrides=["finetune.rate=1"]) == expected


def test_an_unknown_section_lists_the_sections(mini: Path):
    sections = "seed, machine, data, model, data_prep, augmentation, finetune, infer, evaluate"
    assert refusal("mini", overrides=["finetun.lr=1"]) == f"mini base tiny: no setting 'finetun'; the top level has: {sections}"


def test_an_unknown_key_below_an_optional_section_lists_its_keys(mini: Path):
    assert refusal("mini", overrides=["data.toy.names=1"]) == "mini base tiny: no setting 'data.toy.names'; data.toy has: numbers"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("finetune.lr=fast", "finetune.lr = 'fast' cannot be: input should be a valid number, unable to parse string as a number"),
        ("finetune.lr=0", "finetune.lr = 0 cannot be: input should be greater than 0"),
        ("finetune.steps=2.5", "finetune.steps = 2.5 cannot be: input should be a valid integer, got a number with a fractional part"),
        ("data.source=mine", "data.source = 'mine' cannot be: input should be 'published' or 'toy'"),
        ("seed=-1", "seed = -1 cannot be: input should be greater than or equal to 0"),
        (
            "machine.grandchildren=perhaps",
            "machine.grandchildren = 'perhaps' cannot be: input should be a valid boolean, unable to interpret input",
        ),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_refused(mini: Path, override: str, words: str):
    assert refusal("mini", overrides=[override]) == f"mini base tiny: {words}"


def test_a_setting_without_a_value_is_named(mini: Path):
    mini.write_text(mini.read_text().replace("    steps: 24  # [ours] a second at most\n", ""))
    assert refusal("mini") == "mini base tiny: the setting 'finetune.steps' has no value; config.yaml has to give one"


def test_an_unknown_part_of_the_file_is_named(mini: Path):
    mini.write_text(mini.read_text() + "\nprofile: {}\n")
    assert refusal("mini") == f"{CONFIG}: unknown part 'profile'; it has: base, variants, profiles, ablations"


def test_a_broken_file_is_named_with_its_line(mini: Path):
    mini.write_text("base:\n  seed: [0\n")
    with pytest.raises(Exception) as raised:
        config.resolve("mini")
    assert str(raised.value).startswith(f"{mini}:3: not valid YAML")


def test_a_stage_sees_only_the_sections_that_its_identity_holds(mini: Path):
    view = config.resolve("mini").for_stage("finetune", ("model",))
    assert view.finetune.steps == 24
    with pytest.raises(AttributeError) as raised:
        view.infer  # noqa: B018
    assert str(raised.value) == "finetune reads the settings 'infer', which its identity does not hold; add it to SETTINGS of the stage"


def test_machine_settings_are_no_part_of_identity(mini: Path):
    one, other = (config.resolve("mini", overrides=[f"machine.pause={pause}"]).for_stage("finetune", ()) for pause in (0.0, 1.0))
    assert one.machine != other.machine
    assert one.dump() == other.dump()
    assert set(one.dump()) == {"seed", "finetune.steps", "finetune.save_every", "finetune.lr", "finetune.label"}


def test_the_comment_beside_a_value_is_its_source(mini: Path):
    found = config.value_comments("mini")
    assert found["finetune.lr"] == "[ours] how far a weight moves towards the number it meets"
    assert "finetune.save_every" not in found
