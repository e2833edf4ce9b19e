"""Contrastive fine-tuning by open_clip's own trainer, in a process of its own: `python -m lib.submissions.a3r.contrastive PLAN.json`.

The trainer is `open_clip_train.main.main` with the published arguments. Around it stands what the published recipe needs and it does
not offer (specs/a3r.md, sections 4 and 11):
- square padding in front of both transforms;
- tables read as text (its pandas reader turns "NA" into nothing), picture paths of the published form found below a media root;
- random numbers that depend on seed and epoch alone, so that a training killed at any moment and started again ends in the same
  weights, bit for bit (on a CPU with the same number of threads);
- an early checkpoint: the schedule is laid out for `epochs`, training stops after `use_epoch`.

The run folder is the published one: params.txt, out.log, checkpoints/epoch_N.pt, checkpoints/results.jsonl, tensorboard/, without
the machine's paths; `model/` holds the used epoch as safetensors. After a resume out.log and the events repeat the steps of the
epoch that was cut off; of two values for one step the later one counts.
"""

import contextlib
import functools
import hashlib
import json
import logging
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Annotated, Literal

from lib import runtime

if __name__ == "__main__":
    # Before anything heavy: under torchrun the parent is torchrun's agent, not the process that PODIUM_PARENT names.
    runtime.die_with_parent(os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None)

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from lib import config, files, models
from lib.config import Section
from lib.errors import ConfigError, DataError, KitError, MissingInput
from lib.submissions.a3r import pictures, tables
from lib.submissions.a3r.pictures import Padding

logger = logging.getLogger(__name__)

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]

LATEST = "checkpoints/epoch_latest.pt"
# What says where things lie or how fast they are made; all other keys decide about the weights.
PLACES = {"out", "train_table", "val_table", "media_root", "weights", "workers", "log_every"}


class Plan(Section):
    """All that one training depends on; written as JSON by the finetune stage. Names as in config.yaml, paths as strings.

    The weights a plan ends in depend on all keys except PLACES, and on the content of the tables, pictures and weights named there.
    """

    out: str  # the run folder; an interrupted training in it is continued
    train_table: str  # TSV with filepath and title
    val_table: str | None  # ranks and loss after each epoch; None: no validation
    media_root: str  # the folder that takes the place of `media_prefix` in filepath
    media_prefix: str  # "data" in the published tables
    model: str  # a model of open_clip, or the name given to `architecture`
    architecture: dict | None  # an open_clip config for a model that open_clip does not know
    weights: str | None  # folder, .safetensors, epoch_N.pt or a tag of open_clip; None: fresh weights
    padding: Padding
    loss: Literal["clip", "siglip"]
    batch_size: Positive  # per process
    accum_freq: Positive
    lr: Annotated[float, Field(gt=0)]
    wd: Annotated[float, Field(ge=0)]
    beta1: Annotated[float, Field(ge=0, lt=1)]
    beta2: Annotated[float, Field(ge=0, lt=1)]
    eps: Annotated[float, Field(gt=0)]
    warmup_steps: NotNegative
    epochs: Positive  # length of the schedule
    use_epoch: Positive  # the checkpoint that is exported; training stops after it
    run_all: bool = False  # go on to the end of the schedule, for the curves; the export stays the same
    precision: Literal["fp32", "amp", "amp_bf16"]
    device: Literal["cpu", "cuda"]
    grad_checkpointing: bool
    grad_clip_norm: Annotated[float, Field(gt=0)] | None
    int8: Literal["none", "SwitchBackLinearGlobal", "SwitchBackLinearGlobalMemEfficient"]
    lock_image: bool
    lock_text: bool
    lock_image_unlocked_groups: NotNegative = 0
    lock_text_unlocked_layers: NotNegative = 0
    local_loss: bool = False  # with more than one process: less memory, the same loss
    gather_with_grad: bool = False
    seed: NotNegative
    workers: NotNegative
    save_frequency: Positive  # keep epoch_N.pt every so many epochs
    val_frequency: Positive = 1
    log_every: Positive


class _EnoughEpochs(Exception):
    """The used epoch is saved; the rest of the schedule is not wanted."""


def read_plan(path: Path) -> Plan:
    """The plan of a JSON file. Raises ConfigError naming the key that is missing, unknown or out of range."""
    plan = config.read_section(path, Plan)
    check_plan(plan)
    return plan


