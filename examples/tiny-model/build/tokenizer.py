"""The tokenizer of the tiny model: byte-level BPE in which every word of the language is one token."""

import random
from collections.abc import Iterator

from language import LABELS
from samples import draw_step
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TRAINING_STEPS = 300
MAX_VOCABULARY = 1200
MAX_LENGTH = 512


def chat(prompt: str) -> str:
    """A user turn as the chat template renders it, up to where the assistant speaks."""
    return f"{START}user\n{prompt}{END}\n{START}assistant\n"


def texts(seed: int) -> Iterator[str]:
    """Text in the language, where each word stands both at a start and after a space."""
    rng = random.Random(f"tokenizer {seed}")
    for _ in range(TRAINING_STEPS):
        step = draw_step(rng, sloppy=False)
        for sample in step.short + step.judge + step.copy:
            # The labels are added tokens, so BPE must not see them.
            for text in ("user\n" + sample.prompt, "assistant\n" + sample.reply):
                yield text.replace(LABELS[0], "").replace(LABELS[1], "")


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Train the tokenizer. It encodes any text without loss; each verdict label is one token, space included."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_VOCABULARY,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts(seed), trainer)
    bpe.add_tokens([AddedToken(label, normalized=False) for label in LABELS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START],
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
