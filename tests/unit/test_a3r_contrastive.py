"""Fine-tuning through open_clip's own trainer: the published run folder, an early checkpoint, and a kill that changes nothing."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lib import files, models, synthetic
from lib.errors import ConfigError, DataError, MissingInput
from lib.submissions.a3r import contrastive, schedule
from lib.submissions.a3r.contrastive import Plan, check_plan, compose_arguments, finetune, media_path, read_plan

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURE = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
ROWS = 40


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, a train and a val table, and base weights."""
    folder = tmp_path_factory.mktemp("world")
    rng, lines = default_rng(0), []
    (folder / "media/pictures").mkdir(parents=True)
    for number in range(ROWS):
        vehicle = synthetic.random_vehicle(rng, ("Ford", "Kia"))
        synthetic.draw_vehicle(vehicle, rng).save(folder / f"media/pictures/{number}.jpg")
        lines.append(f"data/pictures/{number}.jpg\t{vehicle.colour} {vehicle.brand} {vehicle.type}\n")
    (folder / "train.csv").write_text("filepath\ttitle\n" + "".join(lines))
    (folder / "val.csv").write_text("filepath\ttitle\n" + "".join(lines[:12]))
    models.save_weights(models.build_open_clip(ARCHITECTURE, name="ViT-small", seed=1), folder / "base")
    return folder


def build_plan(world: Path, out: Path, **changes: object) -> Plan:
    recipe = {
        "out": str(out), "train_table": str(world / "train.csv"), "val_table": str(world / "val.csv"), "media_root": str(world / "media"),
        "media_prefix": "data", "model": "ViT-small", "architecture": ARCHITECTURE, "weights": str(world / "base"),
        "padding": "as_published", "loss": "clip", "batch_size": 4, "accum_freq": 1, "lr": 1e-3, "wd": 0.01, "beta1": 0.9, "beta2": 0.98,
        "eps": 1e-6, "warmup_steps": 5, "epochs": 4, "use_epoch": 2, "precision": "fp32", "device": "cpu", "grad_checkpointing": False,
        "grad_clip_norm": None, "int8": "none", "lock_image": False, "lock_text": False, "seed": 0, "workers": 0, "save_frequency": 1,
        "log_every": 1,
    }  # fmt: skip
    return Plan.model_validate({**recipe, **changes})


