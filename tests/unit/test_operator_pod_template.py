"""A podTemplate merges into the pod, and cannot touch what makes it a step of a run."""

import copy
import re
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.errors import ConfigError
from selfalign_api.means import Compute
from selfalign_api.merge import merge
from selfalign_api.pod_template import KEYED_LISTS, merge_pod_template
from selfalign_operator.workloads.owned import problems_of, refuse_owned_fields

SCALARS = st.integers(-3, 3) | st.sampled_from(["a", "b"]) | st.booleans()
REMOVED: dict[str, Any] = {"$patch": "delete"}
REMOVALS = st.none() | st.just(REMOVED)
NAMES = st.sampled_from(["step", "x", "y"])


def entries(key: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    entry = st.tuples(NAMES, values).map(lambda pair: {key: pair[0], "value": pair[1]})
    return st.lists(entry, max_size=3, unique_by=lambda made: made[key])


LISTS = st.fixed_dictionaries(
    {}, optional={field: entries(key, SCALARS) for field, key in KEYED_LISTS.items() if field != "containers"}
)
CONTAINERS = st.lists(
    st.tuples(NAMES, LISTS, st.dictionaries(st.sampled_from(["image", "tty"]), SCALARS | st.none())).map(
        lambda made: {"name": made[0], **made[1], **made[2]}
    ),
    max_size=3,
    unique_by=lambda made: made["name"],
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "containers": CONTAINERS,
        "tolerations": st.lists(st.fixed_dictionaries({"key": SCALARS}), max_size=3),
        "nodeSelector": st.dictionaries(st.sampled_from("ab"), SCALARS | REMOVALS),
        "priorityClassName": SCALARS | REMOVALS,
    },
)
PARTS = st.fixed_dictionaries({}, optional={"spec": SPECS, "metadata": st.dictionaries(st.sampled_from("ab"), SCALARS)})


def step(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "step", **fields}]}}


@given(PARTS, PARTS)
def test_what_is_merged_again_changes_nothing_more_and_no_argument(
    below: dict[str, Any], above: dict[str, Any]
) -> None:
    before = copy.deepcopy((below, above))
    merged = merge_pod_template(below, above)
    assert merge_pod_template(merged, above) == merged
    assert (below, above) == before


@given(PARTS)
def test_an_empty_part_changes_nothing(whole: dict[str, Any]) -> None:
    template = merge_pod_template({}, whole)
    assert merge_pod_template(template, {}) == template


@given(PARTS, PARTS)
def test_every_entry_is_kept_once_and_in_its_order(below: dict[str, Any], above: dict[str, Any]) -> None:
    def names(part: dict[str, Any]) -> list[str]:
        return [container["name"] for container in part.get("spec", {}).get("containers", [])]

    merged = names(merge_pod_template(below, above))
    assert merged[: len(names(below))] == names(below)
    assert set(merged) == set(names(below)) | set(names(above))
    assert len(set(merged)) == len(merged)


@given(PARTS, PARTS, PARTS)
def test_two_parts_merged_first_do_what_they_do_one_after_the_other(
    base: dict[str, Any], profile: dict[str, Any], run: dict[str, Any]
) -> None:
    base = merge_pod_template({}, base)  # a whole template has no nulls
    at_once = merge_pod_template(base, merge_pod_template(profile, run, keep_nulls=True))
    assert at_once == merge_pod_template(merge_pod_template(base, profile), run)


BASE = {
    "spec": {
        "securityContext": {"runAsUser": 1000, "fsGroup": 1000, "runAsNonRoot": True},
        "volumes": [{"name": "shm", "emptyDir": {}}, {"name": "x", "emptyDir": {}}],
        "containers": [
            {"name": "step", "env": [{"name": "A", "value": "1"}], "volumeMounts": [{"name": "x", "mountPath": "/x"}]}
        ],
    }
}


@pytest.mark.parametrize(
    ("part", "gone"),
    [
        ({"securityContext": {"runAsUser": REMOVED, "fsGroup": REMOVED}}, ("runAsUser", "fsGroup")),
        ({"volumes": [{"name": "shm", **REMOVED}]}, ("shm",)),
        ({"containers": [{"name": "step", "env": [{"name": "A", **REMOVED}]}]}, ("'A'",)),
        ({"containers": [{"name": "step", "volumeMounts": [{"mountPath": "/x", **REMOVED}]}]}, ("/x",)),
        ({"volumes": [{"name": "x", **REMOVED}, {"name": "never-there", **REMOVED}]}, ("'x', 'emptyDir'", "never")),
        ({"nodeSelector": {"never": REMOVED}}, ("never",)),
    ],
)
def test_a_patch_removes_the_field_or_the_entry_in_which_it_stands(part: dict[str, Any], gone: tuple[str, ...]) -> None:
    """`kubectl apply` drops nulls where it makes an object; this it keeps."""
    assert problems_of({"spec": part}, "p") == []
    whole = merge_pod_template(BASE, {"spec": part})
    assert "$patch" not in str(whole)
    assert [name for name in gone if name in str(whole)] == []
    assert "runAsNonRoot" in str(whole)
    through_the_profile = merge_pod_template({"spec": part}, {"metadata": {}}, keep_nulls=True)
    assert merge_pod_template(BASE, through_the_profile)["spec"] == whole["spec"]


