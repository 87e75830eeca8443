"""What a run computes, fourth part: how the new model is compared with the one before. And SAO's own option."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from selfalign_api.base import ApiModel, MapBy, Name
from selfalign_api.method import Source


class SelfWinRate(ApiModel):
    """How often the judge prefers the new model's answer."""

    against: Literal["initial"] | None = None
    """Whose answers it is compared with. Unset: initial."""


class ExactMatch(ApiModel):
    """How often the answer equals the reference."""

    temperatures: (
        Annotated[tuple[Annotated[float, Field(ge=0, le=5)], ...], Field(min_length=1, max_length=4)] | None
    ) = None
    """Sampling temperatures, one figure each; 0 is greedy. Unset: 0 and 1."""


class Check(ApiModel):
    """One figure of the evaluation."""

    name: Annotated[Name, Field(examples=["win"])]
    """Its name in the results."""

    type: Annotated[Literal["SelfWinRate", "ExactMatch"], Field(examples=["SelfWinRate"])]
    """Which figure."""

    self_win_rate: SelfWinRate | None = None
    """With type: SelfWinRate."""

    exact_match: ExactMatch | None = None
    """With type: ExactMatch."""


class Evaluation(ApiModel):
    """How the new model is compared with the one before."""

    when: Literal["EachIteration", "Last", "Never"] | None = None
    """After which rounds. Unset: EachIteration."""

    prompts: Source | None = None
    """Held-out prompts, which the loop never sees. Unset: 500 rows of the recipe's prompts, set apart by hash."""

    checks: Annotated[tuple[Check, ...], Field(min_length=1, max_length=16), MapBy("name")] | None = None
    """The figures. Unset: one SelfWinRate, named win."""


class SaoOptions(ApiModel):
    """Options of the recipe sao."""

    prompt_mode: Literal["Persona", "Free"] | None = None
    """Whether a prompt is written for a persona, or for none (the paper's ablation). Unset: Persona."""
