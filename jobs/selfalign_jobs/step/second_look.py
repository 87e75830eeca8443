"""What deserves a second look in a run, in a sentence each: told in the step's log, its result, the report (bounds.py)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from selfalign_api.plan_values import Json
from selfalign_jobs.step import bounds
from selfalign_jobs.step.bounds import Bound
from selfalign_jobs.step.metrics import LogRow
from selfalign_jobs.step.pair_figures import Lengths, Verdicts

LOSS = 0.1  # a first loss is taken as no less: what hinge has where all margins are won is 0
MOST = 8  # sentences of one step: what is told of it must fit a termination message
LONGEST = 240  # characters of one


def on_verdicts(found: Verdicts) -> Iterator[str]:
    """Position bias, orders that disagree, ties, verdicts that cannot be read."""
    if found.first_position is not None and max(found.first_position, 1 - found.first_position) > bounds.POSITION.value:
        place = "first" if found.first_position > 0.5 else "second"
        share = max(found.first_position, 1 - found.first_position)
        yield f"The judge prefers whatever is shown {place} in {percent(share)} of its verdicts: position bias."
    if found.consistent is not None and found.consistent < bounds.CONSISTENT.value:
        yield f"The two orders name the same answer for {percent(found.consistent)} of the pairs only."
    if found.ties is not None and found.ties > bounds.TIES.value:
        yield f"{percent(found.ties)} of the judged records are ties: the judge hardly tells the answers apart."
    if found.parsed is not None and found.parsed < bounds.PARSED.value:
        yield f"Only {percent(found.parsed)} of the verdicts could be read: the judge's template and its verdicts do not fit."


def on_prompts(repeated: float | None) -> Iterator[str]:
    """Prompts that repeat."""
    if repeated is not None and repeated > bounds.REPEATED.value:
        yield f"{percent(repeated)} of the prompts repeat an earlier one: what they are written from hardly varies them."


def on_unanswered(check: str, asked: int, answered: int) -> Iterator[str]:
    """Held-out prompts to which a file of answers has none."""
    if asked and 1 - answered / asked > bounds.UNANSWERED.value:
        lacking = f"{asked - answered:,} of {asked:,} held-out prompts"
        yield f"The answers that check {check} compares with lack {lacking}: these do not count."


def on_records(records: int, kept: int, lost: Mapping[str, int]) -> Iterator[str]:
    """Records that come to nothing, by their reason (recipes/sao.py); asked once all are through."""
    if not records:
        return
    identical, cut = (lost.get(reason, 0) / records for reason in ("identical answers", "answer cut at maxTokens"))
    if kept / records < bounds.KEPT.value:
        share = percent(kept / records)
        yield f"Only {share} of the records became pairs; the funnel of the report says where the others went."
    if identical > bounds.IDENTICAL.value:
        yield f"{percent(identical)} of the records gave the same answer twice: respond hardly varies."
    if cut > bounds.CUT.value:
        yield f"{percent(cut)} of the records were dropped because an answer was cut at maxTokens."


def on_lengths(found: Lengths) -> Iterator[str]:
    """Length as the reason of a verdict, answers that were cut."""
    if max(found.chosen_longer, 1 - found.chosen_longer) > bounds.LONGER.value:
        word = "longer" if found.chosen_longer > 0.5 else "shorter"
        share = max(found.chosen_longer, 1 - found.chosen_longer)
        yield f"The {word} answer is chosen in {percent(share)} of the pairs of unequal length: length bias."
    if _apart(found.stretch, bounds.STRETCHED):
        times = f"{found.stretch:.2g} times as long as the rejected ones"
        yield f"The chosen answers are {times}, on average: training on them teaches length."
    if found.cut is not None and found.cut > bounds.CUT.value:
        yield f"{percent(found.cut)} of the answers were cut at maxTokens; the model learns such endings."


def on_batches(rows: int, batch: int, word: str = "pairs") -> Iterator[str]:
    """Batches larger than the data, whose rows are `word`. Known before the run: there are at most as many as records."""
    if rows and batch / rows > bounds.BATCH.value:
        yield f"globalBatchSize {batch:,} is more than the {rows:,} {word} there are: an epoch is one optimiser step."


def on_learning_rate(rate: float) -> Iterator[str]:
    """A learning rate that no preference training is known to bear. Known before the run."""
    if rate > bounds.LEARNING_RATE.value:
        yield f"learningRate {rate:g} is above {bounds.LEARNING_RATE.value:g}: models collapse at such rates."


def on_left_out(given: int, dropped: int, truncated: int, word: str = "pairs") -> Iterator[str]:
    """Rows beyond the bounds of the training."""
    if given and dropped / given > bounds.OVERLONG.value:
        yield f"{percent(dropped / given)} of the {word} are longer than the training's bounds and were left out."
    if given and truncated / given > bounds.OVERLONG.value:
        yield f"{percent(truncated / given)} of the {word} are longer than the training's bounds and were cut."


def on_emptied(pairs: int, emptied: int) -> Iterator[str]:
    """Kept answers of SELM's beyond the bounds of the training: their pairs are trained on without them."""
    if pairs and emptied / pairs > bounds.OVERLONG.value:
        yield f"{percent(emptied / pairs)} of the pairs lost the optimism term: their own answer is longer than the bounds."


