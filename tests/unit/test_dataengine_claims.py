"""The claims of dataengine: the README's table and what follows from it, what may never be confirmed, sources, story and costs."""

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

import lib.submissions.dataengine
from lib import claims as ladder
from lib import config, files, inputs, paths
from lib.consistency import compute
from lib.submissions.dataengine import benchmarks, costs, mmbench_table, toy

FOLDER = Path(lib.submissions.dataengine.__file__).parent
BOOK = ladder.read_claims(FOLDER / "claims.yaml")
CLAIMS = {claim.id: claim for claim in BOOK.claims}
COLUMNS = ("seed", "mmbench", "mme_perception", "mme_cognition", "mme_total", "gqa", "vqav2", "sqa", "sqa_image")
FACT = {column: column.removeprefix("mme_") for column in COLUMNS}
SERVED = ("mmbench", "vqav2")
TABLE = {
    "base": "66.04 66.66 1475 290 1765 57.27 77.56 70.67 68.27",
    "engine": "68.57 67.18 1511 303 1814 58.02 78.18 73.17 71.15",
}
WRITTEN = {
    "seed accuracy", "mmbench circular_accuracy", "mme perception", "mme cognition", "mme total", "gqa accuracy", "vqav2_val vqa_accuracy",
    "scienceqa accuracy", "scienceqa image_accuracy", "pope f1", "textvqa accuracy", "aokvqa choice_accuracy", "aokvqa direct_accuracy",
}  # fmt: skip
STAGES = ("data_prep", "augmentation", "block_expansion", "finetune", "infer", "evaluate", "quick_review")


def value(name: str) -> float:
    return compute(name, BOOK.known)


def rows(run: str, *, records: str, **others: float) -> list[dict]:
    """Rows as a run trained with these records writes them, with the values that the README claims for `run`."""
    found = []
    for column in COLUMNS:
        claim = CLAIMS[f"{run}_{column}"]
        row = {"benchmark": claim.benchmark, "metric": claim.metric, "value": claim.printed.value, "n": 5_000, "records": records}
        found += [row] + [{**row, "model": model, "value": row["value"] + shift} for model, shift in others.items()]
    return found


def words(scores: list[dict], profile: str = "full") -> dict[str, str]:
    return {verdict.claim.id: verdict.word for verdict in ladder.judge_all(BOOK, scores, profile=profile)}


# --- the table ---


def test_both_rows_of_the_readme_are_claimed_digit_for_digit():
    for run, printed in TABLE.items():
        assert [CLAIMS[f"{run}_{column}"].value for column in COLUMNS] == printed.split()
        for column in COLUMNS:
            assert BOOK.facts[f"{run}_{FACT[column]}"].value == CLAIMS[f"{run}_{column}"].value


def test_claims_name_only_scores_that_the_evaluation_writes():
    named = {f"{claim.benchmark} {claim.metric}" for claim in BOOK.claims if claim.metric is not None}
    assert named <= WRITTEN
    assert all(claim.group == "all" and claim.model == "finetuned" for claim in BOOK.claims)


def test_mme_adds_up_in_both_rows_and_in_the_gains():
    for run in TABLE:
        parts = [CLAIMS[f"{run}_mme_{part}"].printed.value for part in ("perception", "cognition", "total")]
        assert parts[0] + parts[1] == parts[2]
    assert [value(f"gain_{part}") for part in ("perception", "cognition", "total")] == [36, 13, 49]


@pytest.mark.parametrize("column", COLUMNS)
def test_a_gain_and_its_standard_error_are_those_of_the_claimed_values(column):
    before, after = (CLAIMS[f"{run}_{column}"].printed.value for run in ("base", "engine"))
    said = re.search(r"by ([\d.]+) points(?: \(standard error (?:at most )?([\d.]+)\))?$", CLAIMS[f"gain_{column}"].statement)
    assert float(said[1]) == pytest.approx(after - before, abs=1e-9)
    assert value(f"gain_{FACT[column]}") == pytest.approx(after - before)
    if column.startswith("mme"):
        assert said[2] is None
        return
    share, questions = before / 100, value(f"{column}_questions")
    assert said[2] == f"{100 * math.sqrt(share * (1 - share) / questions):.2f}" == f"{value(f'error_{column}'):.2f}"


