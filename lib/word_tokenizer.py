"""Tokenizers for tiny models: the words of a list, one token each, the way a large model knows them; anything else byte by byte."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from lib.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# A blank belongs to the word behind it; a line end or a mark stands alone.
PIECE = r"\n| ?[^\s.,:?']+|[.,:?']| "


def build(
    texts: Iterable[str], vocabulary: int, *, special: Sequence[str], begin: str, end: str, named: Mapping[str, str]
) -> "PreTrainedTokenizerFast":
    """A tokenizer with the special tokens (the first is the unknown one), the 256 bytes, and every word of the texts.

    It puts `begin` in front; `end` ends an answer; `named` gives further special tokens their attributes, as "image_token". Raises
    ConfigError if there are more tokens than the model's vocabulary has places.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for text in texts for word in re.findall(PIECE, text)})
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *(word.replace(" ", "▁") for word in words)]
    if len(pieces) > vocabulary:
        raise ConfigError(f"a vocabulary of {vocabulary} tokens is too small for the base's {len(pieces)}; raise text.vocab_size")
    tokenizer = Tokenizer(models.Unigram([(piece, 0.0) for piece in pieces], unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PIECE), "isolated"), pre_tokenizers.Metaspace(prepend_scheme="never", split=False)]
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, special.index(begin))])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=begin,
        eos_token=end,
        unk_token=special[0],
        pad_token=special[0],
        padding_side="right",
        extra_special_tokens=dict(named),
    )
