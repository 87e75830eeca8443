"""What a finished step leaves in the status: its figures, the plan that accept made, the checks of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from selfalign_api.status import MAX_FIGURES, MAX_STEPS, Figure, ModelStatus, Result, StepStatus

__all__ = ["checks_of", "figures_of", "model_of", "notes_of", "planned_steps", "told"]

TOLD = 6  # of an event's message
NOTED = 900  # characters of an event's message, which may have 1 024
KINDS = ("generate", "train", "evaluate", "publish")


def planned_steps(entries: Any) -> tuple[StepStatus, ...]:
    """The plan's steps, nothing done yet, from accept's list of [name, kind, iteration].

    Raises ValueError for a list that no accept step writes.
    """
    if not isinstance(entries, list) or not 0 < len(entries) < MAX_STEPS:
        raise ValueError("no list of steps")
    steps = []
    for entry in entries:
        name, kind, iteration = entry if isinstance(entry, list) and len(entry) == 3 else (None, None, None)
        if not isinstance(name, str) or kind not in KINDS or not isinstance(iteration, int):
            raise ValueError(f"{entry} is no step")
        steps.append(StepStatus(name=name, kind=kind, iteration=iteration))
    if len({step.name for step in steps}) != len(steps):
        raise ValueError("two steps have one name")
    return tuple(steps)


def figures_of(result: Any) -> tuple[Figure, ...]:
    """The numbers of a step's result, nested names joined by dots, at most MAX_FIGURES of them."""
    figures = (Figure(name=name[:256], value=value) for name, value in _numbers(result, ""))
    return tuple(figure for figure, _ in zip(figures, range(MAX_FIGURES), strict=False))


def checks_of(result: Any) -> tuple[Result, ...]:
    """The checks of an evaluation, each with its 95 % interval where it has one."""
    checks = result.get("checks") if isinstance(result, Mapping) else None
    if not isinstance(checks, Mapping):
        return ()
    return tuple(
        Result(
            name=str(name)[:256],
            value=_decimal(check["value"]),
            low=_decimal(check["low"]) if _is_number(check.get("low")) else None,
            high=_decimal(check["high"]) if _is_number(check.get("high")) else None,
        )
        for name, check in list(checks.items())[:32]
        if isinstance(check, Mapping) and _is_number(check.get("value"))
    )


def notes_of(result: Any) -> tuple[str, ...]:
    """What the step says of itself that deserves a second look, short enough for an event."""
    notes = result.get("notes") if isinstance(result, Mapping) else None
    found = [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
    kept = [note for number, note in enumerate(found) if sum(map(len, found[: number + 1])) + number <= NOTED]
    return tuple(kept)


def told(result: Any) -> str:
    """A step's result in a few words: its checks where it has any, else its first figures.

    A check `NAME.before` that has a `NAME.after` is told with it: "NAME 0.665 → 0.91".
    """
    checks = {check.name: check.value for check in checks_of(result)}
    if not checks:
        return ", ".join(f"{figure.name} {figure.value}" for figure in figures_of(result)[:TOLD])
    words = []
    for name, value in checks.items():
        stem, _, moment = name.rpartition(".")
        if moment == "before" and f"{stem}.after" in checks:
            words.append(f"{stem} {value} → {checks[f'{stem}.after']}")
        elif not (moment == "after" and f"{stem}.before" in checks):
            words.append(f"{name} {value}")
    return ", ".join(words[:TOLD])


def model_of(body: Mapping[str, Any]) -> ModelStatus | None:
    """The model as accept found it."""
    model = body.get("model")
    if not isinstance(model, Mapping):
        return None
    return ModelStatus(url=str(model.get("url", ""))[:4096], revision=str(model.get("revision", ""))[:256] or "unknown")


def _numbers(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(item, f"{name}.{key}" if name else str(key))
    elif _is_number(value):
        yield name or "value", _decimal(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _decimal(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