@pytest.mark.parametrize(
    "part",
    [
        {"spec": REMOVED},
        {"metadata": REMOVED},
        {"metadata": {"labels": REMOVED}},
        {"metadata": {"annotations": REMOVED}},
        {"metadata": {"labels": {"selfalign.dev/step": REMOVED}}},
        {"spec": {"securityContext": REMOVED}},
        {"spec": {"securityContext": {"runAsNonRoot": REMOVED}}},
        {"spec": {"containers": REMOVED}},
        {"spec": {"containers": [{"name": "step", **REMOVED}]}},
        {"spec": {"containers": [{"name": "step", "securityContext": REMOVED}]}},
        {"spec": {"containers": [{"name": "step", "command": REMOVED}]}},
        {"spec": {"volumes": [{"name": "run", **REMOVED}]}},
        {"spec": {"nodeSelector": {"$patch": "replace"}}},
        {"spec": {"tolerations": [{"$patch": "merge"}]}},
    ],
)
def test_what_makes_a_pod_a_step_cannot_be_removed(part: dict[str, Any]) -> None:
    assert problems_of(part, "p")


def test_a_runs_toleration_joins_its_profiles() -> None:
    profile = {"compute": {"podTemplate": {"spec": {"tolerations": [{"key": "gpu"}], "nodeSelector": {"a": "1"}}}}}
    run = {"compute": {"podTemplate": {"spec": {"tolerations": [{"key": "team"}], "nodeSelector": {"a": None}}}}}
    assert merge(profile, run)["compute"]["podTemplate"]["spec"] == {
        "tolerations": [{"key": "gpu"}, {"key": "team"}],
        "nodeSelector": {"a": None},
    }


def test_containers_and_volumes_merge_by_name() -> None:
    below = step(image="i", env=[]) | {"metadata": {"labels": {"a": "1"}}}
    below["spec"]["volumes"] = [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}]
    above = {
        "metadata": {"labels": {"b": "2"}},
        "spec": {
            "containers": [{"name": "side", "image": "s"}, {"name": "step", "tty": True}],
            "volumes": [{"name": "shm", "emptyDir": {"sizeLimit": "64Gi"}}, {"name": "new", "emptyDir": {}}],
        },
    }
    assert merge_pod_template(below, above) == {
        "metadata": {"labels": {"a": "1", "b": "2"}},
        "spec": {
            "containers": [{"name": "step", "image": "i", "env": [], "tty": True}, {"name": "side", "image": "s"}],
            "volumes": [
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Gi"}},
                {"name": "new", "emptyDir": {}},
            ],
        },
    }


def test_a_volume_of_another_kind_replaces_the_one_of_its_name() -> None:
    claim = {"name": "tmp", "persistentVolumeClaim": {"claimName": "scratch"}}
    below = {"spec": {"volumes": [{"name": "tmp", "emptyDir": {}}]}}
    assert merge_pod_template(below, {"spec": {"volumes": [claim]}})["spec"]["volumes"] == [claim]


def test_a_variable_from_a_secret_replaces_its_value() -> None:
    secret = {"name": "HTTPS_PROXY", "valueFrom": {"secretKeyRef": {"name": "proxy", "key": "url"}}}
    below = step(env=[{"name": "HTTPS_PROXY", "value": "http://proxy"}, {"name": "A", "value": "1"}])
    merged = merge_pod_template(below, step(env=[secret]))
    assert merged["spec"]["containers"][0]["env"] == [secret, {"name": "A", "value": "1"}]


def test_mounts_merge_by_path_and_other_lists_are_appended() -> None:
    below = step(volumeMounts=[{"name": "tmp", "mountPath": "/tmp"}], envFrom=[{"secretRef": {"name": "a"}}])
    above = step(
        volumeMounts=[{"name": "scratch", "mountPath": "/tmp"}, {"name": "models", "mountPath": "/models"}],
        envFrom=[{"secretRef": {"name": "b"}}],
    )
    merged = merge_pod_template(below, above)["spec"]["containers"][0]
    assert [mount["name"] for mount in merged["volumeMounts"]] == ["scratch", "models"]
    assert merged["envFrom"] == [{"secretRef": {"name": "a"}}, {"secretRef": {"name": "b"}}]


