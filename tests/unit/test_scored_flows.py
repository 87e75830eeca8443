"""Scoring requests through the loop: candidates in, pairs with scores out; what is too long for the scorer is set aside."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_engine import FakeEngine
from hypothesis import given
from hypothesis import strategies as st
from scorers import classifier, pair_ranker, reward_model
from tokenizers import Tokenizer

from selfalign_api.plan import FlowJob, Judge, Prepare
from selfalign_jobs.flow import Ranking, Scores
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.classifier import log_odds, output_of, reading_of
from selfalign_jobs.generate.engine import Answer, EngineRequest, Head, Pairs
from selfalign_jobs.generate.loop import FlowLoop, JobSetup, Task
from selfalign_jobs.generate.pair_ranker import ranker_of
from selfalign_jobs.generate.records import Batch, Record
from selfalign_jobs.generate.score_render import Conversations, PairRenderer, ScoreRenderer
from selfalign_jobs.recipes.rows import SCORED_PAIRS
from selfalign_jobs.recipes.sao import judge_two

CONTEXT = 96


def candidates(first: str, second: str) -> dict[str, Any]:
    sides = {"first": first, "second": second}
    ids = {f"{side}_ids": [1, 2] for side in sides} | {f"{side}_finish": "stop" for side in sides}
    return {"persona": "p", "prompt": "Which?", "prompt_ids": [1], "prompt_seed": 1, "answer_seed": 2} | sides | ids


ROWS = [candidates("yes", "no, not at all"), candidates("no, not at all", "yes"), candidates("yes", "dog " * CONTEXT)]


def longer_is_better(request: EngineRequest) -> Answer:
    """A scorer that counts tokens; the ranker likes what stands first by one more."""
    if isinstance(request.task, Head):
        return Scores((float(len(request.prompt_ids)),))
    assert isinstance(request.task, Pairs)
    assert sum(request.task.lengths) == len(request.prompt_ids)
    return Ranking(((0.0, 3.0), (1.0, 0.0)))


def played(
    renderer: ScoreRenderer | PairRenderer,
    kind: str,
    gap: float = 0.0,
    answer: Callable[[EngineRequest], Answer] = longer_is_better,
) -> list[Record]:
    judge = Judge(method="score", verdicts=("a", "b"), scorer=kind, min_score_gap=gap)  # type: ignore[arg-type]
    job = FlowJob(flow="score-two", rows=Prepare(fn="as-made"), out="pairs", judge=judge)
    loop = FlowLoop(FakeEngine(answer), {"pairs": JobSetup(job, judge_two, renderer, 0)}, max_open=8)
    loop.add([Task("pairs", number, f"r{number}", 0, row) for number, row in enumerate(ROWS)])
    records: list[Record] = []
    while loop.unfinished or not records:
        loop.advance()
        records += loop.take_finished()["pairs"]
    return sorted(records, key=lambda record: record.source)


@pytest.fixture(name="by_reward")
def _by_reward(tmp_path: Path) -> ScoreRenderer:
    return ScoreRenderer(Conversations(ModelChat.of(reward_model(tmp_path / "model"), None)), CONTEXT)


def test_the_answer_with_the_higher_score_is_chosen_and_one_too_long_is_set_aside(by_reward: ScoreRenderer) -> None:
    first, second, third = played(by_reward, "RewardModel")
    assert [record.rows[0]["chosen"] for record in (first, second)] == ["no, not at all"] * 2
    assert [record.rows[0]["first_chosen"] for record in (first, second)] == [False, True]
    for record in (first, second):
        row = record.rows[0]
        assert row["margin"] == row["chosen_score"] - row["rejected_score"] > 0
        assert record.tokens["judge"] == [row["chosen_score"] + row["rejected_score"], 0]
    assert (third.status, third.reason) == ("set-aside", "too long")
    batch = Batch.of([first, second, third], SCORED_PAIRS)
    assert batch.verdicts == {"first": 1, "second": 1}
    assert batch.preferred == {"first": 2, "second": 2}  # a score prefers no place


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=6), st.data())
def test_a_classifier_s_score_is_the_log_odds_of_its_label(logits: list[float], data: st.DataObject) -> None:
    label = data.draw(st.integers(0, len(logits) - 1))
    p = np.exp(np.array(logits) - max(logits))
    p /= p.sum()
    wanted = np.log(p[label]) - np.log(np.delete(p, label).sum())
    assert log_odds(logits, label) == pytest.approx(wanted, abs=1e-6)


def test_the_answer_that_is_likelier_of_the_label_is_chosen(tmp_path: Path) -> None:
    """Of what the classifier reads, the answer alone; its other outputs count as one."""
    folder = classifier(tmp_path / "model")
    reading = reading_of(folder, None)
    number = output_of(folder, "rude", "field")
    assert number == 1
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert reading.ids("Which?", "no") == tokenizer.encode("no").ids
    renderer = ScoreRenderer(reading, CONTEXT, lambda scores: log_odds(scores.logits, number))

    def rude_if_long(request: EngineRequest) -> Answer:
        return Scores((0.0, float(len(request.prompt_ids)), 0.0))

    first, second, third = played(renderer, "Classifier", answer=rude_if_long)
    assert [record.rows[0]["chosen"] for record in (first, second)] == ["no, not at all"] * 2
    tokens = len(tokenizer.encode("no, not at all").ids)
    assert first.rows[0]["chosen_score"] == pytest.approx(tokens - math.log(2))
    assert (third.status, third.reason) == ("set-aside", "too long")


def test_scores_nearer_than_the_gap_make_no_pair_and_say_so(by_reward: ScoreRenderer) -> None:
    for record in played(by_reward, "RewardModel", gap=1000)[:2]:
        assert (record.status, record.reason) == ("dropped", "score gap below minScoreGap")
        assert record.rows[0]["verdict_forward"] in ("first", "second")


def test_a_ranker_decides_by_both_orders(tmp_path: Path) -> None:
    folder = pair_ranker(tmp_path / "model")
    for record in played(PairRenderer(ranker_of(folder, "field")[1]), "PairRanker", gap=2.0):
        row = record.rows[0]
        assert row["first_chosen"]
        assert (row["chosen_score"], row["rejected_score"], row["margin"]) == (3.0, 1.0, 2.0)
