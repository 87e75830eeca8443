"""How much is in flight between the driver, its actors and their engines, and how often they speak."""

from __future__ import annotations

from selfalign_jobs.generate.engine import EngineFacts

SLICE_SECONDS = 0.2  # how long an actor works before it gives word
EXCHANGES = 2  # exchanges under way with an actor: while the driver reads one, the engine works on the next
# Tokens that a flow keeps in the KV cache, as a part of the context: that holds a prompt and two answers at their longest
# (2 048 tokens each), and answers of instruct models have some 400.
FLOW_OF_CONTEXT = 1 / 6
HOST_SECONDS = 0.01  # of the loop before a step of a GPU, which takes 13 ms (1B) to 55 ms (8B) with 1 024 sequences
UNIT_ROWS = 16  # rows a lease, and the least that a worker has waiting


def max_open_flows(facts: EngineFacts) -> int:
    """How many flows to keep open on an engine: as many as it runs requests at once, and some whose requests wait there.

    So no slot stays empty while the loop lets finished requests gather; and what a kill costs stays small. Where the KV
    cache has room for fewer, no more than it holds: a sequence that finds no block takes another's, whose tokens are
    computed again.
    """
    wanted = facts.max_sequences + facts.max_sequences // 4
    if facts.kv_tokens is None:
        return wanted
    return max(1, min(wanted, int(facts.kv_tokens / (facts.context_tokens * FLOW_OF_CONTEXT))))


def rows_waiting(rows_a_report: int) -> int:
    """How many rows a worker has waiting behind its open flows: what it can finish before rows that are sent now come."""
    return UNIT_ROWS + EXCHANGES * rows_a_report


def host_seconds(facts: EngineFacts) -> float | None:
    """How long a loop reads answers and begins flows before each step of its engine; None: they gather (FlowLoop)."""
    return HOST_SECONDS if facts.queues_steps else None