def on_held_out_pairs(pairs: int, held: int) -> Iterator[str]:
    """Pairs (or what is drawn for them) whose prompts are held out for evaluation."""
    if pairs and held / pairs > bounds.HELD_PAIRS.value:
        yield f"{percent(held / pairs)} of the prompts are held out for evaluation; training leaves their pairs out."


def on_turns(source: str, rows: int, several: int, which: str) -> Iterator[str]:
    """Which answer is taken of conversations that have several."""
    if several:
        taken = "first answer, and what it answers," if which == "First" else "last answer, with all before it,"
        yield f"{several:,} of {rows:,} rows have several turns: the {taken} is taken (data.{source}.turn: {which})."


def on_log(log: Sequence[LogRow]) -> Iterator[str]:
    """How the training went, from a row an optimiser step."""
    if not log:
        return
    dead, quarter = dead_steps(log), last_quarter(log)
    skipped = sum(not math.isfinite(row["gradient_norm"]) for row in log)
    if dead:
        yield (
            f"The training collapsed: from step {int(log[-dead]['step'])} on the gradient is 0 and pairs are ordered wrong; "
            "the model learned nothing there. Write a lower learningRate."
        )
    if bounds.SKIPPED.value < skipped / len(log) < 1:  # none at all: nobody measured it
        yield f"{skipped} of {len(log)} steps had no finite gradient and were skipped."
    if len(log) > 1 and _mean(quarter, "loss") > bounds.RISEN.value * max(LOSS, abs(log[0]["loss"])):
        yield f"The loss rose from {log[0]['loss']:.3g} to {_mean(quarter, 'loss'):.3g}: the steps are too long."
    if "accuracy" not in log[0]:  # a training that orders nothing
        return
    if not dead and _mean(quarter, "accuracy") < bounds.AGAINST.value:
        share = percent(_mean(quarter, "accuracy"))
        yield f"At the end the policy orders {share} of the pairs as they are labelled: less than chance."
    learned = _steps_at_end(log, lambda row: row["accuracy"] == 1)
    if learned > 2 and learned / len(log) > bounds.LEARNED.value:
        first = int(log[-learned]["step"])
        yield f"From step {first} of {int(log[-1]['step'])} on every pair is ordered right: the pairs are learned by heart."


def on_chosen(before: float, after: float) -> Iterator[str]:
    """Chosen answers that became less likely: mean log-probability, nats, under the reference and at the end."""
    if before - after > bounds.FALLEN.value:
        yield (
            f"The chosen answers became less likely: their log-probability fell from {before:.1f} to {after:.1f} nats, on "
            "average."
        )


