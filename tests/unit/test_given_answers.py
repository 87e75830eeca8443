"""Answers of somebody else's as token ids: what the model itself would have written, with one end token."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_folders import TEMPLATE, TINY, adds, model_folder
from transformers import AutoTokenizer

from selfalign_api.plan import Role
from selfalign_jobs.flow import Given, SetAside, Write
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.recipes.tables import counts_of
from selfalign_jobs.train import written as module
from selfalign_jobs.train.written import PAIR, written

CHAT = ModelChat.of(TINY, None)
THEIRS = AutoTokenizer.from_pretrained(TINY)
WORDS = st.lists(st.sampled_from(["cow", " rake", "ü", "12", "[[A]]", "\n", " ", "<|", "é́"]), min_size=1, max_size=12)
TEXT = WORDS.map(lambda words: "".join(words).strip()).filter(bool)


@given(TEXT, TEXT)
def test_the_prompt_is_what_generation_renders_and_the_answer_its_own_ids_and_the_end(prompt: str, answer: str) -> None:
    renderer = Renderer(CHAT, {"respond": Role()}, 10_000)
    asked, _ = renderer.render(Write("respond", prompt, 1, 0))
    found = renderer.given(Given("respond", prompt, answer))
    assert list(found.prompt_ids) == asked
    assert found.ids[-1] == CHAT.end_id and found.ids.count(CHAT.end_id) == 1
    assert CHAT.decode(found.ids) == answer


@given(TEXT, TEXT, st.lists(st.tuples(TEXT, TEXT), max_size=2))
def test_the_ids_are_those_of_the_whole_conversation_up_to_its_end(
    prompt: str, answer: str, before: list[tuple[str, str]]
) -> None:
    """As transformers renders and encodes it, which no line of ours has touched."""
    history = [
        {"role": role, "content": text}
        for turn in before
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    turns = [*history, {"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    whole = THEIRS.apply_chat_template(turns, return_dict=False)
    prompt_ids, ids = CHAT.given(prompt, answer, history)
    assert whole[: len(prompt_ids) + len(ids)] == [*prompt_ids, *ids]
    assert CHAT.end_id not in whole[len(prompt_ids) + len(ids) :]


TEMPLATES = {  # template, and what stands before and after the answer
    "a space before the answer": (
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }} "
        "{{ eos_token }}{% endif %}{% endfor %}",
        " cow",
        "<|im_end|>",
    ),
    "a line break before the answer": (
        "{% for m in messages %}{{ m.role }}:{% if m.role == 'assistant' %}{{ '\n' + m.content }}{{ eos_token }}{% else %}"
        "{{ m.content }}\n{% endif %}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
        "\ncow",
        "<|im_end|>",
    ),
    "an end of its own": (TEMPLATE.replace("<|im_end|>", "<end_of_turn>"), "cow", "<end_of_turn>"),
    "a token at which nothing ends": (TEMPLATE.replace("<|im_end|>", "<odd>"), "cow", "<|im_end|>"),
    "no turn of the assistant": (
        "{% for m in messages %}{% if m.role != 'user' %}{{ raise_exception('no') }}{% endif %}{{ m.content }}: {% endfor %}",
        "cow",
        "<|im_end|>",
    ),
    "an opened block of reasoning": (
        TEMPLATE.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n"),
        "cow",
        "<|im_end|>",
    ),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_stands_around_an_answer_is_the_templates(name: str, tmp_path: Path) -> None:
    template, begins, ends = TEMPLATES[name]
    changes = {
        "chat_template.jinja": template,
        "tokenizer.json": adds("<end_of_turn>", "<odd>", "<think>", "</think>", special=True),
        "config.json": lambda config: config.update(vocab_size=2000),
        "generation_config.json": lambda config: config.update(eos_token_id=[config["eos_token_id"], END_OF_TURN]),
    }
    chat = ModelChat.of(model_folder(tmp_path / "model", changes), None)
    prompt_ids, ids = chat.given("hen", "cow")
    assert chat.tokenizer.backend.decode(ids, skip_special_tokens=False) == begins + ends
    text = chat.text("hen") + ("\n</think>\n\n" if name == "an opened block of reasoning" else "")
    assert prompt_ids == chat.encode(text)


END_OF_TURN = len(THEIRS)  # the id of the first token that is added


@pytest.mark.parametrize("tail", ["<|im_end|>", "<|im_end|><|im_end|>"])
def test_an_end_token_that_somebody_wrote_into_the_text_is_not_doubled(tail: str) -> None:
    assert CHAT.given("hen", "cow" + tail) == CHAT.given("hen", "cow")


def test_rows_that_the_model_cannot_have_written_are_left_out_and_counted() -> None:
    with pytest.raises(SetAside, match="end token in an answer"):
        CHAT.given("hen", "cow<|im_end|>pig")
    texts = {"prompt": ["hen", "fox"], "chosen": ["cow", "cow"], "rejected": ["cow<|im_end|>pig", "pig"]}
    table = written(pa.table(texts | {"history": pa.nulls(2, pa.string())}), CHAT, PAIR)
    assert table["prompt"].to_pylist() == ["fox"]
    assert counts_of(table) == {"pairs": 1, "unwritten": 1}
    assert [table["prompt_ids"][0].as_py(), table["chosen_ids"][0].as_py()] == list(CHAT.given("fox", "cow"))


@pytest.mark.parametrize("rows", [0, 1, 4, 7])
def test_rows_keep_their_order_and_their_ids_however_many_are_made_at_once(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHOWN_ROWS", 2)
    prompts = [f"{number} hens" for number in range(rows)]
    answers = ["cow<|im_end|>pig" if number % 3 == 1 else "cow" for number in range(rows)]
    texts = {"prompt": pa.array(prompts, pa.string()), "chosen": pa.array(answers, pa.string())}
    texts |= {"rejected": pa.array(["pig"] * rows, pa.string()), "history": pa.nulls(rows, pa.string())}
    shown: list[int] = []
    table = written(pa.table(texts), CHAT, PAIR, shown.append)
    left = [prompt for prompt, answer in zip(prompts, answers, strict=True) if answer == "cow"]
    assert table["prompt"].to_pylist() == left
    assert table["prompt_ids"].to_pylist() == [list(CHAT.given(prompt, "cow")[0]) for prompt in left]
    assert table["rejected_ids"].type == pa.list_(pa.int32())
    assert shown == list(range(0, rows, 2))