def check_plan(plan: Plan) -> None:
    """Raises ConfigError for values that do not go together."""
    if plan.use_epoch > plan.epochs:
        raise ConfigError(f"use_epoch is {plan.use_epoch}, the schedule has {plan.epochs} epochs; it must be one of them")
    if plan.use_epoch % plan.save_frequency and plan.use_epoch != plan.epochs:
        raise ConfigError(
            f"epoch {plan.use_epoch} is to be used, but only every {plan.save_frequency} epochs are saved; set save_frequency to a divisor"
        )
    if plan.int8 != "none" and plan.device == "cpu":
        raise ConfigError(f"int8 is {plan.int8}, which needs an NVIDIA GPU with bitsandbytes and triton; on a CPU it must be none")
    if plan.precision == "amp" and plan.device == "cpu":
        raise ConfigError("precision is amp (fp16 with loss scaling), which needs a GPU; on a CPU it must be fp32 or amp_bf16")


def compose_arguments(plan: Plan, name: str) -> list[str]:
    """The command line of open_clip's trainer for this plan, to be run in the run folder, whose name is `name`.

    All paths are relative, so that params.txt and out.log carry none of this machine.
    """
    here = functools.partial(os.path.relpath, start=plan.out)
    pretrained = here(plan.weights) if plan.weights and Path(plan.weights).exists() else plan.weights or ""
    # NOTE: betas and eps are always given, open_clip's defaults depend on "vit" being part of the model's name.
    values = {
        "logs": "..", "name": name, "resume": "latest", "report-to": "tensorboard",
        "train-data": here(plan.train_table), "dataset-type": "csv", "csv-separator": "\t",
        "csv-img-key": "filepath", "csv-caption-key": "title",
        "model": plan.model, "pretrained": pretrained, "precision": plan.precision, "device": plan.device,
        "batch-size": plan.batch_size, "accum-freq": plan.accum_freq, "epochs": plan.epochs, "warmup": plan.warmup_steps,
        "lr": plan.lr, "wd": plan.wd, "beta1": plan.beta1, "beta2": plan.beta2, "eps": plan.eps,
        "seed": plan.seed, "workers": plan.workers, "log-every-n-steps": plan.log_every,
        "save-frequency": plan.save_frequency, "val-frequency": plan.val_frequency, "zeroshot-frequency": 0,
        "lock-image-unlocked-groups": plan.lock_image_unlocked_groups, "lock-text-unlocked-layers": plan.lock_text_unlocked_layers,
    }  # fmt: skip
    if plan.val_table:
        values["val-data"] = here(plan.val_table)
    if plan.grad_clip_norm is not None:
        values["grad-clip-norm"] = plan.grad_clip_norm
    if plan.int8 != "none":
        values["use-bnb-linear"] = plan.int8
    switches = {
        "save-most-recent": True,
        "siglip": plan.loss == "siglip",
        "grad-checkpointing": plan.grad_checkpointing,
        "lock-image": plan.lock_image,
        "lock-text": plan.lock_text,
        "lock-text-freeze-layer-norm": plan.lock_text,  # open_clip 3.3.0 refuses a locked text tower without it
        "local-loss": plan.local_loss,
        "gather-with-grad": plan.gather_with_grad,
    }
    return [part for key, value in values.items() for part in (f"--{key}", str(value))] + [f"--{key}" for key, on in switches.items() if on]


def finetune(plan: Plan) -> Path:
    """Train as planned, or go on where an earlier attempt was cut off; returns the folder of the exported weights.

    Changes the working directory to the run folder. Raises ConfigError if the folder holds a training of another plan, DataError for
    a table or picture, WeightsError for the starting weights.
    """
    plan = _with_absolute_paths(plan)
    out, master = Path(plan.out), os.environ.get("RANK", "0") == "0"
    out.mkdir(parents=True, exist_ok=True)
    _claim_folder(plan, write=master)
    if (out / "model" / models.CONFIG_NAME).is_file():
        return out / "model"
    if plan.architecture is not None:
        models.register_architecture(plan.model, plan.architecture)
    models.architecture(plan.model)
    for table in filter(None, (plan.train_table, plan.val_table)):
        Pairs.find_missing(Path(table), plan)
    os.chdir(out)
    _train(plan, compose_arguments(plan, out.name))
    if master:
        bundle = models.load_open_clip(out / f"checkpoints/epoch_{plan.use_epoch}.pt", model=plan.model)
        models.save_weights(bundle, out / "model")
        (out / LATEST).unlink(missing_ok=True)
    return out / "model"


