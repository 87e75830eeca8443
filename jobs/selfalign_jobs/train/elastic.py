"""A training's state from a checkpoint of other ranks, another ZeRO stage or another offload: float32 weights and moments.

What a rank saved, and what a rank of this training holds, are shards: flat tensors in which runs of parameters lie. Each
run is read from the checkpoint's files, which are mapped, straight to where it belongs; nothing is written in between.
(DeepSpeed's universal checkpoints know Adam's moments only, and no training without DeepSpeed.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selfalign_jobs.train.settings import Shape

MASTER = "master"  # beside an optimiser's own names
WEIGHTS = "weights.pt"  # trained weights by name, of a training without DeepSpeed
OPTIMIZER, SCHEDULER = "optimizer.pt", "scheduler.pt"  # as transformers names them


@dataclass(frozen=True)
class Run:
    """Elements of a parameter, flattened, and where they lie in the tensors of a shard."""

    name: str
    start: int
    count: int
    at: int


@dataclass(frozen=True)
class Shard:
    """Part of a training's state: flat tensors, all alike, and the scalars of the optimiser that go with them."""

    tensors: Mapping[str, Tensor]
    scalars: Mapping[str, Any]
    runs: tuple[Run, ...]


def save_weights(model: Any, folder: Path) -> None:
    """The trained weights of a model, in a checkpoint of a training without DeepSpeed."""
    folder.mkdir(parents=True, exist_ok=True)
    trained = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
    torch.save(trained, folder / WEIGHTS)