def last_quarter(log: Sequence[LogRow]) -> Sequence[LogRow]:
    """The rows that say how a training ended."""
    return log[-max(1, len(log) // 4) :]


def dead_steps(log: Sequence[LogRow]) -> int:
    """How many of the last steps in a row had no gradient although pairs were ordered wrong: nothing is learned any more."""
    return _steps_at_end(
        log, lambda row: row["gradient_norm"] < bounds.DEAD_GRADIENT.value and row.get("accuracy", 0) < 1
    )


def has_collapsed(log: Sequence[LogRow]) -> bool:
    """Whether going on would only cost time."""
    return dead_steps(log) >= bounds.DEAD_STEPS.value


def on_results(results: Mapping[str, Json]) -> Iterator[str]:
    """Gains that are none, figures that rest on little."""
    few = {figure["n"] for figure in results.values() if figure["n"] < bounds.HELD_OUT.value}
    if few:
        n = min(few)
        yield f"Figures rest on {n} held-out prompts: an interval of 95 % is up to ±{0.98 / math.sqrt(max(1, n)):.2f} wide."
    for name, figure in results.items():
        if not name.endswith(".gain") or figure.get("noInterval"):
            continue
        what = name.removesuffix(".gain").replace(".", ", ")
        low, high = figure["low"], figure["high"]
        if figure.get("lowerIsBetter"):
            low, high = -high, -low
        if high < 0:
            yield f"The model got worse ({what}): the whole interval of its gain is on the wrong side of zero."
        elif low <= 0:
            yield f"No clear gain ({what}): the interval of the gain includes zero."


def on_benchmark(check: str, asked: int, answered: int, full: int) -> Iterator[str]:
    """Requests of a benchmark that were not answered, and those that fill the context."""
    if 1 - answered / asked > bounds.UNASKED.value:
        yield f"{asked - answered:,} of the {asked:,} requests of {check} have no answer and count as the least likely, or empty."
    if full / asked > bounds.FULL.value:
        yield f"{full:,} of the {asked:,} requests of {check} fill the model's context: what stood before it was cut."


def on_held_out(prompts: int) -> Iterator[str]:
    """Prompts of an evaluation, as they are known before the run."""
    if prompts < bounds.HELD_OUT.value:
        wide = 0.98 / math.sqrt(max(1, prompts))
        yield f"The evaluation has {prompts} prompts: an interval of 95 % is up to ±{wide:.2f} wide."


def on_growth(before: float, after: float) -> Iterator[str]:
    """Answers of the trained model that are much longer, or shorter, than the initial one's; mean tokens of both."""
    if _apart(after / max(1.0, before), bounds.GROWN):
        words = f"{after:.0f} tokens where the initial model's have {before:.0f}"
        yield f"The new model's answers have {words}, on average: what was trained is length."


def kept_short(notes: Sequence[str]) -> list[str]:
    """The sentences as a step's result holds them."""
    return [note if len(note) <= LONGEST else note[: LONGEST - 2] + " …" for note in notes[:MOST]]


def percent(share: float) -> str:
    """A share with three digits that count, never a rounded 0 or 100: 98.7 %, 0.25 %, <0.01 %."""
    if share in (0, 1):
        return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"
    if 0 < share < 0.0001:
        return "<0.01\N{NO-BREAK SPACE}%"
    if 0.9999 < share < 1:
        return ">99.99\N{NO-BREAK SPACE}%"
    digits = 2 if share < 0.01 or share > 0.99 else 1
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def _apart(ratio: float, bound: Bound) -> bool:
    """Whether a ratio is beyond the bound, either way round."""
    return ratio > bound.value or ratio < 1 / bound.value


def _mean(log: Sequence[LogRow], column: str) -> float:
    return sum(row[column] for row in log) / len(log)


def _steps_at_end(log: Sequence[LogRow], odd: Callable[[LogRow], bool]) -> int:
    """How many rows at the end are odd without a break."""
    return next((number for number, row in enumerate(reversed(log)) if not odd(row)), len(log))
