"""What deserves a second look in a run, in a sentence each. The bounds are ours: what the papers and our runs call odd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from selfalign_api.plan import Json
from selfalign_jobs.report.figures import Lengths, Verdicts
from selfalign_jobs.report.scale import percent

POSITION = 0.75  # first-position rate; SmolLM2-135M reaches .98, a judge without bias .5
CONSISTENT = 0.7  # agreement of the orders; our tiny model reaches .94 and more
PARSED = 0.9
REPEATED = 0.05  # SAO: 0.7 % of the prompts with personas, 46 % without
LONGER = 0.7  # how often the longer answer is chosen
CUT = 0.05
KEPT = 0.25


def on_verdicts(found: Verdicts) -> Iterator[str]:
    """Position bias, orders that disagree, verdicts that cannot be read."""
    if found.first_position is not None and max(found.first_position, 1 - found.first_position) > POSITION:
        place = "first" if found.first_position > 0.5 else "second"
        share = max(found.first_position, 1 - found.first_position)
        yield f"The judge prefers whatever is shown {place} in {percent(share)} of its verdicts: position bias."
    if found.consistent is not None and found.consistent < CONSISTENT:
        yield f"The two orders name the same answer for {percent(found.consistent)} of the pairs only."
    if found.parsed is not None and found.parsed < PARSED:
        yield f"Only {percent(found.parsed)} of the verdicts could be read: the judge's template and its verdicts do not fit."


def on_prompts(repeated: float | None, drawn: int, kept: int, ended: int) -> Iterator[str]:
    """Prompts that repeat, records that come to nothing. `ended` are the records that are through."""
    if repeated is not None and repeated > REPEATED:
        yield f"{percent(repeated)} of the prompts repeat an earlier one: the personas do not make them differ enough."
    if ended and ended == drawn and kept / drawn < KEPT:
        yield f"Only {percent(kept / drawn)} of the records became pairs; the funnel says where the others went."


def on_lengths(found: Lengths) -> Iterator[str]:
    """Length as the reason of a verdict, answers that were cut."""
    if max(found.chosen_longer, 1 - found.chosen_longer) > LONGER:
        word = "longer" if found.chosen_longer > 0.5 else "shorter"
        share = max(found.chosen_longer, 1 - found.chosen_longer)
        yield f"The {word} answer is chosen in {percent(share)} of the pairs of unequal length: length bias."
    if found.cut > CUT:
        yield f"{percent(found.cut)} of the answers were cut at maxTokens; the model learns such endings."


def on_results(results: Mapping[str, Json]) -> Iterator[str]:
    """Gains that are none."""
    for name, figure in results.items():
        if not name.endswith(".gain"):
            continue
        what = name.removesuffix(".gain").replace(".", ", ")
        if figure["high"] < 0:
            yield f"The model got worse ({what}): the whole interval of its gain is below zero."
        elif figure["low"] <= 0:
            yield f"No clear gain ({what}): the interval of the gain includes zero."
