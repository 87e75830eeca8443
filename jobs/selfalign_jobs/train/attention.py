"""Attention over packed sequences, for ordinary transformers models: registered by name, no model patched, no mask made.

The layout travels as the keyword `packing` of the model's forward, through gradient checkpointing, PEFT and DeepSpeed.
No mask function has this name, so transformers makes no mask. Windows, soft caps and scales come from the model's layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

from selfalign_jobs.train.batch import Packing, Span

NAME = "selfalign_packed"
FLEX_MULTIPLE = 128  # places that flex_attention's blocks have
VARLEN_HEAD = 256  # the largest head of torch's varlen_attn
ALIKE = 64  # places by which the examples of a batched call differ at most
LONGEST_IN_GROUP = 256  # beyond it what the mask hides costs as much as calls


def backend_of(device: str, dtype: torch.dtype, softcap: float | None, head: int) -> str:
    """Which kernel attends: `batched` (calls for examples of like length), `varlen` (torch's FlashAttention) or `flex`."""
    if device != "cuda":
        return "batched"  # flex_attention has no backward elsewhere
    half = dtype in (torch.bfloat16, torch.float16)
    return "varlen" if half and softcap is None and head <= VARLEN_HEAD else "flex"


def packed_attention(
    module: Any,  # noqa: ARG001
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packing: Packing | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    backend: str | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """An attention function of transformers: (1, heads, T, size) in, (1, T, heads, size) out."""
    if packing is None or attention_mask is not None or dropout:
        raise RuntimeError("packed attention takes one flat sequence with its packing, no mask and no dropout")
    query, key = query.to(value.dtype), key.to(value.dtype)  # under autocast rotary positions leave float32
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    window = sliding_window if sliding_window is not None and sliding_window < packing.longest_keys else None
    backend = backend or backend_of(query.device.type, query.dtype, softcap, query.shape[-1])
    return BACKENDS[backend](query, key, value, packing, scale, window, softcap), None


AttentionInterface.register(NAME, packed_attention)


# --- a call a sequence: what the kernels are held to ------------------------------------------------------------------


def _sdpa(
    q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    return torch.cat(_each_span(q, *_for_each_head(q, k, v), packing.spans, scale, window, softcap), 1)


def _for_each_head(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    groups = q.shape[1] // k.shape[1]
    return (k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)) if groups > 1 else (k, v)


def _each_span(
    q: Tensor, k: Tensor, v: Tensor, spans: Sequence[Span], scale: float, window: int | None, softcap: float | None
) -> list[Tensor]:
    found = []
    for before, until, start, end in spans:
        keys, values = k[:, :, start:end], v[:, :, start:end]
        if until > before:
            keys = torch.cat([k[:, :, before:until], keys], 2)
            values = torch.cat([v[:, :, before:until], values], 2)
        queries, length = q[:, :, start:end], keys.shape[2]
        narrow = window if window is not None and window < length else None
        if softcap is None and until == before and narrow is None:
            seen = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=scale)
        else:
            seen = _masked(
                queries, keys, values, _causal_at_the_end(end - start, length, narrow, q.device), scale, softcap
            )
        found.append(seen.transpose(1, 2))
    return found


def _masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, softcap: float | None) -> Tensor:
    if softcap is None:
        return F.scaled_dot_product_attention(q, k, v, mask, scale=scale)
    scores = softcap * torch.tanh((q @ k.transpose(2, 3)) * (scale / softcap))
    return scores.masked_fill(~mask, float("-inf")).softmax(-1, dtype=torch.float32).to(v.dtype) @ v


@cache
def _all_pairs(longest: int, device: torch.device) -> Tensor:
    """How much later each query stands than each key, once for all lengths up to this one."""
    place = torch.arange(longest, device=device)
    return place[:, None] - place[None]


def _causal_at_the_end(queries: int, keys: int, window: int | None, device: torch.device) -> Tensor:
    later = _all_pairs(-(-keys // 512) * 512, device)[keys - queries : keys, :keys]
    return later >= 0 if window is None else (later >= 0) & (later < window)


# --- a call for examples of like length: what CPUs do -----------------------------------------------------------------


@dataclass(frozen=True)
class _Group:
    """Examples of like length, each a row that is padded on the right; a padded query's output is not read."""

    places: Tensor  # (examples × longest,): where in the flat sequence each stands
    sees: Tensor  # (examples, 1, longest, longest)


@dataclass(frozen=True)
class _Groups:
    """A micro batch in groups; an example that is too long for one has its spans."""

    groups: tuple[_Group, ...]
    spans: tuple[Span, ...]
    order: Tensor  # (T,): where each place's output stands behind one another, groups first


def _batched(
    q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    """An example whole in one row, its answers told apart by the mask: on a CPU calls cost more than padding does."""
    k, v = _for_each_head(q, k, v)
    all_of_it, found = _grouped(packing, window), []
    for group in all_of_it.groups:
        rows, longest = len(group.sees), group.sees.shape[-1]
        query, key, value = (
            each[0].transpose(0, 1).index_select(0, group.places).unflatten(0, (rows, longest)).transpose(1, 2)
            for each in (q, k, v)
        )
        seen = _masked(query, key, value, group.sees, scale, softcap)
        found.append(seen.transpose(1, 2).flatten(0, 1)[None])
    found += _each_span(q, k, v, all_of_it.spans, scale, window, softcap)
    return torch.cat(found, 1).index_select(1, all_of_it.order)


def _grouped(packing: Packing, window: int | None) -> _Groups:
    """The groups, once a window and micro batch: its layers share them."""
    if ("groups", window) not in packing.kept:
        packing.kept["groups", window] = _in_groups(packing, window)
    found: _Groups = packing.kept["groups", window]
    return found


def _in_groups(packing: Packing, window: int | None) -> _Groups:
    examples = [list(spans) for _, spans in groupby(packing.spans, key=lambda span: span[0])]
    ends = np.array([(spans[0][0], spans[-1][3]) for spans in examples])  # first place, and the one behind the last
    bucket = -(-(ends[:, 1] - ends[:, 0]) // ALIKE)
    order, groups, mask, at = np.empty(len(packing.position_of), np.int64), [], sees(packing, window), 0
    for size in range(1, LONGEST_IN_GROUP // ALIKE + 1):
        start, end = ends[bucket == size].T[..., None]
        if len(start) == 0:
            continue
        step = np.arange((end - start).max())
        there = start + step < end
        order[(start + step)[there]] = at + np.flatnonzero(there)
        at += there.size
        places = torch.from_numpy(np.minimum(start + step, end - 1))
        seen = mask(places, places, places[:, :, None], places[:, None]) & torch.from_numpy(there)[:, None]
        groups.append(_Group(places.flatten(), seen[:, None]))
    spans = [
        span for spans, size in zip(examples, bucket, strict=True) if size * ALIKE > LONGEST_IN_GROUP for span in spans
    ]
    for _, _, start, end in spans:
        order[start:end] = np.arange(at, at + end - start)
        at += end - start
    return _Groups(tuple(groups), tuple(spans), torch.from_numpy(order))


# --- one call for all -------------------------------------------------------------------------------------------------


def _varlen(
    q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    """CUDA, 16 bits. The kernel's causal mask and window are aligned at the end where lengths differ (oracle.py tries it)."""
    from torch.nn.attention.varlen import varlen_attn

    assert softcap is None
    q, k, v = (each[0].transpose(0, 1) for each in (q, k, v))  # (T, heads, size)
    found = varlen_attn(
        q.contiguous(),
        k.index_select(0, packing.key_index),
        v.index_select(0, packing.key_index),
        packing.query_starts,
        packing.key_starts,
        packing.longest_query,
        packing.longest_keys,
        scale=scale,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return found[None]


def _flex(
    q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    """Any score: the soft cap in the kernel, the layout as a mask of blocks."""

    def capped(score: Tensor, *_: Tensor) -> Tensor:
        return score if softcap is None else softcap * torch.tanh(score / softcap)

    found = _flex_attention(q.is_cuda)(
        q, k, v, score_mod=None if softcap is None else capped, block_mask=_blocks(packing, window), scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )  # fmt: skip
    return found.transpose(1, 2)


@cache
def _flex_attention(compiled: bool) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    # Dynamic: a micro batch has another length each time, and a compilation takes seconds.
    run: Callable[..., Any] = torch.compile(flex_attention, dynamic=True) if compiled else flex_attention
    return run


def _blocks(packing: Packing, window: int | None) -> Any:
    """The blocks of the mask, once a window and micro batch: its layers share them."""
    from torch.nn.attention.flex_attention import create_block_mask

    kept = packing.kept
    if ("blocks", window) not in kept:
        size, device = len(packing.position_of), packing.position_of.device
        mask = sees(packing, window)
        kept["blocks", window] = create_block_mask(
            mask, None, None, size, size, device=device, _compile=device.type == "cuda"
        )
    return kept["blocks", window]


def sees(packing: Packing, window: int | None) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Who sees whom: of the same example, what is not later, the prompt and the same answer; windows by position, not place."""
    example, part, position = packing.example_of, packing.part_of, packing.position_of

    def mask(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:  # noqa: ARG001
        found = (example[query] == example[key]) & (query >= key) & ((part[key] == 0) | (part[key] == part[query]))
        return found if window is None else found & (position[query] - position[key] < window)

    return mask


BACKENDS: dict[str, Callable[..., Tensor]] = {"sdpa": _sdpa, "batched": _batched, "varlen": _varlen, "flex": _flex}
