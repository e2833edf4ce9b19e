"""What a run takes from outside the chain: the data set, the base weights, and the run of the round before.

In the tiny profile both are made here, deterministically, on first need, and addressed by what they are made from. In the full
profile they are the published ones: `data/<submission>/sources.yaml` says where each comes from and where it has to lie.
"""

import importlib
import json
import logging
import os
import re
import shutil
from pathlib import Path

from lib import files, identity, launch, paths, runs, store
from lib.config import Resolved
from lib.errors import MissingInput, RecordError
from lib.launch import Step

logger = logging.getLogger(__name__)

KINDS = ("data", "base", "parent")  # what a stage can read beside earlier stages
MADE = ".made.json"  # written last into a folder of toy data: only then it counts


def data_root(resolved: Resolved) -> Path:
    """The root of the data set: the published one, or the toy one with the address of its recipe."""
    if resolved.settings.data.source == "published":
        return paths.data() / resolved.submission
    recipe = {"seed": resolved.settings.seed, "sizes": _sizes(resolved), "code": identity.code_digest(_toy(resolved))}
    return paths.data() / resolved.submission / f"toy-{files.digest(recipe)[:12]}"


def base_folder(resolved: Resolved) -> Path:
    """The folder of the base weights: the published ones by model and tag, or those trained here by the address of their recipe."""
    model = resolved.settings.model
    if model.base is None:
        return paths.data() / "base" / f"{model.name}-{model.pretrained}"
    key = files.digest([_base_recipe(resolved), identity.code_digest(model.base.program)])
    return paths.data() / "base" / f"{model.base.family}-{key[:12]}"


def parent_folder(resolved: Resolved) -> Path | None:
    """The run folder of the round before, given relative to the checkout or whole; None in a first round."""
    parent = resolved.settings.parent()
    return None if parent is None else paths.ROOT / parent


def digest(resolved: Resolved, name: str) -> str | None:
    """The digest of one of KINDS as it lies on this machine; None while it has to be made or brought first."""
    return {"data": _data_digest, "base": _base_digest, "parent": _parent_digest}[name](resolved)


def file_digest(path: Path) -> str | None:
    """sha256 of a file or folder given by hand, remembered while it does not change; None if it is not there."""
    if path.is_dir():
        return store.digest_tree(path)
    return store.digest_tree(path.parent, (path.name,)) if path.is_file() else None


def missing(resolved: Resolved) -> list[str]:
    """What has to be brought by hand before a run with these settings can start: one line each, with the place."""
    problems = []
    if resolved.settings.data.source == "published":
        root, wanted = data_root(resolved), sources(resolved.submission)["data"]
        problems += [
            f"data: {paths.relative(root / item['path'])} ({item['what']}; {item['where']})"
            for item in wanted
            if item["required"] and not (root / item["path"]).exists()
        ]
    if resolved.settings.model.base is None and _base_digest(resolved) is None:
        weights = sources(resolved.submission)["weights"][f"{resolved.settings.model.name}-{resolved.settings.model.pretrained}"]
        target = paths.relative(base_folder(resolved) / weights["file"])
        problems.append(f"weights: {target} ({weights['gib']} GiB; huggingface repository {weights['repository']}, file {weights['file']})")
    parent = resolved.settings.parent()
    if parent is not None and _parent_digest(resolved) is None:
        problems.append(f"run: {parent} (the round before; a finished run folder of {resolved.submission})")
    given = resolved.settings.replaced()
    problems += [f"file: {path} (in place of {stage})" for stage, path in given.items() if not path.exists()]
    return problems


def sources(submission: str) -> dict:
    """The content of data/<submission>/sources.yaml: where data and weights come from, sizes, licences, target paths."""
    return files.read_yaml(paths.ROOT / "data" / submission / "sources.yaml")


def published_folders(submission: str) -> tuple[str, ...]:
    """The folders of the published data set below its root: where the files that a run cannot do without lie."""
    return tuple(sorted({Path(item["path"]).parts[0] for item in sources(submission)["data"] if item["required"]}))


def prepare(resolved: Resolved, reads: tuple[str, ...]) -> None:
    """Make the toy data and the tiny base weights that are read and not there. Raises MissingInput for published ones."""
    if "data" in reads and _data_digest(resolved) is None:
        _write_toy_data(resolved)
    if "base" in reads and _base_digest(resolved) is None:
        _train_base(resolved)