@pytest.fixture
def as_a_program(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what the trainer, made for a process of its own, leaves changed: working directory, loggers, random numbers."""
    monkeypatch.chdir(ROOT)
    handlers, level = list(logging.root.handlers), logging.root.level
    levels = {name: logging.getLogger(name).level for name in logging.root.manager.loggerDict}
    with torch.random.fork_rng(devices=[]):
        yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def start(plan: Plan, *, processes: int = 1) -> subprocess.Popen:
    path = Path(plan.out).with_suffix(".json")
    files.write_json(path, plan.model_dump(mode="json"))
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"] if processes > 1 else []
    command = [sys.executable, "-m", *torchrun, "lib.submissions.a3r.contrastive", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def run(plan: Plan, *, processes: int = 1) -> Path:
    child = start(plan, processes=processes)
    _, errors = child.communicate(timeout=240)
    assert child.returncode == 0, errors
    return Path(plan.out)


@pytest.fixture(scope="module")
def done(world: Path) -> Path:
    """The run folder of a finished training in a process of its own."""
    return run(build_plan(world, world / "04-finetune"))


# ------------------------------------------------------------------------------------------------------------ the run folder


def test_the_run_folder_is_the_published_one(done: Path):
    found = sorted(str(path.relative_to(done)) for path in done.rglob("*") if path.is_file() and "events" not in path.name)
    assert found == [
        "checkpoints/epoch_1.pt", "checkpoints/epoch_2.pt", "checkpoints/results.jsonl",
        "model/open_clip_config.json", "model/open_clip_model.safetensors", "out.log", "params.txt", "plan.json",
    ]  # fmt: skip
    assert len(list((done / "tensorboard").glob("events.out.tfevents.*"))) == 1


def test_the_export_holds_the_weights_of_the_used_epoch(done: Path):
    digests = [models.weights_digest(done / name) for name in ("model/open_clip_model.safetensors", "checkpoints/epoch_2.pt")]
    assert digests[0] == digests[1] != models.weights_digest(done / "checkpoints/epoch_1.pt")
    assert models.load_open_clip(done / "model").config == ARCHITECTURE


def test_a_checkpoint_has_the_parts_of_the_published_ones(done: Path):
    checkpoint = torch.load(done / "checkpoints/epoch_2.pt", weights_only=True)
    assert list(checkpoint) == ["epoch", "name", "state_dict", "optimizer"]
    assert (checkpoint["epoch"], checkpoint["name"]) == (2, "04-finetune")


def test_params_are_sorted_and_name_no_place_of_this_machine(done: Path, world: Path):
    lines = (done / "params.txt").read_text().splitlines()
    params = dict(line.split(": ", 1) for line in lines)
    assert lines == sorted(lines, key=lambda line: line.split(":")[0])
    assert (params["epochs"], params["lr"], params["warmup"], params["wd"]) == ("4", "0.001", "5", "0.01")
    assert (params["beta1"], params["beta2"], params["eps"]) == ("0.9", "0.98", "1e-06")
    assert (params["train_data"], params["pretrained"]) == ("../train.csv", "../base")
    for name in ("params.txt", "out.log", "plan.json"):
        assert str(world) not in (done / name).read_text()


def test_log_lines_are_those_of_the_trainer(done: Path):
    log = (done / "out.log").read_text()
    assert re.search(r"^\d{4}-\d\d-\d\d,\d\d:\d\d:\d\d \| INFO \| Start epoch 1$", log, re.MULTILINE)
    assert "Loading pretrained ViT-small weights (../base)." in log
    assert "initialized randomly" not in log
    train = re.findall(
        r"Train Epoch: (\d) \[ ?(\d+)/40 \((\d+)%\)\] Data .* LR: 0\.\d+ Logit Scale: \d+\.\d+ Contrastive_loss: .* Loss: .*", log
    )
    assert [(int(epoch), int(seen)) for epoch, seen, _ in train] == [(epoch, 4 * step) for epoch in (0, 1) for step in range(1, 11)]
    assert re.search(r"Eval Epoch: 2 image_to_text_mean_rank: .*\ttext_to_image_R@10: .*\tnum_samples: 12\.0000", log)


def test_validations_and_curves_are_recorded(done: Path):
    results = [json.loads(line) for line in (done / "checkpoints/results.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in results] == [1, 2]
    events = EventAccumulator(str(done / "tensorboard"))
    events.Reload()
    rates = [(event.step, event.value) for event in events.Scalars("train/lr")]
    expected = [(step, schedule.learning_rate(step, peak=1e-3, warmup=5, total=40)) for step in range(20)]
    assert [step for step, _ in rates] == list(range(20)), "training stopped after two of the four epochs"
    assert [rate for _, rate in rates] == pytest.approx([rate for _, rate in expected], rel=1e-5)
    assert [event.step for event in events.Scalars("val/text_to_image_R@1")] == [1, 2]


def test_a_finished_training_is_not_run_again(done: Path, world: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(contrastive, "_train", None)
    assert finetune(build_plan(world, done)) == done / "model"


def test_a_folder_with_a_training_of_another_plan_is_left_alone(done: Path, world: Path):
    with pytest.raises(ConfigError) as error:
        finetune(build_plan(world, done, lr=2e-3))
    assert str(error.value) == f"{done}: holds a training of another plan (lr 0.001 there, 0.002 now); choose an empty folder"


# --------------------------------------------------------------------------------------------------------------- interruption


@pytest.mark.slow
@pytest.mark.parametrize("killed_in", [0, 1])
def test_killed_in_the_middle_of_an_epoch_the_same_command_ends_in_the_same_weights(done: Path, world: Path, killed_in: int):
    plan = build_plan(world, world / f"killed-{killed_in}" / "04-finetune")
    Path(plan.out).parent.mkdir()
    child = start(plan)
    log, middle = Path(plan.out) / "out.log", f"Train Epoch: {killed_in} ["
    deadline = time.monotonic() + 120
    while child.poll() is None and not (log.is_file() and log.read_text().count(middle) >= 3) and time.monotonic() < deadline:
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert "(100%)" not in log.read_text().partition(middle)[2], "the epoch was over before the signal came"
    assert not (Path(plan.out) / "model").exists()
    run(plan)
    weights = [files.sha256_file(folder / "model" / models.WEIGHTS_NAME) for folder in (done, Path(plan.out))]
    assert weights[0] == weights[1]
    results = [(folder / "checkpoints/results.jsonl").read_text() for folder in (done, Path(plan.out))]
    assert results[0] == results[1]


def test_a_validation_of_an_epoch_that_was_not_saved_is_taken_back(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3}\n')
    contrastive._drop_later_results(path, 2)
    assert path.read_text() == '{"epoch": 1}\n{"epoch": 2}\n'
    contrastive._drop_later_results(tmp_path / "none.jsonl", 2)


def test_random_numbers_depend_on_seed_epoch_and_rank_alone():
    def draws(seed: int, epoch: int, rank: int) -> tuple:
        contrastive._seed_epoch(seed, epoch, rank)
        return torch.rand(3).tolist(), np.random.rand(3).tolist()

    with torch.random.fork_rng(devices=[]):
        assert draws(0, 1, 0) == draws(0, 1, 0)
        assert len({str(draws(*which)) for which in ((0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1))}) == 4


# ------------------------------------------------------------------------------------------------------------------- variants


@pytest.mark.usefixtures("as_a_program")
@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "siglip"},
        {"loss": "siglip", "accum_freq": 2},
        {"grad_checkpointing": True},
        {"accum_freq": 2},
        {"precision": "amp_bf16"},
        {"grad_clip_norm": 1.0},
        {"weights": None},
        {"val_table": None},
        {"padding": "none"},
        {"workers": 1},
    ],
    ids=str,
)
def test_every_variant_trains_and_exports(world: Path, tmp_path: Path, changes: dict):
    exported = finetune(build_plan(world, tmp_path / "run", epochs=1, use_epoch=1, **changes))
    model = models.load_open_clip(exported).model
    assert all(torch.isfinite(value).all() for value in model.parameters())
    assert (model.logit_bias is not None) == (changes.get("loss") == "siglip")
    assert models.weights_digest(model) != models.weights_digest(world / "base/open_clip_model.safetensors")


@pytest.mark.usefixtures("as_a_program")
@pytest.mark.parametrize(
    ("lock", "kept", "moved"), [("lock_image", "visual.proj", "text_projection"), ("lock_text", "text_projection", "visual.proj")]
)
def test_a_locked_tower_stays_as_it_was(world: Path, tmp_path: Path, lock: str, kept: str, moved: str):
    exported = finetune(build_plan(world, tmp_path / "run", epochs=1, use_epoch=1, **{lock: True}))
    before, after = (models.read_state(folder / models.WEIGHTS_NAME) for folder in (world / "base", exported))
    assert torch.equal(before[kept], after[kept])
    assert not torch.equal(before[moved], after[moved])


@pytest.mark.usefixtures("as_a_program")
def test_run_all_goes_to_the_end_of_the_schedule_and_exports_the_used_epoch(world: Path, tmp_path: Path, done: Path):
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    exported = finetune(build_plan(world, tmp_path / "run", run_all=True))
    torch.set_num_threads(torch_threads)
    assert (tmp_path / "run/checkpoints/epoch_4.pt").is_file()
    assert models.weights_digest(exported / models.WEIGHTS_NAME) == models.weights_digest(done / "checkpoints/epoch_2.pt")


@pytest.mark.usefixtures("as_a_program")
def test_weights_of_the_sigmoid_loss_can_start_the_softmax_loss(world: Path, tmp_path: Path):
    siglip = models.build_open_clip(ARCHITECTURE, name="ViT-small", siglip=True, seed=1)
    models.save_weights(siglip, tmp_path / "siglip")
    exported = finetune(build_plan(world, tmp_path / "run", weights=str(tmp_path / "siglip"), epochs=1, use_epoch=1))
    assert models.load_open_clip(exported).model.logit_bias is None


@pytest.mark.usefixtures("as_a_program")
def test_the_sigmoid_loss_starts_from_its_own_temperature(world: Path, tmp_path: Path):
    exported = finetune(build_plan(world, tmp_path / "run", loss="siglip", lr=1e-12, epochs=1, use_epoch=1))
    model = models.load_open_clip(exported).model
    assert model.logit_bias.item() == pytest.approx(-10, abs=1e-3)
    assert model.logit_scale.exp().item() == pytest.approx(10, abs=1e-3)


@pytest.mark.usefixtures("as_a_program")
def test_a_released_checkpoint_can_be_the_start(world: Path, tmp_path: Path, done: Path):
    finetune(build_plan(world, tmp_path / "run", weights=str(done / "checkpoints/epoch_1.pt"), epochs=1, use_epoch=1))
    assert "Loading pretrained ViT-small weights" in (tmp_path / "run/out.log").read_text()


@pytest.mark.slow
def test_two_processes_train_together_and_see_a_batch_of_both(world: Path):
    out = run(build_plan(world, world / "two" / "04-finetune", epochs=1, use_epoch=1), processes=2)
    seen = re.findall(r"Train Epoch: 0 \[ ?(\d+)/40", (out / "out.log").read_text())
    assert [int(number) for number in seen] == [8, 16, 24, 32, 40]
    assert models.load_open_clip(out / "model").config == ARCHITECTURE
    assert all(name.startswith("module.") for name in torch.load(out / "checkpoints/epoch_1.pt", weights_only=True)["state_dict"])


# ----------------------------------------------------------------------------------------------------- padding, texts, tables


def test_both_transforms_have_the_padding_in_front(world: Path, tmp_path: Path):
    import open_clip

    models.register_architecture("ViT-small", ARCHITECTURE)
    wide = Image.new("RGB", (40, 20), (255, 255, 255))
    for padding, black in (("as_published", True), ("none", False)):
        plan = build_plan(world, tmp_path, padding=padding)
        _, train, evaluate = contrastive._create(plan, open_clip.create_model_and_transforms, "ViT-small", "../base")
        for transform in (train, evaluate):
            assert bool((transform(wide)[:, 0] < -1).all()) is black  # the first row of pixels


def tables_of(world: Path, tmp_path: Path, *rows: str) -> Plan:
    (tmp_path / "table.csv").write_text("filepath\ttitle\n" + "".join(f"{row}\n" for row in rows))
    return build_plan(world, tmp_path / "run", train_table=str(tmp_path / "table.csv"))


def pairs_of(plan: Plan) -> contrastive.Pairs:
    return contrastive.Pairs(
        plan, plan.train_table, np.asarray, tokenizer=lambda texts: texts, sep="\t", img_key="filepath", caption_key="title"
    )


def test_texts_that_pandas_takes_for_nothing_stay_texts(world: Path, tmp_path: Path):
    pairs = pairs_of(tables_of(world, tmp_path, "data/pictures/0.jpg\tNA", "data/pictures/1.jpg\tNone", "data/pictures/2.jpg\t007"))
    assert len(pairs) == 3
    assert [pairs[index][1] for index in range(3)] == ["NA", "None", "007"]


def test_an_empty_caption_is_refused(world: Path, tmp_path: Path):
    plan = tables_of(world, tmp_path, "data/pictures/0.jpg\tred bus", "data/pictures/1.jpg\t ")
    with pytest.raises(DataError) as error:
        finetune(plan)
    assert str(error.value) == f"{tmp_path / 'table.csv'}:3: empty title; every row needs a picture and a caption"


def test_missing_pictures_are_counted_before_training(world: Path, tmp_path: Path):
    rows = [f"data/pictures/{number}.jpg\tred bus" for number in (0, 1, 2, 98, 99)]
    with pytest.raises(MissingInput) as error:
        finetune(tables_of(world, tmp_path, *rows))
    assert str(error.value) == (
        f"{tmp_path / 'table.csv'}: 2 of its 5 pictures are not there, the first is {world / 'media/pictures/98.jpg'}; run 01-data-prep again"
    )


def test_fewer_rows_than_a_batch_are_refused(world: Path, tmp_path: Path):
    with pytest.raises(DataError) as error:
        finetune(tables_of(world, tmp_path, "data/pictures/0.jpg\tred bus"))
    assert str(error.value) == f"{tmp_path / 'table.csv'}: 1 rows, fewer than one batch of 4; bring more pictures or lower batch_size"


def test_a_path_that_is_not_of_the_published_form_is_refused(world: Path, tmp_path: Path):
    plan = build_plan(world, tmp_path)
    assert media_path(plan, "data/datasets/train/x.jpg") == world / "media/datasets/train/x.jpg"
    with pytest.raises(DataError) as error:
        media_path(plan, "pictures/x.jpg")
    assert str(error.value) == f"picture path 'pictures/x.jpg' does not begin with 'data/', which stands for {world / 'media'}"


# ------------------------------------------------------------------------------------------------------------------- bad plans


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_epoch": 5}, "use_epoch is 5, the schedule has 4 epochs; it must be one of them"),
        (
            {"use_epoch": 3, "save_frequency": 2},
            "epoch 3 is to be used, but only every 2 epochs are saved; set save_frequency to a divisor",
        ),
        (
            {"int8": "SwitchBackLinearGlobal"},
            "int8 is SwitchBackLinearGlobal, which needs an NVIDIA GPU with bitsandbytes and triton; on a CPU it must be none",
        ),
        ({"precision": "amp"}, "precision is amp (fp16 with loss scaling), which needs a GPU; on a CPU it must be fp32 or amp_bf16"),
    ],
)
def test_values_that_do_not_go_together_are_refused(world: Path, tmp_path: Path, changes: dict, message: str):
    with pytest.raises(ConfigError) as error:
        check_plan(build_plan(world, tmp_path, **changes))
    assert str(error.value) == message


def test_the_last_epoch_is_saved_whatever_the_frequency(world: Path, tmp_path: Path):
    check_plan(build_plan(world, tmp_path, use_epoch=4, save_frequency=3))


def test_a_plan_with_an_unknown_key_is_refused(world: Path, tmp_path: Path):
    path = tmp_path / "plan.json"
    files.write_json(path, {**build_plan(world, tmp_path).model_dump(mode="json"), "learning_rate": 1})
    with pytest.raises(ConfigError) as error:
        read_plan(path)
    assert str(error.value) == f"{path}: learning_rate: Extra inputs are not permitted"


def test_arguments_are_the_published_ones(world: Path, tmp_path: Path):
    plan = build_plan(world, tmp_path / "run", loss="siglip", grad_checkpointing=True, lock_image=True, int8="SwitchBackLinearGlobal")
    arguments = compose_arguments(plan, "run")
    given = dict(zip(arguments[::2], arguments[1::2], strict=False))
    expected = {"--dataset-type": "csv", "--csv-separator": "\t", "--csv-img-key": "filepath", "--csv-caption-key": "title"}
    expected |= {
        "--report-to": "tensorboard",
        "--resume": "latest",
        "--use-bnb-linear": "SwitchBackLinearGlobal",
        "--zeroshot-frequency": "0",
    }
    assert expected.items() <= given.items()
    assert arguments[-4:] == ["--save-most-recent", "--siglip", "--grad-checkpointing", "--lock-image"]


@pytest.mark.usefixtures("as_a_program")
def test_weights_of_another_architecture_are_one_line_and_status_1(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    wider = {**ARCHITECTURE, "embed_dim": 16}
    files.write_json(
        tmp_path / "plan.json", build_plan(world, tmp_path / "run", architecture=wider, model="ViT-wider").model_dump(mode="json")
    )
    assert contrastive.main([str(tmp_path / "plan.json")]) == 1
    path = world / "base/open_clip_model.safetensors"
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"{path}: weights of another architecture than ViT-wider: 2 of another shape (text_projection (16, 8) for (16, 16), "
        "visual.proj (16, 8) for (16, 16)); name the model they were trained with"
    )


def test_a_picture_that_is_none_is_named_even_from_a_loader_worker(world: Path, tmp_path: Path):
    (world / "media/pictures/broken.jpg").write_text("not a picture")
    plan = tables_of(world, tmp_path, *(f"data/pictures/{name}.jpg\tred bus" for name in (0, 1, 2, "broken")))
    child = start(plan.model_copy(update={"workers": 1, "val_table": None}))
    _, errors = child.communicate(timeout=240)
    assert child.returncode == 1
    # The last line is what the engine shows of a failed program.
    assert errors.splitlines()[-1] == f"{world / 'media/pictures/broken.jpg'}: not a picture; replace it or take it out of the folder"


def test_a_call_without_a_plan_says_how(capsys: pytest.CaptureFixture):
    assert contrastive.main([]) == 2
    assert capsys.readouterr().err == "usage: python -m lib.submissions.a3r.contrastive PLAN.json\n"
