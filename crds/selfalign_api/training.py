"""What a run computes, third part: the rounds and the preference training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from selfalign_api.base import ApiModel, Count, LongCount, MapBy, Name, NonNegative, Positive, Text

# Names of the further trainings of each recipe that has some; their values are the recipe's own (training.stages).
STAGES: dict[str, tuple[str, ...]] = {
    "synpo": ("promptGenerator", "improver"),
    "fspo": ("sft",),
    "almost": ("rewardModel",),
    "reversegen": ("warmUp", "harden"),
    "pit": ("draftModel", "improver", "rewardModel"),
}


class Iteration(ApiModel):
    """What a round starts from and trains on."""

    start: Literal["initial", "previous"] | None = None
    """Where training starts from: θ0, or the model of the round before."""

    reference: Literal["initial", "previous"] | None = None
    """The reference model of losses that have one."""

    data_window: Literal["Current", "LastTwo", "All"] | None = None
    """The rounds whose pairs are trained on."""

    max_new_pairs: LongCount | None = None
    """Pairs that a round adds at most. Unset: all."""


class Loss(ApiModel):
    """The objective."""

    type: Literal["dpo", "ipo", "simpo", "orpo", "hinge", "selm", "sft"] | None = None
    """Which loss."""

    beta: Positive | None = None
    """β, the strength of the preference."""

    gamma: NonNegative | None = None
    """γ, SimPO's plain margin (as TRL's simpo_gamma; SimPO's own repository writes γ/β)."""

    alpha: NonNegative | None = None
    """α, what SELM's optimism term weighs: α·β nats a nat that the model's own answer becomes less likely; 0 is DPO."""

    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] | None = None
    """Share of pairs that are assumed to be the wrong way round, for dpo and ipo. Unset: 0."""


class Optimizer(ApiModel):
    """The optimiser and its constants."""

    type: Literal["adamw", "rmsprop", "adafactor"] | None = None
    """Which optimiser. Unset: adamw."""

    weight_decay: NonNegative | None = None
    """Decoupled weight decay. Unset: 0."""

    beta1: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Decay of the first moment. Unset: 0.9."""

    beta2: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Decay of the second moment. Unset: 0.999."""

    epsilon: Positive | None = None
    """What keeps the division finite. Unset: 1e-8."""


class Lora(ApiModel):
    """Low-rank adapters."""

    rank: Count | None = None
    """Rank. Unset: 16."""

    alpha: Positive | None = None
    """Scale; the update is multiplied by alpha / rank. Unset: 32."""

    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout before the adapter. Unset: 0."""

    target_modules: Annotated[tuple[Text, ...], Field(min_length=1, max_length=64)] | None = None
    """Names of the layers that get an adapter. Unset: all linear layers but the output head."""

    dora: bool | None = None
    """DoRA: the length of each row of a weight is trained apart from its direction. Unset: false."""

    rank_stabilized: bool | None = None
    """Rank-stabilised LoRA: the update is multiplied by alpha / √rank instead, for high ranks. Unset: false."""


class IterationOverride(ApiModel):
    """Values from one round on; the latest entry that sets a field wins."""

    from_iteration: Annotated[int, Field(ge=2, le=32, examples=[2])]
    """The first round that has these values, counted from 1."""

    learning_rate: Positive | None = None
    """Peak learning rate."""

    beta: Positive | None = None
    """β of the loss."""

    alpha: NonNegative | None = None
    """α of SELM's loss."""

    epochs: Positive | None = None
    """Passes over the pairs."""


class Stage(ApiModel):
    """A further training of the recipe: what is left out has the recipe's value for it, else that of the main training."""

    name: Annotated[Name, Field(examples=["improver"])]
    """Which of the recipe's further trainings."""

    learning_rate: Positive | None = None
    """Its peak learning rate."""

    learning_rate_schedule: Literal["cosine", "linear", "constant"] | None = None
    """Shape of its learning rate after the warm-up."""

    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of its steps in which the learning rate rises."""

    optimizer: Optimizer | None = None
    """Its optimiser and the constants of that; those left out are the main training's."""

    max_gradient_norm: Positive | None = None
    """Norm to which its gradients are clipped."""

    epochs: Positive | None = None
    """Passes over its examples."""

    global_batch_size: Count | None = None
    """Its examples a step, whatever the number of GPUs."""

    max_length_tokens: Count | None = None
    """Bound on its prompt and answer together, in tokens."""

    max_prompt_tokens: Count | None = None
    """Bound on its prompt, in tokens."""


class Training(ApiModel):
    """Preference training."""

    loss: Loss | None = None
    """The objective."""

    learning_rate: Positive | None = None
    """Peak learning rate."""

    learning_rate_schedule: Literal["cosine", "linear", "constant"] | None = None
    """Shape of the learning rate after the warm-up."""

    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of the steps in which the learning rate rises. Unset: 0.1."""

    optimizer: Optimizer | None = None
    """The optimiser and its constants."""

    max_gradient_norm: Positive | None = None
    """Norm to which gradients are clipped. Unset: 1."""

    epochs: Positive | None = None
    """Passes over the pairs."""

    global_batch_size: Count | None = None
    """Pairs a step, whatever the number of GPUs."""

    max_length_tokens: Count | None = None
    """Bound on prompt and answer together, in tokens."""

    max_prompt_tokens: Count | None = None
    """Bound on the prompt, in tokens."""

    overlong: Literal["Drop", "Truncate"] | None = None
    """What happens to a pair beyond the bounds. Unset: Drop."""

    precision: Literal["bfloat16", "float16", "float32"] | None = None
    """Numbers of the forward and backward pass. Unset: bfloat16, on CPU float32."""

    adapter: Literal["none", "lora"] | None = None
    """Whether all weights are trained or low-rank adapters. Unset: none."""

    lora: Lora | None = None
    """The adapters, with adapter: lora."""

    stages: Annotated[tuple[Stage, ...], Field(max_length=8), MapBy("name")] | None = None
    """The recipe's further trainings, of models that help to make the pairs. Unset: the recipe's."""

    iteration_overrides: (
        Annotated[tuple[IterationOverride, ...], Field(max_length=31), MapBy("fromIteration")] | None
    ) = None
    """Values of the main training that change from a round on."""
