"""The chain of stages of one run: each stage's identity, its place in the store, and whether it is done.

The notebooks' front door (`lib.stages`), the runner and `plan` all ask here, so that they see the same.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lib import config, files, identity, inputs, paths, runs, store
from lib.config import Resolved
from lib.errors import MissingInput
from lib.identity import Identity
from lib.records import StageRecord


@dataclass(frozen=True)
class Link:
    """One stage of the chain.

    `reads` names what it takes in: earlier stages, "data", "base". `identity` is None while something of that is still to be made;
    `waits_for` then says what. `record` is there once the stage is done and its results are what the record says.
    """

    submission: str
    stage: str
    module: str
    reads: tuple[str, ...]
    identity: Identity | None
    waits_for: str = ""
    record: StageRecord | None = None

    @property
    def place(self) -> Path:
        """The stage's folder in the store. Raises MissingInput while its identity is not known."""
        if self.identity is None:
            raise MissingInput(f"{self.submission}: {self.stage} waits for {self.waits_for}")
        return store.folder(self.submission, self.stage, self.identity.key)


def module_of(submission: str, stage: str) -> str:
    """The module with the stage's verbs: the submission's own, or the shared one for what the paper does not have."""
    own = f"lib.submissions.{submission}.{stage}"
    return own if identity.exists(own) else f"lib.{stage}"


def links(resolved: Resolved, *, until: str = paths.STAGES[-1], by_hand: bool = False, rehash: bool = False) -> dict[str, Link]:
    """The chain up to and including `until`.

    `by_hand` also counts results that a person made with cells of her own beside the notebook's; `rehash` reads every result again
    instead of trusting size and time of unchanged files.
    """
    chain: dict[str, Link] = {}
    given = functools.cache(functools.partial(inputs.digest, resolved))  # data and base, looked at once for all stages
    for stage in paths.STAGES[: paths.STAGES.index(until) + 1]:
        chain[stage] = _link(resolved, stage, chain, given, by_hand, rehash)
    return chain


def continuable(resolved: Resolved, *, tag: str = "") -> Path | None:
    """The newest run with these settings (and that tag), if no finished stage of it comes from other code or data than today's.

    A stage that failed is no obstacle: what stopped it, a damaged file for example, may have been put right since. Else None.
    """
    folder = runs.latest(resolved, tag=tag)
    if folder is None:
        return None
    known = {stage: link.identity.key for stage, link in links(resolved).items() if link.identity is not None}
    finished = {stage: entry["key"] for stage, entry in runs.read(folder)["stages"].items() if entry["status"] == "done"}
    return folder if all(key == known.get(stage, key) for stage, key in finished.items()) else None


def require(chain: dict[str, Link], stage: str) -> Link:
    """The stage's link, everything it reads being there. Raises MissingInput that names the notebook to run first."""
    link = chain[stage]
    if link.waits_for and link.waits_for not in link.reads:
        raise MissingInput(f"{link.submission}: {stage} needs the file {link.waits_for}, which is not there; give the path of one that is")
    for name in link.reads:
        if name not in chain or chain[name].record is not None:
            continue
        reason = changes(chain[name]) or "not run yet with these settings"
        number = paths.relative(paths.notebook(name))
        raise MissingInput(f"{link.submission}: {stage} reads {name}, which has no result here ({reason}); run {number} first")
    return link


def changes(link: Link) -> str:
    """Which fields of the identity differ from the stage's last result, in words; empty if there is no other result."""
    if link.identity is None:
        return f"waits for {link.waits_for}"
    older = store.newest_identity(link.submission, link.stage, other_than=link.identity.key)
    found = identity.differences(older, link.identity.fields()) if older else []
    return "; ".join(found[:4]) + (f"; and {len(found) - 4} more" if len(found) > 4 else "")


def progress(link: Link) -> dict | None:
    """How far an unfinished attempt at this stage came ({"step", "of", "unit"}), or None."""
    if link.identity is None or link.record is not None:
        return None
    path = link.place / store.PROGRESS
    return files.read_json(path) if path.is_file() else None


def identify(resolved: Resolved, stage: str, module: str, taken: dict[str, str]) -> Identity:
    """The stage's identity with these inputs.

    Beside them count the files of the submission's folder that the code names, such as claims.yaml; config.yaml is in the settings.
    """
    beside = identity.file_digests(module, config.config_file(resolved.submission).parent)
    beside.pop("config.yaml", None)
    return Identity(
        notebook=identity.notebook_digest(paths.notebook(stage)),
        modules=identity.module_digests(module),
        settings=resolved.for_stage(stage, identity.constant(module, "SETTINGS")).dump(),
        inputs={**beside, **taken},
        environment=identity.environment(module),
    )


def _link(resolved: Resolved, stage: str, chain: dict[str, Link], given: Callable[[str], str | None], by_hand: bool, rehash: bool) -> Link:
    module, replaced = module_of(resolved.submission, stage), resolved.settings.replaced()
    declared = identity.constant(module, "READS")
    reads = tuple(name for name in declared if name not in replaced)
    taken: dict[str, str] = {}
    for name in reads:
        found = _input(name, chain, given)
        if found is None:
            return Link(resolved.submission, stage, module, reads, None, waits_for=name)
        taken[name] = found
    for name, path in {**{name: replaced[name] for name in declared if name in replaced}, **resolved.settings.given(stage)}.items():
        found = inputs.file_digest(paths.ROOT / path)
        if found is None:
            return Link(resolved.submission, stage, module, reads, None, waits_for=str(path))
        taken[f"file for {name}"] = found
    known = identify(resolved, stage, module, taken)
    place = store.folder(resolved.submission, stage, known.key)
    record = store.finished(place, by_hand=by_hand, rehash=rehash)
    return Link(resolved.submission, stage, module, reads, known, record=record)


def _input(name: str, chain: dict[str, Link], given: Callable[[str], str | None]) -> str | None:
    """The digest of one input, or None while it is not there."""
    assert name in chain or name in inputs.KINDS, f"READS {name!r} is neither an earlier stage nor one of {inputs.KINDS}"
    if name not in chain:
        return given(name)
    record = chain[name].record
    return None if record is None else record.result_digest