def test_the_gain_on_mmbench_is_smaller_than_one_standard_error_and_said_to_be():
    assert value("error_mmbench") == pytest.approx(1.4, abs=0.05)
    found = {result.check.id: result.outcome for result in ladder.run_checks(BOOK)}
    assert found["mmbench_beyond_one_error"].text == "0.52 <= 1.38178"
    assert not found["gqa_beyond_chance"].holds and found["gqa_beyond_one_error"].holds


# --- the audit ---


def test_exactly_these_of_the_published_relations_do_not_hold():
    results = ladder.run_checks(BOOK)
    assert len(results) > 40
    assert {result.check.id: result.outcome.text for result in results if not result.outcome.holds} == {
        "mmbench_beyond_one_error": "0.52 <= 1.38178",
        "mmbench_beyond_chance": "0.52 <= 3.8301",
        "gqa_beyond_chance": "0.75 <= 1.22263",
        "zoo_agrees_on_gqa": "5.73 >= 1.22263",
        "zoo_agrees_on_vqav2": "1.54 >= 0.352867",
        "records_reach_zoo_on_gqa": "58.02 < 63",
        "records_reach_zoo_on_vqav2": "78.18 < 79.1",
        "first_table_adds_up": "35.298 > 5",
        "ae7_choice_rises": "0 <= 0",
        "a13_mmbench_rises": "-0.1 <= 0",
        "a13_choice_rises": "-0.1 <= 0",
        "ae13_choice_rises": "-0.5 <= 0",
        "ae13_direct_rises": "-0.5 <= 0",
    }


def test_every_fact_is_used_and_the_reference_row_is_that_of_the_facts():
    expressions = [check.expression for check in BOOK.checks] + [one.derive or "" for one in (*BOOK.claims, *BOOK.facts.values())]
    named = set(re.findall(r"\w+", " ".join(expressions)))
    assert set(BOOK.facts) <= named
    for claim, fact in {"zoo_vqav2": "zoo_vqav2", "zoo_gqa": "zoo_gqa", "zoo_mme": "zoo_perception", "zoo_mmbench": "zoo_mmbench"}.items():
        assert CLAIMS[claim].value == BOOK.facts[fact].value


@pytest.mark.parametrize("recipe", ["a7", "ae7", "a13", "ae13"])
def test_the_first_versions_table_says_what_its_facts_say(recipe):
    for number, name in enumerate(("base", "round_1", "round_2")):
        claim = CLAIMS[f"minigpt4_{recipe}_{name}"]
        printed = [BOOK.facts[f"{recipe}_{column}_{number}"].value for column in ("mmbench", "choice", "direct")]
        assert claim.statement.endswith(f"MMBench {printed[0]}, A-OKVQA {printed[1]} and {printed[2]}")


# --- verdicts ---


def test_without_any_score_only_what_is_computed_is_green():
    found = words([])
    assert {name for name, word in found.items() if word in ladder.GREEN} == {claim.id for claim in BOOK.claims if claim.derive}
    assert {name for name, word in found.items() if word == "NOT REPRODUCED"} == {"record_example", "conversion", "one_command"}
    unconfirmed = {"data_alone", "upstream_baseline", "sampling_helps", "prompts_help", "records_correct", "better_than_others"}
    assert {name for name, word in found.items() if word == "SOURCE NOT CONFIRMED"} == unconfirmed
    for name in CLAIMS:
        if name.startswith(("zoo", "minigpt4", "records_", "training_time")) and name not in unconfirmed:
            assert found[name] == "NOT TESTABLE HERE", name


