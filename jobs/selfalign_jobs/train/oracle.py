"""The attention kernel of a device held to attention a sequence, before anything is trained with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfalign_jobs.train.attention import backend_of, packed_attention
from selfalign_jobs.train.batch import Packing
from selfalign_jobs.train.packing import pack

# Largest difference allowed, as a share of the largest value: kernels round to 16 bits where the oracle has 32.
TOLERANCE = {torch.float32: 5e-3, torch.bfloat16: 4e-2, torch.float16: 1e-2}


def hold_to_oracle(config: Any, device: str, dtype: torch.dtype, backend: str | None = None) -> dict[str, float]:
    """Outputs and gradients of each kind of layer of a model on a random layout: the largest differences by name.

    Raises RuntimeError when a kernel computes something else than attention over each sequence alone.
    """
    found = {}
    for window, softcap in sorted(_kinds(config), key=str):
        name = f"window {window}, soft cap {softcap}"
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        kernel = backend or backend_of(device, dtype, softcap, head)
        found[name] = _difference(config, head, window, softcap, device, dtype, kernel)
        if not found[name] <= TOLERANCE[dtype]:
            raise RuntimeError(
                f"the attention kernel {kernel} of this device is wrong ({name}): it differs from attention over each "
                f"sequence alone by {found[name]:.1e} of the largest value; report this with the versions of torch and driver"
            )
    return found


def _kinds(config: Any) -> set[tuple[int | None, float | None]]:
    """What the layers of a model ask of attention; a window that the test's layout feels."""
    softcap = getattr(config, "attn_logit_softcapping", None)
    windowed = getattr(config, "sliding_window", None) is not None
    # Without types of layers (Mistral) a window is that of all of them.
    layers = getattr(config, "layer_types", None) or ["sliding_attention" if windowed else "full_attention"]
    return {(24 if windowed and layer == "sliding_attention" else None, softcap) for layer in layers}


def _difference(
    config: Any, head: int, window: int | None, softcap: float | None, device: str, dtype: torch.dtype, kernel: str
) -> float:
    packing = _layout().to(torch.device(device))
    length, heads = len(packing.position_of), (config.num_attention_heads, config.num_key_value_heads)
    generator = torch.Generator(device).manual_seed(0)
    shapes = [(1, count, length, head) for count in (heads[0], heads[1], heads[1])]
    given = [torch.randn(shape, generator=generator, device=device).to(dtype) for shape in shapes]

    def run(backend: str, values: list[Tensor]) -> Iterator[Tensor]:
        values = [value.detach().requires_grad_(backend != "flex" or device == "cuda") for value in values]
        query, key, value = values
        out, _ = packed_attention(
            None, query, key, value, None, packing=packing, sliding_window=window, softcap=softcap, backend=backend
        )
        yield out
        if values[0].requires_grad:
            yield from torch.autograd.grad((out * torch.linspace(-1, 1, head, device=device)).sum(), values)

    pairs = zip(run(kernel, given), run("sdpa", [value.float() for value in given]), strict=False)
    return max(float((a.detach().float() - b.detach()).abs().max() / b.detach().abs().max()) for a, b in pairs)


def _layout() -> Packing:
    """Prompts and answers of lengths that no block of a kernel divides."""
    sizes = ((37, 50, 71), (1, 1, 30), (90, 5, 40))
    examples = [(np.zeros(p, np.int64), [np.ones(a, np.int64), np.ones(b, np.int64)]) for p, a, b in sizes]
    packing = pack(examples, np.arange(len(sizes)), 2, multiple=128).packing
    assert packing is not None
    return packing
