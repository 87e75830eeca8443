"""The checks of an evaluation, on tables as the flows make them."""

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.errors import ConfigError
from selfalign_api.plan import ArtifactRef, Check
from selfalign_jobs.evaluate.checks import exact_match_figures, win_rate_figures
from selfalign_jobs.recipes.rows import ANSWERS, VERDICTS

BEFORE, AFTER = ArtifactRef(step="i1-generate", name="initial-answers"), ArtifactRef(step="i1-evaluate", name="answers")
EXACT = Check(name="accuracy", type="ExactMatch", before=BEFORE, after=AFTER, temperatures=(0.0, 1.0))
WIN = Check(name="win", type="SelfWinRate", before=BEFORE, after=AFTER, verdicts=AFTER)


def answers(right: dict[str, tuple[bool, bool]], **more: Any) -> pa.Table:
    """A table with a greedy and a sampled answer to each prompt, and a `respond` answer that no exact match reads."""
    rows = []
    for prompt, good in right.items():
        for role, fits in zip(("greedy", "sampled", "respond"), (*good, False), strict=True):
            row = {"prompt": prompt, "reference": "7", "role": role, "answer": " 7\n" if fits else "8"}
            rows.append(row | more)
    return pa.Table.from_pylist(rows, schema=ANSWERS)


def test_each_role_is_compared_with_itself_over_the_prompts_that_both_models_answered() -> None:
    before = answers({"a": (False, False), "b": (True, False), "only before": (True, True)})
    after = answers({"b": (True, True), "a": (True, False), "only after": (True, True)})
    found = exact_match_figures(EXACT, before, after, seed=0)
    values = {name: (figure["value"], figure["n"]) for name, figure in found.items()}
    assert values == {
        "accuracy.greedy.before": (0.5, 2),
        "accuracy.greedy.after": (1.0, 2),
        "accuracy.greedy.gain": (0.5, 2),
        "accuracy.sampled.before": (0.0, 2),
        "accuracy.sampled.after": (0.5, 2),
        "accuracy.sampled.gain": (0.5, 2),
    }


right = st.dictionaries(st.text(max_size=3), st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


@given(right, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(found: dict[str, tuple[bool, bool]], random: Any) -> None:
    keys = list(found)
    random.shuffle(keys)
    new = {prompt: (good[1], not good[0]) for prompt, good in found.items()}
    shuffled = answers({key: found[key] for key in keys}), answers({key: new[key] for key in reversed(keys)})
    assert exact_match_figures(EXACT, answers(found), answers(new), 5) == exact_match_figures(EXACT, *shuffled, 5)


def test_prompts_without_a_reference_do_not_count() -> None:
    right = {"a": (True, True)}
    mixed = pa.concat_tables([answers(right), answers({"b": (True, True)}, reference=None)])
    assert exact_match_figures(EXACT, mixed, mixed, seed=0)["accuracy.greedy.after"]["n"] == 1


def test_an_exact_match_without_any_reference_is_refused_with_the_column_to_write() -> None:
    table = answers({"a": (True, True)}, reference=None)
    with pytest.raises(ConfigError, match=r"spec.evaluation.prompts.columns.reference: check accuracy found no prompt"):
        exact_match_figures(EXACT, table, table, seed=0)


def test_the_win_rate_counts_ties_within_the_judge_s_margin_half() -> None:
    rows = [{"prompt": str(n), "p_first": p} for n, p in enumerate([0.9, 0.2, 0.53, 0.5, None])]
    table = pa.Table.from_pylist(rows, schema=VERDICTS)
    texts = pa.table({"prompt": table["prompt"], "before": ["x"] * 5, "after": ["y"] * 5})
    for margin, won in ((0.0, 1 + 0 + 1 + 0.5 + 0.5), (0.05, 1 + 0 + 0.5 + 0.5 + 0.5)):
        found = win_rate_figures(WIN, table, texts, margin, seed=0)
        assert found["win"]["value"] == pytest.approx(won / 5)
        assert found["win.lengthControlled"]["value"] == pytest.approx(won / 5)


def test_the_length_controlled_rate_goes_by_the_characters_of_the_answers_to_each_prompt() -> None:
    """Longer answers win: verdicts and answers in another order, and one prompt that was set aside."""
    verdicts = pa.Table.from_pylist(
        [{"prompt": str(n), "p_first": 1.0 if n % 4 else 0.0} for n in range(40)], schema=VERDICTS
    )
    answers = {str(n): "long é" * 4 if n % 4 else "é" for n in range(41)}
    texts = pa.table({"prompt": [*answers][::-1], "before": ["é" * 9] * 41, "after": [*answers.values()][::-1]})
    found = win_rate_figures(WIN, verdicts, texts, 0.0, seed=0)
    assert found["win"]["value"] == 0.75
    assert found["win.lengthControlled"]["n"] == 40
    assert found["win.lengthControlled"]["value"] < 0.6


def test_figures_fit_the_termination_message() -> None:
    table = answers({str(n): (n % 2 == 0, n % 3 == 0) for n in range(500)})
    found = exact_match_figures(EXACT, table, table, seed=0)
    assert len(json.dumps(found)) < 1000
