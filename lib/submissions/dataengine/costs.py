"""What the published recipe of dataengine needs: GPU memory and disk from the parameters, hours from the READMEs.

Eight A100 need about 20 hours for the one epoch over mix and records; nothing was measured by us at full size, so every figure is an
estimate and says what it rests on.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib.submissions.dataengine.settings import Settings

GIB = 2**30
BF16, MASTER = 2, 12  # bytes of a weight; of its float32 copy and Adam's two moments
BYTES = {"nf4": 0.5, "bf16": 2, "fp32": 4}  # of a weight in inference
# By the geometry of Vicuna-7B and CLIP ViT-L/14-336 (claims.yaml).
ADAPTER_PER_RANK, PROJECTOR, TOWER = 2_498_560, 20_979_712, 303_507_456
PUBLISHED_GPU_HOURS = {
    "lora": 20 * 8,  # README: 8xA100, about 20 h
    "full": 20 * 8,  # nobody says; LLaVA's own README gives 10 h for the mix without records
    "projector": 3.5 * 8,  # LLaVA's README: 8xA100, about 3.5 h for 558 thousand captions
}
# Questions of each benchmark; those that the specification does not give are assumed.
QUESTIONS = {
    "seed": 14_200, "mmbench": 4_377, "mme": 2_400, "gqa": 12_578, "vqav2": 107_394, "vqav2_val": 214_000, "scienceqa": 4_241,
    "pope": 9_000, "textvqa": 5_000, "vizwiz": 8_000, "mm-vet": 218, "llava-bench": 60, "aokvqa": 1_100,
    "okvqa": 5_046, "vizwiz_val": 4_319, "vsr": 1_222,
}  # fmt: skip
# Assumed, on one A100: reading a picture and its question, and the steps of a short answer, which a batch shares.
READING, ANSWERING = 0.06, 0.25


def estimate(settings: "Settings", gpus: int) -> list[dict]:
    """Rows for `lib.plan.Cost`; GPU memory is per GPU, hours are on `gpus` GPUs. Empty where the parameters are not known."""
    base = settings.model.parameters
    if base is None:
        return []
    shards = min(gpus, settings.machine.shards)
    merged = 0 if settings.infer.checkpoint is None else base * BYTES["fp32" if settings.infer.precision == "fp32" else "bf16"] / GIB
    questions = sum(QUESTIONS[name] for name in settings.infer.benchmarks)
    seconds = READING + ANSWERING / settings.machine.batch
    return [
        _finetune(settings, gpus),
        _row(
            "infer",
            base * BYTES[settings.infer.precision] / GIB,
            0.1 + merged,
            questions * seconds / shards / 3600,
            f"{settings.infer.precision} weights on each GPU; {questions:,} questions, {seconds:.2f} s each assumed",
        ),
    ]


def _finetune(settings: "Settings", gpus: int) -> dict:
    """The row of the training: only what trains has gradients and states and is in checkpoints; the whole model is written once, at the end."""
    recipe, base = settings.finetune, settings.model.parameters
    adapters = ADAPTER_PER_RANK * recipe.lora.r if recipe.method == "lora" else 0
    trained = {"lora": adapters + PROJECTOR, "full": base - TOWER, "projector": PROJECTOR}[recipe.method]
    weights, states = (base + adapters) * BF16 / GIB, trained * (BF16 + MASTER) / GIB
    # ZeRO-2 shares gradients and states among the GPUs, ZeRO-3 the weights as well.
    each = {"none": weights + states, "zero2": weights + states / gpus, "zero3": (weights + states) / gpus}[recipe.deepspeed]
    hours = PUBLISHED_GPU_HOURS[recipe.method] * recipe.epochs / gpus
    return _row(
        "finetune",
        each,
        base * BF16 / GIB + (recipe.keep_checkpoints + 1) * trained * BF16 / GIB + states,
        hours,
        f"weights and states of {trained:,} trained parameters, {recipe.deepspeed} on {gpus} GPU(s), no activations; "
        f"{PUBLISHED_GPU_HOURS[recipe.method]:g} GPU hours an epoch by the READMEs",
    )


def _row(stage: str, gpu_gib: float, disk_gib: float, hours: float, basis: str) -> dict:
    return {"stage": stage, "gpu_gib": round(gpu_gib, 1), "disk_gib": round(disk_gib, 1), "hours": round(hours, 2), "basis": basis}
