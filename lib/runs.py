"""Run folders: `log/<submission>/<YYYYMMDD-HHMMSS>_<profile>_<tag>/`, the view a person opens onto the stages of one run.

The folder holds `run.json`, `config.yaml`, a link per stage to its result in the store, and links to what people look for first
(params.txt, out.log, checkpoints, tensorboard). A kept run in best-result-review/ has the same shape with copies instead of links.
"""

import datetime
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lib import files, paths, runtime
from lib.config import Resolved
from lib.errors import ConfigError, DataError, MissingInput, RecordError
from lib.records import StageRecord, Status

RUN_FILE = "run.json"
SHORTCUTS = ("params.txt", "out.log", "checkpoints", "tensorboard", "report.html")
NAME = re.compile(r"\d{8}-\d{6}_[a-z]+_[A-Za-z0-9.-]+")


@dataclass(frozen=True)
class Run:
    """What a stage's verbs get beside the settings: where to read, where to write, what to count.

    `out` is this stage's own folder; `data` the root of the data set, `base` the folder of the base weights, `parent` the run folder of
    the round before (None where the stage does not read them, or there is none); `given` the files that a person gives this stage, by
    the setting that names them; `folder` the run folder a person opens.
    """

    submission: str
    stage: str
    profile: str
    folder: Path
    out: Path
    key: str
    stages: Mapping[str, Path]
    data: Path | None = None
    base: Path | None = None
    parent: Path | None = None
    given: Mapping[str, Path] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)

    def of(self, stage: str) -> Path:
        """The folder of an earlier stage. Raises MissingInput if this stage did not declare that it reads it."""
        if stage not in self.stages:
            raise MissingInput(f"{self.stage} asks for the results of {stage}, which its identity does not hold; add it to READS")
        return self.stages[stage]

    def drop(self, reason: str, count: int = 1) -> None:
        """Count items left out for a reason; the counts go into the stage's record."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count


def create(resolved: Resolved, *, tag: str = "") -> Path:
    """Make a new run folder with its run.json and config.yaml. Raises ConfigError for a tag that does not fit a folder's name."""
    tag = tag or default_tag(resolved)
    now = datetime.datetime.now()
    stem = f"{now:%Y%m%d-%H%M%S}_{resolved.profile}_{tag}"
    if not NAME.fullmatch(stem):
        raise ConfigError(f"tag {tag!r} cannot be part of a folder's name; use letters, digits, dots and hyphens")
    home = paths.log() / resolved.submission
    folder = home / stem
    home.mkdir(parents=True, exist_ok=True)
    for number in range(2, 100):
        try:
            folder.mkdir()
            break
        except FileExistsError:
            folder = home / f"{stem}-{number}"
    git = runtime.git_state(paths.ROOT)
    if git["diff"]:
        files.write_text(folder / "changes.diff", git["diff"])
    files.write_yaml(folder / "config.yaml", resolved.values())
    content = {
        "name": folder.name,
        "submission": resolved.submission,
        "variant": resolved.variant,
        "profile": resolved.profile,
        "overrides": list(resolved.overrides),
        "created": now.isoformat(timespec="seconds"),
        "commit": git["commit"],
        "uncommitted_changes": bool(git["diff"]),
        "host": socket.gethostname(),
        "hardware": runtime.hardware(),
        "parent": str(resolved.settings.parent() or ""),
        "stages": {},
    }
    files.write_json(folder / RUN_FILE, content)
    return folder


def default_tag(resolved: Resolved) -> str:
    """The variant's name, and four letters of a digest where overrides change it."""
    return resolved.variant if not resolved.overrides else f"{resolved.variant}-{files.digest(list(resolved.overrides))[:4]}"


def read(folder: Path) -> dict:
    """The content of run.json. Raises RecordError if there is none, or none that can be read."""
    path = folder / RUN_FILE
    if not path.is_file():
        raise RecordError(f"{paths.relative(folder)}: no {RUN_FILE}, so this is no run folder")
    try:
        content = files.read_json(path)
    except DataError as error:
        # In log the folder only shows what the store holds; a kept run's folder holds it itself.
        raise RecordError(
            f"{str(error).partition(';')[0]}; restore it, or if it is in log delete its folder: finished stages stay"
        ) from None
    if not isinstance(content, dict) or "stages" not in content:
        raise RecordError(f"{paths.relative(path)}: no list of stages; not written by this kit?")
    return content


def found(submission: str) -> list[Path]:
    """The run folders of a submission, oldest first."""
    return sorted(path.parent for path in (paths.log() / submission).glob(f"*/{RUN_FILE}"))


def same_settings(folder: Path, resolved: Resolved) -> bool:
    """Whether the run was made with exactly these settings."""
    content = read(folder)
    names = ("submission", "variant", "profile")
    return all(content[name] == getattr(resolved, name) for name in names) and files.read_yaml(folder / "config.yaml") == resolved.values()