def _with_absolute_paths(plan: Plan) -> Plan:
    places = {key: getattr(plan, key) for key in ("out", "train_table", "val_table", "media_root")}
    if plan.weights and Path(plan.weights).exists():
        places["weights"] = plan.weights
    return plan.model_copy(update={key: str(Path(value).resolve()) for key, value in places.items() if value})


def _claim_folder(plan: Plan, *, write: bool) -> None:
    """Note the plan in the folder; raises ConfigError if another one is noted there."""
    path, recipe = Path(plan.out) / "plan.json", plan.model_dump(mode="json", exclude=PLACES)
    if path.is_file():
        noted = files.read_json(path)
        other = sorted(key for key in recipe.keys() | noted.keys() if recipe.get(key) != noted.get(key))
        if other:
            key = other[0]
            raise ConfigError(
                f"{plan.out}: holds a training of another plan ({key} {noted.get(key)} there, {recipe.get(key)} now); choose an empty folder"
            )
    elif write:
        files.write_json(path, recipe)


def _train(plan: Plan, arguments: list[str]) -> None:
    """Run the trainer to the end of its schedule or to the used epoch, with our parts in place of its own."""
    from open_clip_train import data, main

    epochs = _Epochs(plan, plan.epochs if plan.run_all else plan.use_epoch, main.train_one_epoch)
    parts = [
        (data, "CsvDataset", functools.partial(Pairs, plan)),
        (main, "create_model_and_transforms", functools.partial(_create, plan, main.create_model_and_transforms)),
        (main, "train_one_epoch", epochs),
    ]
    if plan.device == "cpu":
        # DistributedDataParallel refuses device_ids for modules on the CPU; open_clip always gives them.
        parallel = torch.nn.parallel.DistributedDataParallel
        # The plain loop over parameters costs a sixth of a small model's step; the fused one computes the same.
        parts.append((main, "optim", SimpleNamespace(AdamW=functools.partial(torch.optim.AdamW, fused=True))))
        parts.append((torch.nn.parallel, "DistributedDataParallel", lambda model, device_ids, **extra: parallel(model, **extra)))
    with _replaced(parts):
        try:
            main.main(arguments)
        except _EnoughEpochs:
            pass
        finally:
            if epochs.writer is not None:
                epochs.writer.close()  # open_clip leaves that to the end of the interpreter
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def _replaced(parts: list[tuple[ModuleType, str, object]]) -> Iterator[None]:
    """Names of modules standing for other objects while the block runs."""
    before = [(module, name, getattr(module, name)) for module, name, _ in parts]
    for module, name, value in parts:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _create(plan: Plan, original: Callable, name: str, pretrained: str, **settings: object) -> tuple:
    """open_clip's create_model_and_transforms, with checked weights and the padding composed in front of both transforms."""
    local = plan.weights if plan.weights and Path(plan.weights).exists() else None
    with models.quiet():
        model, train, evaluate = original(name, "" if local else pretrained, **settings)
    if local:
        path = Path(local) / models.WEIGHTS_NAME if Path(local).is_dir() else Path(local)
        logger.info("Loading pretrained %s weights (%s).", name, pretrained)
        models.load_state(model, _start_state(plan, path, model), str(path), name)
    models.read_to_end_token(model)
    return model, pictures.with_padding(train, plan.padding), pictures.with_padding(evaluate, plan.padding)


def _start_state(plan: Plan, path: Path, model: torch.nn.Module) -> dict[str, Tensor]:
    """The starting weights, made fit for the loss where they were trained with the other one."""
    state = models.read_state(path)
    if plan.loss == "clip":
        # A bias adds the same to every logit; the softmax loss does not see it.
        state.pop("logit_bias", None)
    elif "logit_bias" not in state:
        # The temperature of the softmax loss saturates the sigmoid; start both scalars where SigLIP does.
        state["logit_scale"] = model.logit_scale.detach().cpu()
    return state


