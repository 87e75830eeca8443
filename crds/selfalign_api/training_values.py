"""What of a training changes its result: objective, optimiser, adapter, schedule."""

from __future__ import annotations

from typing import Literal

from selfalign_api.plan_values import Frozen

_OF_PAIRS = {"beta": "β", "label_smoothing": "ε"}
LOSS_CONSTANTS: dict[str, dict[str, str]] = {  # field -> letter; of the losses that have none: nothing
    **dict.fromkeys(("dpo", "ipo", "hinge", "orpo"), _OF_PAIRS),
    "simpo": {"beta": "β", "gamma": "γ"},
    "selm": {"beta": "β", "alpha": "α"},
}


class Loss(Frozen):
    """The objective of a training: which function of summed log-probabilities and lengths (train/losses.py)."""

    type: Literal["dpo", "ipo", "simpo", "orpo", "hinge", "selm", "sft", "bradley-terry", "gap"]
    beta: float = 0.1
    gamma: float = 0.0
    alpha: float = 0.0
    label_smoothing: float = 0.0

    @property
    def constants(self) -> dict[str, float]:
        """Those of its constants that count, by their letter."""
        letters = LOSS_CONSTANTS.get(self.type, {})
        found = {letter: float(getattr(self, name)) for name, letter in letters.items()}
        return {letter: value for letter, value in found.items() if letter != "ε" or value}


class Optimizer(Frozen):
    """The optimiser and its constants."""

    type: Literal["adamw", "rmsprop", "adafactor"] = "adamw"
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


class Lora(Frozen):
    """Low-rank adapters; no target modules named means all linear layers but the output head."""

    rank: int = 16
    alpha: float = 32
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()
    dora: bool = False
    rank_stabilized: bool = False


class TrainSettings(Frozen):
    """Everything of a training that changes its result."""

    learning_rate: float
    learning_rate_schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = 0.1
    optimizer: Optimizer = Optimizer()
    max_gradient_norm: float = 1.0
    epochs: float = 1.0
    global_batch_size: int = 128
    max_length_tokens: int = 2048
    max_prompt_tokens: int = 1800
    overlong: Literal["Drop", "Truncate"] = "Drop"
    precision: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    lora: Lora | None = None
    seed: int = 0
