"""Prompts that are too like an earlier one: what is found, in which order, and what becomes of it."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign_api.load import parse
from selfalign_api.plan import AnyStep, ArtifactRef, Generate, Train
from selfalign_api.plan_values import Json
from selfalign_api.rules import check_rules
from selfalign_api.run import SelfAlignmentRun
from selfalign_jobs.accept.resolve import method_of, method_values
from selfalign_jobs.recipes.base import RECIPES, recipe
from selfalign_jobs.recipes.embedding import VECTORS
from selfalign_jobs.recipes.failures import distinct
from selfalign_jobs.recipes.hashes import RECALL, recall, rows_a_band
from selfalign_jobs.recipes.near_duplicates import HASHES, near_duplicates, shingle_sets, words_of
from selfalign_jobs.recipes.tables import counts_of, learned_from, training_pairs

NEAR = {"method": "MinHash", "threshold": 0.78, "ngram": 1}
WORDS = [f"{stem}{end}" for stem in ("gar", "wat", "tra", "let", "mea") for end in ("den", "er", "in", "ter", "sure")]

rules = st.one_of(
    st.just({"method": "Exact"}),
    st.builds(
        lambda threshold, ngram: {"method": "MinHash", "threshold": threshold, "ngram": ngram},
        st.sampled_from([0.5, 0.6, 0.78, 0.9, 1.0]),
        st.integers(1, 3),
    ),
)
texts = st.lists(st.lists(st.sampled_from(WORDS[:8]), max_size=9).map(" ".join), max_size=25)


def shingles(text: str, ngram: int) -> frozenset[tuple[str, ...]]:
    words = words_of(text) or [""]
    return frozenset(tuple(words[at : at + ngram]) for at in range(max(1, len(words) - ngram + 1)))


def jaccard(one: str, other: str, rule: dict[str, Json]) -> float:
    if rule["method"] == "Exact":
        return float(words_of(one) == words_of(other))
    a, b = shingles(one, rule["ngram"]), shingles(other, rule["ngram"])
    return len(a & b) / len(a | b)


def variants(count: int, seed: int) -> list[str]:
    """Texts of which every third is an earlier one with one or two other words."""
    rng = np.random.default_rng(seed)
    found: list[str] = []
    for number in range(count):
        words = [f"w{n}" for n in rng.integers(0, 400, rng.integers(8, 24))]
        if number % 3 == 2:
            words = found[int(rng.integers(0, number))].split()
            for _ in range(int(rng.integers(0, 3))):
                words[int(rng.integers(0, len(words)))] = f"x{rng.integers(0, 400)}"
        found.append(" ".join(words))
    return found


@given(texts, rules)
def test_what_is_dropped_is_like_a_kept_one_before_it(given_texts: list[str], rule: dict[str, Json]) -> None:
    like = near_duplicates(given_texts, rule)
    for number, earlier in enumerate(like.tolist()):
        if earlier >= 0:
            assert earlier < number
            assert like[earlier] == -1
            assert jaccard(given_texts[number], given_texts[earlier], rule) >= rule.get("threshold", 1)


@given(texts, texts, rules)
def test_what_comes_later_changes_nothing_before_it(one: list[str], more: list[str], rule: dict[str, Json]) -> None:
    assert near_duplicates([*one, *more], rule)[: len(one)].tolist() == near_duplicates(one, rule).tolist()


@given(texts, st.randoms(use_true_random=False), st.sampled_from([0.5, 0.78, 1.0]))
def test_case_spaces_composition_and_at_one_word_a_gram_order_make_no_difference(
    given_texts: list[str], random: Any, threshold: float
) -> None:
    def other(text: str) -> str:
        words = text.split()
        random.shuffle(words)
        return "  ".join(words).upper()

    rule = NEAR | {"threshold": threshold}
    assert near_duplicates([other(text) for text in given_texts], rule).tolist() == (
        near_duplicates(given_texts, rule).tolist()
    )


@pytest.mark.parametrize(
    "rule", [NEAR, NEAR | {"threshold": 0.5}, NEAR | {"ngram": 2, "threshold": 0.6}, {"method": "Exact"}]
)
@pytest.mark.parametrize("seed", range(4))
def test_pairs_above_the_threshold_are_found_by_the_design_s_recall(rule: dict[str, Json], seed: int) -> None:
    """Against brute force: of texts with a near one before them nearly all are dropped."""
    given_texts = variants(300, seed)
    like = near_duplicates(given_texts, rule)
    kept: list[int] = []
    missed = due = 0
    for number, text in enumerate(given_texts):
        near = any(jaccard(text, given_texts[other], rule) >= rule.get("threshold", 1) for other in kept)
        due, missed = due + near, missed + (near and like[number] < 0)
        if like[number] < 0:
            kept.append(number)
    assert due > 30 or rule["method"] == "Exact"
    assert missed <= (1 - RECALL) * due + 3 * (due * RECALL * (1 - RECALL)) ** 0.5


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.78, 0.8, 0.9, 0.95, 1.0])
def test_bands_are_as_narrow_as_the_recall_allows(threshold: float) -> None:
    rows = rows_a_band(threshold, HASHES)
    assert recall(threshold, rows, HASHES) >= RECALL
    assert rows == 256 or recall(threshold, rows + 1, HASHES) < RECALL


def test_hashes_stay_what_they_are() -> None:
    """They go into digests: another hash would let a resumed run drop other rows."""
    sets = shingle_sets(["the garden and the water", "ÉTÉ", ""], 2)
    assert sets.starts.tolist() == [0, 4, 5, 6]
    assert [hex(value) for value in sets.values] == GOLDEN_HASHES


GOLDEN_HASHES = [
    "0x22e94d6523e7dcd1", "0x489c167f0a8c220b", "0x66b6e9517d98aa63", "0xeccd037afa8f2ad6",
    "0x8fd51b5777b25745", "0x49df6bf9d4874f40",
]  # fmt: skip


@settings(max_examples=20)
@given(st.integers(1, 2000))
def test_one_prompt_over_and_over_is_kept_once(times: int) -> None:
    assert near_duplicates(["What is the plan for the garden?"] * times, NEAR).tolist() == [-1, *[0] * (times - 1)]


@pytest.mark.parametrize(
    ("one", "other", "like"),
    [
        ("请告诉我今天晚上在北京有什么好吃的餐馆", "请告诉我今天晚上在上海有什么好吃的餐馆", True),
        ("请告诉我今天晚上在北京有什么好吃的餐馆", "为什么天空是蓝色的", False),
        ("東京で安くておいしい店を教えてください", "大阪で安くておいしい店を教えてください", True),
        ("ช่วยเขียนจดหมายลาออกจากงานให้หน่อย", "ช่วยเขียนจดหมายลาออกจากงานให้ที", True),
        ("서울에서 가 볼 만한 곳을 알려 줘", "부산에서 가 볼 만한 곳을 알려 줘", True),
        ("Où est la gare s'il vous plaît, et le train ?", "OÙ est la gare s'il vous plai\u0302t, et ce train ?", True),
        ("ممكن تشرح لي كيف أزرع النعناع في البيت", "ما هي عاصمة فرنسا", False),
    ],
)  # fmt: skip
def test_prompts_in_any_script_are_compared(one: str, other: str, like: bool) -> None:
    rule = NEAR | {"threshold": 0.7}
    assert (near_duplicates([one, other], rule)[1] == 0) == like == (jaccard(one, other, rule) >= 0.7)


@given(st.text())
def test_words_lose_nothing_but_space(text: str) -> None:
    assert "".join(words_of(text)) == "".join(unicodedata.normalize("NFC", text).casefold().split())


def test_many_texts_are_hashed_in_pieces_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    given_texts = variants(200, 9)
    whole = near_duplicates(given_texts, NEAR).tolist()
    monkeypatch.setattr("selfalign_jobs.recipes.near_duplicates.TEXTS", 7)
    assert near_duplicates(given_texts, NEAR).tolist() == whole


# --- vectors ------------------------------------------------------------------------------------------------------------


def unit_vectors(count: int, width: int, seed: int) -> npt.NDArray[np.float32]:
    """Vectors of length 1 of which every third lies near an earlier one."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, width)).astype(np.float32)
    for number in range(2, count, 3):
        rows[number] = rows[rng.integers(0, number)] + rng.uniform(0, 0.6) * rows[number]
    found: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def one_after_another(rows: npt.NDArray[np.float32], threshold: float) -> list[int]:
    """What the design says, by every cosine."""
    like: list[int] = []
    for number, row in enumerate(rows):
        near = [other for other in range(number) if like[other] < 0 and rows[other] @ row >= threshold]
        like.append(near[0] if near else -1)
    return like


