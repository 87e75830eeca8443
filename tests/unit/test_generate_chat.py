"""How a model writes and reads, with a real tokenizer: the tiny model's, and what else people's folders hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_folders import TEMPLATE, TINY, Change, adds, model_folder

from selfalign_api.errors import ConfigError
from selfalign_api.sources import ModelSource
from selfalign_jobs.flow import SetAside
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.chat_template import render_chat, variables_of
from selfalign_jobs.generate.tokenizer import load_tokenizer, read_tokenizer
from selfalign_jobs.recipes.shots import DIALOGUE

CHAT = ModelChat.of(TINY, None)
PARTS = TEMPLATE.replace("message.content", "message.content[0].text").replace(
    "message['content']", "message['content'][0]['text']"
)


@given(st.lists(st.sampled_from(["<|im_start|>", "<|im_end|>", "[[A]]", "\n", " ", "cow", " rake", "ü", "12", "<|"])))
def test_a_prompt_encoded_in_pieces_is_the_prompt_encoded_whole(words: list[str]) -> None:
    for text in ("".join(words), CHAT.text("".join(words))):
        assert CHAT.encode(text) == CHAT._encode_whole(text)


def test_a_prompt_is_one_user_turn_and_the_beginning_of_the_assistants() -> None:
    assert CHAT.text("Say hi") == "<|im_start|>user\nSay hi<|im_end|>\n<|im_start|>assistant\n"


def test_ids_are_those_of_apply_chat_template() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TINY)
    messages = [{"role": "user", "content": "Reverse these words: cow rake blue"}]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert CHAT.encode(CHAT.text(messages[0]["content"])) == expected


def test_decoding_leaves_the_end_token_out() -> None:
    assert CHAT.decode((*CHAT.encode("blue rake cow"), CHAT.end_id)) == "blue rake cow"


# --- chat templates -----------------------------------------------------------------------------------------------------


def test_what_a_folder_without_a_template_is_shown_stands_back_behind_one_that_it_has(tmp_path: Path) -> None:
    given = ModelSource(url="file:///m")
    said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    vanilla = ModelChat.of(model_folder(tmp_path / "m", {"chat_template.jinja": None}), given, DIALOGUE)
    assert vanilla.text("Say hi", said) == "Human: q\n\nAssistant: a\n\nHuman: Say hi\n\nAssistant:"
    assert vanilla.given("Say hi", "hi")[1][-1] == vanilla.end_id
    assert ModelChat.of(TINY, given, DIALOGUE).text("Say hi") == CHAT.text("Say hi")


RENDERED = {
    "the example's": TEMPLATE,
    "a generation block": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}\n{% endfor %}{{ eos }}",
    "loop controls": "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "JSON": "{{ messages | tojson }}{{ messages[0] | tojson(indent=2) }}",
    "the day": "{{ strftime_now('%Y') }}{{ messages[0]['content'] | trim }}",
    "trimmed blocks": "{% if add_generation_prompt %}\n  {% set x = 1 %}\n{{ x }}{{ bos }}{{ messages[0].content }}{% endif %}\n",
    "tools and documents": "{{ tools is none }}{{ documents is none }}{{ messages[0].content }}",
    "a macro": "{% macro say(m) %}[{{ m.role }}] {{ m.content }}{% endmacro %}{{ say(messages[0]) }}",
}


@pytest.mark.parametrize("name", RENDERED)
def test_a_template_renders_as_transformers_renders_it(name: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    messages = [{"role": "user", "content": " café <b>\n"}]
    variables = {"bos": "<s>", "eos": "</s>"}
    (expected,), _ = render_jinja_template(
        [messages], chat_template=RENDERED[name], add_generation_prompt=True, **variables
    )
    assert render_chat(RENDERED[name], messages, variables) == expected


SERVED: dict[str, dict[str, Change]] = {
    "named templates, of which one is the default": {
        "chat_template.jinja": None,
        "tokenizer_config.json": lambda c: c.update(
            chat_template=[{"name": "tool_use", "template": "x"}, {"name": "default", "template": TEMPLATE}]
        ),
    },
    "further templates in files": {"additional_chat_templates/tool_use.jinja": "x"},
    "the default in the tokenizer's settings": {
        "chat_template.jinja": None,
        "tokenizer_config.json": lambda c: c.update(chat_template=TEMPLATE),
    },
    "one that refuses an empty turn": {
        "chat_template.jinja": "{% if not messages[-1].content %}{{ raise_exception('empty') }}{% endif %}" + TEMPLATE
    },
    "one that refuses a system message": {
        "chat_template.jinja": "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + TEMPLATE
    },
    "one that strips": {"chat_template.jinja": TEMPLATE.replace("message.content", "message.content | trim")},
    "content as parts": {"chat_template.jinja": PARTS},
    "content as parts, text refused": {
        "chat_template.jinja": "{% if messages[0].content is string %}{{ raise_exception('parts!') }}{% endif %}"
        + PARTS
    },
}


@pytest.mark.parametrize("name", SERVED)
def test_a_template_that_shows_the_user_is_served(name: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", SERVED[name])
    for load in (load_tokenizer, read_tokenizer):
        assert ModelChat(load(folder)).text("Say hi") == CHAT.text("Say hi")


REFUSED: dict[str, tuple[dict[str, Change], str]] = {
    "none": ({"chat_template.jinja": None}, "has no chat template; write model.chatTemplateUrl"),
    "none named default": (
        {
            "chat_template.jinja": None,
            "tokenizer_config.json": lambda c: c.update(chat_template=[{"name": "rag", "template": TEMPLATE}]),
        },
        "has the chat templates rag and none named default; write one as model.chatTemplateUrl",
    ),
    "a system message alone": (
        {"chat_template.jinja": "{{ messages[1:] | map(attribute='content') | join }}<|im_start|>assistant"},
        "does not show what the user says",
    ),
    "the first letters": ({"chat_template.jinja": "{{ messages[0].content[:9] }}"}, "does not show what the user says"),
    "lower case": ({"chat_template.jinja": "{{ messages[0].content | lower }}"}, "does not show what the user says"),
    "twice": ({"chat_template.jinja": "{{ messages[0].content * 2 }}"}, "shows what the user says more than once"),
    "backwards": (
        {"chat_template.jinja": "{{ messages[0].content.split('\n\n') | reverse | join }}"},
        "changes the order of what the user says",
    ),
    "refuses every turn": (
        {"chat_template.jinja": "{{ raise_exception('tools only') }}"},
        "refuses a user's turn: tools only",
    ),
    "reads what is not there": (
        {"chat_template.jinja": "{{ messages[0].author.name }}"},
        "refuses a user's turn: 'dict object' has no attribute 'author'",
    ),
    "no Jinja": ({"chat_template.jinja": "{% for %}"}, "the chat template's line 1 is not Jinja"),
    "no end token": ({"tokenizer_config.json": lambda c: c.pop("eos_token")}, "has no end token"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_cannot_chat_is_refused(name: str, tmp_path: Path) -> None:
    changes, message = REFUSED[name]
    folder = model_folder(tmp_path / "model", changes)
    for load in (load_tokenizer, read_tokenizer):
        with pytest.raises(ConfigError) as refused:
            ModelChat(load(folder))
        assert message in str(refused.value)


def test_a_template_of_the_run_replaces_the_models_and_gets_its_variables() -> None:
    template = "{{ messages[0].content }}{% if not enable_thinking %}!{% endif %}{{ eos_token }}"
    given = ModelSource(url="", chat_template=template, chat_template_kwargs={"enable_thinking": False})
    assert ModelChat.of(TINY, given).text("hi") == "hi!<|im_end|>"
    assert variables_of(template) == {"messages", "enable_thinking", "eos_token"}


def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    for name, content in (("tokenizer.json", "{}"), ("tokenizer_config.json", "[]"), ("tokenizer_config.json", "{")):
        folder = model_folder(tmp_path / str(hash((name, content))), {name: content})
        with pytest.raises(ValueError, match=name):
            read_tokenizer(folder)


def test_a_text_with_a_token_that_the_model_does_not_have_is_set_aside(tmp_path: Path) -> None:
    chat = ModelChat.of(model_folder(tmp_path / "model", {"tokenizer.json": adds("<image>", special=True)}), None)
    assert chat.encode("blue rake") == CHAT.encode("blue rake")
    with pytest.raises(SetAside, match="no such token: <image> is of the tokenizer"):
        chat.encode(chat.text("what is <image>?"))


# --- reasoning ----------------------------------------------------------------------------------------------------------


def thinker(folder: Path, *markers: str, beginning: str = "") -> ModelChat:
    """The tiny model with markers of reasoning, its template ending in `beginning`."""
    changes: dict[str, Change] = {"tokenizer.json": adds(*markers), "chat_template.jinja": TEMPLATE + beginning}
    return ModelChat(read_tokenizer(model_folder(folder, changes)))


THINK = ("<think>", "</think>")


@pytest.mark.parametrize(
    "markers",
    [
        THINK,
        ("[THINK]", "[/THINK]"),
        ("<|begin_of_thought|>", "<|end_of_thought|>"),
        ("<reasoning>", "</reasoning>"),
        ("◁think▷", "◁/think▷"),
        ("<|think_start|>", "<|think_end|>"),
    ],
)
def test_markers_are_found_among_the_tokenizers_own(markers: tuple[str, str], tmp_path: Path) -> None:
    reasoning = thinker(tmp_path / "model", *markers).reasoning
    assert reasoning is not None and reasoning.markers.close == markers[1]
    assert not reasoning.opened


def test_a_model_without_them_has_none(tmp_path: Path) -> None:
    assert CHAT.reasoning is None
    assert thinker(tmp_path / "model", "<think>", "<tool>", "</tool>").reasoning is None


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("<think>1 2 3</think>\n\nblue rake", "blue rake"),
        ("<think>\n\n</think>\n\nblue rake", "blue rake"),
        ("1 2 3</think>blue rake", "blue rake"),
        ("\n<think>1</think> rake", " rake"),
        ("<think>1</think>cow </think> rake", "cow </think> rake"),
        ("cow <think>1</think> rake", "cow <think>1</think> rake"),
        ("blue rake", "blue rake"),
        ("<think>1</think>\n", ""),
    ],
)
def test_what_is_kept_of_an_answer_is_what_its_ids_say(written: str, kept: str, tmp_path: Path) -> None:
    chat = thinker(tmp_path / "model", *THINK)
    assert chat.reasoning is not None
    ids = chat.reasoning.answer((*chat.encode(written), chat.end_id), chat.decode)
    assert chat.decode(ids) == kept
    assert ids[-1] == chat.end_id
    assert ids == (*chat.encode(kept), chat.end_id)


def test_a_prompt_that_opens_the_block_is_closed_before_the_answer(tmp_path: Path) -> None:
    chat = thinker(tmp_path / "model", *THINK, beginning="{% if add_generation_prompt %}<think>\n{% endif %}")
    reasoning = chat.reasoning
    assert reasoning is not None and reasoning.opened
    assert chat.decode(reasoning.answer((*chat.encode("1 2</think>\n\ncow"), chat.end_id), chat.decode)) == "cow"
    prompt = chat.encode(chat.text("hi <think> there"))
    assert reasoning.closed(prompt) == tuple(chat.encode(chat.text("hi <think> there") + "\n</think>\n\n"))


def test_what_a_user_says_opens_no_block(tmp_path: Path) -> None:
    chat = thinker(tmp_path / "model", *THINK, beginning="<think>\n\n</think>\n\n")
    assert chat.reasoning is not None and not chat.reasoning.opened


@pytest.mark.parametrize("changes", [{}, {"tokenizer.json": adds("<x>", "<y>")}, SERVED["further templates in files"]])
def test_a_tokenizer_that_is_read_is_the_one_that_is_loaded(changes: dict[str, Change], tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", changes)
    read, loaded = read_tokenizer(folder), load_tokenizer(folder)
    assert (read.end_id, read.added, read.templates) == (loaded.end_id, loaded.added, loaded.templates)
    assert read.special.items() <= loaded.special.items()
    assert read.backend.to_str() == loaded.backend.to_str()
