"""07 of mini: the one claim beside the one score, and a report in one line."""

from lib import claims, config, files
from lib.runs import Run

READS = ("finetune", "infer", "evaluate")
SETTINGS = ("infer", "evaluate")


def write_review(run: Run) -> list[str]:
    """Write the claim with the measured score, and the report."""
    book = claims.read_claims(config.config_file(run.submission).with_name("claims.yaml"))
    scores = claims.read_scores(run.of("evaluate") / "metrics.json")
    rows = [{"claim": one.id, "published": one.value, "measured": scores[0].value} for one in book.claims]
    files.write_json(run.out / "claims.json", rows)
    files.write_text(run.out / "report.html", f"<p>{run.submission}: {scores[0].value}</p>\n")
    return ["claims.json", "report.html"]
