"""A pair ranker: what it reads, what it says of a row whatever else is ranked with it, and folders that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scorers import pair_ranker
from tokenizers import Tokenizer
from transformers import DebertaV2Config, DebertaV2Model

from selfalign_api.errors import ConfigError
from selfalign_api.plan import EngineSettings
from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.flow import Rank, Ranking
from selfalign_jobs.generate.engine import EngineRequest
from selfalign_jobs.generate.engine_setup import EngineSpec
from selfalign_jobs.generate.pair_ranker import ALL_TOKENS, PROMPT_TOKENS, RankerTokens, ranker_of
from selfalign_jobs.generate.ranker_engine import RankerEngine
from selfalign_jobs.generate.score_render import PairRenderer

ON_CPU = EngineSpec(EngineSettings(precision="float32"), GenerationMeans(device="CPU"))
ROWS = [
    ("Reverse these words: dog red saw", ("saw red dog", "dog")),
    ("Which is larger, 3 or 9?", ("9", "3 it is, and I say so at length again and again", "nine")),
    ("", ("", "a")),
    ("a <|candidate1|> b [SEP] c", ("[CLS] x", "<|source|> y")),
]


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pair_ranker(tmp_path_factory.mktemp("ranker") / "model")


@pytest.fixture(scope="module", name="tokens")
def _tokens(folder: Path) -> RankerTokens:
    return ranker_of(folder, "field")[1]


def ranked(folder: Path, tokens: RankerTokens, rows: list[tuple[str, tuple[str, ...]]]) -> list[Ranking]:
    """What the engine says of rows that it is given at once."""
    engine, renderer = RankerEngine(ON_CPU, folder), PairRenderer(tokens)
    for number, (prompt, answers) in enumerate(rows):
        engine.submit(EngineRequest(str(number), *renderer.render(Rank("judge", prompt, answers))))
    found: dict[str, Any] = {}
    while len(found) < len(rows):
        found |= {result.id: result.answer for result in engine.step()}
    return [found[str(number)] for number in range(len(rows))]


def by_hand(folder: Path, prompt: str, first: str, second: str) -> float:
    """PairRM's own arithmetic: the vectors at the three tokens, through the head, one minus the other."""
    said = json.loads((folder / "config.json").read_text())
    weights = load_file(str(folder / "model.safetensors"))
    model = DebertaV2Model(DebertaV2Config.from_pretrained(folder)).eval()
    model.load_state_dict(
        {name.removeprefix("pretrained_model."): w for name, w in weights.items() if "head" not in name}
    )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids: list[int] = []
    places = []
    for name, text in (("source", prompt), ("cand1", first), ("cand2", second)):
        prefix = tokenizer.id_to_token(said[f"{name}_prefix_id"])
        places.append(len(ids) + 1)
        part = tokenizer.encode(prefix + text, add_special_tokens=False).ids
        ids += [tokenizer.token_to_id("[CLS]"), *part, tokenizer.token_to_id("[SEP]")]
    with torch.inference_mode():
        hidden = model(torch.tensor([ids])).last_hidden_state[0]
    source, one, other = (hidden[place] for place in places)

    def head(answer: torch.Tensor) -> torch.Tensor:
        inner = weights["head_layer.1.weight"] @ torch.cat([source, answer]) + weights["head_layer.1.bias"]
        return weights["head_layer.4.weight"] @ inner.tanh() + weights["head_layer.4.bias"]

    return float(head(one) - head(other))


def test_every_ordered_pair_is_what_pairrm_s_own_arithmetic_makes_of_it(folder: Path, tokens: RankerTokens) -> None:
    for (prompt, answers), ranking in zip(ROWS[:3], ranked(folder, tokens, ROWS)[:3], strict=True):
        for i, first in enumerate(answers):
            for j, second in enumerate(answers):
                wanted = 0.0 if i == j else by_hand(folder, prompt, first, second)
                assert ranking.logits[i][j] == pytest.approx(wanted, abs=1e-5)


def test_a_row_is_ranked_the_same_whatever_else_is_ranked_with_it(folder: Path, tokens: RankerTokens) -> None:
    together = ranked(folder, tokens, ROWS)
    assert any(abs(logit) > 1e-2 for ranking in together for row in ranking.logits for logit in row)
    for row, ranking in zip(ROWS, together, strict=True):
        (alone,) = ranked(folder, tokens, [row])
        for one, other in zip(alone.logits, ranking.logits, strict=True):
            assert one == pytest.approx(other, abs=1e-5)


def test_the_gap_counts_both_orders_and_three_are_ranked_with_the_diagonal() -> None:
    ranking = Ranking(((0.0, 2.0, -1.0), (0.5, 0.0, 3.0), (1.0, -1.0, 0.0)))
    assert (ranking.gap(0, 1), ranking.gap(1, 0)) == (1.5, -1.5)
    assert ranking.scores == pytest.approx(((1.5 - 2.0) / 3, (-1.5 + 4.0) / 3, (2.0 - 4.0) / 3))
    assert ranking.ranks == (2, 1, 3)
    assert Ranking(((0.0, 1.0), (1.0, 0.0))).ranks == (1, 1)


@given(st.text(max_size=9000), st.text(max_size=9000), st.text(max_size=9000))
def test_each_part_has_its_bound_and_the_three_tokens_stand_once(
    tokens: RankerTokens, prompt: str, first: str, second: str
) -> None:
    pair = tokens.pair(prompt, first, second)
    places = [[place for place, id in enumerate(pair) if id == prefix] for prefix in tokens.prefixes]
    assert [len(found) for found in places] == [1, 1, 1]
    (source,), (one,), (other,) = places
    assert source == 1
    assert one - 1 <= PROMPT_TOKENS
    assert len(pair) <= ALL_TOKENS
    alone = tokens.pair(prompt, first, "")
    assert pair[: other - 1] == alone[: other - 1]  # the second answer changes nothing of what stands before it


def reword(folder: Path, changes: dict[str, Any]) -> None:
    file = folder / "config.json"
    said = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in said.items() if value is not None}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "llama"}, "is of type llama, and a PairRanker is a deberta-v2"),
        ({"cand2_prefix_id": None}, "has no cand2_prefix_id in its config.json"),
        ({"source_prefix_id": 99999}, "has a tokenizer without a token of id 99999"),
        ({"cand1_prefix_id": 40}, "(id 40) is no special token"),
    ],
)
def test_a_folder_without_its_special_tokens_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    folder = pair_ranker(tmp_path / "model")
    reword(folder, changes)
    with pytest.raises(ConfigError, match=r"write the folder of a model as llm-blender/PairRM-hf") as error:
        ranker_of(folder, "spec.auxiliaryModels[r].url")
    assert said in str(error.value)


def test_older_saves_carry_positions_that_nothing_reads(folder: Path, tmp_path: Path) -> None:
    copy = pair_ranker(tmp_path / "model")
    weights = load_file(str(copy / "model.safetensors"))
    weights["pretrained_model.embeddings.position_ids"] = torch.arange(4)
    save_file(weights, str(copy / "model.safetensors"))
    tokens = ranker_of(copy, "field")[1]
    assert ranked(copy, tokens, ROWS[:1]) == ranked(folder, tokens, ROWS[:1])
