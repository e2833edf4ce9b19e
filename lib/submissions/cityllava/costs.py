"""What the published recipe of cityllava needs: GPU memory and disk from the parameters, hours from the README.

Eight A100 need about eight hours for one epoch by the README; nothing was measured by us at full size, so every figure is an
estimate and says what it rests on.
"""

from lib.submissions.cityllava.settings import Settings

GIB = 2**30
BF16, MASTER = 2, 12  # bytes of a weight; of its float32 copy and Adam's two moments
LAYER, HEAD = 557_856_768, 458_752_000  # parameters, by the geometry of Yi-34B (claims.yaml)
LAYERS = 60
PUBLISHED_GPU_HOURS = 8 * 8  # README: 8xA100, about 8 h, blocks recipe, one epoch
SECONDS_PER_CLIP = 60  # assumed: two answers of 150 tokens by 41 billion parameters in four bits
TEST_CLIPS = 5 * (155 + 496)  # assumed: scenarios of the public test set and of its BDD part


def estimate(settings: Settings, gpus: int) -> list[dict]:
    """Rows for `lib.plan.Cost`; GPU memory is per GPU, hours are on `gpus` GPUs. Empty where the parameters are not known."""
    base = settings.model.parameters
    if base is None:
        return []
    inserted = settings.block_expansion.new_blocks * LAYER
    weights = (base + inserted) * BF16 / GIB
    recipe = settings.finetune
    trained = {"blocks": inserted + HEAD, "lora": 0.02 * base, "full": base}[recipe.method]
    states = trained * (BF16 + MASTER) / GIB  # gradients, and what the optimiser keeps
    sharded = gpus if recipe.deepspeed == "zero3" else 1
    hours = PUBLISHED_GPU_HOURS * recipe.epochs / gpus
    in_memory = weights / (4 if settings.infer.precision == "nf4" else 1)
    shards = min(gpus, settings.machine.shards)
    return [
        _row("block_expansion", 0.0, weights, 0.5, "two bytes per parameter; the base is read once, shard by shard"),
        _row(
            "finetune",
            (weights + states) / sharded,
            (recipe.keep_checkpoints + 1) * weights + states,
            hours,
            f"weights and optimiser states over {sharded} GPU(s), no activations; the README's 64 GPU hours for an epoch of the blocks recipe",
        ),
        _row(
            "infer",
            in_memory,
            0.1,
            TEST_CLIPS * SECONDS_PER_CLIP / settings.machine.batch / shards / 3600,
            f"{settings.infer.precision} weights on each GPU; {SECONDS_PER_CLIP} s a clip assumed, {settings.machine.batch} clips at a time",
        ),
    ]


def _row(stage: str, gpu_gib: float, disk_gib: float, hours: float, basis: str) -> dict:
    return {"stage": stage, "gpu_gib": round(gpu_gib, 1), "disk_gib": round(disk_gib, 1), "hours": round(hours, 2), "basis": basis}
