"""What a run takes from outside the chain: the data set, the base weights, and the run of the round before.

In the tiny profile both are made here, deterministically, on first need, and addressed by what they are made from. In the full
profile they are the published ones: `data/<submission>/sources.yaml` says where each comes from and where it has to lie. Base weights
that are published in parts are put together here on first need.
"""

import importlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from lib import files, identity, launch, paths, runs, store
from lib.config import Resolved
from lib.errors import MissingInput, RecordError
from lib.launch import Step

logger = logging.getLogger(__name__)

KINDS = ("data", "base", "parent")  # what a stage can read beside earlier stages
ASSEMBLY = "lib.assembly"  # the program that puts a LLaVA together
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
    return store.digest_files(path.parent, [path]) if path.is_file() else None


def missing(resolved: Resolved) -> list[str]:
    """What has to be brought by hand before a run with these settings can start: one line each, with the place."""
    problems = []
    if resolved.settings.data.source == "published":
        root = data_root(resolved)
        problems += [
            f"data: {paths.relative(root / item['path'])} ({item['what']}; {item['where']})"
            for item in _read_data(resolved)
            if not (root / item["path"]).exists()
        ]
    problems += _missing_weights(resolved)
    parent = resolved.settings.parent()
    if parent is not None and _parent_digest(resolved) is None:
        problems.append(f"run: {parent} (the round before; a finished run folder of {resolved.submission})")
    given = {key: path for key, path in resolved.named().items() if path != parent}
    return problems + [f"file: {path} ({key})" for key, path in given.items() if not (paths.ROOT / path).exists()]


def sources(submission: str) -> dict:
    """The content of data/<submission>/sources.yaml: where data and weights come from, sizes, licences, target paths."""
    return files.read_yaml(paths.ROOT / "data" / submission / "sources.yaml")


def published_names(submission: str) -> tuple[str, ...]:
    """The folders and files of the published data set at its root: those that are, or hold, what a complete run cannot do without."""
    return _at_root(item for item in sources(submission)["data"] if item["required"])


def prepare(resolved: Resolved, reads: tuple[str, ...]) -> None:
    """Make the toy data and the tiny base weights that are read and not there.

    Raises MissingInput for published ones, and for a round before that is no run.
    """
    if "parent" in reads and _parent_digest(resolved) is None:
        raise MissingInput(
            f"{resolved.submission}: rounds.parent is {resolved.settings.parent()}, which is no run folder; "
            f"name a finished one of log/{resolved.submission}"
        )
    if "data" in reads and _data_digest(resolved) is None:
        _write_toy_data(resolved)
    if "base" in reads and _base_digest(resolved) is None:
        make = _assemble_base if resolved.settings.model.base is None else _train_base
        make(resolved)


def _data_digest(resolved: Resolved) -> str | None:
    root = data_root(resolved)
    if resolved.settings.data.source == "published":
        # Of all that there is of it, so that variants which read more and less share what they have in common.
        names = {*published_names(resolved.submission), *_at_root(_read_data(resolved))}
        digests = {name: file_digest(root / name) for name in sorted(names) if (root / name).exists()}
        return None if _absent_data(resolved) else files.digest(digests)
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
            f"{resolved.submission}: {paths.relative(root / _absent_data(resolved)[0])} is not there; "
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
        if not folder.is_dir() or not files.list_files(folder):
            return None
        _check_parts(resolved)
        return store.digest_tree(folder)
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


def _assemble_base(resolved: Resolved) -> None:
    """Put the published base weights together from their parts, in a process of its own. Raises MissingInput where one is absent."""
    folder, places = base_folder(resolved), _parts(resolved)
    if not places or _missing_weights(resolved):
        raise MissingInput(
            f"{resolved.submission}: the base weights {paths.relative(folder)} are not there; "
            f"python -m lib plan {resolved.submission} --profile {resolved.profile} says which file goes there"
        )
    with files.lock(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir():
            return
        logger.info("putting the base weights together once, kept in %s", paths.relative(folder))
        files.write_json(_parts_file(folder), _part_digests(resolved))
        log_file = paths.log() / ".stages" / f"{folder.name}.log"
        arguments = [*(str(place) for place in places.values()), str(folder)]
        launch.run(launch.command(ASSEMBLY, arguments, processes=1), log_file, watch=lambda: None, label="base weights")


def _check_parts(resolved: Resolved) -> None:
    """Raise RecordError where the base weights were put together from other parts than lie there now; parts may be gone by then."""
    folder = base_folder(resolved)
    if not _parts_file(folder).is_file():
        return
    made_from, now = files.read_json(_parts_file(folder)), _part_digests(resolved)
    other = [name for name, digest in now.items() if digest not in (None, made_from.get(name))]
    if other:
        raise RecordError(
            f"{paths.relative(folder)} was put together from other files than {paths.relative(_parts(resolved)[other[0]])} has now; "
            f"delete {paths.relative(folder)}, it is put together again"
        )


def _parts(resolved: Resolved) -> dict[str, Path]:
    """Where each part of the published base weights lies, by name, in the order in which `lib.assembly` takes them; {} if whole."""
    model = resolved.settings.model
    listed = sources(resolved.submission)["weights"][f"{model.name}-{model.pretrained}"].get("parts", [])
    return {part["name"]: paths.data() / "base" / part["path"] for part in listed}


def _part_digests(resolved: Resolved) -> dict[str, str | None]:
    return {name: file_digest(place) for name, place in _parts(resolved).items()}


def _parts_file(folder: Path) -> Path:
    """What base weights were put together from, beside their folder."""
    return folder.with_name(f".{folder.name}.parts.json")


def _missing_weights(resolved: Resolved) -> list[str]:
    """One line per file of weights that these settings read and that is not there."""
    model, uses = resolved.settings.model, resolved.settings.uses()
    if model.base is not None and not uses:
        return []
    listed, own, base = sources(resolved.submission)["weights"], f"{model.name}-{model.pretrained}", paths.data() / "base"
    wanted = {base / name / item["file"]: item for name, item in listed.items() if item.get("read_by") in uses}
    if model.base is None and _base_digest(resolved) is None:
        parts = {base / part["path"]: part for part in listed[own].get("parts", [])}
        wanted |= {place / part["file"]: part for place, part in parts.items()} or {base / own / listed[own]["file"]: listed[own]}
    return [
        f"weights: {paths.relative(place)} ({item['gib']} GiB; huggingface repository {item['repository']}, {_which_files(item)})"
        for place, item in wanted.items()
        if not place.exists()
    ]


def _which_files(item: dict) -> str:
    return "all its files" if item["file"] == "config.json" else f"file {item['file']}"


def _read_data(resolved: Resolved) -> list[dict]:
    """The items of the published data set that a run with these settings reads."""
    uses = resolved.settings.uses()
    listed = sources(resolved.submission)["data"]
    return [item for item in listed if (item["read_by"] in uses if "read_by" in item else item["required"])]


def _absent_data(resolved: Resolved) -> list[str]:
    """Of the folders and files at the root of the published data set those that a run with these settings reads and that are not there."""
    return [name for name in _at_root(_read_data(resolved)) if not (data_root(resolved) / name).exists()]


def _at_root(items: Iterable[dict]) -> tuple[str, ...]:
    return tuple(sorted({Path(item["path"]).parts[0] for item in items}))


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
