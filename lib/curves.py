"""Reads what an open_clip training leaves behind - out.log, params.txt, results.jsonl, TensorBoard - into one record of curves.

Made for the published runs of a3r as well as our own: the log format is the same from open_clip 2.17.1 to 3.3.0. The text log
prints the learning rate as 0.000000, so it is taken from TensorBoard. A resumed training appends to the same files; what the
later attempt repeated replaces what the earlier one had written. Lines that are damaged are counted.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from lib import files
from lib.errors import DataError, MissingInput

FLOAT = r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|nan|inf)"
HEAD = re.compile(r"(?P<time>\d{4}-\d\d-\d\d,\d\d:\d\d:\d\d) \| (?P<level>[A-Z]+) \| (?P<message>.*)", re.DOTALL)
START = re.compile(r"Start epoch (?P<epoch>\d+)")
TRAIN = re.compile(
    rf"Train Epoch: (?P<epoch>\d+) \[ *(?P<samples>\d+)/(?P<samples_per_epoch>\d+) \((?P<percent>\d+)%\)\] "
    rf"Data \(t\): (?P<data_time>{FLOAT}) Batch \(t\): (?P<batch_time>{FLOAT}), (?P<samples_per_second>{FLOAT})/s, "
    rf"(?P<samples_per_second_per_gpu>{FLOAT})/s/gpu LR: (?P<lr>{FLOAT}) Logit Scale: (?P<logit_scale>{FLOAT})"
    rf"(?P<losses>(?: \w+: {FLOAT} \({FLOAT}\))+)"
)
LOSS = re.compile(rf"(\w+): ({FLOAT}) \(({FLOAT})\)")
PROGRESS = re.compile(rf"Eval Epoch: (?P<epoch>\d+) \[(?P<samples>\d+) / (?P<samples_per_epoch>\d+)\]\tClip Loss: (?P<loss>{FLOAT})\t?")
SUMMARY = re.compile(r"Eval Epoch: \d+ (?P<metrics>[^\t:]+: \S+(?:\t[^\t:]+: \S+)*)")
METRIC = re.compile(r"([^\t:]+): (-?\d+\.\d{4}|nan|inf)")  # four decimals: a value cut short is damage, not another number
PARAM = re.compile(r"  (\w+): (.*)")
RUN_NAME = re.compile(
    r"(?P<time>\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d)-model_(?P<model>.+)-lr_(?P<lr>[^-]+(?:e-\d+)?)-b_(?P<batch>\d+)"
    r"-j_(?P<workers>\d+)-p_(?P<precision>\w+)"
)
WHOLE = {"epoch", "samples", "samples_per_epoch", "percent"}
DIED, STOPPED, FINISHED = "died before epoch 0", "stopped", "finished"


@dataclass(frozen=True)
class TrainPoint:
    """One logged training step: `step` from 0, `loss` of that batch, `lr` as TensorBoard has it."""

    step: int
    epoch: int
    loss: float
    loss_mean: float | None = None  # running mean over the logged steps of the epoch
    lr: float | None = None
    scale: float | None = None  # the logit scale, exp of the learned temperature
    samples_per_second: float | None = None


@dataclass(frozen=True)
class Validation:
    """The validation after `epoch` finished epochs (a part of one counts as such), and the most exact file it was found in."""

    epoch: float
    metrics: Mapping[str, float]
    source: str


@dataclass(frozen=True)
class OutLog:
    """An out.log: its events in order, the settings it prints, and the numbers of the lines that are damaged."""

    events: tuple[dict, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    times: tuple[str, str] | None = None  # of the first and the last line that carry one
    last_message: str = ""  # of the last line with a time; what follows it are continuation lines
    damaged: tuple[int, ...] = ()


@dataclass(frozen=True)
class RunCurves:
    """A training run as far as its files tell it."""

    name: str
    params: Mapping[str, str]
    train: tuple[TrainPoint, ...]
    validations: tuple[Validation, ...]
    state: str  # DIED, STOPPED or FINISHED
    evidence: str
    samples_per_epoch: int | None = None
    steps_per_epoch: int | None = None
    times: tuple[str, str] | None = None
    damaged: int = 0  # damaged lines of out.log and results.jsonl
    replaced: int = 0  # points of an earlier attempt that a resumed one repeated
    disagreements: tuple[str, ...] = ()  # where two files give different numbers for the same thing

    def epochs(self) -> list[float]:
        """The position of each training point in epochs; steps where the length of an epoch is not known."""
        return [(point.step + 1) / (self.steps_per_epoch or 1) for point in self.train]

    def metric(self, name: str) -> list[tuple[float, float]]:
        """(epoch, value) of one validation metric, in order."""
        return [(found.epoch, found.metrics[name]) for found in self.validations if name in found.metrics]

    @property
    def fate(self) -> str:
        """State and evidence in one line."""
        return f"{self.state}: {self.evidence}"


def read_run_name(name: str) -> dict[str, str]:
    """The fields of an open_clip run name: time, model, lr, batch, workers, precision. Raises DataError for another form."""
    found = RUN_NAME.fullmatch(name)
    if not found:
        raise DataError(f"{name!r} is no open_clip run name; YYYY_MM_DD-HH_MM_SS-model_M-lr_L-b_B-j_W-p_P expected")
    return found.groupdict()


def read_log_line(line: str) -> dict | None:
    """The fields of a line that starts an epoch, logs a step or validates (`kind` says which); None for any other line.

    Raises DataError for a line that announces one of these and breaks off or is garbled.
    """
    head = HEAD.fullmatch(line.rstrip("\r\n"))
    message = head["message"] if head else line
    if not any(mark in message for mark in ("Start epoch", "Train Epoch:", "Eval Epoch:")):
        return None
    # An evaluation prints progress and summary with the same first words; the brackets tell them apart.
    for kind, pattern in (("start_epoch", START), ("train", TRAIN), ("eval", PROGRESS), ("eval_summary", SUMMARY)):
        found = pattern.fullmatch(message) if head else None
        if found:
            return {"kind": kind, "time": head["time"], **_fields(kind, found, line)}
    raise DataError(f"damaged log line: {line.strip()[:80]!r}")


def _fields(kind: str, found: re.Match, line: str) -> dict:
    """The numbers of one parsed line under the names open_clip logs them by."""
    if kind == "eval_summary":
        # The last two metrics open_clip prints are epoch and num_samples: without them the line was cut at a tab.
        pairs = [METRIC.fullmatch(part) for part in found["metrics"].split("\t")]
        metrics = {pair[1]: float(pair[2]) for pair in pairs if pair}
        if None in pairs or not {"epoch", "num_samples"} <= set(metrics):
            raise DataError(f"damaged log line: {line.strip()[:80]!r}")
        return metrics
    fields = {name: int(text) if name in WHOLE else float(text) for name, text in found.groupdict().items() if name != "losses"}
    for name, value, mean in LOSS.findall(found.groupdict().get("losses") or ""):
        fields |= {name.lower(): float(value), f"{name.lower()}_avg": float(mean)}
    return fields


def read_out_log(path: Path) -> OutLog:
    """Read an out.log. Damaged lines (cut off, garbled, not text) are left out and numbered in `damaged`."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    events, params, stamps, damaged, last = [], {}, [], [], ""
    # A crash may leave bytes that are no text (a sparse tail after power loss); they are damage to count, not a reason to stop.
    for number, line in enumerate(path.read_bytes().decode("utf-8", errors="replace").split("\n"), start=1):
        if "\ufffd" in line or "\0" in line:
            damaged.append(number)
            continue
        try:
            event = read_log_line(line)
        except DataError:
            damaged.append(number)
            continue
        head = HEAD.fullmatch(line.rstrip("\r"))
        if head:
            stamps.append(head["time"])
            last = head["message"].strip()
        if event:
            events.append(event)
        param = PARAM.fullmatch(head["message"]) if head else None
        if param:
            params[param[1]] = param[2]
    times = (stamps[0], stamps[-1]) if stamps else None
    return OutLog(tuple(events), params, times, last, tuple(damaged))


