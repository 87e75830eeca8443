"""The tiny model of the examples: nothing held out was trained on, and its folder loads as what was built."""

import json
import random
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment, StrictUndefined
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfalign_jobs.recipes.keywords import keywords

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = EXAMPLES / "tiny-model"
sys.path[:0] = [str(TINY / "build"), str(EXAMPLES.parent / "benchmarks")]

import controls  # noqa: E402
import language  # noqa: E402
import pretrain  # noqa: E402
import ranker  # noqa: E402
import responders  # noqa: E402
import reward_model  # noqa: E402
import samples  # noqa: E402
import tables  # noqa: E402
import users  # noqa: E402
import verifier  # noqa: E402
from batches import make_batch  # noqa: E402
from tokenizer import chat, train_tokenizer  # noqa: E402

BUILD = json.loads((TINY / "build.json").read_text())


def read_lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def tokenizer():  # the committed one
    return AutoTokenizer.from_pretrained(TINY / "model")


@pytest.fixture(scope="module")
def rows_read() -> list[samples.Sample]:
    """Every row that the committed model's training read: its generator replayed from the seed and the step counts."""
    rng = random.Random(BUILD["seed"])
    rows: list[samples.Sample] = []
    for phase, sloppy in (("clean", False), ("sloppy", True)):
        for _ in range(BUILD["steps"][phase]):
            step = samples.draw_step(rng, sloppy=sloppy)
            rows += step.short + step.judge + step.copy
    return rows


def request_of(row: samples.Sample) -> str:
    """The request that a row's texts hold, found in the texts alone; empty for copying."""
    if row.prompt.startswith("You are "):
        return row.reply.removeprefix(language.PROMPT_PREFIX)
    if row.prompt.startswith("Request: "):
        return row.prompt.removeprefix("Request: ").split("\n")[0]
    return "" if row.prompt.startswith("Copy this") else row.prompt


def test_no_committed_heldout_prompt_was_in_a_row_that_training_read(rows_read):
    heldout = {row["prompt"] for row in read_lines(TINY / "heldout.jsonl")}
    requests = {request_of(row) for row in rows_read}
    assert len(requests) > 10_000  # the replay found the requests
    assert not requests & heldout


def test_no_held_out_item_at_all_was_in_a_row_that_training_read(rows_read):
    assert not [row for row in rows_read if row.item is not None and row.item.held_out]


def test_the_request_of_a_row_is_its_item_in_one_of_its_wordings(rows_read):
    about = [row for row in rows_read[:5000] if row.item is not None]
    assert all(request_of(row) in row.item.prompts for row in about)


def test_the_larger_of_two_numbers_is_held_out_in_both_orders():
    pairs = [(str(a), str(b)) for a in language.NUMBERS for b in language.NUMBERS if a != b]
    held = {pair for pair in pairs if language.Item("larger", pair).held_out}
    assert held
    assert held == {(b, a) for a, b in held}


def test_the_committed_heldout_file_is_what_the_build_writes_each_item_in_all_its_wordings():
    items = language.heldout_items(50)
    rows = read_lines(TINY / "heldout.jsonl")
    assert rows == [{"prompt": prompt, "reference": item.answers[0]} for item in items for prompt in item.prompts]
    assert len({row["prompt"] for row in rows}) == len(rows) == 600


def test_the_committed_personas_are_distinct_and_enough():
    rows = read_lines(TINY / "personas.jsonl")
    assert [row["persona"] for row in rows] == [text for text, _ in language.personas()]
    assert len({row["persona"] for row in rows}) == len(rows) >= 12_000


@given(task=st.sampled_from(language.TASKS), seed=st.integers(0, 2**32))
def test_a_habit_differs_from_the_right_answer_by_its_last_word(task, seed):
    right, *habits = language.draw_item(random.Random(seed), task).answers
    assert all(habit.split()[-1] != right.split()[-1] for habit in habits)


@given(text=st.text(max_size=80))
def test_any_text_survives_the_tokenizer(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text), clean_up_tokenization_spaces=False) == text


def test_the_saved_tokenizer_encodes_what_training_read_as_the_one_in_training_did(tokenizer, rows_read):
    built = train_tokenizer(BUILD["seed"])
    texts = [chat(row.prompt) + row.reply for row in rows_read[::100]]
    assert built(texts)["input_ids"] == tokenizer(texts)["input_ids"]


def test_the_chat_template_renders_a_turn_as_training_did(tokenizer, rows_read):
    for row in rows_read[:200]:
        turn = [{"role": "user", "content": row.prompt}]
        assert tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True) == chat(row.prompt)
        said = tokenizer.encode(chat(row.prompt)) + tokenizer.encode(row.reply)
        assert said == tokenizer.encode(chat(row.prompt) + row.reply)


