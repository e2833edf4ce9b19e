"""What prompts have in common is read once: with the same logits as each prompt alone, and for the same picture only."""

import pytest
import torch
from torch import Tensor

from lib import conversation, datasets, llava, reading, snapshot_texts
from lib.conversation import VICUNA_V1
from lib.llava import Llava
from tests.unit.test_snapshots import RECIPE

QUESTIONS = ("What is the weather?", "Where?", "What is the kind of the vehicle in the middle of the road?", "Who is it?", "Why?")


@pytest.fixture(scope="module")
def bundle() -> Llava:
    tokenizer = snapshot_texts.build_tokenizer(768)
    return Llava(llava.build(RECIPE.architecture, tokenizer.image_token_id, seed=3).eval(), tokenizer)


def picture(seed: int, views: int = 1) -> Tensor:
    return torch.randn(views, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def prompts_of(bundle: Llava, views: list[Tensor]) -> list[list[int]]:
    """A question about each of the pictures."""
    return [
        datasets.encode_prompt(bundle, conversation.dialogue([question], [], pictured=len(own) > 0), VICUNA_V1, views=len(own))
        for question, own in zip(QUESTIONS, views, strict=False)
    ]


def pictures_seen(bundle: Llava, prompts: list[list[int]], views: list[Tensor]) -> tuple[list[int], Tensor]:
    """How many pictures the tower sees at each call, and the logits (B, vocabulary) of the tokens that follow the prompts."""
    seen = []
    hook = bundle.model.model.vision_tower.register_forward_pre_hook(
        lambda _, given, named: seen.append(len(given[0] if given else named["pixel_values"])), with_kwargs=True
    )
    with torch.inference_mode():
        ready = reading.prepare(bundle, prompts, views)
        found = bundle.model(ready.input_ids, attention_mask=ready.attention_mask, position_ids=ready.places, **ready.seen)
    hook.remove()
    return seen, found.logits[:, -1]


def alone(bundle: Llava, prompt: list[int], own: Tensor) -> Tensor:
    """The logits after one prompt, by the model's plain call."""
    with torch.inference_mode():
        return bundle.model(torch.tensor([prompt]), pixel_values=own if len(own) else None).logits[0, -1]


def check(bundle: Llava, views: list[Tensor], expected: list[int]) -> None:
    prompts = prompts_of(bundle, views)
    seen, logits = pictures_seen(bundle, prompts, views)
    assert seen == expected
    for prompt, own, found in zip(prompts, views, logits, strict=True):
        assert torch.allclose(found, alone(bundle, prompt, own), atol=1e-4)


def test_a_picture_that_is_asked_about_again_is_read_once(bundle: Llava):
    first, second = picture(1), picture(2)
    check(bundle, [first, second, first, first, second], [2])


def test_several_views_of_a_conversation_are_one_beginning(bundle: Llava):
    first, second = picture(1, views=2), picture(2, views=2)
    check(bundle, [first, first, second], [4])


def test_pictures_that_are_equal_but_not_the_same_are_read_each(bundle: Llava):
    check(bundle, [picture(1), picture(1), picture(1)], [3])


@pytest.mark.parametrize("views", [1, 2])
def test_beginnings_that_differ_are_read_with_their_prompts(bundle: Llava, views: int):
    first, other = picture(1), torch.empty(0, 3, 32, 32) if views == 1 else picture(2, views=2)
    check(bundle, [first, other, first], [2 if views == 1 else 4])


def test_a_prompt_that_ends_with_its_picture_is_read_with_it(bundle: Llava):
    own = picture(1)
    prompts = [[1, *[bundle.tokenizer.image_token_id] * bundle.image_tokens]] * 2
    seen, logits = pictures_seen(bundle, prompts, [own, own])
    assert seen == [2] and torch.allclose(logits, alone(bundle, prompts[0], own), atol=1e-4)


def test_without_pictures_nothing_is_seen(bundle: Llava):
    bare = torch.empty(0, 3, 32, 32)
    check(bundle, [bare, bare], [])
    assert reading.prepare(bundle, prompts_of(bundle, [bare]), [bare]).seen == {}


def test_a_single_prompt_is_left_as_it_is(bundle: Llava):
    own = picture(1)
    (prompt,) = prompts_of(bundle, [own])
    ready = reading.prepare(bundle, [prompt], [own])
    assert ready.input_ids.tolist() == [prompt] and ready.attention_mask.all() and torch.equal(ready.seen["pixel_values"], own)
    assert ready.places.tolist() == [list(range(len(prompt)))]


def test_no_gradient_is_kept(bundle: Llava):
    own = picture(1)
    cache = reading.prepare(bundle, prompts_of(bundle, [own, own]), [own, own]).seen["past_key_values"]
    assert not any(value.requires_grad for layer in cache.layers for value in (layer.keys, layer.values))
    assert {len(layer.keys) for layer in cache.layers} == {2}
