"""04 of mini: train in a child program, which an earlier attempt's checkpoint lets continue."""

from lib import files, launch
from lib.config import StageSettings
from lib.runs import Run

READS = ("augmentation",)
SETTINGS = ("model",)

PROGRAM = "lib.submissions.mini.training"


def train(cfg: StageSettings, run: Run) -> list[float]:
    """Train, export and return the weights."""
    plan = run.out / "checkpoints" / "plan.json"
    recipe = {**cfg.finetune.model_dump(), **cfg.machine.model_dump(), "seed": cfg.seed}
    files.write_json(plan, {**recipe, "out": str(run.out), "samples": str(run.of("augmentation") / "samples.json")})
    launch.run(launch.command(PROGRAM, [str(plan)], processes=1), run.out / "train.log", watch=lambda: None, label="training")
    return files.read_json(run.out / "model" / "weights.json")