@pytest.mark.parametrize(("run", "records"), [("base", "none"), ("engine", "published")])
def test_a_run_answers_the_row_of_the_table_that_it_was_trained_like(run, records):
    found, other = words(rows(run, records=records)), "engine" if run == "base" else "base"
    for column in COLUMNS:
        assert found[f"{run}_{column}"] == ("NOT TESTABLE HERE" if column in SERVED else "REPRODUCED")
        assert found[f"{other}_{column}"] == "NOT TESTABLE HERE"


@pytest.mark.parametrize("column", SERVED)
def test_the_very_number_of_a_server_is_not_confirmed_by_a_proxy(column):
    claim = CLAIMS[f"engine_{column}"]
    [verdict] = [one for one in ladder.judge_all(BOOK, rows("engine", records="published"), profile="full") if one.claim == claim]
    assert (verdict.word, verdict.measured) == ("NOT TESTABLE HERE", claim.printed.value)
    assert verdict.reason.startswith(f"needs the evaluation server of {'MMBench' if column == 'mmbench' else 'VQAv2'}, ")
    assert f"ours, {claim.value}, is a proxy: " in verdict.reason
    assert words(rows("engine", records="published", baseline=-20.0))[f"gain_{column}"] == "NOT TESTABLE HERE"


def test_records_of_the_kits_own_engine_answer_neither_row():
    found = words(rows("engine", records="engine"))
    assert {found[f"{run}_{column}"] for run in TABLE for column in COLUMNS} == {"NOT TESTABLE HERE"}


def test_a_gain_needs_the_baseline_and_earns_its_direction_at_most():
    assert words(rows("engine", records="published", base=-20.0))["gain_seed"] == "NOT TESTABLE HERE"
    found = words(rows("engine", records="published", baseline=-5.0))
    assert found["gain_seed"] == found["gain_gqa"] == found["gain_sqa"] == "DIRECTION ONLY"
    assert found["gain_mme_total"] == "NOT TESTABLE HERE"  # without repeats nothing says how far MME moves by chance
    assert words(rows("engine", records="published", baseline=5.0))["gain_seed"] == "NOT REPRODUCED"
    assert words(rows("engine", records="published", baseline=-0.5))["gain_seed"] == "NOT REPRODUCED"


def test_a_score_off_the_printed_digits_has_the_noise_of_its_questions():
    scores = [{**row, "value": row["value"] + 0.5} for row in rows("engine", records="published")]
    found = words(scores)
    assert found["engine_seed"] == found["engine_gqa"] == found["engine_sqa_image"] == "WITHIN NOISE"
    assert found["engine_mme_total"] == "REPRODUCED"


def test_a_tiny_run_never_turns_a_score_green():
    for records in ("none", "published", "engine"):
        found = words(rows("engine", records=records), profile="tiny")
        assert {found[f"{run}_{column}"] for run in TABLE for column in COLUMNS} == {"CODE PATH ONLY"}


# --- what trains, and on what ---


def test_the_trained_parameters_are_counted_on_the_architecture():
    linear = [(4096, 4096)] * 4 + [(4096, 11008)] * 2 + [(11008, 4096)]
    adapter = sum(128 * (wide + high) for wide, high in linear) * 32
    projector = 1024 * 4096 + 4096 + 4096 * 4096 + 4096
    assert CLAIMS["adapter"].printed.value == adapter == value("adapter_values")
    assert CLAIMS["projector"].printed.value == projector == value("projector_values")
    assert adapter == costs.ADAPTER_PER_RANK * 128 and projector == costs.PROJECTOR and value("tower_values") == costs.TOWER
    assert value("tower_values + projector_values + language_values") == 7_062_902_784