def _data_digest(resolved: Resolved) -> str | None:
    root = data_root(resolved)
    if resolved.settings.data.source == "published":
        folders = [root / name for name in published_folders(resolved.submission)]
        there = all(folder.is_dir() for folder in folders)
        return files.digest({folder.name: store.digest_tree(folder) for folder in folders}) if there else None
    return store.digest_tree(root) if (root / MADE).is_file() else None


def _parent_digest(resolved: Resolved) -> str | None:
    """Of the identities of all finished stages of the round before; a constant where there is none."""
    folder = parent_folder(resolved)
    if folder is None:
        return files.digest("the first round")
    if not (folder / runs.RUN_FILE).is_file():
        return None
    stages = runs.read(folder)["stages"]
    return files.digest({name: entry["key"] for name, entry in stages.items() if name != "quick_review" and entry["status"] == "done"})


def _write_toy_data(resolved: Resolved) -> None:
    root = data_root(resolved)
    if resolved.settings.data.source == "published":
        raise MissingInput(
            f"{resolved.submission}: {paths.relative(root / published_folders(resolved.submission)[0])} is not there; "
            f"python -m lib plan {resolved.submission} --profile {resolved.profile} lists what to bring and where to put it"
        )
    with files.lock(root.with_name(f".{root.name}.lock")):
        if (root / MADE).is_file():
            return
        logger.info("writing the toy data set to %s", paths.relative(root))
        unfinished = root.with_name(f".{root.name}.unfinished")
        try:
            shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed; the lock is ours now
            toy = importlib.import_module(_toy(resolved))
            toy.write_toy_data(unfinished, resolved.settings.seed, toy.ToySizes(**_sizes(resolved)))
            files.write_json(unfinished / MADE, {"seed": resolved.settings.seed, "sizes": _sizes(resolved)})
            shutil.rmtree(root, ignore_errors=True)
            os.replace(unfinished, root)
        except OSError as error:
            raise files.disk_full(error, root.parent) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _base_digest(resolved: Resolved) -> str | None:
    folder = base_folder(resolved)
    if resolved.settings.model.base is None:
        return store.digest_tree(folder) if folder.is_dir() and files.list_files(folder) else None
    if not (folder / store.RECORD).is_file():
        return None
    weights = files.read_json(folder / store.RECORD)["files"]
    changed = store.changed_files(folder, weights)
    if changed:
        raise RecordError(
            f"{paths.relative(folder / changed[0])} is not what its record says; delete {paths.relative(folder)}, it is made again"
        )
    return files.digest(weights)


def _train_base(resolved: Resolved) -> None:
    folder = base_folder(resolved)
    if resolved.settings.model.base is None:
        raise MissingInput(
            f"{resolved.submission}: the base weights {paths.relative(folder)} are not there; "
            f"python -m lib plan {resolved.submission} --profile {resolved.profile} says which file goes there"
        )
    with files.lock(folder.with_name(f".{folder.name}.lock")):
        if (folder / store.RECORD).is_file():
            return
        logger.info("training the tiny base weights once, kept in %s", paths.relative(folder))
        recipe = folder.with_name(f".{folder.name}.json")
        files.write_json(recipe, _base_recipe(resolved))
        log_file = paths.log() / ".stages" / f"{folder.name}.log"
        launch.run(
            launch.command(resolved.settings.model.base.program, [str(recipe), str(folder)], processes=1),
            log_file,
            watch=lambda: _base_step(log_file),
            label="base weights",
        )
        recipe.unlink()


def _base_step(log_file: Path) -> Step | None:
    """How far the training of the base weights is, by the last line of its log."""
    found = re.findall(r"step (\d+)/(\d+)", launch.tail(log_file)) if log_file.is_file() else []
    return Step(int(found[-1][0]), int(found[-1][1])) if found else None


def _toy(resolved: Resolved) -> str:
    return f"lib.submissions.{resolved.submission}.toy"


def _sizes(resolved: Resolved) -> dict:
    return json.loads(resolved.settings.data.toy.model_dump_json())


def _base_recipe(resolved: Resolved) -> dict:
    """What the tiny base weights are made from, beside the code that trains them."""
    model = resolved.settings.model
    return {"name": model.name, "architecture": model.architecture, **model.base.model_dump(mode="json")}