def test_null_removes_a_field() -> None:
    below = {"spec": {"securityContext": {"runAsUser": 1000, "fsGroup": 1000}}}
    above = {"spec": {"securityContext": {"runAsUser": None}}}
    assert merge_pod_template(below, above) == {"spec": {"securityContext": {"fsGroup": 1000}}}


def test_the_arguments_of_another_container_are_one_value() -> None:
    below = {"spec": {"containers": [{"name": "side", "args": ["-a", "-b"]}]}}
    above = {"spec": {"containers": [{"name": "side", "args": ["-c"]}]}}
    assert merge_pod_template(below, above)["spec"]["containers"][0]["args"] == ["-c"]


@pytest.mark.parametrize(
    ("part", "path", "said"),
    [
        (
            step(command=["sh"]),
            "containers[step].command",
            "cannot be overridden (it is the step program's entry point)",
        ),
        (step(args=[]), "containers[step].args", "remove it"),
        (step(securityContext={"privileged": True}), "containers[step].securityContext", "unprivileged"),
        (step(image="other"), "containers[step].image", "write image in that section of compute"),
        (step(env=[{"name": "SELFALIGN_GANG_SIZE", "value": "1"}]), "env: SELFALIGN_GANG_SIZE", "told by it"),
        (step(env=[{"name": "RAY_AUTH_MODE", "value": "disabled"}]), "env: RAY_AUTH_MODE", "told by it"),
        (step(volumeMounts=[{"name": "x", "mountPath": "/etc/selfalign/"}]), "volumeMounts", "run.json is there"),
        ({"spec": {"securityContext": {"runAsNonRoot": False}}}, "securityContext.runAsNonRoot", "runAsUser"),
        ({"spec": {"hostNetwork": True}}, "spec.hostNetwork", "the platform gives it to ranks by its profile"),
        ({"spec": {"restartPolicy": "Always"}}, "restartPolicy", "failurePolicy"),
        ({"spec": {"terminationGracePeriodSeconds": 5}}, "terminationGracePeriodSeconds", "gracePeriodSeconds"),
        ({"spec": {"automountServiceAccountToken": True}}, "automountServiceAccountToken", "serviceAccountName"),
        ({"spec": {"volumes": [{"name": "run", "emptyDir": {}}]}}, "volumes: run", "name yours otherwise"),
        ({"metadata": {"labels": {"selfalign.dev/run-uid": "x"}}}, "labels: selfalign.dev/run-uid", "finds its pods"),
        ({"metadata": {"labels": {"app.kubernetes.io/name": "x"}}}, "labels: app.kubernetes.io/name", "finds its pods"),
        ({"containers": []}, "podTemplate.containers", "write metadata or spec"),
        ({"spec": None}, "podTemplate.spec", "must be a map"),
        ({"spec": {"containers": "x"}}, "containers: x must be a list", "- name: …"),
        ({"spec": {"containers": [{"image": "x"}]}}, "containers[0]", "must be a map with name"),
        ({"spec": {"containers": [{"name": "a", "env": None}]}}, "containers[0].env", "must be a list"),
        ({"spec": {"securityContext": None}}, "spec.securityContext", "must be a map"),
        ({"metadata": {"labels": [1]}}, "metadata.labels", "must be a map"),
    ],
)
def test_what_belongs_to_the_operator_is_refused_with_what_to_write(part: Any, path: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        refuse_owned_fields(Compute(pod_template=part))
    (message,) = str(refused.value).splitlines()
    assert message.startswith("spec.compute.podTemplate")
    assert path in message
    assert said in message


@pytest.mark.parametrize("section", ["training.podTemplate", "evaluation.podTemplate", "generation.headPodTemplate"])
def test_a_sections_own_template_is_checked_under_its_own_path(section: str) -> None:
    name, field = section.split(".")
    compute = Compute.model_validate({name: {field: step(command=["sh"])}})
    path = re.escape(f"spec.compute.{section}.spec.containers[step].command")
    with pytest.raises(ConfigError, match=path):
        refuse_owned_fields(compute)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(string.ascii_lowercase, max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*KEYED_LISTS, "name", "mountPath", "spec", "metadata", "labels", "securityContext"]),
                inner,
            )
        ),
        max_leaves=20,
    ).filter(lambda made: isinstance(made, dict))
)
def test_any_json_is_refused_or_merges(part: Any) -> None:
    if problems_of(part, "spec.compute.podTemplate"):
        return
    base = step(env=[{"name": "HOME", "value": "/"}], volumeMounts=[{"name": "tmp", "mountPath": "/tmp"}])
    merged = merge_pod_template(base, part)
    assert merged["spec"]["containers"][0]["name"] == "step"