@settings(max_examples=30)
@given(st.integers(0, 120), st.sampled_from([8, 64, 384]), st.sampled_from([0.8, 0.9, 0.96]), st.integers(0, 1000))
def test_of_vectors_that_are_near_one_another_the_first_is_kept(
    count: int, width: int, threshold: float, seed: int
) -> None:
    rows = unit_vectors(count, width, seed)
    rule = {"method": "Embedding", "threshold": threshold}
    like = near_duplicates([""] * count, rule, rows).tolist()
    wanted = one_after_another(rows, threshold)
    assert all(each < 0 or rows[each] @ rows[number] >= threshold for number, each in enumerate(like))
    found, due = (sum(each >= 0 for each in numbers) for numbers in (like, wanted))
    assert found <= due
    assert found >= 0.9 * due - 1


def test_equal_vectors_are_one_whatever_the_order_of_their_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.repeat(unit_vectors(6, 16, 1), 3, axis=0)
    rule = {"method": "Embedding", "threshold": 0.99}
    like = near_duplicates([""] * 18, rule, rows).tolist()
    assert [number for number, each in enumerate(like) if each < 0] == [*range(0, 18, 3)]
    monkeypatch.setattr("selfalign_jobs.recipes.vectors.AT_A_TIME", 5)
    assert near_duplicates([""] * 18, rule, rows).tolist() == like