def read_params(path: Path) -> dict[str, str]:
    """The settings in a params.txt (`name: value` per line), all as text. Raises DataError naming file and line."""
    return parse_params(files.read_text(path), str(path))


def parse_params(text: str, place: str) -> dict[str, str]:
    """The settings in the text of a params.txt; `place` is named in errors."""
    params = {}
    for number, line in enumerate(text.splitlines(), start=1):
        name, colon, value = line.partition(":")
        if line.strip() and not colon:
            raise DataError(f"{place}:{number}: {line!r} is no setting; `name: value` expected")
        if line.strip():
            params[name] = value.removeprefix(" ")
    return params


def read_results_jsonl(path: Path) -> tuple[list[dict], int]:
    """The validations in a results.jsonl, the last one per epoch, and how many damaged lines were left out."""
    rows: dict[int, dict] = {}
    damaged = 0
    for line in files.read_text(path).splitlines():
        try:
            row = json.loads(line) if line.strip() else {}
        except json.JSONDecodeError:
            damaged += 1
            continue
        if isinstance(row, dict) and "epoch" in row:
            rows[int(row["epoch"])] = row
        elif line.strip():
            damaged += 1
    return [rows[epoch] for epoch in sorted(rows)], damaged


def read_tensorboard(folder: Path) -> dict[str, dict[int, float]]:
    """Scalars per tag and step of the event files in a folder; a later attempt replaces the steps it repeats and those after."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # 1 s to import: only when asked

    scalars: dict[str, dict[int, float]] = {}
    # The names carry the start time, so that the order of names is the order of attempts.
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        # 0 keeps every scalar; the default would thin them out. What an attempt orphaned is purged below, by our own rule.
        events = EventAccumulator(str(path), size_guidance={"scalars": 0}, purge_orphaned_data=False)
        events.Reload()
        for tag in events.Tags()["scalars"]:
            pairs = [(event.step, event.value) for event in events.Scalars(tag)]
            scalars[tag] = _continued(scalars.get(tag, {}), pairs)
    return scalars


def _continued(known: dict[int, float], pairs: Iterable[tuple[int, float]]) -> dict[int, float]:
    """The values with those of a further attempt; a step that comes again takes back itself and everything after it."""
    for step, value in pairs:
        if known and step <= next(reversed(known)):
            known = {earlier: kept for earlier, kept in known.items() if earlier < step}
        known[step] = value
    return known


def read_run_folder(folder: Path) -> RunCurves:
    """Read an open_clip run folder: out.log, params.txt, results.jsonl (beside it or in checkpoints/) and tensorboard/.

    Any of them may be missing as long as a log or TensorBoard is there. Raises MissingInput naming what was looked for.
    """
    results = next((path for path in (folder / "checkpoints/results.jsonl", folder / "results.jsonl") if path.is_file()), None)
    board = read_tensorboard(folder / "tensorboard") if (folder / "tensorboard").is_dir() else {}
    if not (folder / "out.log").is_file() and not board:
        raise MissingInput(f"{folder}: neither out.log nor tensorboard/ is there; name the folder of a training run")
    log = read_out_log(folder / "out.log") if (folder / "out.log").is_file() else OutLog()
    params = read_params(folder / "params.txt") if (folder / "params.txt").is_file() else dict(log.params)
    rows, damaged = read_results_jsonl(results) if results else ([], 0)
    found = assemble(params.get("name") or folder.name, params, log, rows, board)
    return replace(found, damaged=found.damaged + damaged)


def assemble(
    name: str, params: Mapping[str, str], log: OutLog, results: Iterable[dict], board: Mapping[str, Mapping[int, float]]
) -> RunCurves:
    """Put the parts of a run together: steps from sample counts, lr from TensorBoard, the most exact validation of each epoch."""
    events, replaced = _last_attempt(log.events)
    per_step = _integer(params, "batch_size", 1) * _integer(params, "accum_freq", 1) * _integer(params, "world_size", 1)
    steps = [event for event in events if event["kind"] == "train"]
    samples = steps[-1]["samples_per_epoch"] if steps else None
    length = samples // per_step if samples else None  # drop_last: an incomplete batch is no step (specs/a3r.md, 4.2)
    train = _train_points(steps, per_step, length, board) if steps else _board_points(board)
    validations, disagreements = _validations(events, results, board)
    # NOTE: the printed percentage is rounded and reaches 100 before the last step; the sample count does not.
    whole = max((event["epoch"] + 1 for event in steps if event["samples"] + per_step > event["samples_per_epoch"]), default=0)
    state, evidence = _fate(params, log, events, max([whole] + [found.epoch for found in validations]))
    shared = {"times": log.times, "damaged": len(log.damaged), "replaced": replaced, "disagreements": tuple(disagreements)}
    return RunCurves(name, dict(params), tuple(train), tuple(validations), state, evidence, samples, length, **shared)


def _integer(params: Mapping[str, str], name: str, otherwise: int) -> int:
    text = params.get(name, "")
    return int(text) if text.isdigit() else otherwise


def _last_attempt(events: Iterable[dict]) -> tuple[list[dict], int]:
    """The events of the attempts that count: starting an epoch again takes back everything logged from that epoch on."""
    kept: list[dict] = []
    replaced = 0
    for event in events:
        if event["kind"] == "start_epoch":
            # A validation after epoch k is labelled k + 1, a training line of epoch k is labelled k.
            limit = {"start_epoch": event["epoch"], "train": event["epoch"]}
            still = [old for old in kept if old["epoch"] < limit.get(old["kind"], event["epoch"] + 1)]
            replaced += sum(old["kind"] in ("train", "eval_summary") for old in kept) - sum(
                old["kind"] in ("train", "eval_summary") for old in still
            )
            kept = still
        kept.append(event)
    return kept, replaced


def _train_points(steps: list[dict], per_step: int, length: int | None, board: Mapping) -> list[TrainPoint]:
    rates = board.get("train/lr", {})
    points = []
    for event in steps:
        step = event["epoch"] * (length or 0) + event["samples"] // per_step - 1
        facts = event["loss"], event["loss_avg"], rates.get(step), event["logit_scale"], event["samples_per_second"]
        points.append(TrainPoint(step, event["epoch"], *facts))
    return points


def _board_points(board: Mapping[str, Mapping[int, float]]) -> list[TrainPoint]:
    """Training points where only TensorBoard is left; it does not say which epoch a step belongs to, so all count as epoch 0."""
    tags = [board.get(f"train/{tag}", {}) for tag in ("lr", "scale", "samples_per_second")]
    return [TrainPoint(step, 0, loss, None, *(tag.get(step) for tag in tags)) for step, loss in board.get("train/loss", {}).items()]


def _validations(events: list[dict], results: Iterable[dict], board: Mapping) -> tuple[list[Validation], list[str]]:
    """One validation per epoch from the most exact file, and where a file contradicts the log's four digits."""
    logged = {int(event["epoch"]): event for event in events if event["kind"] == "eval_summary"}
    by_file: dict[str, dict[int, dict]] = {"tensorboard": {}, "results.jsonl": {int(row["epoch"]): row for row in results}}
    for tag, values in board.items():
        for epoch, value in values.items() if tag.startswith("val/") else ():
            by_file["tensorboard"].setdefault(epoch, {})[tag.removeprefix("val/")] = value
    found = {epoch: Validation(epoch, _metrics(event), "out.log") for epoch, event in logged.items()}
    disagreements = []
    for source, rows in by_file.items():
        for epoch, row in rows.items():
            if logged and epoch not in logged:
                continue  # of an attempt that was taken back, or validated after the log broke off
            metrics = _metrics(row)
            known = found[epoch].metrics if epoch in found else {}
            # The log rounds to four decimals; half a unit more for the rounding of a half.
            wrong = [name for name, value in metrics.items() if name in known and abs(value - known[name]) > 1e-4]
            disagreements += [f"epoch {epoch} {name}: {source} {metrics[name]:.4f}, before {known[name]:.4f}" for name in wrong]
            found[epoch] = Validation(epoch, {**known, **metrics}, source)
    return [found[epoch] for epoch in sorted(found)], disagreements


