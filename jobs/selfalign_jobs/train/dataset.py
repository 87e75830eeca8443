"""From the table of pairs to examples: token ids as generation wrote them. Nothing is tokenised here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.errors import ConfigError
from selfalign_api.plan import TrainSettings

ID_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")


@dataclass(frozen=True)
class Examples:
    """Pairs that are trained on, and what became of the others."""

    table: pa.Table  # ID_COLUMNS, list<int32>
    pairs: int  # in the table that was given
    dropped_overlong: int
    truncated: int

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence: prompt and response."""
        return int(sizes_of(self.table).max())


def examples(pairs: pa.Table, settings: TrainSettings) -> Examples:
    """The examples of a table of pairs, within the bounds of the settings.

    `Drop` leaves out a pair whose prompt is beyond max_prompt_tokens or one of whose sequences is beyond
    max_length_tokens. `Truncate` keeps the end of such a prompt, where the question is, and the start of the responses.
    Raises ConfigError when no pair is left, or when the pairs carry no token ids.
    """
    missing = [name for name in ID_COLUMNS if name not in pairs.column_names]
    if missing:
        raise ConfigError.one(
            "pairs",
            f"the table has no column {', '.join(missing)} (it has {', '.join(pairs.column_names)}); "
            "pairs carry the token ids that generation rendered",
        )
    if pairs.num_rows == 0:
        raise ConfigError.one(
            "pairs",
            "no pairs to train on: no record gave two answers that the judge told apart; "
            "write more personas (data.personas.count), a smaller judge.tieMargin, or a higher temperature for respond",
        )
    table = pairs.select(ID_COLUMNS).combine_chunks()
    overlong = _overlong(table, settings)
    count = int(overlong.sum())
    if settings.overlong == "Drop":
        kept = table.filter(pa.array(~overlong))
        if kept.num_rows == 0:
            raise ConfigError.one(
                "spec.training.maxLengthTokens",
                f"all {pairs.num_rows} pairs are longer than maxLengthTokens {settings.max_length_tokens} or their prompts "
                f"than maxPromptTokens {settings.max_prompt_tokens}; write higher bounds, or overlong: Truncate",
            )
        return Examples(kept, pairs.num_rows, dropped_overlong=count, truncated=0)
    cut = pa.Table.from_pylist([_truncate(row, settings) for row in table.to_pylist()], schema=table.schema)
    return Examples(cut, pairs.num_rows, dropped_overlong=0, truncated=count)


def lengths(table: pa.Table, column: str) -> np.ndarray:
    """Tokens of each row of a column of ids."""
    found: np.ndarray = pc.list_value_length(table[column]).to_numpy()
    return found.astype(np.int64)


def _overlong(table: pa.Table, settings: TrainSettings) -> np.ndarray:
    prompt = lengths(table, "prompt_ids")
    found: np.ndarray = (prompt > settings.max_prompt_tokens) | (sizes_of(table) > settings.max_length_tokens)
    return found


def _truncate(row: dict[str, list[int]], settings: TrainSettings) -> dict[str, list[int]]:
    prompt = row["prompt_ids"][-settings.max_prompt_tokens :]
    room = settings.max_length_tokens - len(prompt)
    return {"prompt_ids": prompt, "chosen_ids": row["chosen_ids"][:room], "rejected_ids": row["rejected_ids"][:room]}


def order(sizes: np.ndarray, steps: int, batch: int, seed: int) -> np.ndarray:
    """Which pair stands at each position of the training, shape (steps·batch,): the optimiser step s takes batch s.

    Seeded permutations one after the other; within a step by size, so that what is padded together is alike. The order
    depends on neither ranks nor micro batches. `sizes`: tokens of each pair (sizes_of).
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    passes = -(-steps * batch // len(sizes))
    stream = np.concatenate([generator.permutation(len(sizes)) for _ in range(passes)])[: steps * batch]
    by_step = stream.reshape(steps, batch)
    by_size = np.argsort(sizes[by_step], axis=1, kind="stable")
    return np.take_along_axis(by_step, by_size, axis=1).reshape(-1)


def sizes_of(table: pa.Table) -> np.ndarray:
    """Tokens of the longer sequence of each pair: prompt and response."""
    prompt, chosen, rejected = (lengths(table, name) for name in ID_COLUMNS)
    found: np.ndarray = prompt + np.maximum(chosen, rejected)
    return found


class RankBatches:
    """The micro batches of one rank over a whole training: a batch sampler of indices into the examples."""

    def __init__(self, positions: np.ndarray, micro_batch: int, ranks: int, rank: int) -> None:
        """`positions` of all ranks (order); its length is a multiple of micro_batch · ranks."""
        self._batches = positions.reshape(-1, ranks, micro_batch)[:, rank]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches:
            yield batch.tolist()