def latest(resolved: Resolved, *, tag: str = "") -> Path | None:
    """The newest run with these settings, and with that tag where one is given, or None."""
    named_so = [folder for folder in found(resolved.submission) if tag in ("", folder.name.rpartition("_")[2])]
    return next((folder for folder in reversed(named_so) if same_settings(folder, resolved)), None)


def newest_scored(submission: str) -> Path:
    """The newest run of a submission that has scores, whatever its settings. Raises MissingInput if there is none."""
    scored = [folder for folder in found(submission) if read(folder)["stages"].get("evaluate", {}).get("status") == "done"]
    if not scored:
        place = paths.relative(paths.log())
        raise MissingInput(f"{submission} has no run with scores in {place}; start one with: python -m lib run {submission}")
    return scored[-1]


def named(name: str, submission: str = "*") -> Path:
    """The run folder a person means: a path, a folder name in log/, or `best/<submission>`.

    Two submissions started in the same second have runs of the same name; `submission` says whose is meant. Raises MissingInput with
    what there is.
    """
    candidates = [Path(name), paths.ROOT / name, *paths.log().glob(f"{submission}/{name}"), paths.best() / name.removeprefix("best/")]
    for folder in candidates:
        if (folder / RUN_FILE).is_file():
            return folder.resolve()
    known = sorted(path.parent.name for path in paths.log().glob(f"{submission}/*/{RUN_FILE}"))[-5:]
    raise MissingInput(f"no run {name!r}; the newest are: {', '.join(known) or 'none, start one with python -m lib run'}")


def kept(submission: str) -> Path:
    """The kept best run of a submission. Raises MissingInput if none was kept."""
    folder = paths.best() / submission
    if not (folder / RUN_FILE).is_file():
        raise MissingInput(f"{submission} has no kept run in {paths.relative(paths.best())}; keep one with: python -m lib keep RUN")
    return folder


def stage_folder(folder: Path, stage: str) -> Path:
    """Where the run shows that stage. Raises MissingInput, naming the notebook, if it is not there."""
    place = folder / paths.numbered(stage)
    if not place.is_dir():
        raise MissingInput(f"{folder.name}: no results of {stage}; open {paths.relative(paths.notebook(stage))} first")
    return place


def enter(folder: Path, stage: str, status: Status, **fields: object) -> None:
    """Write one stage's line into run.json; other processes that write the same run wait their turn."""
    with files.lock(folder / ".lock"):
        content = read(folder)
        content["stages"][stage] = {"status": status, **fields}
        content["stages"] = {name: content["stages"][name] for name in paths.STAGES if name in content["stages"]}
        files.write_json(folder / RUN_FILE, content)


def attach(folder: Path, stage: str, place: Path, record: StageRecord, *, hit: bool) -> None:
    """Show a finished stage in the run folder: its line in run.json and the links a person opens.

    `hit` says that the result was there already; what this run itself made before keeps its line.
    """
    earlier = read(folder)["stages"].get(stage, {})
    if (earlier.get("key"), earlier.get("status")) == (record.key, "done"):
        hit = hit and earlier["hit"]
    _link(folder / paths.numbered(stage), place)
    for name in SHORTCUTS:
        if (place / name).exists():
            _link(folder / name, place / name)
    enter(
        folder,
        stage,
        record.status,
        key=record.key,
        seconds=record.seconds,
        peak_memory_mib=record.peak_memory_mib,
        digest=record.result_digest,
        files=len(record.outputs),
        dropped=record.dropped,
        hit=hit,
    )


def detach(folder: Path, stage: str) -> None:
    """Take the older results of a stage and of all after it out of the run folder before a new attempt.

    None of them may be shown as this run's; those that turn out to be still right are attached again when their turn comes.
    """
    outdated = paths.STAGES[paths.STAGES.index(stage) :]
    targets = [(folder / paths.numbered(name)).resolve() for name in outdated]
    for link in [*(folder / name for name in SHORTCUTS), *(folder / paths.numbered(name) for name in outdated)]:
        if link.is_symlink() and (link.name not in SHORTCUTS or link.resolve().parent in targets):
            link.unlink(missing_ok=True)
    with files.lock(folder / ".lock"):
        content = read(folder)
        content["stages"] = {name: entry for name, entry in content["stages"].items() if name not in outdated}
        files.write_json(folder / RUN_FILE, content)


def _link(link: Path, target: Path) -> None:
    """Point a relative symbolic link at the target, replacing an older one at once: another driver may be linking here too."""
    depth = len(link.parent.resolve().relative_to(paths.log()).parts)
    draft = link.with_name(f".{link.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.symlink_to(Path(*[".."] * depth) / target.relative_to(paths.log()), target_is_directory=target.is_dir())
    draft.replace(link)