def test_every_word_is_one_token_at_a_start_and_after_a_space(tokenizer):
    words = [*language.WORDS, *map(str, language.NUMBERS)]
    assert not [w for w in words if len(tokenizer.encode(w)) != 1 or len(tokenizer.encode(" " + w)) != 1]


def test_the_run_file_asks_with_the_prompts_that_were_trained():
    spec = yaml.safe_load((EXAMPLES / "sao-tiny.yaml").read_text())["spec"]
    roles = {role["name"]: role for role in spec["generation"]["roles"]}
    jinja = Environment(undefined=StrictUndefined)
    said = {"persona": "a p", "prompt": "a request", "first": "one", "second": "two"}
    assert jinja.from_string(roles["writePrompt"]["template"]).render(said) == language.PERSONA_PROMPT.format(**said)
    assert jinja.from_string(roles["judge"]["template"]).render(said) == language.JUDGE_PROMPT.format(**said)
    assert roles["writePrompt"]["outputPrefix"] == language.PROMPT_PREFIX.strip()
    verdicts = [jinja.from_string(verdict).render(said) for verdict in spec["judge"]["verdicts"]]
    assert verdicts == ["one" + language.LABELS[0], "two" + language.LABELS[1]]


def test_the_card_tells_the_figures_of_the_build():
    card = (TINY / "README.md").read_text()
    told = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", card, flags=re.MULTILINE))
    assert {name: float(value) for name, value in told.items()} == BUILD["figures"]


def test_the_committed_model_judges_right_answers_better_in_both_orders(tokenizer):

    from check import candidate_margins

    model = AutoModelForCausalLM.from_pretrained(TINY / "model", dtype=torch.float32)
    items = language.heldout_items(5)
    right_first = [(item.prompts[0], item.answers[0], item.answers[1]) for item in items]
    right_second = [(prompt, wrong, right) for prompt, right, wrong in right_first]
    assert sum(m > 0 for m in candidate_margins(model, tokenizer, right_first)) >= 0.9 * len(items)
    assert sum(m < 0 for m in candidate_margins(model, tokenizer, right_second)) >= 0.9 * len(items)


def test_only_the_reply_and_its_end_are_learnt(tokenizer):
    row = samples.Sample("Count these words: dog cat", "2 [[A]]", None)
    batch = make_batch(tokenizer, [row, samples.Sample("x" * 40, "y", None)], label_weight=2.0)
    learnt = batch.weights[0].nonzero().flatten()
    assert tokenizer.decode(batch.ids[0, 1:][learnt]) == "2 [[A]]<|im_end|>"
    assert batch.weights[0, learnt].tolist() == [1.0, 2.0, 1.0]


def test_the_first_steps_of_a_build_are_the_same_each_time_and_after_a_resume(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "CHECKPOINT_EVERY", 2)
    lengths = pretrain.Lengths(clean=2, sloppy=1)
    tokenizer = train_tokenizer(0)
    states = []
    for folder in ("one", "two", "two"):  # the third goes on from the second's checkpoint
        (tmp_path / folder).mkdir(exist_ok=True)
        model, taken = pretrain.pretrain(tokenizer, 0, lengths, 256, tmp_path / folder)
        states.append(model.state_dict())
        assert taken == lengths
    for state in states[1:]:
        assert all(torch.equal(value, state[name]) for name, value in states[0].items())


def test_the_committed_tables_are_what_the_build_writes():
    for name, make in {
        "demonstrations": tables.demonstrations, "preferences": tables.preferences, "preferences-mixed": tables.mixed,
        "corpus": tables.corpus, "users": users.users,
    }.items():  # fmt: skip
        assert read_lines(TINY / f"{name}.jsonl") == make(0)


@given(seed=st.integers(0, 2**32), count=st.integers(5, 60))
def test_of_mixed_preferences_one_in_five_has_a_habit_before_the_other(seed, count):
    right = {row["prompt"]: row for row in tables.preferences(seed, count)}
    mixed = tables.mixed(seed, count)
    odd = [row for row in mixed if row != right[row["prompt"]]]
    assert len(odd) == count // 5
    assert all(row["rejected"] == right[row["prompt"]]["rejected"] for row in mixed)
    assert all(len({row["chosen"], row["rejected"], right[row["prompt"]]["chosen"]}) == 3 for row in odd)


