"""Strict settings: base < variant < profile < overrides, checked against the submission's pydantic schema.

A submission's `config.yaml` has the sections `base`, `variants`, `profiles` and, optionally, `ablations` (named lists of
overrides). Its `settings.py` defines `Settings`, whose fields are the sections of `base`. An unknown key, variant or profile is an
error that lists the known ones; a value of the wrong type or range is an error that says what is allowed.
"""

import importlib
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import pydantic
import yaml

from lib import files, paths
from lib.errors import ConfigError

Quirk = Literal["as_published", "corrected"]
PARTS = ("base", "variants", "profiles", "ablations")


class Section(pydantic.BaseModel):
    """A group of settings: unknown keys are refused, values cannot be changed after reading."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


Model = TypeVar("Model", bound=Section)


class Settings(Section):
    """Base of every submission's settings; `machine` holds what does not change results (workers, batch sizes of inference)."""

    seed: int = pydantic.Field(ge=0, lt=2**31)
    machine: Section

    def replaced(self) -> dict[str, Path]:
        """Stages whose result is a file given by hand instead, such as released weights: they are not run."""
        return {}

    def given(self, stage: str) -> dict[str, Path]:
        """Files and folders that a person gives a stage beside its other inputs, by the setting that names them."""
        return {}

    def parent(self) -> Path | None:
        """The run folder that this run goes on from, where a submission has rounds."""
        return None

    def uses(self) -> frozenset[str]:
        """What a run with these settings reads of data/<submission>/sources.yaml that others do not, in the words of its `read_by`."""
        return frozenset()

    def following(self, folder: Path) -> tuple[str, ...]:
        """The overrides, beside this run's own, of the round that follows the finished run in `folder`; none after the last."""
        return ()


@dataclass(frozen=True)
class StageSettings:
    """The sections one stage may read, so that its identity holds every value its result depends on.

    Attributes are the sections by name; asking for another one is an error of the stage's own code.
    """

    stage: str
    sections: Mapping[str, object]

    def __getattr__(self, name: str) -> object:
        try:
            return self.sections[name]
        except KeyError:
            raise AttributeError(
                f"{self.stage} reads the settings {name!r}, which its identity does not hold; add it to SETTINGS of the stage"
            ) from None

    def dump(self) -> dict[str, object]:
        """The values as plain data by dotted key, without `machine`, on which no result depends; a file named is none here.

        A file's content is an input of the stages that read it (`Settings.replaced`, `Settings.given`), its place is not.
        """
        kept = {name: _plain(value) for name, value in self.sections.items() if name != "machine"}
        return {key: None if isinstance(value, Path) else value for key, value in flatten(kept)}


@dataclass(frozen=True)
class Resolved:
    """Settings after variant, profile and overrides, and where each value comes from (dotted key -> layer and line)."""

    submission: str
    variant: str
    profile: str
    overrides: tuple[str, ...]
    settings: Settings
    sources: Mapping[str, str]

    def for_stage(self, stage: str, names: tuple[str, ...]) -> StageSettings:
        """The view of one stage: its own section, if it has one, the named ones, `seed` and `machine`."""
        wanted = {"seed", "machine", stage, *names}
        return StageSettings(stage, {name: getattr(self.settings, name) for name in type(self.settings).model_fields if name in wanted})

    def named(self) -> dict[str, Path]:
        """The files and folders that settings name, as they are given, by dotted key."""
        return {key: value for key, value in flatten(self.settings.model_dump()) if isinstance(value, Path)}

    def values(self) -> dict[str, object]:
        """All settings as plain nested data, ready for YAML."""
        return self.settings.model_dump(mode="json")


def submissions() -> list[str]:
    """The submissions this kit holds: the folders of lib/submissions that have a config.yaml."""
    return sorted(path.parent.name for path in paths.SUBMISSIONS.glob("*/config.yaml"))


def config_file(submission: str) -> Path:
    """The submission's config.yaml. Raises ConfigError, listing the known submissions, for any other name."""
    if submission not in submissions():
        raise ConfigError(f"no submission {submission!r}; the kit has: {', '.join(submissions())}")
    return paths.SUBMISSIONS / submission / "config.yaml"


def schema(submission: str) -> type[Settings]:
    """The submission's Settings class."""
    config_file(submission)
    return importlib.import_module(f"lib.submissions.{submission}.settings").Settings


