"""What a run computes, second part: the roles that write and the judge that compares."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from selfalign_api.base import ApiModel, Count, MapBy, Name, Percent, Template, Text, Url


class Role(ApiModel):
    """One voice of the recipe: its template and its sampling."""

    name: Annotated[
        Literal[
            "writePrompt",
            "listViews",
            "respondView",
            "respond",
            "improve",
            "describeUser",
            "propose",
            "verify",
            "guard",
            "teach",
            "judge",
        ],
        Field(examples=["respond"]),
    ]
    """Which of the recipe's voices."""

    template: Template | None = None
    """Its prompt, a Jinja template over the recipe's variables; at most 16384 characters."""

    template_url: Url | None = None
    """Where its template is, instead of template."""

    temperature: Annotated[float, Field(ge=0, le=5)] | None = None
    """Sampling temperature; 0 is greedy."""

    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of probability that is sampled from."""

    top_k: Count | None = None
    """Number of likeliest tokens that are sampled from. Unset: all."""

    max_tokens: Count | None = None
    """Tokens after which its text is cut."""

    output_prefix: Annotated[str, Field(max_length=256)] | None = None
    """What its text must start with; it is stripped, and a text without it is set aside. Empty: nothing."""

    reasoning: Literal["Keep", "Strip"] | None = None
    """Whether a block of reasoning before its text stays, by the tokenizer's own markers, such as <think> and </think>."""


class NearDuplicates(ApiModel):
    """When a prompt is too like an earlier one."""

    method: Literal["Exact", "MinHash", "Embedding"] | None = None
    """Exact: the same words in their order; MinHash: sets of words that share `threshold`; Embedding: vectors. Unset: MinHash."""

    threshold: Annotated[float, Field(ge=0.5, le=1)] | None = None
    """From where on two prompts are too alike: by their Jaccard (unset: 0.78), or of Embedding by their cosine (unset: 0.96)."""

    model_name: Name | None = None
    """Of Embedding: the helper of kind Embedder whose vectors are compared."""

    ngram: Annotated[int, Field(ge=1, le=16)] | None = None
    """Of MinHash: words that stand in a row and count as one; 1 ignores their order. Unset: 1."""


class Filters(ApiModel):
    """Which answers make no pair."""

    identical: Literal["Drop", "Keep"] | None = None
    """Pairs of two equal answers. Unset: Drop."""

    truncated: Literal["Drop", "Keep"] | None = None
    """Pairs with an answer that was cut at maxTokens."""

    near_duplicates: NearDuplicates | None = None
    """Pairs whose prompt, one that the model wrote, is too like one before it, of any iteration so far. Unset: none is."""

    max_repetition_percent: Percent | None = None
    """Pairs one of whose texts repeats itself more: the share of its word triples, in percent, that stood in it before."""


class Generation(ApiModel):
    """How text is written."""

    precision: Literal["bfloat16", "float16", "float32", "fp8"] | None = None
    """Weights of the engine. Unset: bfloat16, on CPU float32."""

    max_model_tokens: Count | None = None
    """Context in tokens; a record that does not fit is set aside. Unset: what the roles can need, at most the model's."""

    max_set_aside_percent: Percent | None = None
    """Share of records set aside, in percent, above which the step fails. Unset: 1."""

    roles: Annotated[tuple[Role, ...], Field(max_length=16), MapBy("name")] | None = None
    """The voices of the recipe, by name; a field left out of a role has the recipe's value."""

    filters: Filters | None = None
    """Which answers make no pair."""


class Judge(ApiModel):
    """How two answers are compared; also in the evaluation."""

    method: Literal["logprobs", "generate", "paper", "score", "random"] | None = None
    """Log-probabilities in both orders, both parsed, one parsed, a scoring model, or SAO's control. Unset: logprobs."""

    verdicts: Annotated[tuple[Template, ...], Field(min_length=2, max_length=2)] | None = None
    """The two candidate verdicts of logprobs (Jinja): first is better, second is better."""

    model_name: Name | None = None
    """Who judges: self (the newest weights), initial (the model as given), or an entry of auxiliaryModels. Unset: self."""

    criteria: Annotated[tuple[Text, ...], Field(min_length=1, max_length=8)] | None = None
    """What is judged by; the judge's template has it as `criteria`."""

    tie_margin: Annotated[float, Field(ge=0, lt=0.5)] | None = None
    """Tie when the mean P(first is better) of both orders is within this of 0.5. Unset: 0."""

    min_score_gap: Annotated[float, Field(ge=0)] | None = None
    """Of method score: a pair is kept when the scores differ by at least this, in the model's own units. Unset: 0."""
