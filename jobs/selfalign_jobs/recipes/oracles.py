"""The flows of ReverseGen: what becomes of a proposal, and how each oracle says that the target has failed."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Generator, Sequence
from typing import Any

import pyarrow as pa

from selfalign_jobs.flow import Ask, Comparison, Completion, Dropped, Request, Row, Scores
from selfalign_jobs.recipes.answers import normalised
from selfalign_jobs.recipes.contexts import TEXTS
from selfalign_jobs.recipes.rows import IDS

Flow = Generator[Request | list[Request], Any, list[Row]]

LEADING = re.compile(r"\s*\d{1,3}[.)]\s")  # the number of an item that is written out
NEXT = re.compile(r"\n\s*\d{1,3}[.)](\s|$)")  # and that of the one after it

PROPOSALS = pa.schema(
    [
        ("context", TEXTS),
        ("prompt", pa.string()),
        ("context_ids", IDS),  # of the proposer's turn
        ("proposal_ids", IDS),  # as it wrote it, with the end token unless it was cut
        ("proposal_finish", pa.string()),
        ("prompt_seed", pa.uint64()),
    ]
)
VERIFIED = pa.schema([*PROPOSALS, ("validity_score", pa.float64())])  # log-odds, nats; null where nobody verifies
ANSWERED = pa.schema([*VERIFIED, ("answer", pa.string()), ("answer_finish", pa.string()), ("answer_seed", pa.uint64())])
FOUND = pa.schema(
    [
        *ANSWERED,
        ("oracle", pa.string()),
        ("oracle_score", pa.float64()),  # what the oracle goes by; null of ExactMatch
        ("reference", pa.string()),  # the teacher's answer, where the oracle compares with it
        ("failed", pa.bool_()),
    ]
)
LESSONS = pa.schema(
    [
        *(FOUND.field(name) for name in ("prompt", "answer", "oracle", "oracle_score", "failed")),
        ("target", pa.string()),
        ("target_finish", pa.string()),
        ("teacher_seed", pa.uint64()),
    ]
)

# --- a proposal -----------------------------------------------------------------------------------------------------------


def propose(row: Row, ask: Ask) -> Flow:
    """Seeds → one instruction more."""
    (written,) = yield ask.write("propose", context=row["context"])
    seen = {"context": row["context"], "prompt_seed": written.seed}
    text = one_item(written.text)
    if not text:
        raise Dropped("empty", row=seen)
    seen |= {"prompt": text, "context_ids": written.prompt_ids}
    is_cut = written.finish_reason == "length" and written.text.endswith(text)
    if is_cut and ask.options["truncated"] == "Drop":
        raise Dropped("proposal cut at maxTokens", row=seen)
    proposal = written if text == written.text else (yield ask.given("propose", text, context=row["context"]))
    return [seen | {"proposal_ids": proposal.ids, "proposal_finish": proposal.finish_reason}]


def one_item(text: str) -> str:
    """An instruction without its number, up to the next item of a list."""
    begin = LEADING.match(text)
    text = text[begin.end() :] if begin else text
    end = NEXT.search(text)
    return (text[: end.start()] if end else text).strip()


def verify(row: Row, ask: Ask) -> Flow:
    """Only what is valid comes before the target: whatever is no instruction at all it would always fail on."""
    verdicts = ask.options["verdicts"]
    if verdicts is None:
        reply = yield ask.score(row["prompt"], None, "verify")
        assert isinstance(reply, Scores)
        margin = reply.reward
    else:
        reply = yield ask.compare("verify", (verdicts[0], verdicts[1]), prompt=row["prompt"])
        assert isinstance(reply, Comparison)
        margin = reply.first - reply.second
    seen = {**row, "validity_score": margin}
    if margin < 0:
        raise Dropped("not valid", row=seen)
    return [seen]


def respond(row: Row, ask: Ask) -> Flow:
    """The target's answer."""
    (written,) = yield ask.write("respond", prompt=row["prompt"])
    return [{**row} | answered(written)]


def answered(completion: Completion) -> dict[str, Any]:
    """The columns of an answer."""
    return {"answer": completion.text, "answer_finish": completion.finish_reason, "answer_seed": completion.seed}


# --- the oracles ----------------------------------------------------------------------------------------------------------


def by_score(row: Row, ask: Ask) -> Flow:
    """A classifier finds the answer likely to be of its label, or a reward model finds it worth little."""
    reply = yield ask.score(row["prompt"], row["answer"], "oracle")
    assert isinstance(reply, Scores)
    score, threshold, oracle = reply.reward, ask.options["threshold"], ask.options["oracle"]
    return [judged(row, oracle, score >= threshold if oracle == "Classifier" else score < threshold, score)]


def by_verdict(row: Row, ask: Ask) -> Flow:
    """A model that is shown both finds the verdict of failures likelier."""
    verdicts = (ask.options["fail"], ask.options["pass"])
    reply = yield ask.compare("guard", verdicts, prompt=row["prompt"], answer=row["answer"])
    assert isinstance(reply, Comparison)
    margin = reply.first - reply.second
    return [judged(row, "Verdict", margin > 0, margin)]


def by_entropy(row: Row, ask: Ask) -> Flow:
    """The target answers several times, and does not say the same."""
    written: list[Completion] = yield ask.write("respond", n=ask.options["answers"], prompt=row["prompt"])
    texts = [normalised(each.text) for each in written]
    spread = entropy(texts)
    common = Counter(texts).most_common(1)[0][0]
    seen = {**row} | answered(written[texts.index(common)])
    return [judged(seen, "Entropy", spread >= ask.options["min_entropy"], spread)]


def entropy(texts: Sequence[str]) -> float:
    """Of the texts' counts, in nats."""
    shares = [number / len(texts) for number in Counter(texts).values()]
    return -sum(share * math.log(share) for share in shares) + 0.0


def by_match(row: Row, ask: Ask) -> Flow:
    """The teacher answers something else."""
    (right,) = yield ask.write("teach", prompt=row["prompt"])
    seen, mark = {**row, "reference": right.text}, ask.options["after"]
    wanted = final(right.text, mark)
    if right.finish_reason == "length":
        raise Dropped("the teacher's answer was cut at maxTokens", row=seen)
    if not wanted:
        raise Dropped("the teacher gave no answer", row=seen)
    return [judged(seen, "ExactMatch", final(row["answer"], mark) != wanted)]


def final(answer: str, mark: str | None) -> str | None:
    """What is compared of an answer: all of it, or what stands after the last mark; None without that."""
    if mark is None:
        return normalised(answer)
    _, marked, rest = answer.rpartition(mark)
    return normalised(rest) if marked else None


def judged(row: Row, oracle: str, failed: bool, score: float | None = None) -> Row:
    """A row of what was found."""
    return {**row, "oracle": oracle, "oracle_score": score, "failed": failed}


def teach(row: Row, ask: Ask) -> Flow:
    """The teacher's answer to a proposal. A cut one would teach to stop there."""
    (written,) = yield ask.write("teach", prompt=row["prompt"])
    lesson = {**row, "target": written.text, "target_finish": written.finish_reason, "teacher_seed": written.seed}
    if written.finish_reason == "length":
        raise Dropped("the teacher's answer was cut at maxTokens", row=lesson)
    if not written.text.strip():
        raise Dropped("the teacher gave no answer", row=lesson)
    return [lesson]
