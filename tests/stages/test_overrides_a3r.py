"""Every choice of a3r's settings by one override each, asserted for what it does; the stages before it are hits.

The stages are played in this process from the cells of their notebooks (tests/small.py).
"""

import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from lib import config, curves, models, runs
from lib.submissions.a3r import (
    augmentation,
    augmented,
    costs,
    data_prep,
    evaluate,
    features,
    finetune,
    infer,
    queries,
    ranking,
    schedule,
    soup,
    tables,
    vocabulary,
)
from tests import small
from tests.small import SmallRun

pytestmark = [pytest.mark.notebook, pytest.mark.slow]

SOUP = {"finetune.soup": "uniform", "finetune.soup_epochs": "[1, 2]", "finetune.grad_checkpointing": "true"}


def read(path: Path) -> dict:
    """A JSON file."""
    return json.loads(path.read_text())


@functools.cache
def _played_once(stage: str, changes: tuple[tuple[str, str], ...]) -> Path:
    return small.play(stage, dict(changes))


def played(stage: str, changes: Mapping[str, str]) -> Path:
    """The folder of a stage played with these changes, played once for all tests that look at it."""
    return _played_once(stage, tuple(changes.items()))


def predictions(folder: Path, benchmark: str = "test", model: str = "finetuned") -> list[infer.Prediction]:
    """What 05 wrote."""
    return infer.read_predictions(folder / f"{benchmark}-{model}.jsonl")


def names(found: list[infer.Prediction]) -> list[tuple[str, ...]]:
    """The ranked names of each query."""
    return [one.image_names for one in found]


def rows_of(folder: Path, split: str = "train") -> list[augmented.AugmentedRow]:
    """The rows of an augmented file."""
    return list(augmented.read_augmented(folder / f"augmented_ViT-tiny_{split}_label.txt").rows)


def params(folder: Path) -> dict[str, str]:
    """params.txt of a training."""
    return curves.read_params(folder / "params.txt")


def state(folder: Path) -> dict[str, torch.Tensor]:
    """The exported weights of a training."""
    return models.read_state(folder / "model" / models.WEIGHTS_NAME)


