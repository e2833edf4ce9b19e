"""The verdict ladder: every rung, what may never be green, and controls that have to turn a verdict."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import claims as ladder
from lib.claims import Claim, ClaimBook, Reference, Score, judge
from lib.consistency import Printed
from lib.errors import ConfigError, DataError

NUMBER = {
    "id": "r10",
    "statement": "R@10",
    "kind": "number",
    "source": "log",
    "status": "confirmed",
    "value": ".4094",
    "benchmark": "val",
    "metric": "R@10",
    "tolerance": {"basis": "binomial"},
    "needs": ["the data set", "a GPU"],
}


def claim(**changes: object) -> Claim:
    return Claim.model_validate({**NUMBER, **changes})


def score(value: float, **changes: object) -> Score:
    return Score.model_validate({"benchmark": "val", "metric": "R@10", "value": value, "n": 10_000, **changes})


def word(of: Claim, *scores: Score, profile: str = "full") -> str:
    return judge(of, scores, profile=profile).word


def test_a_score_that_rounds_to_the_printed_digits_is_reproduced():
    verdict = judge(claim(), [score(0.40944)], profile="full")
    assert (verdict.word, verdict.reason) == ("REPRODUCED", "rounds to the printed .4094")
    assert verdict.power == "10,000 items tell 0.0195 apart; telling 0.0001 takes 379,570,076"


def test_a_score_within_counting_noise_says_the_test_and_its_n():
    verdict = judge(claim(), [score(0.405), score(0.2, model="base")], profile="full")
    assert verdict.word == "WITHIN NOISE"
    assert verdict.reason == "ours 0.405, published .4094; binomial 95 % interval over n = 10,000 items: 0.3954 to 0.4147"


def test_noise_comes_from_seeds_before_items_before_counting():
    items = tuple([1.0] * 40 + [0.0] * 60)
    assert "t prediction interval from n = 3 seeds" in judge(claim(), [score(0.4, seeds=(0.38, 0.4, 0.42))], profile="full").reason
    assert "bootstrap 95 % interval over n = 100 items" in judge(claim(), [score(0.4, items=items)], profile="full").reason


def test_a_declared_assumption_is_said_to_be_one():
    assumed = claim(tolerance={"basis": "assumed", "assumed": 0.01, "because": "two runs of the authors differ by that"})
    verdict = judge(assumed, [score(0.4012, n=None)], profile="full")
    assert verdict.word == "WITHIN NOISE"
    assert verdict.reason.endswith("assumed tolerance (two runs of the authors differ by that): 0.3912 to 0.4112")


def test_worse_than_published_but_better_than_the_base_model_is_direction_only():
    verdict = judge(claim(), [score(0.35), score(0.2, model="base")], profile="full")
    assert verdict.word == "DIRECTION ONLY"
    assert verdict.reason.endswith("; better than base, by less than published")


def test_worse_than_published_without_a_base_score_is_not_reproduced():
    assert word(claim(), score(0.35)) == "NOT REPRODUCED"


def test_a_score_without_noise_model_is_not_reproduced_and_says_what_is_missing():
    verdict = judge(claim(), [score(0.405, n=None)], profile="full")
    assert verdict.word == "NOT REPRODUCED"
    assert verdict.reason == "ours 0.405, published .4094; no noise model (give n, per-item values or seeds)"


def test_a_score_significantly_better_than_published_is_flagged():
    verdict = judge(claim(), [score(0.55), score(0.2, model="base")], profile="full")
    assert (verdict.word, verdict.suspicious) == ("NOT REPRODUCED", True)
    assert verdict.reason.startswith("suspiciously better: ours 0.55, published .4094; ")
    assert verdict.reason.endswith("; look for leakage, another split or another denominator")


def test_better_means_lower_where_the_claim_says_so():
    loss = claim(metric="loss", value="0.8771", better="lower", tolerance={"basis": "assumed", "assumed": 0.01, "because": "x"})
    low, high = score(0.80, metric="loss"), score(0.95, metric="loss")
    assert judge(loss, [low], profile="full").suspicious
    assert not judge(loss, [high], profile="full").suspicious
    assert word(loss, high, score(1.5, metric="loss", model="base")) == "DIRECTION ONLY"


def test_percent_claims_are_compared_in_percent():
    percent = claim(value="40.9", scale=100.0)
    assert word(percent, score(0.40944)) == "REPRODUCED"
    verdict = judge(percent, [score(0.405), score(0.2, model="base")], profile="full")
    assert verdict.word == "WITHIN NOISE"
    assert verdict.reason.endswith("n = 10,000 items: 39.5417 to 41.4656")


def test_a_share_in_percent_has_the_noise_of_its_share():
    percent = claim(value="40.9", tolerance={"basis": "binomial", "whole": 100})
    verdict = judge(percent, [score(40.5), score(20.0, model="base")], profile="full")
    assert verdict.word == "WITHIN NOISE"
    assert verdict.reason == "ours 40.5, published 40.9; binomial 95 % interval over n = 10,000 items: 39.5417 to 41.4656"
    assert verdict.power == "10,000 items tell 0.0194 apart; telling 0.004 takes 236,423"
    assert judge(claim(value="40.9"), [score(40.5)], profile="full").reason.endswith("no noise model (give n, per-item values or seeds)")


@given(st.floats(0, 1), st.sampled_from(["tiny", "quick", "small", "FULL"]))
def test_no_score_of_a_profile_other_than_full_is_ever_green(value, profile):
    assert word(claim(), score(value), profile=profile) == "CODE PATH ONLY"


def test_the_tiny_reason_says_where_the_score_lies_in_its_reference_band():
    references = [Reference(benchmark="val", metric="R@10", values=(0.70, 0.71, 0.72, 0.73, 0.74))]
    for value, place in ((0.5, "below"), (0.72, "inside"), (0.9, "above")):
        reason = judge(claim(), [score(value)], profile="tiny", references=references).reason
        assert reason == (
            f"tiny profile: R@10 {value} tests the machinery, not the claim; {place} its reference band 0.6831 to 0.7569 (5 seeds)"
        )


def test_without_a_score_the_claim_names_what_it_needs():
    verdict = judge(claim(), [], profile="full")
    assert (verdict.word, verdict.reason) == ("NOT TESTABLE HERE", "needs the data set, a GPU")
    assert judge(claim(needs=[]), [], profile="full").reason == "needs a finetuned score R@10 on val"


def test_a_score_that_is_no_number_fails_in_every_profile():
    for profile in ("tiny", "full"):
        verdict = judge(claim(), [score(float("nan"))], profile=profile)
        assert (verdict.word, verdict.reason) == ("NOT REPRODUCED", "the run came to nan, which is no score")


@pytest.mark.parametrize("status", ["readme_only", "not_confirmed", "not_found", "unverifiable"])
def test_a_claim_without_a_confirmed_source_stays_so_whatever_the_score(status):
    assert word(claim(status=status), score(0.4094)) == "SOURCE NOT CONFIRMED"


def test_a_contradicted_claim_is_not_reproduced_and_says_by_what():
    verdict = judge(claim(status="contradicted", because="the files differ"), [score(0.4094)], profile="full")
    assert (verdict.word, verdict.reason) == ("NOT REPRODUCED", "contradicted by the published material: the files differ")


def test_context_is_never_tested():
    assert word(claim(kind="context"), score(0.4094)) == "NOT TESTABLE HERE"


STRUCTURAL = {"kind": "structural", "value": "65", "metric": "brands", "tolerance": {"basis": "printed digits"}}


def test_structural_facts_from_published_files_count_in_every_profile_and_those_of_a_tiny_run_do_not():
    published, counted = (score(65, metric="brands", basis=basis) for basis in ("published files", "run"))
    assert word(claim(**STRUCTURAL), published, profile="tiny") == "REPRODUCED"
    assert word(claim(**STRUCTURAL), counted, profile="tiny") == "CODE PATH ONLY"
    assert word(claim(**STRUCTURAL), counted, profile="full") == "REPRODUCED"
    off = judge(claim(**STRUCTURAL), [score(64, metric="brands", basis="published files")], profile="full")
    assert (off.word, off.reason) == ("NOT REPRODUCED", "re-derived from the published files gives 64, published 65")


def test_derived_facts_are_computed_and_compared_to_the_digit():
    derived = claim(**{**STRUCTURAL, "derive": "types * 11 - 1"})
    assert judge(derived, [], profile="tiny", facts={"types": Printed("6")}).word == "REPRODUCED"
    assert judge(derived, [], profile="tiny", facts={"types": Printed("7")}).word == "NOT REPRODUCED"


def test_a_score_that_no_run_produced_cannot_answer_a_number_claim():
    with pytest.raises(ConfigError) as error:
        judge(claim(), [score(0.4094, basis="published files")], profile="full")
    assert str(error.value) == "r10: a score with basis 'published files' cannot answer a number claim; only a run can"


QUALITATIVE = {"kind": "qualitative", "value": None, "over": "no_padding"}


def test_a_qualitative_finding_earns_direction_only_at_most():
    helps = claim(**QUALITATIVE)
    assert word(helps, score(0.5), score(0.4, model="no_padding")) == "DIRECTION ONLY"
    assert word(helps, score(0.5), score(0.6, model="no_padding")) == "NOT REPRODUCED"
    assert word(helps, score(0.5), score(0.495, model="no_padding")) == "NOT REPRODUCED"
    assert judge(helps, [score(0.5)], profile="full").reason == "needs a score of no_padding to compare with"
    assert word(helps, score(0.5, n=None), score(0.4, model="no_padding")) == "NOT TESTABLE HERE"


SERVER = {"proxy": "circular accuracy on the answers of dev", "needs": ["the evaluation server"], "scale": 100.0, "value": "40.94"}


def test_a_proxy_is_shown_and_never_confirms():
    verdict = judge(claim(**SERVER), [score(0.4094)], profile="full")
    assert (verdict.word, verdict.measured) == ("NOT TESTABLE HERE", pytest.approx(40.94))
    assert verdict.reason == "needs the evaluation server; ours, 40.94, is a proxy: circular accuracy on the answers of dev"
    assert judge(claim(**SERVER), [], profile="full").reason == "needs the evaluation server"
    assert word(claim(**SERVER), score(0.4094), profile="tiny") == "CODE PATH ONLY"


@given(st.floats(0, 1), st.sampled_from(["number", "qualitative", "structural"]), st.sampled_from(["tiny", "full"]))
def test_no_value_of_a_proxy_is_ever_green(value, kind, profile):
    assert word(claim(**SERVER, kind=kind), score(value), score(0.1, model="base"), profile=profile) not in ladder.GREEN


def test_a_row_answers_a_claim_only_where_its_columns_say_what_the_claim_says():
    with_records = claim(where={"records": "published"})
    assert word(with_records, score(0.4094, records="published")) == "REPRODUCED"
    verdict = judge(with_records, [score(0.4094, records="none")], profile="full")
    assert (verdict.word, verdict.measured) == ("NOT TESTABLE HERE", None)
    assert verdict.reason == "needs the data set, a GPU; the score of this run has records: none"
    assert word(with_records, score(0.4094)) == "NOT TESTABLE HERE"
    assert word(with_records, score(0.4094, records="none"), profile="tiny") == "CODE PATH ONLY"


def test_what_is_compared_with_may_come_from_elsewhere():
    helps = claim(**QUALITATIVE, where={"records": "published"})
    assert word(helps, score(0.5, records="published"), score(0.4, model="no_padding", records="none")) == "DIRECTION ONLY"


# Negative controls: what has been broken on purpose must turn the verdict.


def test_a_swapped_value_turns_the_verdict():
    ours, base = score(0.4094), score(0.2, model="base")
    assert word(claim(), ours, base) == "REPRODUCED"
    swapped = [ours.model_copy(update={"value": base.value}), base.model_copy(update={"value": ours.value})]
    assert word(claim(), *swapped) == "NOT REPRODUCED"


def test_shuffled_answers_turn_the_verdict():
    relevant = [index % 10 for index in range(2000)]
    answers = [target if index % 1000 < 409 else -1 for index, target in enumerate(relevant)]

    def measured(given_answers: list[int]) -> Score:
        items = tuple(float(answer == target) for answer, target in zip(given_answers, relevant, strict=True))
        return score(sum(items) / len(items), items=items, n=len(items))

    shuffled = answers.copy()
    random.Random(0).shuffle(shuffled)
    base = score(0.1, model="base")
    assert word(claim(), measured(answers), base) in ladder.GREEN
    assert word(claim(), measured(shuffled), base) == "NOT REPRODUCED"


def test_a_test_too_weak_to_exclude_a_control_proves_nothing():
    weak = [score(0.40, n=20), score(0.30, model="shuffled")]
    verdict = judge(claim(), weak, profile="full")
    assert verdict.word == "NOT REPRODUCED"
    assert verdict.reason.endswith("over n = 20 items: 0.2188 to 0.6134 also holds the control shuffled")
    assert word(claim(), score(0.40, n=20), score(0.45, model="soup")) == "WITHIN NOISE"  # a sister model is no control


@given(
    st.floats(allow_nan=True),
    st.sampled_from(["tiny", "full"]),
    st.sampled_from(["number", "structural", "qualitative", "context"]),
    st.sampled_from(["confirmed", "stated", "readme_only", "not_found"]),
    st.one_of(st.none(), st.integers(1, 1000)),
)
def test_every_claim_gets_exactly_one_word_and_a_reason(value, profile, kind, status, n):
    verdict = judge(claim(kind=kind, status=status), [score(value, n=n)], profile=profile)
    assert verdict.word in ladder.LADDER
    assert verdict.reason
    assert verdict.word not in ladder.GREEN or profile == "full"


def test_verdicts_are_counted_in_the_order_of_the_ladder():
    verdicts = [judge(claim(), [score(value)], profile="full") for value in (0.4094, 0.4094, 0.1)]
    counts = ladder.count_verdicts(verdicts)
    assert tuple(counts) == ladder.LADDER
    assert (counts["REPRODUCED"], counts["NOT REPRODUCED"], counts["WITHIN NOISE"]) == (2, 1, 0)


# Files.

BOOK = """submission: a3r
facts: {a: {value: "2", source: x}, b: {derive: a + 1, source: x}}
claims:
  - {id: one, statement: s, kind: structural, source: x, status: confirmed, value: "3", derive: b}
