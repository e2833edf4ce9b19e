"""The report is one file that loads nothing, runs nothing, lets no caption through as markup, and claims no more than it may."""

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from lib import claims as ladder
from lib import report
from lib.claims import Check, CheckResult, Claim, Reference, Verdict
from lib.consistency import check
from lib.errors import ConfigError
from lib.report import ReportContent, ReportPicture, StageLine

EVIL = "</p><script src='https://evil.example/x.js'></script><img src=x onerror=alert(1)>\"'`{{ 7 * 7 }}"
PNG = b"\x89PNG\r\n\x1a\n picture"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"


def verdict(word: str, *, kind: str = "number", **changes: object) -> Verdict:
    claim = Claim(id="a", statement=EVIL, kind=kind, source=EVIL, status="confirmed", value=".40", benchmark="val", metric="m", unit=EVIL)
    return Verdict(claim, word, EVIL, **changes)


def content(**changes: object) -> ReportContent:
    full = ReportContent(
        title="A3R",
        submission="a3r",
        variant=EVIL,
        profile="tiny",
        run=EVIL,
        commit="abc",
        host=EVIL,
        facts={EVIL: EVIL, "cores": 2},
        notes=("Tiny profile: the numbers below test the machinery, not the claim.", EVIL),
        stages=(StageLine("data_prep", "done", 3.25, "0123456789abcdef0123"), StageLine(EVIL, "failed", 3700, EVIL)),
        verdicts=tuple(verdict(word) for word in ladder.LADDER[2:]),
        checks=(
            CheckResult(Check(id="c", statement=EVIL, expression="1 == 1"), check("1 == 1", {})),
            CheckResult(Check(id="d", statement="off", expression="1 == 2"), check("1 == 2", {})),
        ),
        scores=(
            {"benchmark": "val", "metric": EVIL, "value": 0.7, "n": 300},
            {"benchmark": "val", "metric": EVIL, "model": "base", "value": 0.2},
        ),
        references=(Reference(benchmark="val", metric=EVIL, values=(0.3, 0.31, 0.32, 0.33, 0.34)),),
        curves=(ReportPicture(EVIL, PNG),),
        samples=(ReportPicture(EVIL, SVG),),
        quirks=((EVIL, "as_published", EVIL),),
        versions={"python": "3.11", EVIL: EVIL},
        digests={EVIL: "ab" * 32},
    )
    return dataclasses.replace(full, **changes)


