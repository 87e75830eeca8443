"""What a training multiplies, and of which share of a card that makes use: MFU, as PaLM defines it (arXiv 2204.02311, B).

Counted are the matrices that each computed place meets, the output head where a target stands, and attention as far as each
query sees; not what is computed again for checkpointed layers, norms and other element-wise work.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from selfalign_jobs.train.batch import MicroBatch

# Dense 16-bit peaks in teraflops, with float32 accumulation; the longest name that a card's own contains is meant. Beside each:
# the document of NVIDIA's that says it, and its figure where that is the one with sparsity, which is twice as much.
PEAK_TERAFLOPS = {
    "A10": 125,  # A10 data sheet: 125
    "A100": 312,  # A100 data sheet, SXM and PCIe: 312
    "A30": 165,  # A30 data sheet: 165
    "A40": 149.7,  # A40 data sheet: 149.7
    "A800": 312,  # A800 40GB Active data sheet: 312, that of the A100 as of its SXM and PCIe boards
    "B200": 2250,  # HGX B200 data sheet: 36 000 with sparsity of eight
    "B300": 2250,  # HGX B300 data sheet: 36 000 with sparsity of eight
    "GB200": 2500,  # GB200 NVL72 data sheet: 360 000 with sparsity of seventy-two
    "GB300": 2500,  # GB300 NVL72 data sheet: 360 000 with sparsity of seventy-two
    "GH200": 989,  # GH200 data sheet: 1 979 with sparsity
    "H100": 989,  # H100 data sheet, SXM: 1 979 with sparsity
    "H100 NVL": 835,  # H100 data sheet, NVL: 1 671 with sparsity
    "H100 PCIe": 756,  # H100 PCIe product brief: 1 513 with sparsity
    "H20": 148,  # H20 data sheet: 148
    "H200": 989,  # H200 data sheet, SXM: 1 979 with sparsity
    "H200 NVL": 835,  # H200 data sheet, NVL: 1 671 with sparsity
    "H800": 989,  # H800 data sheet, SXM: 1 979 with sparsity
    "H800 PCIe": 756,  # H800 data sheet, PCIe: 1 513 with sparsity
    "L20": 119.5,  # L20 data sheet: 119.5
    "L4": 121,  # L4 data sheet: 242 with sparsity
    "L40": 181,  # L40 data sheet: 181.05
    "L40S": 362,  # L40S data sheet: 362.05
    "RTX 3090": 71,  # GA102 architecture whitepaper: 71
    "RTX 4090": 165.2,  # Ada architecture whitepaper: 165.2
    "RTX 5090": 209.5,  # RTX Blackwell architecture whitepaper: 209.5
    "RTX A6000": 154.8,  # GA102 architecture whitepaper: 154.8
}
LESS = {"MIG", "Laptop", "Max-Q", "D", "Ti"}  # other cards, or parts of one, of nearly the same name
VIRTUAL = re.compile(r"\d+[ABCQ]")  # a share of a card that a hypervisor lends: GRID A100-10C, A10-24Q


def peak_flops(card: str) -> float | None:
    """16-bit FLOPs a second that a card of this name has at most; None for one that is not in the table."""
    words = card.replace("Max-Q", "Max_Q").replace("-", " ").replace("Max_Q", "Max-Q").split()
    found = [name for name in PEAK_TERAFLOPS if _within(name.split(), words)]
    if not found or LESS & set(words) or any(VIRTUAL.fullmatch(word) for word in words):
        return None
    return PEAK_TERAFLOPS[max(found, key=len)] * 1e12


def _within(name: list[str], words: list[str]) -> bool:
    return any(words[start : start + len(name)] == name for start in range(len(words)))


@dataclass(frozen=True)
class Work:
    """FLOPs of forward and backward: 6 a weight, 4 where it is frozen (its own gradient is not computed)."""

    place: float  # of a computed place, in all layers
    target: float  # of a target, in the output head
    seen: float  # of a key that a query sees, in one layer
    windows: tuple[int | None, ...]  # of each layer that attends; None: all keys before

    @classmethod
    def of(cls, model: Any) -> Work:
        """That of a model, whole or sharded by ZeRO-3, with or without adapters."""
        config = model.config.get_text_config()
        head = model.get_output_embeddings()
        tables = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
        if head is not None:
            tables.add(id(head.weight))
        place = sum(
            flops * _share_of(name, config)
            for name, parameter in model.named_parameters()
            if id(parameter) not in tables and (flops := _flops(parameter))
        )
        heads = getattr(config, "num_attention_heads", 0)
        size = getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else 0)
        # Forward: queries by keys and weights by values, 2 FLOPs each; backward: twice that.
        seen = 12 * heads * size
        return cls(place, 0 if head is None else _flops(head.weight), seen, tuple(_windows(config)))

    def flops(self, micro: MicroBatch) -> float:
        """Of one micro batch, forward and backward."""
        before, queries = _sequences(micro)
        seen = sum(count * keys_seen(before, queries, window) for window, count in Counter(self.windows).items())
        return float(self.place * micro.places + self.target * len(micro.targets) + self.seen * seen)


def _flops(parameter: Any) -> int:
    shape = getattr(parameter, "ds_shape", parameter.shape)  # ZeRO-3's shards know the shape of the whole
    if len(shape) < 2:
        return 0
    return int(np.prod(shape)) * (6 if parameter.requires_grad else 4)


def _share_of(name: str, config: Any) -> float:
    """Which share of a weight a place meets: of experts, those that it is sent to."""
    if ".experts." not in name:
        return 1.0
    names = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    experts = next((count for each in names if (count := getattr(config, each, None))), None)
    used = getattr(config, "num_experts_per_tok", None) or getattr(config, "moe_topk", None)
    return used / experts if experts and used else 1.0


def _windows(config: Any) -> Iterator[int | None]:
    """The window of each layer that attends to what stood before; linear attention and state spaces are not counted."""
    window = getattr(config, "sliding_window", None)
    types = getattr(config, "layer_types", None)
    if types is None:
        types = ["full_attention" if window is None else "sliding_attention"] * config.num_hidden_layers
    for kind in types:
        if kind in ("full_attention", "sliding_attention"):
            yield window if kind == "sliding_attention" else None


def _sequences(micro: MicroBatch) -> tuple[np.ndarray, np.ndarray]:
    """Of each sequence: keys that stand before its first query, and queries."""
    if micro.packing is None:
        count, length = micro.input_ids.shape
        return np.zeros(count, np.int64), np.full(count, length)
    before, until, start, end = np.array(micro.packing.spans).T
    return until - before, end - start


def keys_seen(before: np.ndarray, queries: np.ndarray, window: int | None) -> int:
    """Keys that the queries of all sequences see, each itself and what is before it in its window."""
    within = queries if window is None else np.clip(window - before, 0, queries)  # queries that see all before them
    found = within * before + within * (within + 1) // 2
    if window is not None:
        found = found + (queries - within) * window
    return int(found.sum())
