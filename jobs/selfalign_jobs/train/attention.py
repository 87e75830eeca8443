"""Attention over packed sequences, for ordinary transformers models: registered by name, no model patched, no mask made.

The layout travels as the keyword `packing` of the model's forward, through gradient checkpointing, PEFT and DeepSpeed.
No mask function has this name, so transformers makes no mask. Windows, soft caps and scales come from the model's layers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

from selfalign_jobs.train.batch import Packing

NAME = "selfalign_packed"
FLEX_MULTIPLE = 128  # places that flex_attention's blocks have
VARLEN_HEAD = 256  # the largest head of torch's varlen_attn


def backend_of(device: str, dtype: torch.dtype, softcap: float | None, head: int) -> str:
    """Which kernel attends: `sdpa` (a call a sequence), `varlen` (torch's FlashAttention) or `flex` (any score)."""
    if device != "cuda":
        return "sdpa"  # flex_attention has no backward elsewhere
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


# --- a call a sequence: what CPUs do, and what the kernels are held to ------------------------------------------------


def _sdpa(
    q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    found = []
    for before, until, start, end in packing.spans:
        keys, values = k[:, :, start:end], v[:, :, start:end]
        if until > before:
            keys = torch.cat([k[:, :, before:until], keys], 2)
            values = torch.cat([v[:, :, before:until], values], 2)
        queries, length = q[:, :, start:end], keys.shape[2]
        narrow = window if window is not None and window < length else None
        if softcap is None and until == before and narrow is None:
            seen = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=scale)
        else:
            mask = _causal_at_the_end(end - start, length, narrow, q.device)
            if softcap is None:
                seen = F.scaled_dot_product_attention(queries, keys, values, mask, scale=scale)
            else:
                scores = softcap * torch.tanh((queries @ keys.transpose(2, 3)) * (scale / softcap))
                weights = scores.masked_fill(~mask, float("-inf")).softmax(-1, dtype=torch.float32)
                seen = weights.to(values.dtype) @ values
        found.append(seen.transpose(1, 2))
    return torch.cat(found, 1)


@cache
def _all_pairs(longest: int, device: torch.device) -> Tensor:
    """How much later each query stands than each key, once for all lengths up to this one."""
    place = torch.arange(longest, device=device)
    return place[:, None] - place[None]


def _causal_at_the_end(queries: int, keys: int, window: int | None, device: torch.device) -> Tensor:
    later = _all_pairs(-(-keys // 512) * 512, device)[keys - queries : keys, :keys]
    return later >= 0 if window is None else (later >= 0) & (later < window)


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

    kept = packing.blocks
    if window not in kept:
        size, device = len(packing.position_of), packing.position_of.device
        mask = sees(packing, window)
        kept[window] = create_block_mask(mask, None, None, size, size, device=device, _compile=device.type == "cuda")
    return kept[window]


def sees(packing: Packing, window: int | None) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """flex_attention's mask: the same example, not later, the prompt or the same answer; windows by position, not place."""
    example, part, position = packing.example_of, packing.part_of, packing.position_of

    def mask(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:  # noqa: ARG001
        found = (example[query] == example[key]) & (query >= key) & ((part[key] == 0) | (part[key] == part[query]))
        return found if window is None else found & (position[query] - position[key] < window)

    return mask


BACKENDS: dict[str, Callable[..., Tensor]] = {"sdpa": _sdpa, "varlen": _varlen, "flex": _flex}
