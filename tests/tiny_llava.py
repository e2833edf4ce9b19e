"""A LLaVA model of the published shape, as small as it can be, with a tokenizer trained on the spot; tests of its modules share it."""

import io
from pathlib import Path

import sentencepiece
from transformers import LlamaTokenizer, PreTrainedTokenizerFast

from lib import llava
from lib.llava import Llava

SENTENCES = (
    "The pedestrian in the green box stands on the right of the vehicle.",
    "The vehicle in the blue box is moving at 20 km/h on a dry road.",
    "Describe the weather conditions and the road environment.",
    "Answer the questions.",
)
VISION = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 14, "image_size": 28,
}  # fmt: skip
TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}  # fmt: skip


def train_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """A SentencePiece tokenizer with byte fallback, the marks of chatml_direct and an image token; its file is left in the folder."""
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=content,
        model_type="bpe",
        vocab_size=340,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(content.getvalue())
    return read_tokenizer(folder, image_token="<image>", bos_token="<s>", eos_token="</s>")


def read_tokenizer(folder: Path, *, image_token: str, bos_token: str, eos_token: str, legacy: bool = False) -> PreTrainedTokenizerFast:
    """The tokenizer of a SentencePiece file, given the marks that LLaVA-1.6-34B's has."""
    tokenizer = LlamaTokenizer.from_pretrained(
        folder, legacy=legacy, bos_token=bos_token, eos_token=eos_token, unk_token="<unk>", pad_token="<unk>", add_bos_token=True,
        extra_special_tokens={"image_token": image_token},
    )  # fmt: skip
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    tokenizer.eos_token = "<|im_end|>"
    return tokenizer


def build_bundle(folder: Path) -> Llava:
    """A model with random weights and a tokenizer of its own."""
    tokenizer = train_tokenizer(folder)
    ids = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": tokenizer.eos_token_id}
    architecture = {"vision": VISION, "text": {**TEXT, **ids}}
    return Llava(llava.build(architecture, tokenizer.image_token_id, seed=0).eval(), tokenizer)