def layers(submission: str) -> dict:
    """The content of config.yaml with all its parts present. Raises ConfigError for an unknown part."""
    path = config_file(submission)
    content = files.read_yaml(path)
    unknown = sorted(set(content) - set(PARTS))
    if unknown:
        raise ConfigError(f"{paths.relative(path)}: unknown part {unknown[0]!r}; it has: {', '.join(PARTS)}")
    return {part: content.get(part) or {} for part in PARTS}


def split_overrides(text: str | list[str]) -> tuple[str, ...]:
    """Overrides as a list: a notebook hands over one string of `key=value` parted by blanks, the command line a list."""
    parts = shlex.split(text) if isinstance(text, str) else list(text)
    for part in parts:
        if "=" not in part or not part.split("=", 1)[0]:
            raise ConfigError(f"override {part!r} is not of the form section.key=value, as in finetune.lr=1e-4")
    return tuple(parts)


def resolve(submission: str, variant: str = "base", profile: str = "tiny", overrides: str | list[str] = "") -> Resolved:
    """Merge base, variant, profile and overrides and check the result. Raises ConfigError with the known names."""
    content = layers(submission)
    variants = {"base": {}, **content["variants"]}
    if variant not in variants:
        raise ConfigError(f"{submission} has no variant {variant!r}; it has: {', '.join(variants)}")
    if profile not in content["profiles"]:
        raise ConfigError(f"{submission} has no profile {profile!r}; it has: {', '.join(content['profiles'])}")
    given = split_overrides(overrides)
    merged, sources = content["base"], {key: "base" for key, _ in flatten(content["base"])}
    changes = [(f"variant {variant}", variants[variant] or {}), (f"profile {profile}", content["profiles"][profile] or {})]
    changes += [("override", _nested(*part.split("=", 1))) for part in given]
    for layer, change in changes:
        merged = _merge(merged, change)
        sources = {**sources, **{key: layer for key, _ in flatten(change)}}
    settings = _validate(schema(submission), merged, f"{submission} {variant} {profile}")
    return Resolved(submission, variant, profile, given, settings, sources)


def read_section(path: Path, kind: type[Model]) -> Model:
    """The section that a program's plan holds as JSON. Raises ConfigError naming the key that is missing, unknown or out of range."""
    try:
        return kind.model_validate(files.read_json(path))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def flatten(nested: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    """(dotted key, value) of every leaf; an empty mapping is a leaf."""
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def value_comments(submission: str) -> dict[str, str]:
    """The comment beside each value of `base` in config.yaml (its source in the publication), by dotted key."""
    path = config_file(submission)
    text = files.read_text(path)
    lines = text.splitlines()
    comments: dict[str, str] = {}

    def visit(node: yaml.MappingNode, prefix: str) -> None:
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            if isinstance(value, yaml.MappingNode):
                visit(value, f"{name}.")
            _, mark, comment = lines[key.start_mark.line].partition(" # ")
            if mark:
                comments[name] = comment.strip()

    base = next(value for key, value in yaml.compose(text).value if key.value == "base")
    visit(base, "")
    return comments


def _plain(value: object) -> object:
    return value.model_dump() if isinstance(value, Section) else value


def _merge(lower: Mapping, upper: Mapping) -> dict:
    """`upper` over `lower`, mapping by mapping; lists and scalars are replaced whole."""
    merged = dict(lower)
    for key, value in upper.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _nested(dotted: str, text: str) -> dict:
    """{"a": {"b": value}} of "a.b" and the value's YAML text."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"override {dotted}={text}: the value is not valid YAML; quote it") from None
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value


def _validate(model: type[Settings], values: Mapping, what: str) -> Settings:
    try:
        return model.model_validate(values)
    except pydantic.ValidationError as error:
        raise ConfigError(_first_problem(model, error.errors()[0], what)) from None


def _first_problem(model: type[Section], problem: dict, what: str) -> str:
    """One line about the first thing pydantic found wrong."""
    location = [str(part) for part in problem["loc"]]
    name = ".".join(location)
    if problem["type"] == "extra_forbidden":
        known = _known_fields(model, location[:-1])
        return f"{what}: no setting {name!r}; {'.'.join(location[:-1]) or 'the top level'} has: {', '.join(known)}"
    if problem["type"] == "missing":
        return f"{what}: the setting {name!r} has no value; config.yaml has to give one"
    return f"{what}: {name} = {problem['input']!r} cannot be: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _known_fields(model: type[Section], location: list[str]) -> list[str]:
    """Names of the settings at that place of the schema."""
    for part in location:
        annotation = model.model_fields[part].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next(option for option in options if isinstance(option, type) and issubclass(option, Section))
    return list(model.model_fields)
