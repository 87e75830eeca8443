"""What a run asks of its model is held against it when the run is accepted: lengths, chat, adapters, the card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from model_folders import TEMPLATE, Change, config, looked_at, refused

from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.accept.room import card_problems
from selfalign_jobs.accept.weights import Tensor, embedding_rows, linear_modules

Spec = dict[str, Any]


# --- lengths --------------------------------------------------------------------------------------------------------------

LENGTHS: dict[str, tuple[dict[str, Change], Spec, str]] = {
    "the run's context": (
        {},
        {"generation__maxModelTokens": 4096},
        "is beyond the model's own context of 512; write 512",
    ),
    "an answer": ({}, {"generation__roles[respond]__maxTokens": 256}, "must leave room"),
    "an answer beyond the model": (
        {},
        {"generation__maxModelTokens": None, "generation__roles[respond]__maxTokens": 512},
        "is beyond the context of 512 tokens",
    ),
    "a prompt and its answer": (
        {},
        {"generation__roles[judge]__maxTokens": 240},
        "tokens of prompt at the least is beyond the context of 256: every record would be set aside",
    ),
    "the training's": (
        {},
        {"training__maxLengthTokens": 4096},
        "spec.training.maxLengthTokens: 4096 is beyond the model's context of 512 tokens",
    ),
    "the training's prompts": (
        {},
        {"training__maxPromptTokens": 4},
        "spec.training.maxPromptTokens: 4 is less than any prompt of respond takes",
    ),
    "of a model that was told a smaller one": (
        config(max_position_embeddings=128),
        {},
        "is beyond the model's own context of 128; write 128",
    ),
    "by another name": (
        {"config.json": lambda c: c.update(n_positions=c.pop("max_position_embeddings") // 4)},
        {},
        "is beyond the model's own context of 128",
    ),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_what_has_no_room_is_told_at_its_field(name: str, tmp_path: Path) -> None:
    changes, spec, message = LENGTHS[name]
    assert message in refused(tmp_path, changes, **spec)


def test_a_context_that_is_scaled_is_larger(tmp_path: Path) -> None:
    changes = config(max_position_embeddings=128, rope_scaling={"rope_type": "linear", "factor": 2.0})
    assert looked_at(tmp_path, changes).plan
    assert "context of 128" in refused(
        tmp_path / "again", config(max_position_embeddings=128, rope_scaling={"rope_type": "llama3", "factor": 2.0})
    )


# --- chat templates, their variables, roles -------------------------------------------------------------------------------

CHATS: dict[str, tuple[dict[str, Change], Spec, str]] = {
    "a variable that is ours": (
        {},
        {"model__chatTemplateKwargs": {"add_generation_prompt": False}},
        "this is set by whoever renders the template; remove it",
    ),
    "the messages themselves": ({}, {"model__chatTemplateKwargs": {"messages": []}}, "this is set by whoever renders"),
    "a role that the template refuses": (
        {
            "chat_template.jinja": "{% if 'label' in messages[0].content %}{{ raise_exception('no labels') }}{% endif %}"
            + TEMPLATE
        },
        {},
        "spec.generation.roles[judge].template: the chat template refuses what this comes to: no labels",
    ),
    "a role whose template fails": (
        {},
        {"generation__roles[judge]__template": "{{ prompt }} {{ first }} {{ second }} {{ prompt / 0 }}"},
        "spec.generation.roles[judge].template: cannot be rendered",
    ),
    "none": ({"chat_template.jinja": None}, {}, "has no chat template; write model.chatTemplateUrl"),
    "one that hides the user": ({"chat_template.jinja": "hello"}, {}, "does not show what the user says"),
}


@pytest.mark.parametrize("name", CHATS)
def test_a_chat_that_cannot_be_is_refused_in_words(name: str, tmp_path: Path) -> None:
    changes, spec, message = CHATS[name]
    assert message in refused(tmp_path, changes, **spec)


@pytest.mark.parametrize(
    ("template", "variable", "reads"),
    [
        (TEMPLATE, "enable_thinking", "it reads none"),
        ("{% if enable_thinking %}{% endif %}" + TEMPLATE, "enable_thinkng", "it reads enable_thinking"),
        ("{% if a and b %}{% endif %}" + TEMPLATE, "zzz", "it reads a, b"),
        ("{{ eos_token }}" + TEMPLATE, "thinking", "it reads none"),
        ("{% set thinking = 1 %}" + TEMPLATE, "thinking", "it reads none"),
    ],
)
def test_a_variable_that_the_template_does_not_read_is_told(
    template: str, variable: str, reads: str, tmp_path: Path
) -> None:
    (note,) = looked_at(
        tmp_path, {"chat_template.jinja": template}, model__chatTemplateKwargs={variable: False}
    ).looked_at
    assert note == f"The chat template reads no variable {variable}, which model.chatTemplateKwargs sets: {reads}."


def test_a_template_that_ends_turns_as_no_answer_ends_is_told(tmp_path: Path) -> None:
    changes: dict[str, Change] = {"chat_template.jinja": TEMPLATE.replace("<|im_end|>", "<|endoftext|>")}
    (note,) = looked_at(tmp_path, changes).looked_at
    assert "ends a turn with <|endoftext|>, at which no answer ends" in note
    changes["generation_config.json"] = json.dumps({"eos_token_id": [0, 2]})
    changes["config.json"] = lambda c: c.update(eos_token_id=0)
    assert looked_at(tmp_path / "again", changes).looked_at == ()


def test_a_template_of_the_run_stands_for_a_models_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text(TEMPLATE)
    url = (tmp_path / "mine.jinja").as_uri()
    assert looked_at(tmp_path, {"chat_template.jinja": "hello"}, model__chatTemplateUrl=url).plan


# --- training -------------------------------------------------------------------------------------------------------------

TRAININGS: dict[str, tuple[Spec, str]] = {
    "an adapter on the head": ({"targetModules": ["lm_head"]}, "holds the output head"),
    "an adapter on what is not there": (
        {"targetModules": ["c_attn"]},
        "names c_attn, which this model lacks; write some of",
    ),
    "two of three": ({"targetModules": ["q_proj", "qkv", "c_proj"]}, "names qkv, c_proj, which this model lacks"),
    "an adapter on the embedding": ({"targetModules": ["embed_tokens"]}, "names embed_tokens, which this model lacks"),
    "an adapter on a norm": ({"targetModules": ["input_layernorm"]}, "names input_layernorm, which this model lacks"),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_what_a_training_refuses_is_refused_when_it_is_accepted(name: str, tmp_path: Path) -> None:
    lora, message = TRAININGS[name]
    assert message in refused(tmp_path, {}, training__adapter="lora", training__lora=lora)


def test_layers_of_gpt_2_bear_adapters_too() -> None:
    """They are no linear layers of torch's (Conv1D), and matrices all the same."""
    names = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    tensors = {f"transformer.h.{layer}.{name}.weight": Tensor("F32", (8, 8)) for layer in range(3) for name in names}
    others = {
        "transformer.wte.weight": (512, 8),
        "transformer.wpe.weight": (64, 8),
        "transformer.h.0.ln_1.weight": (8,),
    }
    tensors |= {name: Tensor("F32", shape) for name, shape in others.items()}
    assert linear_modules(tensors) == {"c_attn", "c_proj", "c_fc"}
    assert embedding_rows(tensors) == 512


