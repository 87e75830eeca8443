"""What a recipe is made of, and where the recipes are found by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, get_args

import pyarrow as pa

from selfalign_api.errors import ConfigError
from selfalign_api.plan import AnyStep, Plan
from selfalign_api.plan_values import Json
from selfalign_api.run import Recipe as RecipeName
from selfalign_jobs.flow import Flow

if TYPE_CHECKING:
    from selfalign_jobs.recipes.method import Method

Step = AnyStep
PrepareFn = Callable[
    [tuple[Any, ...], Mapping[str, Json]], pa.Table
]  # of tables; of Rows, where it only takes from them

RECIPES: tuple[str, ...] = get_args(RecipeName)  # as spec.recipe may be


Most = Callable[[Sequence[int], Mapping[str, Json]], int]


class Rows(Protocol):
    """What a function sees of its inputs that only takes rows by number: a source that need not fit into memory."""

    @property
    def num_rows(self) -> int:
        """How many there are."""
        ...

    def take(self, numbers: pa.Array) -> pa.Table:
        """The rows of these numbers, in their order."""
        ...


@dataclass(frozen=True)
class FlowDef:
    """A flow and the schema of the rows that it returns.

    `milestones`, for the report: columns that are filled in as a record goes on, in the flow's order, and what each shows.
    `notes`: what of the rows that it made deserves a second look, told when the step is done.
    """

    run: Flow
    schema: pa.Schema
    milestones: Mapping[str, str] = field(default_factory=dict)
    notes: Callable[[pa.Table], Iterator[str]] = lambda _: iter(())


def each_once(rows: Sequence[int], options: Mapping[str, Json]) -> int:
    """A row of each that is learned from; of a table no more than `max_new_pairs`."""
    quota = options.get("max_new_pairs")
    return sum(rows) if quota is None else sum(min(each, quota) for each in rows)


@dataclass(frozen=True)
class PrepareDef:
    """A whole-table function, and what else is known of it.

    `most`: how many rows it makes at the most, of the numbers of rows of the tables that it learns from (`learned_from`).
    `takes_rows`: it only counts rows and takes some by number: it is given Rows, not whole tables. `looks`: its rows are
    looked at when a run is accepted, not only counted. `looked_at`: what is done then in its place, where it would make much
    to see little. `reads`: the columns that it reads of its tables; unset, all.
    """

    run: PrepareFn
    most: Most = each_once
    takes_rows: bool = False
    looks: bool = False
    looked_at: PrepareFn | None = None
    reads: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Remark:
    """A figure that a recipe alone knows to read, of one of its tables: a sentence of the report, a number of the summary."""

    table: str
    name: str
    value: float
    words: str  # after the value
    share: bool = False
    rises: bool = False  # whether it should, from iteration to iteration
    before: float | None = None  # its value of the iteration before, for the report, of what should rise


def no_remarks(tables: Mapping[str, pa.Table]) -> Iterator[Remark]:  # noqa: ARG001
    """Nothing that the report does not see by itself."""
    return iter(())


def no_words(plan: Plan) -> str:  # noqa: ARG001
    """One asks the published model, and it answers: a card need not say it."""
    return ""


def no_variables(method: Method) -> frozenset[str]:  # noqa: ARG001
    """Templates name all that they must, whatever the method."""
    return frozenset()


@dataclass(frozen=True)
class Recipe:
    """A published algorithm: its values for fields left out, its flows, its whole-table functions, and its plan."""

    name: str
    paper: str
    data: Mapping[str, bool]  # kinds of `spec.data` that it reads -> whether one must be named
    defaults_for: Callable[
        [Mapping[str, Json]], dict[str, Json]
    ]  # given values → defaults, both in the spec's own shape
    variables: Mapping[str, frozenset[str]]  # role -> the variables that its template may name
    required: Mapping[str, frozenset[str]]  # role -> the variables that its template must name
    flows: Mapping[str, FlowDef]
    prepares: Mapping[str, PrepareDef]
    plan: Callable[[Method], tuple[Step, ...]]  # pure
    # Tokens of each variable of the templates at the most; of the method, and the longest text of each source.
    longest: Callable[[Method, Mapping[str, int]], Mapping[str, int]]
    either: tuple[str, ...] = ()  # kinds of `spec.data` of which one must be named, and no more
    scored: bool = False  # whether the judge must be a model that scores
    published: str = ""  # what its published rows are, where they are no pairs, and their columns
    needs: Mapping[str, Json] = field(
        default_factory=dict
    )  # of the spec, beside data: what its smallest run must write
    # Variables that a method's templates need not name, though they are `required`.
    spared: Callable[[Method], frozenset[str]] = no_variables
    beside: Mapping[str, str] = field(
        default_factory=dict
    )  # lineages that are published too -> folder below output.url
    used: Callable[[Plan], str] = no_words  # for the published model's card: how it is used
    # For the report: of an iteration's tables by name, with the ledger's columns and numbers of tokens for ids. Pure.
    remarks: Callable[[Mapping[str, pa.Table]], Iterator[Remark]] = no_remarks


def recipe(name: str) -> Recipe:
    """The recipe of that name, with what evaluations of every recipe may ask; ConfigError for one that is not built yet."""
    from selfalign_jobs.recipes.own_questions import with_own_questions

    if name not in RECIPES:
        raise ConfigError.one(
            "spec.recipe", f"recipe {name} is not built in this version; write one of: {', '.join(RECIPES)}", name
        )
    found = import_module(f"selfalign_jobs.recipes.{name}").RECIPE
    assert isinstance(found, Recipe)
    return with_own_questions(found)
