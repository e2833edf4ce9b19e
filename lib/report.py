"""The report of a run: one HTML file that opens offline, asks nothing of the network, runs no script and claims only what it may.

Everything that is shown is escaped by the template engine; figures travel inside the file. The sentence at the top is made from
the verdicts; a text that says "reproduces" or "confirmed" where no verdict supports it is refused.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2

from lib import claims as ladder
from lib import files, show
from lib.consistency import number
from lib.errors import ConfigError

TEMPLATE = Path(__file__).parent / "report_template.html"
OVERCLAIM = re.compile(
    r"\b(re-?produc(e|es|ed|ing)|re-?producible|replicat\w+|confirm(s|ed|ing)?|verif(ies|ied)|proves?n?|"
    r"match(es|ed)? the (paper|publication|published|original|authors))\b",
    re.IGNORECASE,
)
SHADES = {show.GREEN: "green", show.AMBER: "amber", show.RED: "red", show.GREY: "grey"}


@dataclass(frozen=True)
class StageLine:
    """One row of the stages table; `key` is the identity its result is kept under."""

    stage: str
    status: str
    seconds: float
    key: str


@dataclass(frozen=True)
class ReportPicture:
    """A figure or sample picture (PNG, JPEG or SVG bytes) with its caption."""

    caption: str
    image: bytes = field(repr=False)


@dataclass(frozen=True)
class ReportContent:
    """Everything a report shows, as plain values. What is left empty leaves its section out."""

    title: str
    submission: str
    variant: str
    profile: str
    run: str
    commit: str
    host: str
    started: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)  # more of what this run is: hardware, parent run, entry point
    notes: Sequence[str] = ()  # sentences of the caller, read for overclaims
    stages: Sequence[StageLine] = ()
    verdicts: Sequence[ladder.Verdict] = ()
    checks: Sequence[ladder.CheckResult] = ()
    scores: Sequence[Mapping] = ()  # rows of metrics.json
    references: Sequence[ladder.Reference] = ()  # reference values of the profile
    curves: Sequence[ReportPicture] = ()
    samples: Sequence[ReportPicture] = ()
    quirks: Sequence[tuple[str, str, str]] = ()  # (name, as_published or corrected, what it is)
    versions: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)  # file -> sha256


def write_report(path: Path, content: ReportContent) -> None:
    """Write the report as one self-contained HTML file. Raises ConfigError for an overclaim or a picture it cannot show."""
    files.write_text(path, render(content))


def render(content: ReportContent) -> str:
    """The report as HTML text."""
    for text in (content.title, *content.notes):
        check_wording(text, content.verdicts)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"data_uri": data_uri, "value": show.value_text, "duration": duration}
    findings = [verdict for verdict in content.verdicts if verdict.claim.kind != "structural"]
    facts = [verdict for verdict in content.verdicts if verdict.claim.kind == "structural"]
    return environment.from_string(files.read_text(TEMPLATE)).render(
        content=content,
        summary=summary_sentence(content.verdicts, content.profile),
        # Facts that were merely computed again stay out of the strip: green there would look like scores.
        ladder=[(word, count, _shade(word)) for word, count in ladder.count_verdicts(findings).items()],
        groups=[("Scores and findings", claim_rows(findings)), ("Counts and settings", claim_rows(facts))],
        open_claims=[row for row in content.verdicts if row.word in (ladder.NOT_TESTABLE, ladder.NOT_CONFIRMED)],
        failing=[row for row in content.checks if not row.outcome.holds],
        holding=[row for row in content.checks if row.outcome.holds],
        score_rows=score_rows(content.scores, content.references),
        models=list(dict.fromkeys(row.get("model", ladder.TRAINED) for row in content.scores)),
    )


def claim_rows(verdicts: Sequence[ladder.Verdict]) -> list[dict]:
    """The rows of the claims table: the cells of `show.claims`, the source, and the shade of the verdict."""
    return [
        {
            **show.verdict_row(verdict),
            "shade": _shade(verdict.word),
            "source": verdict.claim.source,
            "suspicious": verdict.suspicious,
        }
        for verdict in verdicts
    ]


def _shade(word: str) -> str:
    return SHADES[show.COLOURS[word]]


def summary_sentence(verdicts: Sequence[ladder.Verdict], profile: str) -> str:
    """What the run showed, from the counts alone: published scores first, then structural facts, then what stays open."""
    if not verdicts:
        return "This report judges no published claim."
    scores = ladder.count_verdicts([verdict for verdict in verdicts if verdict.claim.kind == "number" and verdict.claim.value])
    facts = [verdict for verdict in verdicts if verdict.claim.kind == "structural"]
    recomputed = sum(verdict.word == ladder.REPRODUCED for verdict in facts)
    green = sum(scores[word] for word in ladder.GREEN)
    parts = [f"{word.lower()} {count}" for word, count in scores.items() if count]
    first = f"{green or 'None'} of {sum(scores.values())} published scores {'is' if green < 2 else 'are'} reproduced by this run"
    said = [f"{first} ({', '.join(parts)})." if parts else "The publication states no score."]
    if facts:
        said.append(f"{recomputed} of {len(facts)} published counts and settings were computed again and agree to the printed digit.")
    if profile != "full":
        said.append(f"The {profile} profile tests the machinery on synthetic data; it cannot show any published score to be right.")
    if any(verdict.suspicious for verdict in verdicts):
        said.append("At least one score is suspiciously better than published.")
    return " ".join(said)


def check_wording(text: str, verdicts: Sequence[ladder.Verdict]) -> None:
    """Refuse a text that claims success where no published score came out REPRODUCED or WITHIN NOISE.

    Plain words only: a negated "reproduces" is refused too, as the verdicts say it better. Raises ConfigError.
    """
    found = OVERCLAIM.search(text)
    supported = any(verdict.word in ladder.GREEN and verdict.claim.kind == "number" for verdict in verdicts)
    if found and not supported:
        raise ConfigError(f"a report cannot say {found[0]!r}: no published score is REPRODUCED or WITHIN NOISE; leave it to the verdicts")


def data_uri(image: bytes) -> str:
    """The picture as a data URI. Raises ConfigError for bytes that are neither PNG, JPEG nor SVG."""
    kinds = {b"\x89PNG\r\n": "png", b"\xff\xd8\xff": "jpeg", b"<svg": "svg+xml", b"<?xml": "svg+xml"}
    kind = next((name for mark, name in kinds.items() if image.startswith(mark)), None)
    if kind is None:
        raise ConfigError(f"a report shows PNG, JPEG or SVG pictures, these bytes begin with {image[:8]!r}; save the picture as PNG")
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


def duration(seconds: float) -> str:
    """Seconds for reading: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def score_rows(scores: Sequence[Mapping], references: Sequence[ladder.Reference]) -> list[dict]:
    """One row per benchmark, metric and group: every model's value, the number of items, the trained model's reference band if any."""
    rows: dict[tuple, dict] = {}
    for score in scores:
        key = (score["benchmark"], score["metric"], score.get("group", "all"))
        row = rows.setdefault(key, {"key": key, "values": {}, "n": None, "band": "", "place": ""})
        row["values"][score.get("model", ladder.TRAINED)] = score["value"]
        row["n"] = score.get("n") or row["n"]
    for reference in references:
        row = rows.get((reference.benchmark, reference.metric, reference.group))
        if row is None or reference.model != ladder.TRAINED or ladder.TRAINED not in row["values"]:
            continue
        low, high = reference.band.limits()
        row["band"] = f"{number(round(low, 4))} to {number(round(high, 4))}"
        row["place"] = reference.band.place(row["values"][ladder.TRAINED])
    return list(rows.values())