# --- what becomes of them ---------------------------------------------------------------------------------------------


def pairs(*prompts: str) -> pa.Table:
    return pa.table({"prompt": pa.array(prompts, pa.string())})


OPTIONS: dict[str, Json] = {"held_out": False, "max_new_pairs": None, "seed": 0, "near_duplicates": NEAR, "earlier": 0}


def test_a_near_duplicate_is_no_pair_within_its_iteration_nor_against_earlier_ones() -> None:
    first, second = pairs("a b c d", "d c b a", "e"), pairs("E", "f", "b a d c", "f")
    made = training_pairs((first, second), OPTIONS)
    assert made["prompt"].to_pylist() == ["a b c d", "e", "f"]
    assert counts_of(made) == {"pairs": 3, "promptHeldOut": 0, "nearDuplicates": 4}


def test_iterations_before_the_window_are_only_compared_with() -> None:
    first, second = pairs("a b c d", "d c b a", "e"), pairs("E", "f", "b a d c", "f")
    made = training_pairs((first, second), OPTIONS | {"earlier": 1})
    assert made["prompt"].to_pylist() == ["f"]
    assert counts_of(made) == {"pairs": 1, "promptHeldOut": 0, "nearDuplicates": 3}


def test_what_is_held_out_is_compared_with_nothing() -> None:
    made = training_pairs((pairs("a b", "b a"), pairs("a b")), OPTIONS | {"held_out": True})
    assert made["prompt"].to_pylist() == ["b a"]
    assert counts_of(made) == {"pairs": 1, "promptHeldOut": 1, "nearDuplicates": 0}


@given(st.lists(texts, min_size=1, max_size=3), st.integers(1, 4))
def test_no_near_duplicate_is_trained_on(tables: Sequence[list[str]], quota: int) -> None:
    options = OPTIONS | {"max_new_pairs": quota}
    made = training_pairs(tuple(pairs(*prompts) for prompts in tables), options)["prompt"].to_pylist()
    assert near_duplicates(made, NEAR).tolist() == [-1] * len(made)
    assert len(made) <= quota * len(tables)


def with_vectors(vectors: dict[str, list[float]]) -> pa.Table:
    return pa.Table.from_pylist([{"prompt": prompt, "vector": row} for prompt, row in vectors.items()], VECTORS)


def test_pairs_are_left_out_by_the_vectors_of_their_prompts_within_and_against_earlier_iterations() -> None:
    rule = {"method": "Embedding", "threshold": 0.96, "model_name": "encoder"}
    first, second = pairs("bake bread", "a loaf, how", "primes"), pairs("breads", "primes", "stars")
    bread, primes, stars = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]
    tables = (
        first,
        second,
        with_vectors({"primes": primes, "bake bread": bread, "a loaf, how": [0.98, 0.199, 0.0]}),
        with_vectors({"breads": bread, "primes": primes, "stars": stars}),
    )
    made = training_pairs(tables, OPTIONS | {"near_duplicates": rule, "vectors": 2})
    assert made["prompt"].to_pylist() == ["bake bread", "primes", "stars"]
    assert counts_of(made)["nearDuplicates"] == 3