@given(seed=st.integers(0, 2**32), count=st.integers(1, 6), rows=st.integers(4, 12))
def test_a_user_wants_every_answer_in_one_form_and_is_asked_nothing_twice_nor_held_out(seed, count, rows):
    heldout = {row["prompt"] for row in read_lines(TINY / "heldout.jsonl")}
    made = users.users(seed, count, rows)
    for number in range(count):
        own = [row for row in made if row["user"] == f"user-{number:03}"]
        assert len({row["prompt"] for row in own} - heldout) == rows
        words = {len(row["chosen"].split()) for row in own}
        assert words == {1 + number % 2} and len({row["description"] for row in own}) == 1
        assert all({*row["chosen"].split()} == {*row["rejected"].split()} for row in own)


@given(task=st.sampled_from(language.TASKS), seed=st.integers(0, 2**32))
def test_a_spoilt_answer_is_not_the_right_one(task, seed):
    rng = random.Random(seed)
    item = language.draw_item(rng, task)
    assert ranker.spoil(rng, item) not in ("", item.answers[0])


def test_the_committed_ranker_has_the_figures_of_its_card_and_prefers_right_answers():
    built = json.loads((TINY / "ranker" / "build.json").read_text())
    told = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", (TINY / "ranker" / "README.md").read_text(), flags=re.MULTILINE)
    assert {name: float(value) for name, value in told} == built["figures"]
    measured = ranker.measure(TINY / "ranker", language.heldout_items(10))
    assert min(measured.values()) >= 0.9


def test_the_first_steps_of_a_ranker_are_the_same_each_time(tmp_path):
    weights = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        ranker.train(tmp_path / name, ranker.save_layout(tmp_path / name), seed=0, steps=2)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_the_committed_reward_model_has_the_figures_of_its_card_and_scores_right_answers_above_habits():
    folder = TINY / "reward-model"
    built = json.loads((folder / "build.json").read_text())
    told = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", (folder / "README.md").read_text(), flags=re.MULTILINE)
    assert {name: float(value) for name, value in told} == built["figures"]
    assert reward_model.measure(folder, language.heldout_items(10))["habit"] >= 0.9
    assert (folder / "model.safetensors").stat().st_size <= 1 << 20


def test_the_blind_reward_model_of_the_controls_scores_right_answers_above_habits_by_chance_alone(tmp_path):
    figures = reward_model.measure(controls.blind(tmp_path / "blind"), language.heldout_items(50))
    assert 0.35 < figures["habit"] < 0.65


@pytest.mark.parametrize("name", ["strong", "weak"])
def test_a_committed_responder_has_the_figures_of_its_card(name):
    built = json.loads((TINY / name / "build.json").read_text())
    told = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", (TINY / name / "README.md").read_text(), flags=re.MULTILINE)
    assert {figure: float(value) for figure, value in told} == built["figures"]
    assert (TINY / name / "model.safetensors").stat().st_size <= {"strong": 1_600_000, "weak": 500_000}[name]


def test_the_committed_responders_answer_as_well_as_their_order_says_the_model_between_them():
    items = language.heldout_items(10)
    found = [responders.measure(TINY / name, items) for name in ("strong", "model", "weak")]
    for figure in ("greedy", "sampled"):
        strong, model, weak = (each[figure] for each in found)
        assert strong > model + 0.1 > weak + 0.2


@given(seed=st.integers(0, 2**32))
def test_what_the_weak_responder_is_taught_is_right_or_a_habit_and_of_no_held_out_item(seed):
    sample = responders.weak_sample(random.Random(seed))
    assert sample.item is not None and not sample.item.held_out
    assert sample.prompt in sample.item.prompts and sample.reply in sample.item.answers


@given(seed=st.integers(0, 2**32), task=st.sampled_from(language.TASKS))
def test_requests_are_parsed_and_what_is_nearly_one_is_not(seed, task):
    rng = random.Random(seed)
    item = language.draw_item(rng, task)
    assert all(language.parse(prompt) == item for prompt in item.prompts)
    assert language.parse(verifier.near_request(rng)) is None


def test_the_committed_verifier_has_the_figures_of_its_card_and_tells_requests_from_what_is_nearly_one():
    folder = TINY / "verifier"
    told = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", (folder / "README.md").read_text(), flags=re.MULTILINE)
    assert {name: float(value) for name, value in told} == json.loads((folder / "build.json").read_text())["figures"]
    measured = verifier.measure(folder, 400)
    assert measured["valid"] >= 0.97 and measured["invalid"] >= 0.88
    assert (folder / "model.safetensors").stat().st_size <= 500_000


def test_the_first_steps_of_a_verifier_are_the_same_each_time(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        verifier.train(tmp_path / name, verifier.save_layout(tmp_path / name), seed=0, steps=2)
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_keywords_of_the_corpus_are_words_that_requests_are_made_of():
    known = {word for row in tables.demonstrations(0) for word in keywords(row["prompt"])}
    found = [keywords(row["text"]) for row in tables.corpus(0)]
    assert all(len(words) >= 2 and {*words} <= known for words in found)
