"""Benchmark tasks: the flow of a request of lm-evaluation-harness.

What is asked, and what the answers are worth, is the harness's own (places/benchmark_tasks.py, evaluate/benchmark.py).
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from selfalign_api.plan import Role
from selfalign_api.plan_values import Json
from selfalign_jobs.flow import Ask, Context, Continue, Continued, Likelihood, Likely, Request, Row, SetAside

FLOW, PREPARE, ROLE = "benchmark", "benchmark-requests", "benchmark"
CHAT = "\x02chat\x03"  # begins a context that is a chat, and no text of people's

REQUESTS = pa.schema(
    [
        ("task", pa.string()),
        ("doc", pa.int64()),  # its number in the task
        ("kind", pa.string()),  # the harness's: generate_until, loglikelihood, loglikelihood_rolling
        ("context", pa.string()),
        ("text", pa.string()),  # whose likelihood is asked; "" where text is to be written
        ("settings", pa.string()),  # of what is written, as JSON: until, max_gen_toks, temperature, top_p
    ]
)
ANSWERED = pa.schema(
    [
        *REQUESTS,
        ("answer", pa.string()),
        ("log_p", pa.float64()),  # nats
        ("greedy", pa.bool_()),  # whether each token of the text is the likeliest
        ("tokens", pa.int32()),  # of what was written
        ("fills", pa.bool_()),  # the context left no room, and may have been cut
    ]
)

Flow = Generator[Request | list[Request], Any, list[Row]]


def answer_request(row: Row, ask: Ask) -> Flow:
    """What the model says to one request of the harness."""
    said: dict[str, Json] = {"answer": None, "log_p": None, "greedy": None, "tokens": None, "fills": False}
    if row["kind"] == "generate_until":
        written = yield from _written(row, ask)
        said |= {"answer": written.text, "tokens": written.tokens, "fills": written.fills}
    else:
        likely = yield from _likely(row)
        said |= {"log_p": likely.log_p, "greedy": likely.greedy, "fills": likely.fills}
    return [{**row, **said}]


def _written(row: Row, ask: Ask) -> Generator[Request, Any, Continued]:
    """A reasoning without an end is an answer without a text, which is wrong."""
    settings = json.loads(row["settings"])
    asked = Continue(
        ROLE,
        context_of(row["context"]),
        settings["max_gen_toks"],
        tuple(settings["until"]),
        ask.seed(ROLE),
        settings["temperature"],
        settings["top_p"],
    )
    try:
        written: Continued = yield asked
    except SetAside as aside:
        if aside.reason != "unclosed reasoning":
            raise
        return Continued("", 0, "length", fills=False)
    return written


def _likely(row: Row) -> Generator[Request | list[Request], Any, Likely]:
    """A text behind its context, or a whole text, window by window."""
    rolling = row["kind"] == "loglikelihood_rolling"
    context = None if rolling else context_of(row["context"])
    first: Likely = yield Likelihood(ROLE, context, row["text"])
    others: list[Likely] = yield [Likelihood(ROLE, None, row["text"], window) for window in range(1, first.windows)]
    every = [first, *others]
    return first._replace(
        log_p=sum(each.log_p for each in every), greedy=all(each.greedy for each in every), fills=first.fills
    )


def chat_context(messages: Sequence[Mapping[str, str]], **_: Any) -> str:
    """The messages of a context as the harness's requests hold them until a model's own chat template is at hand."""
    return CHAT + json.dumps([{"role": each["role"], "content": each["content"]} for each in messages])


def context_of(context: str) -> Context:
    """What stands before a text: plain, or a chat, whose last message, if the assistant's, is the beginning of its turn."""
    if not context.startswith(CHAT):
        return Context(context)
    messages, end = json.JSONDecoder().raw_decode(context, len(CHAT))
    begun = messages.pop()["content"] if messages[-1]["role"] == "assistant" else ""
    *history, last = messages
    return Context(begun + context[end:], last["content"], tuple(history))


def roles(respond: Role) -> dict[str, Role]:
    """The role that answers: what is sampled a request says itself."""
    return {ROLE: Role(temperature=0.0, reasoning=respond.reasoning)}
