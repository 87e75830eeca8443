"""A model with random weights whose engine does what a trained one's does: its cost a token, and logits of that size."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

TINY = Path(__file__).parents[2] / "examples/tiny-model/model"
END, PAD, START, UNKNOWN = "<|im_end|>", "<|endoftext|>", "<|im_start|>", "<|unknown|>"
# Standard deviation of the head's weights: logits of ± 7 (1B) and more, where bfloat16 has steps of 0.03 to 0.06.
HEAD = 0.16


@dataclass(frozen=True)
class Shape:
    """A Llama, but for a head of its own: tied, random weights would only repeat the last token."""

    hidden: int
    feed_forward: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int
    context: int


SHAPES = {
    "Llama-3.2-1B": Shape(2048, 8192, 16, 32, 8, 128_256, 131_072),
    "tiny": Shape(256, 512, 3, 4, 2, 4_096, 2_048),
}


def make(shape: Shape, folder: Path, device: str, known: str) -> None:
    """Write the model and its tokenizer, which has a word for every id; first of them the words of the text `known`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        vocab_size=shape.vocabulary,
        max_position_embeddings=shape.context,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
        dtype="bfloat16",
    )
    with torch.device(device):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
        torch.nn.init.normal_(model.lm_head.weight, std=HEAD)
    model.save_pretrained(folder)
    _tokenizer(shape.vocabulary, known, folder)


def _tokenizer(size: int, known: str, folder: Path) -> None:
    """What the model writes reads back as the same ids, so texts grow as a trained model's do."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    special = [END, PAD, START, UNKNOWN]
    words = list(dict.fromkeys([*special, *re.findall(r"\w+|[^\w\s]+", known)]))
    words += [f"w{number}" for number in range(size - len(words))]
    tokenizer = Tokenizer(models.WordLevel({word: id for id, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"eos_token": END, "pad_token": PAD, "unk_token": UNKNOWN, "additional_special_tokens": [START]}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"} | named))
    (folder / "chat_template.jinja").write_text((TINY / "chat_template.jinja").read_text())