@pytest.mark.parametrize(
    ("config_values", "precision", "means", "card", "says"),
    [
        ({}, "bfloat16", {}, 80, None),
        ({}, "bfloat16", {}, None, None),
        ({}, "float32", {}, 80, None),
        ({}, "bfloat16", {}, 16, "14.9 GiB of weights in bfloat16 and 0.5 GiB for one sequence of 4096 tokens"),
        ({}, "fp8", {}, 16, None),
        ({}, "bfloat16", {"tensor_parallel_size": 2}, 16, None),
        ({}, "bfloat16", {"gpu_memory_percent": 50}, 24, "and it has 12.0 GiB (50 % of 24)"),
        (
            {},
            "bfloat16",
            {"tensor_parallel_size": 3},
            80,
            "is no divisor of the model's 32 attention heads; write 1, 2, 4",
        ),
        ({"num_key_value_heads": None}, "bfloat16", {}, 18, "2.0 GiB for one sequence of 4096 tokens"),
        ({}, "bfloat16", {"device": "CPU"}, 16, None),
    ],
)
def test_what_a_card_cannot_hold_is_told_in_words(
    config_values: Spec, precision: Any, means: Spec, card: int | None, says: str | None, tmp_path: Path
) -> None:
    """A model of 8 billion parameters, as Llama 3's: 32 layers, 32 heads of 128, 8 of keys and values."""
    method = looked_at(tmp_path, {}).method
    method = method.model_copy(update={"engine": method.engine.model_copy(update={"precision": precision})})
    shape = {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096}
    engine = GenerationMeans(**{"device": "GPU"} | means)
    memory = None if card is None else card << 30
    said = [str(p) for p in card_problems(shape | config_values, method, engine, 8_000_000_000, 4096, memory)]
    assert (said == []) if says is None else (len(said) == 1 and says in said[0])


def test_a_precision_that_a_cpu_does_not_train_in_is_refused(tmp_path: Path) -> None:
    assert "is not trained on a CPU" in refused(tmp_path, {}, training__precision="float16")