def test_the_architectures_are_those_that_transformers_builds():
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    text = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32000}
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14}
    with torch.device("meta"):
        language = transformers.LlamaForCausalLM(transformers.LlamaConfig(**text, tie_word_embeddings=False))
        tower = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**vision, image_size=336))
    assert sum(one.numel() for one in language.parameters()) == value("language_values")
    assert sum(one.numel() for one in tower.parameters()) == value("tower_values")


def test_the_settings_count_the_parameters_of_the_model_that_is_built():
    torch, llava = pytest.importorskip("torch"), pytest.importorskip("lib.llava")
    settings = config.resolve("dataengine", "base", "full", []).settings
    with torch.device("meta"):
        model = llava.build(llava.ARCHITECTURES[settings.model.name], llava.VICUNA_IMAGE_TOKEN, seed=0)
    assert settings.model.parameters == sum(one.numel() for one in model.parameters())
    assert settings.model.parameters == value("tower_values + projector_values + language_values")


def test_a_wrong_fact_turns_what_rests_on_it():
    facts = {**BOOK.facts, "mix_coco": BOOK.facts["mix_coco"].model_copy(update={"value": "364,101"})}
    wrong = BOOK.model_copy(update={"facts": facts})
    found = {verdict.claim.id: verdict.word for verdict in ladder.judge_all(wrong, [], profile="full")}
    assert (found["mix_count"], found["adapter"]) == ("NOT REPRODUCED", "REPRODUCED")
    assert "coco_adds_up" in {result.check.id for result in ladder.run_checks(wrong) if not result.outcome.holds}


# --- sources and story ---


def test_sources_say_of_every_file_what_it_is_and_where_it_comes_from():
    sources = inputs.sources("dataengine")
    for item in [*sources["data"], *sources["released"]]:
        assert {"path", "what", "where", "sha256"} <= set(item)
        assert not Path(item["path"]).is_absolute() and ".." not in Path(item["path"]).parts
    assert all(isinstance(item["required"], bool) for item in sources["data"])
    for name, weights in sources["weights"].items():
        assert {"repository", "file", "gib", "dtype", "licence", "sha256"} <= set(weights), name
    base = sources["weights"]["llava-v1.5-7b-assembled"]
    assert base["gib"] == pytest.approx(2 * value("tower_values + projector_values + language_values") / 2**30, abs=0.05)
    assert sum(part["gib"] for part in base["parts"]) == pytest.approx(base["gib"], abs=0.1)
    assert [part["name"] for part in base["parts"]] == ["language", "tower", "projector"]  # as lib.assembly takes them
    assert all({"what", "repository", "path", "file"} <= set(part) for part in base["parts"])


def test_the_toy_data_have_every_file_that_the_sources_name(tmp_path):
    listed = {item["path"] for item in inputs.sources("dataengine")["data"]}
    assert {benchmarks.AOKVQA, benchmarks.MME_TRUTH, benchmarks.SCIENCEQA_IMAGES, mmbench_table.TABLE, toy.MIX} <= listed
    assert len(listed) == len(inputs.sources("dataengine")["data"])
    toy.write_toy_data(tmp_path, 0, toy.ToySizes(mix=6, texts=1, captions=2, pool=3, val=1, test=1, bench=2))
    assert [path for path in sorted(listed) if not (tmp_path / path).exists()] == []


def test_the_story_has_a_paragraph_per_stage_and_a_line_per_quirk():
    text = files.read_text(FOLDER / "story.md")
    sections = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    assert tuple(sections) == STAGES == paths.STAGES
    assert all(len(section.split()) > 30 for section in sections.values())
    quirks = {stage: re.findall(r"\*\*Quirk `(\w+)`:\*\*", section) for stage, section in sections.items()}
    assert {stage: found for stage, found in quirks.items() if found} == {"augmentation": ["replies"], "evaluate": ["aokvqa", "reviews"]}
    assert "`answers: chosen`" in sections["infer"]


# --- costs ---


