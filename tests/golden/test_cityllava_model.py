"""Golden cases of the model's side of cityllava: prompts, labels, places of the pictures, pixels, order of samples, shares."""

import base64
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from lib import datasets, llava
from lib.conversation import CHATML_DIRECT, IGNORED, Encoded, Rendered, Turn, encode, next_turns, prompt, read_turns, render
from lib.datasets import Collator, group_by_length, group_by_modality, share
from lib.errors import DataError
from lib.llava import best_resolution, pad_to_square, prepare
from lib.submissions.cityllava.prompts import ORDERS, clean, question
from tests.golden.loading import DEFAULT, cases
from tests.tiny_llava import read_tokenizer

PLACEHOLDER = -200  # the published code's id of a picture, before its features are put there
FAR = 10_000  # tokens: nothing is cut
# An answer that holds <|im_end|>: the original drops the sample in training with a warning, ours refuses it by name.
REFUSED = {"answer_contains_separator"}


def read(filename: str) -> list[dict]:
    """The cases of one file; at least one."""
    found = cases("cityllava", filename)["cases"]
    assert found
    return found


def image_of(rows: list) -> Image.Image:
    return Image.fromarray(np.array(rows, dtype=np.uint8))


# --- chat template and labels ---


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, PreTrainedTokenizerFast]:
    """The recorded tokenizer with and without `legacy`, a blank before the text after each mark."""
    recorded = Path(os.environ.get("GOLDEN_DIR", DEFAULT)) / "cityllava" / "tiny_tokenizer.model.b64"
    if not recorded.is_file():
        pytest.skip(f"golden file cityllava/{recorded.name} is missing")
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "tokenizer.model").write_bytes(base64.b64decode(recorded.read_text()))
    marks = {"image_token": "<|endoftext|>", "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    return {legacy: read_tokenizer(folder, legacy=legacy, **marks) for legacy in (True, False)}


def test_prompts_ids_and_labels_are_the_recorded_ones(tokenizers):
    for case in read("chat_template_and_labels.json"):
        given, output = case["input"], case["output"]
        turns, tokenizer = read_turns(given["conversation"], where=case["name"]), tokenizers[given["legacy"]]
        if case["name"] in REFUSED:
            with pytest.raises(DataError):
                render(turns, CHATML_DIRECT)
            assert prompt([*turns, Turn("user", "")], CHATML_DIRECT).text.startswith(output["prompt"])
            continue
        rendered = render(turns, CHATML_DIRECT)
        encoded = encode(rendered, tokenizer, min(1, rendered.text.count("<image>")), FAR)
        ids = [PLACEHOLDER if token == tokenizer.image_token_id else token for token in encoded.input_ids]
        assert (rendered.text, ids) == (output["prompt"], output["input_ids"]), case["name"]
        if output["warnings"]:
            # The original drops what it miscounts, such as two questions with a legacy tokenizer; ours trains every answer there is.
            answers = [turn.text for turn in turns if turn.role == "assistant" and turn.text]
            assert trained_texts(encoded, tokenizer) == [f"{answer} <|im_end|>" for answer in answers], case["name"]
        else:
            assert encoded.labels == output["labels"], case["name"]
            assert trained_texts(encoded, tokenizer) == output["supervised_text"], case["name"]


def trained_texts(encoded: Encoded, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Runs of trained tokens as text, with the blank before <|im_end|> that the recording's `decode` put there."""
    runs = itertools.groupby(encoded.labels, key=lambda label: label != IGNORED)
    texts = [tokenizer.decode(list(run)) for trained, run in runs if trained]
    return [text.replace(" <|im_end|>", "<|im_end|>").replace("<|im_end|>", " <|im_end|>") for text in texts]


# --- places of the pictures ---


class WordLengths:
    """The recording's toy tokenizer: 10 + length of each word, with a start token if there is one."""

    image_token_id = PLACEHOLDER

    def __init__(self, start: list[int]) -> None:
        self.start = start

    def __call__(self, text: str, *, add_special_tokens: bool, **_: object) -> dict[str, list]:
        ids = (self.start if add_special_tokens else []) + [10 + len(word) for word in text.split()]
        return {"input_ids": ids, "offset_mapping": [(0, 0)] * len(ids)}


def test_the_picture_is_spliced_in_where_its_mark_stands():
    # `model_name_from_path` of the same file names runs by their folder; this kit's runs have names of their own.
    for case in read("image_token_splice.json"):
        for name, start in (("with_bos", [1]), ("without_bos", [])):
            rendered, image_tokens = Rendered(case["input"], ()), case["input"].count("<image>")
            if image_tokens > 1:  # no data of cityllava has several marks, and here one stands for all pictures
                with pytest.raises(DataError):
                    encode(rendered, WordLengths(start), image_tokens, FAR)
                continue
            assert encode(rendered, WordLengths(start), image_tokens, FAR).input_ids == case[name], case["input"]


class Recorded:
    """Gives the recorded ids of the text on each side of the picture; each id stands for one character."""

    image_token_id = PLACEHOLDER

    def __init__(self, ids: list[int]) -> None:
        self.parts = [list(run) for is_text, run in itertools.groupby(ids, key=lambda token: token != PLACEHOLDER) if is_text]

    def __call__(self, text: str, **_: object) -> dict[str, list]:
        ids = self.parts.pop(0) if text else []
        assert len(ids) == len(text)
        return {"input_ids": ids, "offset_mapping": [(place, place + 1) for place in range(len(ids))]}


def rendered_of(ids: list[int], labels: list[int] | None) -> Rendered:
    """A text of one character per id, with the trained ones as answers."""
    text, trained = "", []
    for number, token in enumerate(ids):
        if labels and labels[number] != IGNORED:
            trained.append((len(text), len(text) + 1))
        text += "<image>" if token == PLACEHOLDER else "x"
    return Rendered(text, tuple(trained))


def unpadded(rows: list[list] | None, masks: list[list] | None) -> list[list] | None:
    """The rows without what their attention mask leaves out."""
    if rows is None or masks is None:
        return rows
    return [[item for item, seen in zip(row, mask, strict=True) if seen] for row, mask in zip(rows, masks, strict=True)]


def test_features_follow_the_recorded_layout():
    """One mark per text, expanded before the model sees it, which the notes call equivalent; padding is compared by what it leaves."""
    for case in read("multimodal_layout.json"):
        given, output = case["input"], case["output"]
        rows, labels = (unpadded(given[name], given["attention_mask"]) for name in ("input_ids", "labels"))
        places = given["images_per_sample"] * given["features_per_image"]
        encoded = [
            encode(rendered_of(ids, own), Recorded(ids), places * ids.count(PLACEHOLDER), given["max_length"])
            for ids, own in zip(rows, labels or [None] * len(rows), strict=True)
        ]
        batch = Collator(0)([{"input_ids": one.input_ids, "labels": one.labels, "pixel_values": None} for one in encoded])
        found = unpadded(batch["input_ids"].tolist(), batch["attention_mask"].tolist())
        sequence, expected_labels = (unpadded(output[name], output["attention_mask"]) for name in ("sequence", "labels"))
        assert [named(ids, given["features_per_image"]) for ids in found] == sequence, case["name"]
        trained = unpadded(batch["labels"].tolist(), batch["attention_mask"].tolist())
        assert expected_labels in (None, trained), case["name"]


def named(ids: list[int], features_per_image: int) -> list:
    """The ids with the places of the pictures named by the picture they belong to."""
    places = itertools.count()
    return [f"IMG{next(places) // features_per_image}" if token == PLACEHOLDER else token for token in ids]


# --- pixels ---


def test_local_and_global_views_have_the_recorded_pixels():
    content = cases("cityllava", "bigsmall_image.json")
    assert content["processor"]["mean"] == list(llava.MEAN) and content["processor"]["std"] == list(llava.STD)
    for case in read("bigsmall_image.json"):
        pictures = [image_of(case["input"][name]) for name in ("local_hwc", "global_hwc")]
        values = prepare(pictures, content["processor"]["size"], "squash")
        assert values == pytest.approx(np.array(case["output"]), abs=1e-3)


def test_padded_pictures_have_the_recorded_pixels():
    padded = cases("cityllava", "bigsmall_image.json")["pad_to_square"]["cases"]
    assert padded
    for case in padded:
        assert np.asarray(pad_to_square(image_of(case["input_hwc"]))).tolist() == case["output_hwc"]


def test_anyres_chooses_the_recorded_grid():
    pinpoints = [tuple(one) for one in cases("cityllava", "anyres.json")["pinpoints"]]
    assert llava.grids(336) == pinpoints
    for case in read("anyres.json"):
        best = best_resolution(tuple(case["image_size_wh"]), pinpoints)
        assert list(best) == case["best_resolution"]
        assert [side // 336 for side in best] == case["grid_wh"]


# --- order of samples, shares ---


def test_samples_are_grouped_as_recorded():
    for case in read("length_grouped_sampler.json"):
        given = case["input"]
        if case["function"] == "split_to_even_chunks":
            found = datasets.deal_evenly(given["indices"], given["lengths"], given["num_chunks"])
        else:
            arguments = (given["lengths"], given["batch_size"], given["world_size"])
            group = group_by_modality if "modality" in case["function"] else group_by_length
            found = group(*arguments, torch.Generator().manual_seed(given["torch_seed"]))
        assert found == case["output"], given


def test_the_shares_of_all_processes_are_together_everything():
    """The recorded sizes leave processes without work when they divide the number of scenarios; only the union must match."""
    for case in read("sharding.json"):
        count, parts = case["input"]["n"], case["input"]["num_pool"]
        assert sum(case["output"]["shard_sizes"]) == count
        merged: dict[int, int] = {}
        for part in range(parts):
            merged |= dict.fromkeys(share(range(count), part, parts), part)
        assert sorted(merged) == list(range(count))


# --- the two questions ---


def test_inference_asks_in_the_recorded_words():
    for case in read("inference_prompts.json"):
        given, output = case["input"], case["output"]
        phase, raw = int(Path(given["image"]).stem), given["raw_model_outputs"]
        (kinds,) = ORDERS["vehicle_first"]
        questions = [question(kind, phase, given["view"], stage_line="as_published") for kind in kinds]
        asked = [prompt(next_turns(questions, raw[:turn], CHATML_DIRECT, history="as_published"), CHATML_DIRECT).text for turn in (0, 1)]
        assert asked == [output["prompt_turn_1"], output["prompt_turn_2"]]
        captions = {f"caption_{kind}": clean(text) for kind, text in zip(kinds, raw, strict=True)}
        assert captions == output["result"]
