"""What the published recipe of a3r needs: GPU memory from the parameters, disk from the counts, hours from the logged speed.

The speed is that of the published run (22.25 samples/s in training on one 80 GB GPU, specs/a3r.md 4.2); ours was never measured at
full size, so every figure is an estimate and says what it rests on.
"""

from lib.submissions.a3r.settings import Settings

GIB = 2**30
FLOAT = 4  # bytes of a weight, a gradient and each of Adam's two moments
SAMPLES_PER_SECOND = 22.25  # TensorBoard of the published run, batch 25
# A forward pass is a third of a training step's arithmetic (forward, and twice that backward).
FORWARD_SPEEDUP = 3
GALLERY = 17611


def estimate(settings: Settings, gpus: int) -> list[dict]:
    """Rows for `lib.plan.Cost`; GPU memory is per GPU, hours are on `gpus` GPUs where the stage can use them.

    Empty where the settings do not say how many rows or parameters there are.
    """
    train, val = settings.data.train_rows, settings.data.val_rows
    if train is None or val is None or settings.model.parameters is None:
        return []
    weights = settings.model.parameters * FLOAT / GIB
    vehicles = train.vehicles + val.vehicles
    pairs = train.vehicles + train.pedestrians
    steps = pairs // settings.finetune.batch_size * settings.finetune.use_epoch
    checkpoints = settings.finetune.use_epoch // settings.finetune.save_frequency + 1  # and the one that a killed run resumes from
    forward = SAMPLES_PER_SECOND * FORWARD_SPEEDUP
    training_hours = steps * settings.finetune.batch_size / SAMPLES_PER_SECOND / 3600 / settings.finetune.processes
    looks = 1 if settings.infer.rerank == "none" else 2  # re-ranking encodes the mirrored pictures as well
    pictures = looks * (GALLERY + val.vehicles + val.pedestrians) + val.vehicles + val.pedestrians  # the last for the validation ranks
    encoded = 2 * pictures  # by the fine-tuned weights and by the base
    speed = f"{SAMPLES_PER_SECOND} samples/s of the published run"
    return [
        _row(
            "augmentation",
            weights,
            0.0,
            vehicles / forward / 3600,
            f"weights in fp32; forward passes at {FORWARD_SPEEDUP} x {speed}",
        ),
        _row(
            "finetune",
            4 * weights,
            weights + checkpoints * 3 * weights,
            training_hours,
            f"weights, gradients, two moments, no activations; {speed}, {steps:,} steps",
        ),
        _row(
            "infer",
            weights,
            0.2,
            encoded / forward / 3600 / min(gpus, settings.machine.shards),
            f"weights in fp32; forward passes at {FORWARD_SPEEDUP} x {speed}",
        ),
    ]


def _row(stage: str, gpu_gib: float, disk_gib: float, hours: float, basis: str) -> dict:
    return {
        "stage": stage,
        "gpu_gib": round(gpu_gib, 1),
        "disk_gib": round(disk_gib, 1),
        "hours": round(hours, 2),
        "basis": basis,
    }