@dataclass(frozen=True)
class Lora:
    r: int = 128


@dataclass(frozen=True)
class Finetune:
    method: str = "lora"
    lora: Lora = field(default_factory=Lora)
    deepspeed: str = "zero3"
    epochs: int = 1
    keep_checkpoints: int = 1


@dataclass(frozen=True)
class Model:
    parameters: int | None = 7_062_902_784


@dataclass(frozen=True)
class Infer:
    checkpoint: Path | None = None
    precision: str = "bf16"
    benchmarks: tuple[str, ...] = ("seed", "gqa")


@dataclass(frozen=True)
class Machine:
    batch: int = 16
    shards: int = 8


@dataclass(frozen=True)
class Sections:
    """What costs.py reads of the settings."""

    model: Model = field(default_factory=Model)
    finetune: Finetune = field(default_factory=Finetune)
    infer: Infer = field(default_factory=Infer)
    machine: Machine = field(default_factory=Machine)


def estimated(settings: Sections, gpus: int = 8) -> dict[str, dict]:
    found = costs.estimate(settings, gpus)
    assert all(set(row) == {"stage", "gpu_gib", "disk_gib", "hours", "basis"} for row in found)
    return {row["stage"]: row for row in found}


def test_the_published_recipe_takes_the_readmes_hours_and_the_memory_of_its_parameters():
    row = estimated(Sections())["finetune"]
    assert row["hours"] == CLAIMS["training_time"].printed.value and "READMEs" in row["basis"]
    trained = value("adapter_values + projector_values")
    weights = 2 * (7_062_902_784 + value("adapter_values"))
    assert row["gpu_gib"] == pytest.approx((weights + 14 * trained) / 8 / 2**30, abs=0.06)
    assert f"{int(trained):,} trained parameters" in row["basis"]


def test_costs_follow_what_is_asked_for():
    def finetune(gpus: int = 8, **changes: object) -> dict:
        return estimated(Sections(finetune=replace(Finetune(), **changes)), gpus)["finetune"]

    published = finetune()
    assert finetune(gpus=4)["hours"] == finetune(epochs=2)["hours"] == 2 * published["hours"]
    assert finetune(method="full")["gpu_gib"] > published["gpu_gib"] > finetune(method="projector")["gpu_gib"]
    assert finetune(deepspeed="none")["gpu_gib"] > finetune(deepspeed="zero2")["gpu_gib"] > published["gpu_gib"]
    assert finetune(keep_checkpoints=3)["disk_gib"] > published["disk_gib"] > finetune(lora=Lora(r=8))["disk_gib"]
    assert finetune(method="projector")["hours"] == 3.5


def test_inference_costs_by_precision_questions_batch_and_shards():
    def infer(gpus: int = 8, machine: Machine | None = None, **changes: object) -> dict:
        return estimated(Sections(infer=replace(Infer(), **changes), machine=machine or Machine()), gpus)["infer"]

    published = infer()
    assert published["gpu_gib"] == pytest.approx(13.2) == 4 * infer(precision="nf4")["gpu_gib"]
    assert infer(precision="fp32")["gpu_gib"] == pytest.approx(2 * published["gpu_gib"], abs=0.1)
    assert infer(benchmarks=("seed", "gqa", "vqav2"))["hours"] > published["hours"]
    assert infer(machine=Machine(shards=2))["hours"] == infer(gpus=2)["hours"] == pytest.approx(4 * published["hours"], abs=0.03)
    assert infer(machine=Machine(batch=1))["hours"] > published["hours"]
    assert infer(checkpoint=Path("lora"))["disk_gib"] == pytest.approx(published["disk_gib"] + 13.2, abs=0.1)
    assert set(costs.QUESTIONS) == set(benchmarks.BENCHMARKS)


def test_nothing_is_estimated_where_the_parameters_are_not_known():
    assert costs.estimate(Sections(model=Model(None)), 1) == []
