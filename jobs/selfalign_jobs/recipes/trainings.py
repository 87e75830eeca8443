"""Trainings on pairs that recipes share."""

from __future__ import annotations

from selfalign_api.plan import ArtifactRef, ModelRef, Prepare, TableRef, Train
from selfalign_api.plan_values import Json
from selfalign_api.training_values import Loss
from selfalign_jobs.recipes.embedding import prompt_tables
from selfalign_jobs.recipes.method import Method

WITH_REFERENCE = ("dpo", "ipo", "hinge", "selm")


def train_on_pairs(
    method: Method,
    k: int,
    held: TableRef | None,
    *,
    since: int = 1,
    loss: Loss | None = None,
    made_by: str = "generate",
) -> Train:
    """The pairs that the steps `made_by` of the window's iterations have made, less those whose prompt is in the table `held`.

    None were generated before the iteration `since`. Where near duplicates are left out, the pairs of all iterations before
    the window are read too.
    """
    window, near = method.iteration.window_of(k), method.filters.near_duplicates
    options: dict[str, Json] = {
        "held_out": held is not None,
        "max_new_pairs": method.iteration.max_new_pairs,
        "seed": method.seed,
    }
    earlier = range(since, since if near is None else window.start)
    if near is not None:
        options |= {"near_duplicates": near.model_dump(exclude_none=True), "earlier": len(earlier)}
    made = (*earlier, *range(max(since, window.start), window.stop))
    names = prompt_tables(method, "pairs")
    if len(names) > 1:
        options["vectors"] = len(made)
    tables = (ArtifactRef(step=f"i{i}-{made_by}", name=name) for name in names for i in made)
    inputs = (*tables, *(() if held is None else (held,)))
    return train_step(method, k, Prepare(fn="training-pairs", inputs=inputs, options=options), loss)


def train_step(method: Method, k: int, data: Prepare, loss: Loss | None = None) -> Train:
    """The training of iteration k on a table of pairs, by this loss, or the method's own."""
    loss = method.training.loss_of(k) if loss is None else loss
    return Train(
        name=f"i{k}-train",
        iteration=k,
        loss=loss,
        data=data,
        start=method.iteration.start_of(k),
        reference=method.iteration.reference_of(k) if loss.type in WITH_REFERENCE else None,
        result=ModelRef(iteration=k),
        settings=method.training.settings_of(k),
    )
