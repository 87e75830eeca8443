"""Rendering with a real tokenizer: the tiny model's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.errors import ConfigError
from selfalign_jobs.generate.render import ModelChat, render_template

MODEL = Path(__file__).parents[2] / "examples/tiny-model/model"
CHAT = ModelChat(MODEL, None)


@given(st.lists(st.sampled_from(["<|im_start|>", "<|im_end|>", "[[A]]", "\n", " ", "cow", " rake", "ü", "12", "<|"])))
def test_a_prompt_encoded_in_pieces_is_the_prompt_encoded_whole(words: list[str]) -> None:
    for text in ("".join(words), CHAT.text("".join(words))):
        assert CHAT.encode(text) == CHAT._encode_whole(text)


def test_a_prompt_is_one_user_turn_and_the_beginning_of_the_assistants() -> None:
    assert CHAT.text("Say hi") == "<|im_start|>user\nSay hi<|im_end|>\n<|im_start|>assistant\n"


def test_ids_are_those_of_apply_chat_template() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    messages = [{"role": "user", "content": "Reverse these words: cow rake blue"}]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert CHAT.encode(CHAT.text(messages[0]["content"])) == expected


def test_decoding_leaves_the_end_token_out() -> None:
    assert CHAT.decode((*CHAT.encode("blue rake cow"), CHAT.end_id)) == "blue rake cow"


def test_a_template_of_the_run_replaces_the_models() -> None:
    assert ModelChat(MODEL, "{{ messages[0].content }}!").text("hi") == "hi!"


@pytest.mark.parametrize(
    ("file", "key", "message"),
    [
        ("chat_template.jinja", None, "no chat template"),
        ("tokenizer_config.json", "eos_token", "no end token"),
    ],
)
def test_a_model_that_cannot_chat_is_refused(tmp_path: Path, file: str, key: str | None, message: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODEL, folder)
    if key is None:
        (folder / file).unlink()
    else:
        config = json.loads((folder / file).read_text())
        del config[key]
        (folder / file).write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=message):
        ModelChat(folder, None)


def test_a_template_with_an_unknown_variable_raises() -> None:
    with pytest.raises(jinja2.UndefinedError, match="topic"):
        render_template("About {{ topic }}", {"prompt": "p"})


def test_a_template_reaches_nothing_but_its_variables() -> None:
    with pytest.raises(jinja2.exceptions.SecurityError):
        render_template("{{ ''.__class__.__mro__[1].__subclasses__() }}", {})