def largest_difference(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    """The largest absolute difference of two sets of weights."""
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


# 02: how captions are completed


def test_augmentation_off_leaves_every_caption_as_it_is(small_run):
    folder = small.play("augmentation", {"augmentation.enabled": "false"})
    rows = rows_of(folder)
    assert [row.chosen for row in rows] == [row.caption for row in rows]
    assert [row.title for row in tables.read_table(folder / "train_car_data.csv").rows] == [row.caption for row in rows]
    assert all(not found for found in read(folder / "audit.json")["train"]["filled"].values())


def test_the_shipped_convention_completes_every_vehicle_from_the_vocabulary(small_run):
    folder = small_run.stage("augmentation")
    audit = read(folder / "audit.json")["train"]
    assert audit["rows"] == small.VEHICLES
    assert audit["outside"] == audit["changed"] == audit["incomplete"] == []
    assert audit["filled"]["brands"] and audit["filled"]["types"]
    assert not any("." in row.line.replace(".jpg", "") for row in rows_of(folder))


def test_the_readme_convention_keeps_the_article_and_invents_no_brand(small_run):
    folder = small.play("augmentation", {"augmentation.convention": "readme"})
    audit = read(folder / "audit.json")["train"]
    assert audit["filled"]["brands"] == {} and audit["filled"]["types"]
    assert all(row.chosen.startswith(("A ", "An ", "This is a")) and row.chosen.endswith(".") for row in rows_of(folder))


def test_the_published_code_as_it_is_runs_on_where_it_crashed_on_captions_that_name_only_a_type(small_run):
    folder = small.play("augmentation", {"augmentation.convention": "asis"})
    rows = rows_of(folder)
    typed = [row for row in rows if row.attribute in vocabulary.read_vocabulary(small_run.stage("data_prep") / "car_attribute.json").types]
    assert len(rows) == small.VEHICLES and typed
    assert not any(row.chosen.startswith(("An ", "This is an ")) for row in rows if row not in typed)


def test_an_interrupted_augmentation_continues_after_its_last_whole_line(small_run):
    whole = (small_run.stage("augmentation") / "augmented_ViT-tiny_train_label.txt").read_bytes()
    changes = {"augmentation.batch_size": "5"}
    resolved = config.resolve("a3r", overrides=small.overrides(changes))
    from lib import chain

    place = chain.links(resolved, until="augmentation", by_hand=True)["augmentation"].place
    lines = whole.splitlines(keepends=True)
    place.mkdir(parents=True)
    (place / "augmented_ViT-tiny_train_label.txt").write_bytes(b"".join(lines[:7]) + lines[7][:9])
    folder = small.play("augmentation", changes)
    assert (folder / "augmented_ViT-tiny_train_label.txt").read_bytes() == whole
    assert read(folder / "record.json")["dropped"]["half-written line of an interrupted run"] == 1


# 04: how the towers are trained; two choices that do not touch share a training


@pytest.fixture
def sigmoid_in_halves(small_run: SmallRun) -> Path:
    """A training with the sigmoid loss, each step in two halves."""
    return played("finetune", {"finetune.loss": "siglip", "finetune.accum_freq": "2"})


@pytest.fixture
def checkpointed_soup(small_run: SmallRun) -> Path:
    """A training with gradient checkpointing that ends in a uniform soup of both epochs."""
    return played("finetune", SOUP)


def test_the_sigmoid_loss_trains_a_bias_and_starts_at_its_own_temperature(sigmoid_in_halves):
    assert params(sigmoid_in_halves)["siglip"] == "True"
    assert state(sigmoid_in_halves)["logit_bias"].item() == pytest.approx(-10, abs=0.5)
    assert curves.read_run_folder(sigmoid_in_halves).train[0].scale == pytest.approx(10, abs=0.1)
    assert models.load_open_clip(sigmoid_in_halves / "model").model.logit_bias is not None


def test_accumulated_batches_make_half_as_many_steps_over_twice_the_pairs(sigmoid_in_halves):
    assert params(sigmoid_in_halves)["accum_freq"] == "2"
    training = curves.read_run_folder(sigmoid_in_halves)
    assert max(point.step for point in training.train) == small.EPOCHS * (small.STEPS // 2) - 1


@pytest.mark.parametrize(("loss", "expected"), [("clip", math.log(16)), ("siglip", math.log(16) + 15 * math.log(16 / 15))])
def test_the_loss_of_guessing_counts_all_pairs_of_a_step(loss, expected):
    changes = {"finetune.loss": loss, "finetune.accum_freq": "2"}
    cfg = config.resolve("a3r", overrides=small.overrides(changes)).for_stage("finetune", ("model",))
    assert finetune.guessing_loss(cfg) == pytest.approx(expected)
    # What guessing means: every one of 16 x 16 pairs is called right with the share 1/16, and each picture's answers are summed.
    share = 1 / 16
    assert expected == pytest.approx(math.log(16) if loss == "clip" else -math.log(share) - 15 * math.log(1 - share))


def test_gradient_checkpointing_changes_no_weight(small_run, checkpointed_soup):
    assert params(checkpointed_soup)["grad_checkpointing"] == "True"
    for epoch in (1, 2):
        name = f"checkpoints/epoch_{epoch}.pt"
        assert largest_difference(models.read_state(checkpointed_soup / name), models.read_state(small_run.folder / name)) < 1e-6


def test_a_uniform_soup_is_the_mean_of_its_checkpoints_and_a_greedy_one_never_worse_than_the_best(small_run, checkpointed_soup):
    parts = [models.read_state(checkpointed_soup / f"checkpoints/epoch_{epoch}.pt") for epoch in (1, 2)]
    told = read(checkpointed_soup / "soup.json")
    assert told == {"epochs": [1, 2], "kind": "uniform"}
    assert largest_difference(state(checkpointed_soup), soup.uniform_soup(parts)) < 1e-6

    greedy = config.resolve("a3r", overrides=small.overrides({**SOUP, "finetune.soup": "greedy"})).for_stage("finetune", ("model",))
    stages = {"augmentation": small_run.stage("augmentation")}
    run = runs.Run("a3r", "finetune", "tiny", checkpointed_soup, checkpointed_soup, "", stages, data=small_run.data)
    told = finetune.cook_soup(greedy, run)
    alone = {found.epoch: found.metrics["text_to_image_R@10"] for found in curves.read_run_folder(checkpointed_soup).validations}
    assert told["text_to_image_R@10"] >= max(alone.values()) - 1e-9
    chosen = [parts[epoch - 1] for epoch in told["members"]]
    assert largest_difference(state(checkpointed_soup), soup.uniform_soup(chosen)) < 1e-6


def test_training_without_square_padding_ends_in_other_weights(small_run):
    folder = small.play("finetune", {"finetune.padding": "none", "finetune.precision": "amp_bf16"})
    assert read(folder / "plan.json")["padding"] == "none"
    assert params(folder)["precision"] == "amp_bf16"
    assert largest_difference(state(folder), state(small_run.stage("finetune"))) > 1e-4


def test_an_early_checkpoint_of_a_longer_schedule_is_another_recipe_than_a_short_schedule(small_run):
    folder = small.play("finetune", {"finetune.epochs": "4", "finetune.lock_image": "true"})
    training = curves.read_run_folder(folder)
    assert [found.epoch for found in training.validations] == [1, 2]
    last = max(training.train, key=lambda point: point.step)
    assert last.step == 2 * small.STEPS - 1
    assert last.lr == pytest.approx(
        schedule.learning_rate(last.step, peak=small.PEAK, warmup=small.WARMUP, total=4 * small.STEPS), rel=1e-5
    )
    started = models.read_state(next((small_run.home / "data" / "base").glob("open_clip-*")) / models.WEIGHTS_NAME)
    frozen = [name for name in started if name.startswith("visual.")]
    assert all(torch.equal(state(folder)[name], started[name]) for name in frozen)
    assert not torch.equal(state(folder)["text_projection"], started["text_projection"])


def test_two_processes_share_a_batch_twice_as_large(small_run):
    folder = small.play("finetune", {"finetune.processes": "2", "finetune.use_epoch": "1"})
    found = params(folder)
    assert found["world_size"] == "2" and found["distributed"] == "True"
    training = curves.read_run_folder(folder)
    assert max(point.step for point in training.train) == small.STEPS // 2 - 1
    assert [found.epoch for found in training.validations] == [1]
    assert largest_difference(state(folder), state(small_run.stage("finetune"))) > 1e-4


# 05: how the gallery is ranked


def test_inference_without_square_padding_sees_other_pictures(small_run):
    found, before = (predictions(folder) for folder in (small.play("infer", {"infer.padding": "none"}), small_run.stage("infer")))
    assert [one.encoded for one in found] == [one.encoded for one in before]
    assert [one.scores for one in found] != [one.scores for one in before]


def test_plain_queries_keep_their_article(small_run):
    found = predictions(small.play("infer", {"infer.query": "plain"}))
    assert [one.encoded for one in found] == [one.text.removesuffix(".") for one in found]


def test_the_last_character_quirk_cuts_a_letter_only_where_there_is_no_dot(small_run):
    found = predictions(small.play("infer", {"infer.quirks.final_dot": "as_published"}))
    assert names(found) == names(predictions(small_run.stage("infer")))  # every toy query ends with a dot
    cut = queries.encoded_text("This is a grey Audi", convention="strip", final_dot="as_published")
    assert cut == "grey Aud"


@pytest.mark.parametrize("score", ["embedded", "quantified"])
def test_reranking_reorders_the_first_names_and_its_quirks_change_the_order(small_run, score):
    plain = names(predictions(small_run.stage("infer")))
    found = {}
    for quirk in ("corrected", "as_published"):
        folder = small.play("infer", {"infer.rerank": score, "infer.quirks.reranking": quirk})
        found[quirk] = predictions(folder)
        assert [one.before for one in found[quirk]] == plain
        assert all(list(one.scores) == sorted(one.scores, reverse=True) for one in found[quirk])
        assert names(found[quirk]) != plain
    assert all(math.isfinite(value) for one in found["corrected"] for value in one.scores)
    assert names(found["corrected"]) != names(found["as_published"])


def test_reranking_is_shown_before_and_after_where_it_changed_most(small_run):
    changes = {"infer.rerank": "embedded"}
    small.play("infer", changes)
    folder = small.play("evaluate", changes)
    resolved = config.resolve("a3r", overrides=small.overrides(changes))
    stages = {"infer": small.play("infer", {**changes, "machine.image_batch": "64"}), "data_prep": small_run.stage("data_prep")}
    run = runs.Run("a3r", "evaluate", "tiny", folder, folder, "", stages, data=small_run.data)
    captions = [caption for caption, _ in evaluate.exhibits(resolved.for_stage("evaluate", ("infer",)), run)]
    assert captions[-1] == "The query whose first pictures re-ranking changed most:"


def test_a_routed_gallery_answers_vehicle_queries_with_vehicles_only(small_run):
    found = predictions(small.play("infer", {"infer.gallery": "routed"}))
    assert all(vocabulary.image_kind(name) == one.kind for one in found for name in one.image_names)
    mixed = predictions(small_run.stage("infer"))
    assert any(vocabulary.image_kind(name) != one.kind for one in mixed for name in one.image_names)


def test_neither_shards_nor_batches_nor_loader_processes_change_a_ranking(small_run, tmp_path):
    encoder = features.load_encoder("finetuned", small_run.stage("finetune") / "model", model=None, padding="as_published")
    folder = data_prep.picture_folder(small_run.data, "test")
    gallery = read(small_run.stage("data_prep") / "gallery.json")
    texts = features.encode_texts(encoder.bundle, [one.encoded for one in predictions(small_run.stage("infer"))], batch=5)
    for number, changes in enumerate(({"shards": 2}, {"image_batch": 7, "workers": 1})):
        machine = config.resolve("a3r").settings.machine.model_copy(update=changes)
        images = features.encode_gallery(encoder, folder, gallery, tmp_path / str(number), machine)
        indices, scores = ranking.top_k(texts, images, 10, memory_bytes=2**20)
        for row, found in enumerate(predictions(small_run.stage("infer"))):
            assert tuple(gallery[place] for place in indices[row]) == found.image_names
            assert scores[row].tolist() == pytest.approx(found.scores, abs=2e-6)  # the last bits depend on the size of a batch


def test_a_released_checkpoint_stands_for_the_training_and_its_place_does_not_matter(small_run, tmp_path):
    released = tmp_path / "epoch_2.pt"
    released.write_bytes((small_run.folder / "checkpoints" / "epoch_2.pt").read_bytes())
    changes = {"infer.checkpoint": str(released)}
    folder = small.play("infer", changes)
    assert predictions(folder) == predictions(small_run.stage("infer"))
    ran = small.kit(small_run.home, "run", "a3r", *small.sets({**changes, "finetune.lr": "4e-4"}))  # no training with it
    assert ran.returncode == 0 and "infer" in ran.stdout and "finetune" not in ran.stdout.partition("\n")[2].partition("claim")[0]
    (tmp_path / "elsewhere").mkdir()
    elsewhere = released.rename(tmp_path / "elsewhere" / released.name)
    assert small.play("infer", {"infer.checkpoint": str(elsewhere)}) == folder
    elsewhere.write_bytes((small_run.folder / "checkpoints" / "epoch_1.pt").read_bytes())
    other = small.play("infer", {"infer.checkpoint": str(elsewhere)})
    assert other != folder and predictions(other) != predictions(folder)


# 06 and the data set


def test_whole_words_route_a_query_only_by_words_that_stand_alone(small_run):
    folder = small.play("data_prep", {"data_prep.routing": "whole_words"})
    assert (folder / "queries.jsonl").read_bytes() == (small_run.stage("data_prep") / "queries.jsonl").read_bytes()
    words = vocabulary.read_vocabulary(folder / "car_attribute.json")
    inside = f"A man with a {words.types[0]}ket."
    assert vocabulary.is_vehicle_query(inside, words, whole_words=False)
    assert not vocabulary.is_vehicle_query(inside, words, whole_words=True)


def test_the_published_merge_order_is_the_servers_only_where_vehicles_come_first(small_run):
    folder = small.play("evaluate", {"evaluate.quirks.merge_order": "as_published"})
    assert (folder / "submission.json").read_bytes() == (small_run.stage("evaluate") / "submission.json").read_bytes()
    results = queries.read_results(folder / "submission.json")
    document = json.loads(queries.results_text(queries.merge_published(results[12:], results[:12])))
    lines, gallery = [entry.text for entry in results], read(small_run.stage("data_prep") / "gallery.json")
    assert "is not line 1 of the query file" in queries.find_problems(document, lines, gallery, top_k=10)[0].message


def test_published_data_and_released_weights_make_a_review_without_test_answers(small_run, monkeypatch):
    published = small_run.home / "data" / "a3r" / "datasets"
    published.symlink_to(small_run.data / "datasets", target_is_directory=True)
    changes = {
        "data.source": "published",
        "data.train_rows": f"{{vehicles: {small.VEHICLES + 1}, pedestrians: {small.PEDESTRIANS}}}",
        "infer.checkpoint": str((small_run.folder / "checkpoints" / "epoch_2.pt").resolve()),
        "finetune.lr": "4e-4",  # no training with it: released weights stand for 04
    }
    places = {stage: small.play(stage, changes) for stage in small.STAGES if stage != "finetune"}
    report = read(places["data_prep"] / "report.json")
    assert report["differences_from_the_published_counts"] == [
        "train vehicles: 48 rows, expected 49 (-1)",
        "train total: 72 rows, expected 73 (-1)",
    ]
    scores = read(places["evaluate"] / "metrics.json")["scores"]
    assert {row["benchmark"] for row in scores} == {"val", "vocabulary", "augmentation"}
    assert len(queries.read_results(places["evaluate"] / "submission.json")) == 24
    assert any(row["verdict"] == "CODE PATH ONLY" for row in json.loads((places["quick_review"] / "claims.json").read_text()))
    published.unlink()


# before anything starts


def test_the_full_recipe_is_estimated_from_its_parameters_and_the_logged_speed():
    settings = config.resolve("a3r", profile="full").settings
    rows = {row["stage"]: row for row in costs.estimate(settings, gpus=1)}
    assert rows["finetune"]["gpu_gib"] == 37.8 and rows["finetune"]["hours"] == 7.87
    assert "25,220 steps" in rows["finetune"]["basis"]
    reranked = config.resolve("a3r", profile="full", overrides=["infer.rerank=embedded"]).settings
    assert {row["stage"]: row for row in costs.estimate(reranked, gpus=1)}["infer"]["hours"] > rows["infer"]["hours"]
    unknown = config.resolve("a3r", profile="full", overrides=["data.train_rows=null"]).settings
    assert costs.estimate(unknown, gpus=1) == []


def test_the_base_rows_of_augmentation_are_encoded_without_padding(small_run, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "lib.submissions.a3r.features.load_encoder", lambda *_, padding, **__: seen.append(padding) or pytest.skip.Exception
    )
    cfg = config.resolve("a3r", overrides=small.overrides()).for_stage("augmentation", augmentation.SETTINGS)
    with pytest.raises(AttributeError):
        augmentation._load_chooser(
            {}, cfg, runs.Run("a3r", "augmentation", "tiny", small_run.folder, small_run.folder, "", {}, base=small_run.home)
        )
    assert seen == ["none"]
