"""What a training computes, and of which share of a card that makes use (MFU, as PaLM defines it)."""

from __future__ import annotations

from typing import Any

# Dense 16-bit peaks by the makers' data sheets, in teraflops; the longest name that a card's own contains is meant.
PEAK_TERAFLOPS = {
    "A10": 125,
    "A100": 312,
    "B200": 2250,
    "GB200": 2500,
    "H100": 989,
    "H100 NVL": 835,
    "H100 PCIe": 756,
    "H200": 989,
    "H200 NVL": 835,
    "L4": 121,
    "L40S": 362,
    "RTX 4090": 165,
    "RTX A6000": 155,
}


def peak_flops(card: str) -> float | None:
    """FLOPs a second that a card of this name has at most; None for one that is not in the table."""
    words = card.replace("-", " ").split()
    found = [name for name in PEAK_TERAFLOPS if _within(name.split(), words)]
    return PEAK_TERAFLOPS[max(found, key=len)] * 1e12 if found else None


def _within(name: list[str], words: list[str]) -> bool:
    return any(words[start : start + len(name)] == name for start in range(len(words)))


def training_flops(model: Any, places: float, targets: float) -> float:
    """Forward and backward of so many places, of which so many meet the output head: 6 a weight, 4 where it is frozen.

    Attention itself is not counted (2 % of an 8B model at 1 000 tokens), nor is what is computed again.
    """
    head = model.get_output_embeddings()
    weights = {id(parameter): parameter for parameter in model.parameters()}
    for module in (model.get_input_embeddings(), head):
        if module is not None:
            weights.pop(id(module.weight), None)
    body = sum(_size(parameter) * _passes(parameter) for parameter in weights.values())
    last = 0 if head is None else _size(head.weight) * _passes(head.weight)
    return float(body * places + last * targets)


def _size(parameter: Any) -> int:
    return int(getattr(parameter, "ds_numel", parameter.numel()))  # ZeRO-3's shards know how large the whole is


def _passes(parameter: Any) -> int:
    return 6 if parameter.requires_grad else 4
