"""Whether what is asked for has room: in the model's context, and on the card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from selfalign_api.errors import Problem
from selfalign_api.run import Spec
from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.recipes.method import Method

GIB = 1 << 30
# As vLLM looks for them: the smallest counts.
CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
AFTER_PADDING = ("roberta", "xlm-roberta", "camembert")  # whose positions begin behind that of padding
# Kinds of RoPE whose factor is in max_position_embeddings already.
SCALED = ("default", "su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")
LAYERS, HEADS = ("num_hidden_layers", "n_layer", "n_layers"), ("num_attention_heads", "n_head", "n_heads")
WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2, "fp8": 1}


def model_context(config: Mapping[str, Any]) -> int | None:
    """Tokens that the model can hold; None where its config does not say."""
    lengths = [length for key in CONTEXT_KEYS if (length := _whole(config, key)) > 0]
    if not lengths:
        return None
    rope = config.get("rope_scaling") or config.get("rope_parameters")
    rope = rope if isinstance(rope, dict) else {}
    scaled = rope.get("rope_type", rope.get("type", "default")) in SCALED or "gemma3" in str(config.get("model_type"))
    factor = rope.get("factor")
    if config.get("model_type") in AFTER_PADDING and isinstance(padding := config.get("pad_token_id"), int):
        return min(lengths) - padding - 1
    return int(min(lengths) * (factor if isinstance(factor, int | float) and not scaled else 1))


def context_problems(config: Mapping[str, Any], method: Method, spec: Spec) -> Iterator[Problem]:
    """Lengths beyond what the run's own model can hold."""
    own, asked = model_context(config), method.engine.max_model_tokens
    if own is not None and asked is not None and asked > own:
        yield Problem(
            "spec.generation.maxModelTokens", asked, f"is beyond the model's own context of {own}; write {own}"
        )
    length = spec.training.max_length_tokens if spec.training else None  # the recipe's is a bound that nothing reaches
    if own is not None and length is not None and length > own:
        message = f"is beyond the model's context of {own} tokens, which no sequence exceeds; write {own} or less"
        yield Problem("spec.training.maxLengthTokens", length, message)


def role_problems(config: Mapping[str, Any], method: Method) -> Iterator[Problem]:
    """Roles that may write more than the model that plays them can hold."""
    context = _context(config, method)
    for name, role in method.roles.items():
        if context is not None and role.max_tokens >= context:
            yield Problem(
                f"spec.generation.roles[{name}].maxTokens",
                role.max_tokens,
                f"is beyond the context of {context} tokens; write less, so that the prompt has room",
            )


def prompt_problems(config: Mapping[str, Any], method: Method, prompts: Mapping[str, int]) -> Iterator[Problem]:
    """Roles none of whose records can fit: `prompts` is how long a role's prompt is at the least, in tokens."""
    context = _context(config, method)
    for name, tokens in prompts.items():
        room = method.roles[name].max_tokens
        if context is not None and room < context < tokens + room:
            message = (
                f"with {tokens} tokens of prompt at the least is beyond the context of {context}: every record would be "
                f"set aside; write at most {max(0, context - tokens)}, or a shorter template"
            )
            yield Problem(f"spec.generation.roles[{name}].maxTokens", room, f"is too large: {message}")
    most = method.training.settings.max_prompt_tokens
    if prompts.get("respond", 0) > most:
        message = f"is less than any prompt of respond takes ({prompts['respond']} tokens at the least); write more"
        yield Problem("spec.training.maxPromptTokens", most, message)


def _context(config: Mapping[str, Any], method: Method) -> int | None:
    """Tokens of the engine's context, as far as they are known."""
    return min((n for n in (method.engine.max_model_tokens, model_context(config)) if n is not None), default=None)


def card_problems(
    config: Mapping[str, Any], method: Method, means: GenerationMeans, parameters: int, tokens: int, card: int | None
) -> Iterator[Problem]:
    """An engine that its GPUs cannot hold: weights and one sequence of so many `tokens`; `card` is one GPU's memory."""
    size, path = means.tensor_parallel_size, "spec.compute.generation.tensorParallelSize"
    heads = _whole(config, *HEADS)
    if heads % size:
        fits = [str(n) for n in range(1, heads + 1) if heads % n == 0 and n <= 16]
        yield Problem(path, size, f"is no divisor of the model's {heads} attention heads; write {', '.join(fits)}")
        return
    if card is None or means.device != "GPU":
        return
    width = WIDTH[method.engine.precision]
    weights = parameters * width / size
    sequence = tokens * _token_bytes(config, 2 if width == 1 else width) / size
    room = card * means.gpu_memory_percent / 100
    if weights + sequence > room:
        message = (
            f"is too small: a GPU's share is {weights / GIB:.1f} GiB of weights in {method.engine.precision} and "
            f"{sequence / GIB:.1f} GiB for one sequence of {tokens} tokens, and it has {room / GIB:.1f} GiB "
            f"({means.gpu_memory_percent} % of {card / GIB:.0f}); write more, a smaller maxModelTokens, or a smaller model"
        )
        yield Problem(path, size, message)


def _token_bytes(config: Mapping[str, Any], width: int) -> int:
    """Bytes of a token's keys and values."""
    if config.get("kv_lora_rank"):  # compressed: next to nothing
        return 0
    layers, heads = (_whole(config, *names) for names in (LAYERS, HEADS))
    head = _whole(config, "head_dim") or _whole(config, "hidden_size", "n_embd", "d_model") // max(1, heads)
    return 2 * layers * (_whole(config, "num_key_value_heads") or heads) * head * width


def _whole(config: Mapping[str, Any], *names: str) -> int:
    """The first of these that is a whole number; 0 without any."""
    return next((config[name] for name in names if type(config.get(name)) is int), 0)
