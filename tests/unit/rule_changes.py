"""Changes of a run and the rules that they break, for Python (test_api_transitions.py) and a real API server (test_crd.py)."""

from dataclasses import dataclass
from typing import Any

from rule_cases import BASE

from selfalign_api.run import METHOD_FIELDS

Spec = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """A run's spec before and after, and the fields whose rules the change breaks."""

    about: str
    old: Spec
    new: Spec
    broken: tuple[str, ...] = ()


def spec(**fields: Any) -> Spec:
    """BASE's spec with these fields; None: left out."""
    return {name: value for name, value in {**BASE["spec"], **fields}.items() if value is not None}


PROPOSING = {"proposerModelName": "initial", "teacherModelName": "t", "oracle": {"type": "ExactMatch"}}
# Two values of every field of the method.
METHOD: dict[str, tuple[Any, Any]] = {
    "recipe": ("sao", "pairs"),  # with the data that it needs, below
    "iterations": (1, 2),
    "seed": (0, 1),
    "model": ({"url": "hf://org/model"}, {"url": "hf://org/model@v2"}),
    "auxiliaryModels": ([{"name": "big", "url": "hf://o/n"}], [{"name": "big", "url": "hf://o/m"}]),
    "data": ({"personas": {"count": 3}}, {"personas": {"count": 4}}),
    "generation": ({"roles": [{"name": "judge", "topP": 0.5}]}, {"roles": [{"name": "judge", "topP": 0.6}]}),
    "judge": ({"criteria": ["a", "b"]}, {"criteria": ["b", "a"]}),
    "iteration": ({"start": "initial"}, {"start": "previous"}),
    "training": ({"learningRate": 1e-6}, {"learningRate": 1e-6, "loss": {}}),
    "evaluation": ({"when": "Last"}, {"when": "Never"}),
    "sao": ({"promptMode": "Free"}, {}),
    "selm": ({"firstIteration": "Offline"}, {}),
    "synpo": ({"seedWords": 1}, {"seedWords": 3}),
    "fspo": ({"shots": 1}, {"shots": 3}),
    "almost": (
        {"responders": [{"modelName": "big"}, {"modelName": "initial"}]},
        {"responders": [{"modelName": "initial"}, {"modelName": "big"}]},
    ),
    "reversegen": (PROPOSING, PROPOSING | {"contextShots": 4}),
    "pit": ({"candidates": 2}, {"candidates": 3}),
    "output": ({"url": "s3://b/model"}, {"url": "s3://b/other"}),
    "storage": ({"url": "s3://b/runs"}, {"url": "s3://b/others"}),
}
assert tuple(METHOD) == METHOD_FIELDS
REQUIRED = ("recipe", "model", "reversegen", "almost")  # the last two of their recipes

CPU, GANG = {"device": "CPU"}, {"generation": {"podTemplate": {"spec": {"tolerations": [{"key": "gpu"}]}}}}
COMPUTES: dict[str, tuple[Any, Any]] = {
    "changed": (CPU, {"device": "GPU"}),
    "changed inside podTemplate": (GANG, {"generation": {"podTemplate": {"spec": {"tolerations": [{"key": "cpu"}]}}}}),
    "set": (None, CPU),
    "unset": (CPU, None),
}
ROLES = [{"name": "judge", "temperature": 0}, {"name": "respond", "maxTokens": 9}]
TEMPLATE = {"spec": {"initContainers": [{"name": "a"}, {"name": "b"}]}}
LIFE = {
    "activeDeadlineSeconds": 60,
    "ttlSecondsAfterFinished": 0,
    "failurePolicy": {"maxRetriesPerStep": 0, "startupDeadlineSeconds": 60, "progressDeadlineSeconds": 0},
    "workloadRetention": "AfterStep",
    "credentials": [{"urlPrefix": "hf://", "secretName": "hf"}],
}

OWN_PAIRS = {"preferences": {"url": "hf://datasets/o/n"}}
OF_SYNPO: Spec = {
    "recipe": "synpo",
    "data": {"demonstrations": {"url": "s3://b/p"}, "corpus": {"url": "s3://b/c"}},
    "auxiliaryModels": [{"name": "r", "url": "hf://o/n", "kind": "PairRanker"}],
    "judge": {"modelName": "r"},
}
OTHERS: dict[str, Spec] = {  # options of another recipe, and what a run of that says
    "selm": {"recipe": "selm", "data": OWN_PAIRS},
    "synpo": OF_SYNPO,
    "fspo": {"recipe": "fspo", "data": OWN_PAIRS},
    "almost": {
        "recipe": "almost",
        "data": {"prompts": {"url": "s3://b/p"}},
        "auxiliaryModels": [{"name": "big", "url": "hf://o/n"}],
    },
    "reversegen": {
        "recipe": "reversegen",
        "data": {"prompts": {"url": "s3://b/p"}},
        "auxiliaryModels": [{"name": "t", "url": "hf://o/n"}],
    },
    "pit": {"recipe": "pit", "data": OWN_PAIRS},
}

CHANGES = (
    Change("recipe changed", spec(), spec(recipe=METHOD["recipe"][1], data=OWN_PAIRS), ("recipe", "data")),
    *(
        Change(f"{name} changed", *(spec(**OTHERS.get(name, {}) | {name: value}) for value in (a, b)), (name,))
        for name, (a, b) in METHOD.items()
        if name != "recipe"
    ),
    *(
        change
        for name, (value, _) in METHOD.items()
        if name not in REQUIRED
        for change in (
            Change(f"{name} set", spec(**OTHERS.get(name, {})), spec(**OTHERS.get(name, {}), **{name: value}), (name,)),
            Change(
                f"{name} unset", spec(**OTHERS.get(name, {}), **{name: value}), spec(**OTHERS.get(name, {})), (name,)
            ),
        )
    ),
    Change(
        "method unchanged",
        *(spec(**{name: a for name, (a, _) in METHOD.items() if name not in OTHERS}) for _ in range(2)),
    ),
    Change("roles in another order", spec(generation={"roles": ROLES}), spec(generation={"roles": ROLES[::-1]})),
    *(
        Change(
            f"compute {how}, suspend {before} then {after}",
            spec(compute=a, suspend=before),
            spec(compute=b, suspend=after),
            () if before or after else ("compute",),
        )
        for how, (a, b) in COMPUTES.items()
        for before in (False, True)
        for after in (False, True)
    ),
    Change(
        "init containers in another order",
        spec(compute={"podTemplate": TEMPLATE}),
        spec(compute={"podTemplate": {"spec": {"initContainers": TEMPLATE["spec"]["initContainers"][::-1]}}}),
        ("compute",),
    ),
    Change("compute unchanged", spec(compute=GANG), spec(compute=GANG)),
    Change("life set", spec(), spec(**LIFE)),
    Change("life unset", spec(**LIFE), spec()),
    Change("method and compute changed", spec(compute=CPU), spec(seed=1), ("seed", "compute")),
)