@pytest.mark.parametrize("name", [name for name in RECIPES if "embed" in recipe(name).flows])
def test_whoever_compares_vectors_is_given_them(name: str) -> None:
    found = recipe(name)
    compares = "distinct" if "distinct" in found.prepares else "training-pairs"
    assert "vector" in (found.prepares[compares].reads or ("vector",))  # unset, a table is read whole


def test_a_generation_embeds_its_prompts_and_the_training_reads_the_vectors_of_all_iterations() -> None:
    near = {"method": "Embedding", "modelName": "encoder"}
    steps = steps_of("LastTwo", [{"name": "encoder", "kind": "Embedder", "url": "file:///e"}], nearDuplicates=near)
    generations = [step for step in steps if isinstance(step, Generate)]
    for step in generations:
        load = step.loads[-1]
        assert (load.task, load.model.lineage, step.outputs[-1]) == ("embed", "encoder", "prompt-vectors")
    last = [step for step in steps if isinstance(step, Train)][-1]
    inputs = [(ref.step, ref.name) for ref in last.data.inputs if isinstance(ref, ArtifactRef)][:6]
    assert inputs == [(f"i{k}-generate", name) for name in ("pairs", "prompt-vectors") for k in (1, 2, 3)]
    assert [ref.step for ref in learned_from(last.data)] == ["i2-generate", "i3-generate"]
    assert last.data.options["near_duplicates"] == {"method": "Embedding", "threshold": 0.96, "model_name": "encoder"}


def test_proposals_are_left_out_by_their_vectors() -> None:
    bread, stars = [1.0, 0.0], [0.0, 1.0]
    tables = (
        pairs("bake bread"),
        pairs("stars", "breads", "a star"),
        with_vectors({"bake bread": bread}),
        with_vectors({"a star": stars, "breads": bread, "stars": stars}),
    )
    rule = {"method": "Embedding", "threshold": 0.96, "model_name": "encoder"}
    made = distinct(tables, {"near_duplicates": rule, "earlier": 1})
    assert made["prompt"].to_pylist() == ["stars"]


def trainings(window: str, **filters: Json) -> list[Train]:
    return [step for step in steps_of(window, [], **filters) if isinstance(step, Train)]


def steps_of(window: str, helpers: list[Json], **filters: Json) -> tuple[AnyStep, ...]:
    spec = {
        "recipe": "sao",
        "model": {"url": "file:///m"},
        "iterations": 3,
        "iteration": {"dataWindow": window},
        "auxiliaryModels": helpers,
        "generation": {"filters": filters},
    }
    document = {
        "apiVersion": "selfalign.dev/v1alpha1",
        "kind": "SelfAlignmentRun",
        "metadata": {"name": "r"},
        "spec": spec,
    }
    run = parse(SelfAlignmentRun, document, "")
    check_rules(run)
    return recipe("sao").plan(method_of(method_values(run, "CPU", {}, Path())))


def test_what_is_left_out_of_the_filter_has_its_value() -> None:
    (first, *_) = trainings("Current", nearDuplicates={})
    assert first.data.options["near_duplicates"] == NEAR
    (first, *_) = trainings("Current", nearDuplicates={"method": "Exact"})
    assert first.data.options["near_duplicates"] == {"method": "Exact"}


@pytest.mark.parametrize(("window", "learned"), [("Current", [1, 1, 1]), ("LastTwo", [1, 2, 2]), ("All", [1, 2, 3])])
def test_a_training_reads_all_iterations_so_far_and_learns_from_its_window(window: str, learned: list[int]) -> None:
    steps = trainings(window, nearDuplicates={"method": "MinHash", "threshold": 0.9, "ngram": 2})
    for k, (step, number) in enumerate(zip(steps, learned, strict=True), 1):
        read = [ref.step for ref in step.data.inputs if isinstance(ref, ArtifactRef) and ref.name == "pairs"]
        assert read == [f"i{i}-generate" for i in range(1, k + 1)]
        assert [ref.step for ref in learned_from(step.data)] == read[-number:]
        assert step.data.options["near_duplicates"] == {"method": "MinHash", "threshold": 0.9, "ngram": 2}


def test_without_the_filter_a_plan_is_what_it_was() -> None:
    for step in trainings("Current"):
        assert step.data.options.keys() == {"held_out", "max_new_pairs", "seed"}
