"""The parts of a LLaVA-1.5 as they are published, as small as they can be: Vicuna's folder, CLIP's, the projector's file."""

import json
from pathlib import Path

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from tests.tiny_llava import TEXT, VISION, train_tokenizer

State = dict[str, torch.Tensor]
VOCABULARY = 340
# What lmsys/vicuna-7b-v1.5 says, of a small size.
LANGUAGE_CONFIG = {
    "_name_or_path": "vicuna-7b-v1.5", "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
    "initializer_range": 0.02, "model_type": "llama", "pad_token_id": 0, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None,
    "tie_word_embeddings": False, "torch_dtype": "float16", "transformers_version": "4.31.0", "use_cache": True, "vocab_size": VOCABULARY,
    **TEXT,
}  # fmt: skip
MARK = {"__type": "AddedToken", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
TOKENIZER_CONFIG = {
    "add_bos_token": True, "add_eos_token": False, "bos_token": {**MARK, "content": "<s>"}, "clean_up_tokenization_spaces": False,
    "eos_token": {**MARK, "content": "</s>"}, "legacy": False, "model_max_length": 4096, "pad_token": None, "padding_side": "right",
    "sp_model_kwargs": {}, "tokenizer_class": "LlamaTokenizer", "unk_token": {**MARK, "content": "<unk>"},
}  # fmt: skip
GENERATION_CONFIG = {"bos_token_id": 1, "eos_token_id": 2, "max_length": 4096, "pad_token_id": 0, "temperature": 0.9, "top_p": 0.6}


def build_model() -> LlavaForConditionalGeneration:
    """A model, built without the kit's own code, of which there are parts."""
    torch.manual_seed(0)
    text = LlamaConfig(
        **TEXT, vocab_size=VOCABULARY, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.2
    )
    vision = CLIPVisionConfig(**VISION, initializer_factor=5.0)
    return LlavaForConditionalGeneration(
        LlavaConfig(text_config=text, vision_config=vision, image_token_index=258, image_seq_length=4)
    ).eval()


def language_state(model: LlavaForConditionalGeneration) -> State:
    """The language model's tensors as a LLaMA of its own names them, with a buffer of old versions."""
    state = {f"model.{name}": value for name, value in model.model.language_model.state_dict().items()}
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    return {**state, **buffer, "lm_head.weight": model.lm_head.weight.detach()}


def write_language(folder: Path, state: State, **entries: object) -> Path:
    """A folder as Vicuna's: pickled shards with an index, config, SentencePiece tokenizer."""
    train_tokenizer(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG))
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<unk>"}))
    (folder / "generation_config.json").write_text(json.dumps(GENERATION_CONFIG))
    (folder / "config.json").write_text(json.dumps({**LANGUAGE_CONFIG, **entries}))
    names = list(state)
    parts = {"pytorch_model-00001-of-00002.bin": names[:9], "pytorch_model-00002-of-00002.bin": names[9:]}
    for filename, part in parts.items():
        torch.save({name: state[name] for name in part}, folder / filename)
    index = {"metadata": {}, "weight_map": {name: filename for filename, part in parts.items() for name in part}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


def write_parts(folder: Path, model: LlavaForConditionalGeneration) -> tuple[Path, Path, Path]:
    """Language model, tower and projector."""
    tower = CLIPVisionModel(CLIPVisionConfig(**VISION))
    tower.load_state_dict(model.model.vision_tower.state_dict())
    tower.save_pretrained(folder / "clip")
    linears = ((0, model.model.multi_modal_projector.linear_1), (2, model.model.multi_modal_projector.linear_2))
    state = {f"model.mm_projector.{number}.{name}": value for number, linear in linears for name, value in linear.state_dict().items()}
    torch.save(state, folder / "mm_projector.bin")
    return write_language(folder / "vicuna", language_state(model)), folder / "clip", folder / "mm_projector.bin"