def load_weights(model: Any, folder: Path) -> None:
    """What `save_weights` wrote, in place."""
    saved = _mapped(folder / WEIGHTS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(saved[name])


def take_over(trainer: Any, folder: Path, shape: Shape) -> None:
    """Put the checkpoint in `folder`, saved by this shape, into a trainer that is ready for its first step.

    Collective where the trainer has several ranks. Raises RuntimeError for a checkpoint of other parameters.
    """
    _Engine(trainer).fill(Index(_saved(folder, shape, _names_by_group(trainer))))
    scheduler, saved = trainer.lr_scheduler, _mapped(folder / SCHEDULER)
    rate = saved["_last_lr"][0]  # one for all groups, of which DeepSpeed has none without parameters
    groups = trainer.optimizer.param_groups
    counted = {count: saved[count] for count in ("last_epoch", "_step_count")}
    scheduler.load_state_dict(scheduler.state_dict() | counted | {"_last_lr": [rate] * len(groups)})
    for group in groups:
        group["lr"] = rate
    if trainer.is_deepspeed_enabled:
        trainer.model_wrapped.global_steps = trainer.state.global_step


class Index:
    """Where in the shards of a checkpoint the elements of a parameter are."""

    def __init__(self, shards: Iterable[Shard]) -> None:
        self._by_name: dict[str, list[tuple[Run, Shard]]] = {}
        for shard in shards:
            for run in shard.runs:
                self._by_name.setdefault(run.name, []).append((run, shard))

    def keys(self, runs: Iterable[Run]) -> tuple[str, ...]:
        """The optimiser's tensors that belong to these runs."""
        return tuple(dict.fromkeys(key for _, shard in self._of(runs) for key in shard.tensors if key != MASTER))

    def scalars(self, runs: Iterable[Run]) -> dict[str, Any]:
        """The optimiser's scalars that belong to these runs; they are the same in all shards."""
        return dict(next((shard.scalars for _, shard in self._of(runs) if shard.scalars), {}))

    def copy(self, key: str, runs: Iterable[Run], target: Tensor) -> None:
        """Read a tensor's runs into `target`. What no optimiser step has touched has no moments: zeros.

        Raises RuntimeError for elements that the checkpoint lacks.
        """
        for run in runs:
            copied = 0
            for found, shard in self._by_name.get(run.name, ()):
                start, end = max(run.start, found.start), min(run.start + run.count, found.start + found.count)
                if end <= start:
                    continue
                copied += end - start
                if key in shard.tensors:
                    source = shard.tensors[key][found.at + start - found.start : found.at + end - found.start]
                    target[run.at + start - run.start : run.at + end - run.start].copy_(source)
            if copied != run.count:
                raise RuntimeError(
                    f"the checkpoint has {copied} of {run.count} elements of {run.name}: it is of another model"
                )

    def _of(self, runs: Iterable[Run]) -> Iterator[tuple[Run, Shard]]:
        for run in runs:
            yield from self._by_name.get(run.name, ())


# --- what was saved -----------------------------------------------------------------------------------------------------


def _saved(folder: Path, shape: Shape, names: Sequence[Sequence[str]]) -> Iterator[Shard]:
    """All that the ranks of a shape have saved; the names are the optimiser's, by group."""
    if shape.zero_stage is None:
        yield from _whole(_mapped(folder / WEIGHTS), _mapped(folder / OPTIMIZER), names)
    elif shape.zero_stage == 0:
        whole = _mapped(_tagged(folder) / "mp_rank_00_model_states.pt")
        yield from _whole(whole["module"], whole["optimizer"], names)
    else:
        files = [_of_rank(folder, rank, "optim_states") for rank in range(shape.ranks)]
        states = [_mapped(file)["optimizer_state_dict"] for file in files]
        if shape.zero_stage < 3:
            yield from _zero1_or_2(states)
            return
        shapes = _mapped(_of_rank(folder, 0, "model_states"))["param_shapes"]
        for rank, state in enumerate(states):
            yield from _zero3(state, shapes, rank, shape.ranks)


def _whole(
    weights: Mapping[str, Tensor], optimizer: Mapping[str, Any], names: Sequence[Sequence[str]]
) -> Iterator[Shard]:
    """Of one process that holds all: weights by name, and torch's optimiser by number, in the order of its groups."""
    groups = [group["params"] for group in optimizer["param_groups"] if group["params"]]
    for group, of_group in zip(groups, filter(None, names), strict=True):
        for number, name in zip(group, of_group, strict=True):
            state = optimizer["state"].get(number, {})
            yield _shard(weights[name], state, (Run(name, 0, weights[name].numel(), 0),))


def _zero1_or_2(states: Sequence[Mapping[str, Any]]) -> Iterator[Shard]:
    """Of all ranks: each group of parameters is one flat tensor, cut into as many parts."""
    before: dict[str, int] = {}  # elements of a parameter that ranks before this one have
    for state in states:
        base = state["base_optimizer_state"]
        for number, (flat, found) in enumerate(
            zip(state["single_partition_of_fp32_groups"], state["param_slice_mappings"], strict=True)
        ):
            runs = []
            for name, place in found.items():
                runs.append(Run(name, before.get(name, 0), place.numel, place.start))
                before[name] = before.get(name, 0) + place.numel
            yield _shard(flat, base["state"].get(number, {}), tuple(runs))


def _zero3(
    state: Mapping[str, Any], shapes: Sequence[Mapping[str, torch.Size]], rank: int, ranks: int
) -> Iterator[Shard]:
    """Of one rank: each parameter is cut into as many parts, the last of them padded."""
    base = state["optimizer_state_dict"]["state"]
    for number, (flat, of_group) in enumerate(zip(state["fp32_flat_groups"], shapes, strict=True)):
        sizes = {name: shape.numel() for name, shape in of_group.items()}
        yield _shard(flat, base.get(number, {}), _parts(sizes, rank, ranks))


def _parts(sizes: Mapping[str, int], rank: int, ranks: int) -> tuple[Run, ...]:
    """ZeRO-3's part of each parameter, one after the other."""
    runs, at = [], 0
    for name, size in sizes.items():
        part = -(-size // ranks)
        start = min(rank * part, size)
        runs.append(Run(name, start, min(part, size - start), at))
        at += part
    return tuple(runs)


def _shard(master: Tensor, state: Mapping[str, Any], runs: tuple[Run, ...]) -> Shard:
    moments = {key: value.view(-1) for key, value in state.items() if _is_moment(value)}
    scalars = {key: value for key, value in state.items() if not _is_moment(value)}
    return Shard({MASTER: master.detach().reshape(-1)} | moments, scalars, runs)


def _is_moment(value: object) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0


def _mapped(file: Path) -> Any:
    """A file of torch.save whose tensors are read where they are used. It is the run's own: DeepSpeed's have objects in them."""
    return torch.load(file, map_location="cpu", mmap=True, weights_only=False)


def _tagged(folder: Path) -> Path:
    return folder / (folder / "latest").read_text().strip()


def _of_rank(folder: Path, rank: int, kind: str) -> Path:
    """DeepSpeed's file of a rank; one in bfloat16 has a prefix."""
    (file,) = _tagged(folder).glob(f"*zero_pp_rank_{rank}_mp_rank_00_{kind}.pt")
    return file


# --- what is trained now ------------------------------------------------------------------------------------------------


def _names_by_group(trainer: Any) -> list[list[str]]:
    """Names of the trained parameters in the order of the optimiser's groups, as transformers makes them."""
    decayed = set(trainer.get_decay_parameter_names(trainer.model))
    trained = [name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad]
    return [[name for name in trained if name in decayed], [name for name in trained if name not in decayed]]


class _Engine:
    """The optimiser of this rank, whichever it is, as shards; empty until they are filled."""

    def __init__(self, trainer: Any) -> None:
        self._names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
        deepspeed = trainer.model_wrapped if trainer.is_deepspeed_enabled else None
        self._zero = deepspeed.optimizer if deepspeed is not None and deepspeed.zero_optimization() else None
        self._parameters = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
        holder = trainer if deepspeed is None else deepspeed
        base = holder.optimizer if self._zero is None else self._zero
        self._optimizer = getattr(base, "optimizer", base)  # under ZeRO's, or accelerate's

    def fill(self, saved: Index) -> None:
        """Weights and moments of a checkpoint into each shard of this rank."""
        stage3 = hasattr(self._zero, "fp32_partitioned_groups_flat")
        if stage3:
            self._zero.checkpoint_event_prologue()  # type: ignore[union-attr]
        with torch.no_grad():
            for flat, runs in self._shards():
                saved.copy(MASTER, runs, flat.view(-1))
                moments = {}
                for key in saved.keys(runs):
                    moments[key] = torch.zeros_like(flat)
                    saved.copy(key, runs, moments[key].view(-1))
                on_device = any(group.get("fused") or group.get("capturable") for group in self._optimizer.param_groups)
                for key, value in saved.scalars(runs).items():
                    is_tensor = isinstance(value, Tensor)
                    moments[key] = value.clone().to(flat.device if on_device else "cpu") if is_tensor else value
                self._optimizer.state[flat] = moments
            if stage3:
                self._compute_with_masters()
                self._zero.checkpoint_event_epilogue()  # type: ignore[union-attr]
            elif self._zero is not None:
                self._zero.update_lp_params()

    def _shards(self) -> Iterator[tuple[Tensor, tuple[Run, ...]]]:
        zero = self._zero
        if zero is None:
            for parameter in self._parameters:
                yield parameter, (Run(self._names[id(parameter)], 0, parameter.numel(), 0),)
        elif hasattr(zero, "fp32_partitioned_groups_flat"):  # stage 3
            rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
            for flat, group in zip(zero.fp32_partitioned_groups_flat, zero.fp16_groups, strict=True):
                yield flat, _parts({self._names[id(parameter)]: parameter.ds_numel for parameter in group}, rank, ranks)
        else:  # stage 1 in bfloat16 has an optimiser of its own
            own = hasattr(zero, "fp32_groups_flat_partition")
            flats = zero.fp32_groups_flat_partition if own else zero.single_partition_of_fp32_groups
            for flat, group in zip(flats, zero.bf16_groups if own else zero.bit16_groups, strict=True):
                yield flat, tuple(self._run(parameter) for parameter in group if parameter._hp_mapping is not None)

    def _run(self, parameter: Any) -> Run:
        place = parameter._hp_mapping
        low, high = place.lp_fragment_address, place.get_hp_fragment_address()
        return Run(self._names[id(parameter)], low.start, low.numel, high.start)

    def _compute_with_masters(self) -> None:
        """As ZeRO-3 does when it has loaded a checkpoint: what is computed with follows the masters."""
        zero = self._zero
        assert zero is not None
        for flat, master, parts in zip(
            zero.fp16_partitioned_groups_flat,
            zero.fp32_partitioned_groups_flat,
            zero.fp16_partitioned_groups,
            strict=True,
        ):
            flat.data.copy_(master.data)
            for part, updated in zip(parts, zero.unflatten(flat, parts), strict=True):
                part.data = updated.data