checks:
  - {id: sum, statement: s, expression: a + 1 == b}
"""


def test_a_book_is_read_judged_and_checked(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(BOOK)
    book = ladder.read_claims(path)
    assert [verdict.word for verdict in ladder.judge_all(book, [], profile="tiny")] == ["REPRODUCED"]
    assert [result.outcome.holds for result in ladder.run_checks(book)] == [True]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('value: "3"', "value: .40", "claims.0.value: 0.4 has to be quoted so that its printed digits are kept"),
        (
            'value: "3"',
            'value: "3 %"',
            "claims.0.value: not a printed number: '3 %'; write digits as printed, such as .8771, 126,117 or 4e-7",
        ),
        ("kind: structural", "kind: odd", "claims.0.kind: Input should be 'number', 'structural', 'qualitative' or 'context'"),
        ("source: x, status", "sauce: x, status", "claims.0.source: Field required"),
        (
            "derive: b}",
            "tolerance: {basis: assumed}}",
            "claims.0.tolerance: `assumed` (a half width) belongs to basis: assumed, and only to it",
        ),
        (
            "derive: b}",
            "tolerance: {basis: assumed, assumed: 1}}",
            "claims.0.tolerance: an assumed tolerance says `because` what",
        ),
        ("kind: structural", "kind: number", "claims.0: a number that can be tested needs `value`, `benchmark` and `metric`"),
        ("kind: structural", "kind: context", "claims.0: `derive` belongs to a structural claim with a printed `value`"),
        ("status: confirmed", "status: contradicted", "claims.0: a contradicted claim says `because` what"),
        ("derive: b}", "derive: b, proxy: p}", "claims.0: a claim that has only a proxy says what it `needs`"),
        ("id: sum", "id: one", "ClaimBook: the id 'one' is used twice"),
        (
            'a: {value: "2",',
            'a: {value: "2", derive: b,',
            "facts.a: a fact has either a printed `value` or an expression `derive`",
        ),
    ],
)
def test_a_faulty_book_names_file_entry_and_field(tmp_path, old, new, message):
    path = tmp_path / "claims.yaml"
    assert old in BOOK
    path.write_text(BOOK.replace(old, new, 1))
    with pytest.raises(DataError) as error:
        ladder.read_claims(path)
    assert str(error.value) == f"{path}: {message}"


def test_scores_are_read_and_faulty_rows_are_named(tmp_path):
    path = tmp_path / "metrics.json"
    row = {"benchmark": "val", "metric": "mAP@10", "value": 0.7, "n": 3, "denominator": "R"}
    path.write_text(json.dumps({"scores": [row]}))
    assert ladder.read_scores(path)[0].key == ("val", "mAP@10", "all")
    path.write_text(json.dumps({"scores": [row, {**row, "n": 0}]}))
    with pytest.raises(DataError) as error:
        ladder.read_scores(path)
    assert str(error.value) == f"{path}: scores[1]: n: Input should be greater than or equal to 1"
    path.write_text("[]")
    with pytest.raises(DataError) as error:
        ladder.read_scores(path)
    assert str(error.value) == f'{path}: an object with a list "scores" expected; was it written by another stage?'


def test_two_rows_for_the_same_score_are_refused():
    book = ClaimBook(submission="a3r", claims=(claim(),))
    with pytest.raises(DataError) as error:
        ladder.judge_all(book, [score(0.4), score(0.5)], profile="full")
    assert str(error.value) == "scores: two rows for val / R@10 / all / finetuned; keep the one that counts"


def test_references_come_back_as_they_were_written_and_too_few_are_refused(tmp_path):
    path = tmp_path / "references.json"
    references = [Reference(benchmark="val", metric="mAP@10", values=(0.1, 0.2, 0.3, 0.4, 0.5), seeds=(0, 1, 2, 3, 4))]
    ladder.write_references(path, references)
    assert ladder.read_references(path) == references
    ladder.write_references(path, [references[0].model_copy(update={"values": (0.1, 0.2)})])
    with pytest.raises(ConfigError, match="a reference band needs at least 5 runs, got 2; record more seeds"):
        ladder.read_references(path)


def test_a_claim_is_answered_by_the_row_of_whatever_model_that_is_where_it_says():
    without = claim(where={"records": "none"})
    rows = [score(0.9, records="engine"), score(0.4, model="baseline", records="none")]
    assert judge(without, rows, profile="tiny").measured == 0.4
    assert judge(without, rows[:1], profile="tiny").measured == 0.9
    assert judge(claim(where={"records": "engine"}), rows, profile="tiny").measured == 0.9
