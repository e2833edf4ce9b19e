"""The claims of a3r: every statement of the publication is there, and what the code computes of it."""

from pathlib import Path

import lib.submissions.a3r
from lib import claims as ladder
from lib.submissions.a3r.original import published_curves

BOOK = ladder.read_claims(Path(lib.submissions.a3r.__file__).parent / "claims.yaml")
CLAIMS = {claim.id: claim for claim in BOOK.claims}


def test_the_fourteen_statements_are_all_there():
    statements = (
        "rank board_score paper_improvement winner brand_is_left_alone padding_helps peak_lr suffix_helps val_loss "
        "official_count vocabulary_brands speed one_click later_change"
    )
    assert set(statements.split()) <= set(CLAIMS)


def test_without_any_score_nothing_published_as_a_score_is_green():
    verdicts = ladder.judge_all(BOOK, [], profile="full")
    words = {verdict.claim.id: verdict.word for verdict in verdicts}
    assert {claim.id for claim in BOOK.claims if words[claim.id] in ladder.GREEN} == {claim.id for claim in BOOK.claims if claim.derive}
    assert words["board_score"] == words["rank"] == words["paper_improvement"] == words["later_change"] == "SOURCE NOT CONFIRMED"
    assert words["winner"] == words["val_loss"] == "NOT TESTABLE HERE"
    assert words["one_click"] == words["brand_is_left_alone"] == "NOT REPRODUCED"


def test_exactly_three_of_the_published_relations_do_not_hold():
    results = ladder.run_checks(BOOK)
    assert len(results) > 25
    failing = {result.check.id: result.outcome.text for result in results if not result.outcome.holds}
    assert failing == {
        "val_is_complete": "9,958 is not 10,000",
        "five_epoch_schedule": "25,220 is not 151,320",
        "speed_from_step": "22.2222 does not round to 22.25",
    }


def test_a_wrong_fact_turns_what_rests_on_it():
    facts = {**BOOK.facts, "val_total": BOOK.facts["val_total"].model_copy(update={"value": "10,001"})}
    wrong = BOOK.model_copy(update={"facts": facts})
    words = {verdict.claim.id: verdict.word for verdict in ladder.judge_all(wrong, [], profile="full")}
    assert words["official_count"] == words["train_count"] == "NOT REPRODUCED"
    assert words["test_count"] == "REPRODUCED"


def test_the_validation_claims_are_the_digits_of_the_published_log():
    fifth = published_curves().validations[4]
    checked = [claim for claim in BOOK.claims if claim.benchmark == "val" and claim.kind == "number"]
    assert fifth.epoch == 5
    assert len(checked) == 11
    for claim in checked:
        assert claim.printed.rounds_from(fifth.metrics[claim.metric]), claim.id


def test_the_learning_rates_claimed_are_those_that_tensorboard_logged():
    logged = {point.step: point.lr for point in published_curves().train}
    for name, step in {
        "lr_step_0": 0,
        "lr_step_5043": 5043,
        "lr_step_15132": 15132,
        "lr_step_25219": 25219,
        "lr_step_50439": 50439,
    }.items():
        assert CLAIMS[name].printed.rounds_from(logged[step]), name
