"""What an embedder reads: the text, framed by its own tokenizer, and no more of it than its context holds."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from tokenizers import Tokenizer

from selfalign_jobs.flow import Embed, Request
from selfalign_jobs.generate.engine import Task, Whole


class EmbedRenderer:
    """Texts as token ids."""

    def __init__(self, tokenizer: Tokenizer, context_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(context_tokens)  # [CLS] and [SEP] stay

    @classmethod
    def of(cls, model: Path, context_tokens: int) -> Self:
        """Of a model's folder."""
        return cls(Tokenizer.from_file(str(model / "tokenizer.json")), context_tokens)

    def render(self, request: Request) -> tuple[list[int], Task]:
        """The ids of a text: of a long one its beginning."""
        if not isinstance(request, Embed):
            raise TypeError(f"a model that embeds gives no {type(request).__name__}")
        ids: list[int] = self._tokenizer.encode(request.text).ids
        return ids, Whole()
