"""Options of the recipe reversegen: who proposes, who says what is valid and what failed, who teaches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from selfalign_api.base import ApiModel, Count, LongCount, Name, NonNegative, Percent, Template, Text


class ClassifierOracle(ApiModel):
    """A classifier finds the answer to be of its label."""

    model_name: Annotated[Name, Field(examples=["guard"])]
    """An entry of auxiliaryModels of kind Classifier, whose label is that of failed answers."""

    threshold: float | None = None
    """Log-odds of the label, in nats, from which on an answer has failed. Unset: 0, as likely as not."""


class RewardOracle(ApiModel):
    """A reward model finds the answer to be worth little."""

    model_name: Annotated[Name, Field(examples=["reward"])]
    """An entry of auxiliaryModels of kind RewardModel."""

    threshold: Annotated[float, Field(examples=[0])]
    """The score below which an answer has failed, in the model's own units."""


class VerdictOracle(ApiModel):
    """A model that writes finds one of two verdicts likelier, shown prompt and answer."""

    model_name: Annotated[Name, Field(examples=["guard"])]
    """initial, or an entry of auxiliaryModels that writes."""

    fail: Template | None = None
    """What it says of an answer that failed, up to where the two differ. Unset: unsafe."""

    pass_: Annotated[Template | None, Field(alias="pass")] = None
    """What it says of any other. Unset: safe."""


class EntropyOracle(ApiModel):
    """The target's answers to one instruction differ."""

    min_entropy: NonNegative | None = None
    """Entropy of the exact answers, in nats, from which on they have failed. Unset: 1.193."""


class ExactMatchOracle(ApiModel):
    """The answer is not the teacher's."""

    after: Text | None = None
    """What is compared stands after the last of these, such as ####; an answer without it has failed. Unset: all of it."""


class Oracle(ApiModel):
    """What counts as a failure of the target."""

    type: Annotated[Literal["Classifier", "Reward", "Verdict", "Entropy", "ExactMatch"], Field(examples=["Classifier"])]
    """Who says it: a classifier, a reward model, a model that writes, the answers themselves, or the teacher's answer."""

    classifier: ClassifierOracle | None = None
    """With type: Classifier."""

    reward: RewardOracle | None = None
    """With type: Reward."""

    verdict: VerdictOracle | None = None
    """With type: Verdict."""

    entropy: EntropyOracle | None = None
    """With type: Entropy."""

    exact_match: ExactMatchOracle | None = None
    """With type: ExactMatch."""


class ReversegenOptions(ApiModel):
    """Options of the recipe reversegen."""

    proposer_model_name: Annotated[Name, Field(examples=["proposer"])]
    """Who learns to propose: initial (a copy of the model as given), or an entry of auxiliaryModels that writes."""

    oracle: Annotated[Oracle, Field(examples=[{"type": "ExactMatch"}])]
    """What counts as a failure of the target, which is the run's own model."""

    teacher_model_name: Annotated[Name, Field(examples=["teacher"])]
    """Whose answers the target is hardened on: initial, or an entry of auxiliaryModels that writes."""

    verifier_model_name: Name | None = None
    """Who says which proposals are valid: initial, or an entry of auxiliaryModels, Causal or Classifier. Unset: all are."""

    verifier_verdicts: Annotated[tuple[Template, ...], Field(min_length=2, max_length=2)] | None = None
    """What a verifier that writes says of a valid proposal, and of any other. Unset: Yes and No."""

    context_shots: Count | None = None
    """Instructions that the proposer is shown before it writes one more. Unset: 3."""

    proposals_per_iteration: LongCount | None = None
    """Proposals of an iteration, each of a context that no other has. Unset: 100000."""

    answers_per_proposal: Count | None = None
    """The target's answers to a proposal; several with the oracle Entropy only. Unset: 1, with Entropy 10."""

    handled_percent: Percent | None = None
    """Proposals that the target handled, in percent of the failed ones, that it is hardened on beside them. Unset: 50."""
