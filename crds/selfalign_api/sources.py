"""Models and tables as a run is given them, and the digests of what they hold."""

from __future__ import annotations

from typing import Annotated, Literal

from selfalign_api.plan_values import ADDED, Frozen, Json

Kind = Literal["Causal", "RewardModel", "PairRanker", "Classifier", "Embedder"]


class ModelSource(Frozen):
    """A model as given: a URL (api.md, places) and the digest of its content (files or commit)."""

    url: str
    digest: str = ""
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Json] = {}
    remote_code: bool = False
    kind: Annotated[Kind, ADDED] = "Causal"
    label: Annotated[str | None, ADDED] = None  # of a Classifier

    @property
    def identity(self) -> Json:
        """What a result depends on: the content, wherever it lies."""
        unset = set() if self.chat_template_kwargs else {"chat_template_kwargs"}
        return self.model_dump(mode="json", exclude={"url", "remote_code"} | unset)


class BenchmarkTasks(Frozen):
    """Tasks of lm-evaluation-harness, whose requests are the rows of a source."""

    tasks: tuple[str, ...]
    shots: int | None = None
    limit: int | None = None
    chat: bool = False


class DataSource(Frozen):
    """A table as given: where, which columns carry what, the digest of its content. No URL: the built-in generator.

    Or what benchmark tasks ask, whose folder, where it is not the harness's, has the URL.
    """

    url: str | None = None
    columns: dict[str, str] = {}
    subset: str | None = None  # of a whole dataset of the hub
    split: str | None = None
    digest: str = ""
    turn: Literal["First", "Last"] | None = None  # of rows that are conversations: whose answer is taken
    benchmark: Annotated[BenchmarkTasks | None, ADDED] = None

    @property
    def identity(self) -> Json:
        """What a result depends on: the content, wherever it lies."""
        unset = {"subset", "split"} if self.subset is None and self.split is None else set()
        return self.model_dump(mode="json", exclude={"url"} | unset | (set() if self.turn else {"turn"}))
