"""Distinct share and Self-BLEU of the prompts that a run wrote."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_run import Chances, make_run

from selfalign_jobs.recipes.answers import written_prompts
from selfalign_jobs.report import render_report, summary
from selfalign_jobs.report.diversity import ORDERS, SAMPLED, diversity, self_bleu

texts = st.lists(st.lists(st.sampled_from("abcd"), max_size=7), min_size=2, max_size=8)


def bleu(hypothesis: list[str], references: list[list[str]], order: int) -> float:
    """BLEU by its definition (Papineni et al. 2002), an order without a match counted as a tenth (Chen and Cherry 2014)."""

    def grams(words: list[str], size: int) -> Counter[tuple[str, ...]]:
        return Counter(tuple(words[at : at + size]) for at in range(len(words) - size + 1))

    logs = []
    for size in range(1, order + 1):
        mine = grams(hypothesis, size)
        clipped = sum(min(n, max(grams(other, size)[gram] for other in references)) for gram, n in mine.items())
        logs.append(math.log((clipped or 0.1) / max(1, mine.total())))
    own = len(hypothesis)
    nearest = min((abs(len(other) - own), len(other)) for other in references)[1]
    penalty = 1.0 if own > nearest else math.exp(1 - nearest / max(1, own))
    return penalty * math.exp(sum(logs) / order)


@given(texts)
def test_self_bleu_is_the_mean_bleu_of_each_text_with_all_others(given_texts: list[list[str]]) -> None:
    found = self_bleu(given_texts)
    for order in ORDERS:
        each = [
            bleu(text, [*given_texts[:number], *given_texts[number + 1 :]], order)
            for number, text in enumerate(given_texts)
        ]
        assert found[order] == pytest.approx(sum(each) / len(each))


def test_one_prompt_over_and_over_has_no_diversity() -> None:
    found = diversity(["What should I plant in my garden now?"] * 40, 0)
    assert found.distinct == 1 / 40
    assert found.mean == pytest.approx(1)


def test_prompts_without_a_word_in_common_are_diverse() -> None:
    found = diversity([" ".join(f"{number}-{place}" for place in range(9)) for number in range(40)], 0)
    assert found.distinct == 1
    assert found.mean is not None
    assert found.mean < 0.05


def test_a_single_prompt_is_compared_with_nothing() -> None:
    assert diversity(["alone"], 0).mean is None


def test_many_prompts_are_sampled_by_the_seed() -> None:
    prompts = [f"{number % 7} of {number % 11} and {number % 13} of them all" for number in range(2 * SAMPLED)]
    assert diversity(prompts, 3) == diversity(prompts, 3)
    assert diversity(prompts, 3).self_bleu != diversity(prompts, 4).self_bleu
    assert diversity(prompts, 3).sampled == SAMPLED


def test_prompts_of_the_user_are_not_of_the_model() -> None:
    table = pa.table({"prompt": ["a", "b", None], "prompt_seed": pa.array([None, 1, 2], pa.uint64())})
    assert written_prompts(table) == ["b"]
    assert written_prompts(table.select(["prompt"])) == []


def test_a_writer_that_repeats_itself_is_seen_in_report_and_summary(tmp_path: Path) -> None:
    figures = []
    for name, repeated in (("varied", 0.0), ("collapsed", 0.9)):
        run = make_run(tmp_path / name, Chances(personas=80, held_out=60, repeated=repeated))
        (found,) = summary(run.folder, run.plan)["diversity"].items()
        assert found[0] == "i1-generate.pairs"
        assert f"{found[1]['selfBleu']:.3f}" in render_report(run.folder, run.plan)
        figures.append(found[1])
    varied, collapsed = figures
    assert collapsed["distinct"] < 0.3 < varied["distinct"]
    assert collapsed["selfBleu"] > varied["selfBleu"] + 0.05