class Reader(HTMLParser):
    """Collects tags, attributes and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    return reader


def test_the_page_loads_nothing_and_runs_nothing():
    reader = read(report.render(content()))
    names = {tag for tag, _ in reader.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form", "a", "svg", "video", "audio"}
    for tag, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert not {"href", "srcset", "action", "background", "poster", "xlink:href"} & set(attributes), tag
        assert tag != "img" or attributes["src"].startswith("data:image/")
    style = re.search(r"<style>(.*?)</style>", report.render(content()), re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style


def test_a_browser_is_told_to_load_nothing():
    tags = read(report.render(content())).tags
    policy = [attributes["content"] for _, attributes in tags if attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_malicious_texts_come_out_as_text_in_every_place():
    html = report.render(content())
    assert "<script" not in html
    assert "<img src=x" not in html
    reader = read(html)
    assert sum(tag == "img" for tag, _ in reader.tags) == 2
    # Nearly every field above holds it: run, host, facts, notes, stages, claims, checks, scores, captions, quirks, provenance.
    assert reader.text.count("{{ 7 * 7 }}") > 25


def test_every_section_shows_what_it_was_given():
    text = read(report.render(content())).text
    for part in (
        "data_prep",
        "3.2 s",
        "1 h 1 min",
        "0123456789abcdef",
        "1 of them does not hold",
        "1 is not 2",
        "as published",
        "ab" * 32,
    ):
        assert part in text, part
    assert "above" in text  # 0.7 against a band of about 0.28 to 0.36
    assert re.search(r"0\.7\s*0\.2\s*300", text)


def test_the_band_beside_a_score_is_the_trained_models_and_not_that_of_a_control():
    scores = [
        {"benchmark": "val", "metric": "score", "model": model, "value": value} for model, value in (("finetuned", 62.0), ("chance", 1.0))
    ]
    known = {"chance": (1.0,) * 5, "finetuned": (60.0, 61.0, 62.0, 63.0, 64.0), "shuffled": (30.0, 31.0, 32.0, 33.0, 34.0)}
    references = [Reference(benchmark="val", metric="score", model=model, values=values) for model, values in known.items()]
    (row,) = report.score_rows(scores, references)
    low, high = next(one for one in references if one.model == "finetuned").band.limits()
    assert row["band"] == f"{low:.4f} to {high:.4f}" and row["place"] == "inside"


def test_what_was_left_empty_leaves_its_section_out():
    bare = ReportContent(title="A3R", submission="a3r", variant="v", profile="tiny", run="r", commit="c", host="h")
    html = report.render(bare)
    assert re.findall(r"<h2>(.*?)</h2>", html) == ["What this run is"]
    assert "This report judges no published claim." in html


def test_the_file_is_written_whole(tmp_path):
    report.write_report(tmp_path / "report.html", content())
    assert (tmp_path / "report.html").read_text().rstrip().endswith("</html>")


@pytest.mark.parametrize(
    "text", ["This run reproduces the paper.", "The claim is CONFIRMED", "matches the published score", "not reproduced"]
)
def test_a_text_that_claims_success_without_a_verdict_is_refused(text, tmp_path):
    for changes in ({"notes": (text,)}, {"title": text}):
        with pytest.raises(
            ConfigError,
            match="^a report cannot say '.*': no published score is REPRODUCED or WITHIN NOISE; leave it to the verdicts$",
        ):
            report.write_report(tmp_path / "report.html", content(**changes))
    assert not (tmp_path / "report.html").exists()


def test_the_refusal_names_the_word():
    with pytest.raises(ConfigError) as error:
        report.check_wording("It reproduces.", [])
    assert str(error.value) == (
        "a report cannot say 'reproduces': no published score is REPRODUCED or WITHIN NOISE; leave it to the verdicts"
    )


def test_success_may_be_claimed_for_scores_only():
    report.check_wording("This run reproduces the score.", [verdict(ladder.REPRODUCED)])
    with pytest.raises(ConfigError):
        report.check_wording("This run reproduces the score.", [verdict(ladder.REPRODUCED, kind="structural")])


def test_the_sentence_is_made_of_the_counts():
    verdicts = [verdict(ladder.CODE_PATH_ONLY), verdict(ladder.NOT_TESTABLE), verdict(ladder.REPRODUCED, kind="structural")]
    assert report.summary_sentence(verdicts, "tiny") == (
        "None of 2 published scores is reproduced by this run (code path only 1, not testable here 1). "
        "1 of 1 published counts and settings were computed again and agree to the printed digit. "
        "The tiny profile tests the machinery on synthetic data; it cannot show any published score to be right."
    )
    verdicts = [verdict(ladder.REPRODUCED), verdict(ladder.WITHIN_NOISE), verdict(ladder.NOT_REPRODUCED, suspicious=True)]
    assert report.summary_sentence(verdicts, "full") == (
        "2 of 3 published scores are reproduced by this run (reproduced 1, within noise 1, not reproduced 1). "
        "At least one score is suspiciously better than published."
    )


def test_facts_that_were_only_computed_again_paint_nothing_green_at_the_top():
    html = report.render(content(verdicts=(verdict(ladder.REPRODUCED, kind="structural"), verdict(ladder.CODE_PATH_ONLY))))
    strip = html.split('class="strip"')[1].split("</div>")[0]
    assert "bg-green" not in strip
    assert "bg-grey" in strip


def test_bytes_that_are_no_picture_are_refused():
    with pytest.raises(ConfigError) as error:
        report.data_uri(b"<html><body>")
    assert str(error.value) == "a report shows PNG, JPEG or SVG pictures, these bytes begin with b'<html><b'; save the picture as PNG"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.44, "0.4 s"), (12.4, "12 s"), (59.7, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_are_written_for_reading(seconds, text):
    assert report.duration(seconds) == text