@dataclass
class _Epochs:
    """Stands for open_clip's train_one_epoch: random numbers of the epoch's own, and an end after the last epoch wanted."""

    plan: Plan
    last: int
    original: Callable
    writer: object = None

    def __call__(self, *given: object, **named: object) -> None:
        """Train one epoch; `given` begins with model, data, loss and epoch."""
        data, epoch = given[1], given[3]
        if self.writer is None and named.get("tb_writer") is not None:
            self.writer = named["tb_writer"]
            _drop_later_results(Path("checkpoints/results.jsonl"), epoch)
        if epoch >= self.last:
            raise _EnoughEpochs
        _seed_epoch(self.plan.seed, epoch, int(os.environ.get("RANK", "0")))
        if isinstance(data["train"].sampler, DistributedSampler):
            data["train"].sampler.seed = self.plan.seed  # with several processes open_clip shuffles by epoch alone
        self.original(*given, **named)


def _seed_epoch(seed: int, epoch: int, rank: int) -> None:
    number = int.from_bytes(hashlib.sha256(f"{seed}/{epoch}/{rank}".encode()).digest()[:4], "big")
    torch.manual_seed(number)
    np.random.seed(number)
    random.seed(number)


def _drop_later_results(path: Path, epoch: int) -> None:
    """Take validations out of results.jsonl that belong to an epoch which was cut off before it was saved and is trained again."""
    if path.is_file():
        files.write_text(path, "".join(json.dumps(row) + "\n" for row in files.read_jsonl(path) if row["epoch"] <= epoch))


class Pairs(Dataset):
    """Pairs of picture (3, S, S) and token ids (77,) of a table, in its order; takes the place of open_clip's CsvDataset."""

    def __init__(self, plan: Plan, input_filename: str, transforms: Callable, *, tokenizer: Callable, sep: str, **_: object) -> None:
        rows = tables.read_table(Path(input_filename), separator=sep).rows
        self.paths = [media_path(plan, row.filepath) for row in rows]
        self.captions = [row.title for row in rows]
        self.transforms, self.tokenizer = transforms, tokenizer

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transforms(pictures.read_picture(self.paths[index])), self.tokenizer([self.captions[index]])[0]

    @staticmethod
    def find_missing(table: Path, plan: Plan) -> None:
        """Raises DataError if the table has fewer rows than a batch, and MissingInput if one of its pictures is not there."""
        rows = tables.read_table(table).rows
        batch = plan.batch_size * plan.accum_freq * int(os.environ.get("WORLD_SIZE", "1"))
        if str(table) == plan.train_table and len(rows) < batch:
            raise DataError(f"{table}: {len(rows)} rows, fewer than one batch of {batch}; bring more pictures or lower batch_size")
        absent = [path for path in (media_path(plan, row.filepath) for row in rows) if not path.is_file()]
        if absent:
            raise MissingInput(
                f"{table}: {len(absent)} of its {len(rows)} pictures are not there, the first is {absent[0]}; run 01-data-prep again"
            )


def media_path(plan: Plan, filepath: str) -> Path:
    """The picture a table means: `media_prefix` at the front of its filepath stands for the media root."""
    front = plan.media_prefix.rstrip("/") + "/"
    if not filepath.startswith(front):
        raise DataError(f"picture path {filepath!r} does not begin with {front!r}, which stands for {plan.media_root}")
    return Path(plan.media_root) / filepath.removeprefix(front)


def main(arguments: list[str]) -> int:
    """Run the plan of PLAN.json; returns the exit status. Errors a user can act on are one line on stderr."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m lib.submissions.a3r.contrastive PLAN.json\n")
        return 2
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(max(1, runtime.threads() // here))
    out = ""
    try:
        plan = read_plan(Path(arguments[0]))
        out = plan.out
        finetune(plan)
    except KitError as error:
        # An error inside a loader worker arrives wrapped into its traceback; the last line is ours.
        sys.stderr.write(f"{str(error).splitlines()[-1].removeprefix(f'{type(error).__module__}.{type(error).__name__}: ')}\n")
        return 1
    except (OSError, RuntimeError) as error:
        if not out or shutil.disk_usage(out).free > 2**20:
            raise
        sys.stderr.write(f"{files.disk_full(OSError(28, str(error)), Path(out))}\n")
        return 1
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    # The trainer sets every logger to INFO; torch would print its cache counts behind the one line that says what went wrong.
    logging.disable(logging.INFO)
    sys.exit(status)