def _metrics(row: Mapping) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if name not in ("kind", "time", "epoch")}


def _fate(params: Mapping[str, str], log: OutLog, events: list[dict], done: int) -> tuple[str, str]:
    """What became of the run, and the line or count that says so; `done` is the number of finished epochs."""
    started = [event["epoch"] for event in events if event["kind"] == "start_epoch"]
    steps = [event for event in events if event["kind"] == "train"]
    if not started and not steps and not done:
        return DIED, f"no 'Start epoch' in the log; its last message is {log.last_message[:60]!r}"
    if not steps and not done:
        return STOPPED, f"'Start epoch {started[-1]}' was logged and no step after it"
    planned = _integer(params, "epochs", 0)
    last = f"last logged step at {steps[-1]['percent']} % of epoch {steps[-1]['epoch']}" if steps else "no step in the log"
    return (FINISHED if planned and done >= planned else STOPPED), f"{done} of {planned or 'unknown'} planned epochs done; {last}"


def curves_record(run: RunCurves) -> dict:
    """The run as plain JSON values; `curves_from_record` reads it back."""
    return asdict(run)


def curves_from_record(record: Mapping) -> RunCurves:
    """The run that `curves_record` wrote."""
    train = tuple(TrainPoint(**point) for point in record["train"])
    validations = tuple(Validation(**found) for found in record["validations"])
    times = tuple(record["times"]) if record.get("times") else None
    disagreements = tuple(record.get("disagreements", ()))
    return RunCurves(**{**record, "train": train, "validations": validations, "times": times, "disagreements": disagreements})
