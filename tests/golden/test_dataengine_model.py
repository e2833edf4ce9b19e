"""Golden cases of the model's side of dataengine: prompts, ids and labels, pixels, order of samples, shares."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lib import conversation, datasets, llava
from lib.conversation import IMAGE, PLAIN, TEMPLATES, VICUNA_V1, Rendered, Turn, encode, move_image_first, read_turns, render
from lib.errors import DataError
from tests.golden.loading import DEFAULT, cases

PLACEHOLDER = -200  # the published code's id of a picture, before its features are put there
ALSO_CALLED = {"v1": "vicuna_v1"}
# The kit asks in the templates of LLaVA-1.5 and 1.6; `plain` only trains, on a picture and its caption alone; others are of other models.
OTHERS = {"plain", "llava_v1", "v0", "llava_v0", "v0_mmtag", "v1_mmtag", "llava_llama_2", "llama_2", "mistral_instruct", "mpt"}
# A question without an answer at the end: the original masks the whole sample, the kit trains the answers before it.
OPEN = {"trailing_human_turn"}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """The recorded tokenizer, whose first token without a use stands for the picture."""
    folder = Path(os.environ.get("GOLDEN_DIR", DEFAULT)) / "dataengine" / "fixtures" / "tiny_tokenizer_fast"
    if not folder.is_dir():
        pytest.skip(f"golden folder dataengine/fixtures/{folder.name} is missing")
    found = AutoTokenizer.from_pretrained(folder)
    found.add_special_tokens({"additional_special_tokens": ["<picture>"]})
    found.image_token_id = found.convert_tokens_to_ids("<picture>")
    return found


def ids_and_labels(rendered: Rendered, tokenizer: PreTrainedTokenizerFast, max_length: int = 2048) -> tuple[list[int], list[int]]:
    """As recorded: one place for the picture, whatever the text has."""
    found = encode(rendered, tokenizer, rendered.text.count(IMAGE), max_length)
    return [PLACEHOLDER if token == tokenizer.image_token_id else token for token in found.input_ids], found.labels


def test_prompts_are_the_recorded_ones():
    others = set()
    for case in cases("dataengine", "conversation_prompts.json")["cases"]:
        name = ALSO_CALLED.get(case["template"], case["template"])
        if name not in TEMPLATES or name == "plain":
            others.add(name)
            continue
        turns = [Turn(message["role"], message["text"] or "") for message in case["messages"]]
        if turns[-1].text:
            assert render(turns, TEMPLATES[name]).text == case["prompt"], case["case"]
        else:
            assert conversation.prompt(turns[:-1], TEMPLATES[name]).text == case["prompt"], case["case"]
    assert others <= OTHERS


def test_texts_are_cut_at_the_picture_as_recorded(tokenizer):
    for case in cases("dataengine", "tokenizer_image_token.json")["cases"]:
        if f"{IMAGE} " in case["prompt"]:
            continue  # a fast tokenizer makes one blank of two; in conversations a line end follows the picture
        ids, _ = ids_and_labels(Rendered(case["prompt"], ()), tokenizer)
        assert ids == case["ids"], case["prompt"]


def test_ids_and_labels_are_the_recorded_ones(tokenizer):
    for case in cases("dataengine", "label_masks.json")["cases"]:
        turns = read_turns(case["conversations"], where=case["case"])
        known = case["transformers_4.37_tokenizers_0.15_legacy_false"]
        if case["case"] in OPEN:
            with pytest.raises(DataError):
                render([*turns, Turn("user", "again")], VICUNA_V1)
        rendered = render(turns, VICUNA_V1)
        ids, labels = ids_and_labels(rendered, tokenizer, case["model_max_length"])
        assert ids == known["input_ids"], case["case"]
        if case["original_is_lossy"]:
            # Intended: the original leaves out the sample, the kit trains what stands there.
            assert [rendered.text[start:end].strip() for start, end in rendered.answers] == case["ideal_supervised_text"]
        else:
            assert labels == known["labels"], case["case"]


def test_a_caption_alone_is_trained_as_recorded(tokenizer):
    known = cases("dataengine", "label_masks.json")["plain_template"]
    caption = known["conversations"][1]["value"]
    rendered = render([Turn("user", IMAGE), Turn("assistant", caption)], PLAIN)
    assert rendered.text == known["text"]
    assert ids_and_labels(rendered, tokenizer) == (known["input_ids"], known["labels"])


def test_padded_pictures_have_the_recorded_pixels():
    content = cases("dataengine", "expand2square.json")
    assert list(llava.PAD_COLOUR) == content["background_rgb"] and list(llava.MEAN) == content["clip_mean"]
    for case in content["expand2square"]:
        picture = Image.fromarray(np.array(case["input_hwc"], dtype=np.uint8))
        assert np.asarray(llava.pad_to_square(picture)).tolist() == case["output_hwc"]


def ruled_picture(width: int, height: int) -> Image.Image:
    """The picture that the recording's rule draws."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([(40 * x + 10) % 256, (50 * y + 20) % 256, (30 * x * y + 5) % 256], axis=-1).astype(np.uint8))


def test_prepared_pictures_have_the_recorded_values():
    content = cases("dataengine", "expand2square.json")["preprocess"]
    padded = [case for case in content["cases"] if case["image_aspect_ratio"] == "pad"]
    assert padded
    for case in padded:
        values = llava.prepare([ruled_picture(case["width"], case["height"])], content["size"]["shortest_edge"], "pad")
        assert values.ravel()[: len(np.ravel(case["pixel_values"]))] == pytest.approx(np.ravel(case["pixel_values"]), abs=1e-5)


def test_samples_are_grouped_as_recorded():
    content = cases("dataengine", "modality_length_sampler.json")
    for case in content["grouped_order"]:
        drawn = torch.Generator().manual_seed(case["torch_manual_seed"])
        assert datasets.group_by_modality(case["lengths"], case["batch_size"], case["world_size"], drawn) == case["order"]
    for case in content["split_to_even_chunks"]:
        assert datasets.deal_evenly(case["indices"], case["lengths"], case["num_chunks"]) == case["out"]


def test_the_shares_of_all_processes_are_together_everything():
    """The kit deals questions out in turn, the original cuts slices, of which the last may be missing; only the union must match."""
    for case in cases("dataengine", "chunks.json")["cases"]:
        shares = [datasets.share(range(case["n_items"]), part, case["num_chunks"]) for part in range(case["num_chunks"])]
        expected = [item for chunk in case["correct_behaviour_for_us"] for item in chunk]
        assert sorted(item for share in shares for item in share) == expected


def test_the_picture_stands_first_as_recorded():
    for case in cases("dataengine", "image_placeholder_normalisation.json")["cases"]:
        assert move_image_first(case["input"]) == case["output"], case["input"]
