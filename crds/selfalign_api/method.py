"""What a run computes, first part: the model and the data. And where it is kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from selfalign_api.base import ApiModel, Count, FreeForm, LongCount, Name, Text, Url


class Model(ApiModel):
    """The model that aligns itself."""

    url: Annotated[Url, Field(examples=["hf://google/gemma-2-9b-it"])]
    """Where θ0 is, the model that comes out aligned: hf://ORG/NAME[@REVISION], s3://, gs://, pvc:// or file://."""

    chat_template_url: Url | None = None
    """Where its chat template is (Jinja), the same in generation and training. Unset: the model's own."""

    chat_template_kwargs: FreeForm | None = None
    """Further variables of the chat template, such as {enable_thinking: false}, wherever it is rendered."""

    remote_code: Literal["Deny", "Allow"] | None = None
    """Whether code from the model's repository may run in the pods. Unset: Deny."""


class AuxiliaryModel(ApiModel):
    """A further model, which helps and is never trained."""

    name: Annotated[Name, Field(examples=["judge-70b"])]
    """Its name in this run; `self` (the newest weights) and `initial` (the model as given) are always there."""

    url: Annotated[Url, Field(examples=["hf://meta-llama/Llama-3.3-70B-Instruct"])]
    """Where it is: hf://ORG/NAME[@REVISION], s3://, gs://, pvc:// or file://."""

    kind: Literal["Causal", "RewardModel", "PairRanker", "Classifier", "Embedder"] | None = None
    """Causal writes text, RewardModel scores, PairRanker compares, Classifier labels, Embedder gives vectors. Unset: Causal."""

    label: Annotated[Text | None, Field(examples=["safe"])] = None
    """Of a Classifier: the label, as its config.json names it, whose log-odds are an answer's score."""

    remote_code: Literal["Deny", "Allow"] | None = None
    """Whether code from its repository may run in the pods. Unset: Deny."""


class Columns(ApiModel):
    """Which column carries what. Unset: the column of the same name."""

    prompt: Text | None = None
    """Column with the prompt."""

    response: Text | None = None
    """Column with the answer."""

    messages: Text | None = None
    """Column with conversations, lists of {role, content}: the prompt is their first user turn; of demonstrations see turn."""

    chosen: Text | None = None
    """Column with the better answer, or with the whole conversation that it ends."""

    rejected: Text | None = None
    """Column with the worse answer, or with the whole conversation that it ends."""

    text: Text | None = None
    """Column with plain text."""

    persona: Text | None = None
    """Column with the persona, one sentence."""

    user: Text | None = None
    """Column with whose preference it is, of recipe fspo."""

    description: Text | None = None
    """Column with what a user is like, of data.users, and for fspo.describeUser of preferences."""

    reference: Text | None = None
    """Column with the reference answer that ExactMatch compares with. Unset: none is read."""

    id: Text | None = None
    """Column of evaluation.prompts with the id of each question, by which ArenaHard finds its answer. Unset: none is read."""


class Source(ApiModel):
    """Rows that are read: a Parquet, JSONL, JSON, CSV or text file, a folder of them, or a dataset of the hub."""

    url: Url | None = None
    """Where the rows are: hf://datasets/ORG/NAME[@REVISION][/FILE], s3://, gs://, pvc:// or file://."""

    split: Text | None = None
    """Split of a hub dataset. Unset: train."""

    subset: Text | None = None
    """Subset (configuration) of a hub dataset."""

    columns: Columns | None = None
    """Which column carries what."""

    count: LongCount | None = None
    """Rows that an iteration uses. Unset: the recipe's; where it names none, all (Same) or an equal part (Fresh)."""

    draw: Literal["Same", "Fresh"] | None = None
    """Whether every iteration sees the same rows, or rows that no iteration saw."""

    turn: Literal["First", "Last"] | None = None
    """Which answer of a conversation is taken, of demonstrations and preferences: the last comes with all before it."""


class Data(ApiModel):
    """What the recipe reads."""

    personas: Source | None = None
    """Who asks: one sentence a person. Without url: the built-in generator's."""

    prompts: Source | None = None
    """What is asked, instead of prompts that the model writes from personas; of fspo, what users are asked."""

    demonstrations: Source | None = None
    """Prompts with the answer that is to be learned, or conversations."""

    preferences: Source | None = None
    """Pairs of your own: prompts with a chosen and a rejected answer each."""

    users: Source | None = None
    """Whose tastes are learned, of recipe fspo: what somebody is like, one a row. Without url: the built-in generator's."""

    corpus: Source | None = None
    """Plain text, a paragraph a row, whose words new prompts are written from."""


class Output(ApiModel):
    """Where the result is copied, for others to take."""

    url: Url | None = None
    """Where the newest model goes, with its card and lineage: a folder of its own, s3://, gs://, pvc:// or file://, or hf://ORG/NAME."""

    dataset_url: Url | None = None
    """Where the pairs that it was trained on go, likewise; on the hub hf://datasets/ORG/NAME."""

    adapter: Literal["Merge", "Keep"] | None = None
    """Of a training with adapters: the whole model, the adapter in it, goes to url, or (Keep) the adapter alone. Unset: Merge."""

    visibility: Literal["Private", "Public"] | None = None
    """Of a repository that is made on the hub: who may see it. One that is there stays as it is. Unset: Private."""


class Storage(ApiModel):
    """Where the run keeps its artefacts."""

    url: Url | None = None
    """The run's folder is URL/NAMESPACE/NAME. Unset: the profile's; on one machine the option --out."""

    reuse_from: Annotated[tuple[Url, ...], Field(max_length=16)] | None = None
    """Folders of other runs: a step whose digest is found there is taken, not done again."""

    keep_checkpoints: Count | None = None
    """Checkpoints of a training that are kept, the newest. Unset: 1."""
