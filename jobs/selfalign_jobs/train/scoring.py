"""The log-probability of each target, without logits of a whole sequence; what policy and reference share."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from selfalign_jobs.train.batch import MicroBatch

TILE = 2**27  # logits that are in memory at once; what does not fit in one tile is computed again backwards


def add_scoring_head(model: Any) -> None:
    """`model(…, targets=, targets_at=)` gives the log-probability (float32, nats) of each target instead of logits.

    Only the places `targets_at` of the flattened sequences meet the output head. Add it before PEFT wraps the model.
    """
    cap, scale = _final_cap_and_scale(model.config.get_text_config())

    def log_probs(model: Any, scored: Tensor, targets: Tensor) -> Tensor:
        head = model.get_output_embeddings()

        def score(hidden: Tensor, targets: Tensor) -> Tensor:
            logits = head(hidden).float() * scale
            if cap is not None:
                logits = cap * torch.tanh(logits / cap)
            return logits.gather(1, targets[:, None]).squeeze(1) - logits.logsumexp(1)

        rows = max(1, TILE // head.weight.shape[0] if head.weight.ndim == 2 else TILE // model.config.vocab_size)
        if len(targets) <= rows:
            return score(scored, targets)
        tiles = zip(scored.split(rows), targets.split(rows), strict=True)
        return torch.cat([checkpoint(score, *tile, use_reentrant=False) for tile in tiles])

    _score_places(model, log_probs)


def add_reward_head(model: Any) -> None:
    """`model(…, targets=, targets_at=)` gives the raw reward (float32) at each of these places of the flattened sequences.

    transformers' own forward finds an answer's end by its padding, which a packed sequence has none of.
    """
    _score_places(model, lambda model, scored, _: model.score(scored).float().squeeze(1))


def _score_places(model: Any, score: Callable[[Any, Tensor, Tensor], Tensor]) -> None:
    """Have the model's forward end in `score` of the hidden states at some places, where it is asked for targets."""
    plain = model.forward

    @functools.wraps(type(model).forward)
    def forward(
        self: Any, *args: Any, targets: Tensor | None = None, targets_at: Tensor | None = None, **kwargs: Any
    ) -> Any:
        if targets is None or targets_at is None:
            return plain(*args, **kwargs)
        hidden = self.base_model(*args, use_cache=False, **kwargs).last_hidden_state
        return score(self, hidden.flatten(0, 1).index_select(0, targets_at), targets)

    model.forward = types.MethodType(forward, model)


def _final_cap_and_scale(config: Any) -> tuple[float | None, float]:
    """What a model does to its logits after the head, as transformers' models name it."""
    scale = next(
        (
            value
            for name in ("logit_scale", "output_multiplier", "lm_head_multiplier")
            if (value := getattr(config, name, None)) is not None
        ),
        None,
    )
    if scale is None and (scaling := getattr(config, "logits_scaling", None)) is not None:
        scale = scaling if config.model_type == "hyperclovax" else 1 / scaling
    return getattr(config, "final_logit_softcapping", None), 1.0 if scale is None else scale


def target_scores(model: Any, micro: MicroBatch) -> Tensor:
    """Log-probability of each target, or reward at it, (targets,)."""
    layout: dict[str, Any] = {}
    if micro.packing is not None:
        layout = {"position_ids": micro.position_ids, "packing": micro.packing}
    found: Tensor = model(input_ids=micro.input_ids, targets=micro.targets, targets_at=micro.targets_at, **layout)
    return found


def answer_scores(model: Any, micro: MicroBatch) -> Tensor:
    """Log-probability of each answer, or its reward, (examples, answers), 0 of one that is not there."""
    scores, lengths = target_scores(model, micro), micro.answer_lengths
    if len(lengths) == 0:
        return scores.sum() * scores.new_zeros(lengths.shape)  # still a part of the model's graph
    return torch.segment_reduce(scores, "sum", lengths=lengths.flatten(), unsafe=True).view(lengths.shape)
