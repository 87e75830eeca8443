"""A run as it counts: places, errors with a reason, and what was resolved when it began."""

from dataclasses import replace
from typing import Any

import pytest
from effective_runs import ATTEMPTS, CONFIG, effective, run_view
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.errors import ConfigError
from selfalign_api.life import Tracking
from selfalign_api.load import parse
from selfalign_api.operator_config import ClusterProfile, Images, OperatorConfig
from selfalign_operator.effective import Frozen, RunError
from selfalign_operator.frozen import frozen_of
from selfalign_operator.middle import Reconciliation
from selfalign_operator.rendering import Manifests
from selfalign_operator.resolve import effective_run
from selfalign_operator.views import RunView
from selfalign_operator.workloads.attempt import attempt_workload
from selfalign_operator.workloads.objects import config_map, config_map_name, run_objects


def frozen(spec: dict[str, Any] | None = None, config: OperatorConfig = CONFIG, **fields: Any) -> Frozen:
    found = frozen_of(config_map(effective(spec, config, **fields)))
    assert isinstance(found, Frozen)
    return found


# --- places -----------------------------------------------------------------------------------------------------------


def test_a_claim_is_a_folder_of_the_pod() -> None:
    found = effective({"storage": {"url": "pvc://data/a b", "reuseFrom": ["pvc://old/runs/x", "s3://ml/runs/y"]}})
    assert found.mounts == {"data": "/mnt/data", "models": "/mnt/models", "old": "/mnt/old"}
    assert found.storage == "file:///mnt/data/a%20b/research/small"
    assert found.reuse_from == ("file:///mnt/old/runs/x", "s3://ml/runs/y")


def test_a_bucket_stays_a_bucket() -> None:
    assert effective({"storage": {"url": "s3://ml/runs/"}}).storage == "s3://ml/runs/research/small"


def test_every_place_of_a_claim_is_mounted() -> None:
    spec = {
        "model": {"url": "pvc://a/m", "chatTemplateUrl": "pvc://b/t"},
        "data": {"personas": {"url": "pvc://c/p.jsonl"}},
        "generation": {"roles": [{"name": "judge", "templateUrl": "pvc://d/t"}]},
        "evaluation": {"prompts": {"url": "pvc://e/p.jsonl"}},
        "storage": {"url": "pvc://f", "reuseFrom": ["pvc://g/r"]},
    }
    assert sorted(effective(spec).mounts) == ["a", "b", "c", "d", "e", "f", "g"]
    helper = {"auxiliaryModels": [{"name": "big", "url": "pvc://h/big"}], "judge": {"modelName": "big"}}
    assert sorted(effective(spec | helper).mounts) == ["a", "b", "c", "d", "e", "f", "g", "h"]


VOLUME = {"spec": {"containers": [{"name": "step", "volumeMounts": [{"name": "m", "mountPath": "/models"}]}]}}


@pytest.mark.parametrize(
    "compute",
    [
        {},
        {"generation": {"podTemplate": VOLUME}},  # the training's pods lack it
        {"podTemplate": VOLUME, "model": "/elsewhere/m"},
        {"generation": {"image": "own"}, "training": {"image": "own"}, "model": "/tmp/m"},
    ],
)
def test_a_model_that_some_pod_lacks_is_refused(compute: dict[str, Any]) -> None:
    path = compute.pop("model", "/models/m")
    with pytest.raises(RunError, match=r"spec\.model\.url: file://") as refused:
        effective({"model": {"url": f"file://{path}"}, "compute": compute})
    assert refused.value.reason == "ModelPathNotMounted"
    assert "pvc://CLAIM/PATH" in str(refused.value)


@pytest.mark.parametrize(
    "compute",
    [
        {"podTemplate": VOLUME},
        {"generation": {"podTemplate": VOLUME}, "training": {"podTemplate": VOLUME}},
        {"generation": {"image": "own"}, "training": {"image": "own"}},
        {"generation": {"image": "own"}, "training": {"podTemplate": VOLUME}},
    ],
)
def test_a_model_in_a_volume_or_in_an_image_of_ones_own_is_taken(compute: dict[str, Any]) -> None:
    assert effective({"model": {"url": "file:///models/m"}, "compute": compute}).mounts == {"data": "/mnt/data"}


def test_a_helper_must_lie_where_engines_run_and_not_where_ranks_do() -> None:
    helper = {"auxiliaryModels": [{"name": "big", "url": "file:///models/big"}], "judge": {"modelName": "big"}}
    engines = {"compute": {"generation": {"podTemplate": VOLUME}}}
    assert effective(helper | engines).mounts
    with pytest.raises(RunError, match=r"spec\.auxiliaryModels\[big\]\.url: file://.*pods that generate") as refused:
        effective(helper)
    assert refused.value.reason == "ModelPathNotMounted"


# --- errors -----------------------------------------------------------------------------------------------------------


def test_a_profile_that_is_not_there_has_a_reason_of_its_own() -> None:
    with pytest.raises(RunError, match=r"spec\.compute\.profileName: a100 names no profile") as refused:
        effective({"compute": {"profileName": "a100"}})
    assert refused.value.reason == "ProfileNotFound"


def bound(*namespaces: str, name: str = "h100") -> OperatorConfig:
    profile = parse(ClusterProfile, {"namespaces": list(namespaces), "gpuResourceName": "x.com/gpu"}, "profile")
    return CONFIG.model_copy(update={"profiles": {name: profile}})


def test_a_profile_of_other_namespaces_is_not_there() -> None:
    spec = {"compute": {"profileName": "h100"}}
    assert effective(spec, bound("research", "b")).platform.gpu_resource_name == "x.com/gpu"
    with pytest.raises(RunError, match=r"h100 names no profile \(the operator has none\)") as refused:
        effective(spec, bound("b"))
    assert refused.value.reason == "ProfileNotFound"


def test_a_default_of_other_namespaces_fills_nothing_in() -> None:
    assert effective({}, bound("research", name="default")).platform.gpu_resource_name == "x.com/gpu"
    assert effective({}, bound("b", name="default")).platform.gpu_resource_name == "nvidia.com/gpu"


def test_a_run_that_began_with_a_profile_keeps_it_when_its_namespace_loses_it() -> None:
    before = frozen({"compute": {"profileName": "h100"}}, bound("research"))
    after = effective({"compute": {"profileName": "h100"}}, bound("b"), before)
    assert after.platform.gpu_resource_name == "x.com/gpu"


def chosen(selector: dict[str, Any], name: str = "h100") -> OperatorConfig:
    profile = parse(ClusterProfile, {"namespaceSelector": selector, "gpuResourceName": "x.com/gpu"}, "profile")
    return CONFIG.model_copy(update={"profiles": {name: profile}})


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


TEAM = {"matchLabels": {"team": "ml"}}
H100 = {"compute": {"profileName": "h100"}}


@pytest.mark.parametrize(
    ("selector", "for_ml", "for_nobody"),  # by whether the labels are {team: ml} or {}
    [
        ({}, True, True),
        (TEAM, True, False),
        ({"matchLabels": {"team": "ml", "tier": "gold"}}, False, False),
        (expression("team", "In", "ml", "nlp"), True, False),
        (expression("team", "In", "nlp"), False, False),
        (expression("team", "NotIn", "ml"), False, True),
        (expression("team", "Exists"), True, False),
        (expression("team", "DoesNotExist"), False, True),
        (TEAM | expression("tier", "Exists"), False, False),
        (TEAM | expression("tier", "NotIn", "gold"), True, False),
    ],
)
def test_a_selector_chooses_namespaces_as_kubernetes_does(selector: Any, for_ml: bool, for_nobody: bool) -> None:
    for labels, there in (({"team": "ml"}, for_ml), ({}, for_nobody)):
        found = effective({}, chosen(selector, "default"), namespace_labels=labels).platform.gpu_resource_name
        assert (found == "x.com/gpu") == there


@pytest.mark.parametrize(
    "wrong",
    [
        {"namespaces": ["a"], "namespaceSelector": TEAM},
        {"namespaceSelector": expression("team", "In")},
        {"namespaceSelector": expression("team", "Exists", "ml")},
        {"namespaceSelector": expression("team", "Contains", "ml")},
        {"namespaceSelector": {"team": "ml"}},
    ],
)
def test_a_profile_that_is_bound_in_a_wrong_way_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="profile"):
        parse(ClusterProfile, wrong, "profile")


@pytest.mark.parametrize(("spec", "name"), [(H100, "h100"), ({}, "default")])
def test_labels_that_may_not_be_read_leave_no_profile_out_in_silence(spec: dict[str, Any], name: str) -> None:
    with pytest.raises(RunError, match=r"may not get namespace research; the platform gives it that right") as refused:
        effective(spec, chosen(TEAM, name))
    assert refused.value.reason == "ProfileNotFound"


def test_a_run_whose_profile_asks_for_no_label_needs_none_read() -> None:
    assert effective({}, chosen(TEAM)).platform.gpu_resource_name == "nvidia.com/gpu"


def test_a_run_that_began_with_a_profile_keeps_it_when_its_namespace_loses_the_label() -> None:
    config = chosen(TEAM)
    view, began = run_view(H100, namespace_labels={"team": "ml"}), frozen(H100, config, namespace_labels={"team": "ml"})
    middle = Reconciliation(config, Manifests())
    assert middle.asks_for_labels(view, None)
    assert not middle.asks_for_labels(view, began)
    assert effective(H100, config, began).platform.gpu_resource_name == "x.com/gpu"
    changed = run_view({"compute": {"profileName": "h100", "queueName": "q"}})
    assert middle.asks_for_labels(changed, began)
    assert not Reconciliation(bound("research"), Manifests()).asks_for_labels(view, None)


def test_a_pod_template_that_overrides_the_entry_point_is_refused() -> None:
    template = {"spec": {"containers": [{"name": "step", "command": ["sh"]}]}}
    with pytest.raises(ConfigError, match="cannot be overridden"):
        effective({"compute": {"podTemplate": template}})


def test_two_secrets_for_places_of_one_kind_are_refused() -> None:
    spec = {
        "storage": {"url": "s3://ml/runs", "reuseFrom": ["s3://old/run"]},
        "credentials": [{"urlPrefix": "s3://ml", "secretName": "a"}, {"urlPrefix": "s3://old", "secretName": "b"}],
    }
    with pytest.raises(ConfigError, match=r"spec\.credentials: .*need 2 Secrets \(a, b\)"):
        effective(spec)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.text("ab/:.", max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["spec", "metadata", "labels", "containers", "name", "env", "volumes", "volumeMounts"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["podTemplate", "queueName", "generation", "training", "device"]), JSON))
def test_any_compute_is_refused_in_words_or_rendered(compute: Any) -> None:
    try:
        found = effective_run(replace(run_view(), spec=run_view().spec | {"compute": compute}), CONFIG)
    except ConfigError:
        return
    for attempt in ATTEMPTS:
        attempt_workload(found, attempt)


# --- what was resolved before -----------------------------------------------------------------------------------------

PROFILE = parse(
    ClusterProfile,
    {
        "gpuResourceName": "amd.com/gpu",
        "compute": {"generation": {"replicas": 4}},
        "storage": {"url": "s3://ml/runs"},
        "credentials": [{"urlPrefix": "s3://", "secretName": "profiles"}],
    },
    "profile",
)
WITH_PROFILE = CONFIG.model_copy(update={"profiles": {"default": PROFILE}})


def open_run(compute: dict[str, Any] | None = None, **life: Any) -> RunView:
    """A run that leaves its storage to the profile."""
    spec = {field: value for field, value in run_view().spec.items() if field != "storage"}
    return replace(run_view(), spec=spec | ({"compute": compute} if compute else {}) | life)


def begun() -> Frozen:
    found = frozen_of(config_map(effective_run(open_run(), WITH_PROFILE)))
    assert isinstance(found, Frozen)
    return found


OTHER = OperatorConfig(images=Images(generate="generate:2", train="train:2"))  # upgraded, and the profile is gone


def test_a_changed_profile_and_a_new_operator_alter_nothing_of_a_run_under_way() -> None:
    first, later = effective_run(open_run(), WITH_PROFILE), effective_run(open_run(), OTHER, begun())
    assert run_objects(later, "t") == run_objects(first, "t")
    for attempt in ATTEMPTS:
        assert attempt_workload(later, attempt) == attempt_workload(first, attempt)


def test_a_changed_compute_is_resolved_anew_and_the_method_stays() -> None:
    before = begun()
    after = effective_run(open_run({"generation": {"replicas": 2}}), OTHER, before)
    assert after.means.generation.replicas == 2
    assert after.storage == before.run_file.storage  # the profile's of then: artefacts do not move
    assert after.platform.images == CONFIG.images  # the images that made the plan carry it out
    assert after.platform.gpu_resource_name == "nvidia.com/gpu"
    assert config_map_name(after) != before.config_map_name


def test_a_run_resumed_as_a_gang_has_another_config_map_and_what_a_gang_needs() -> None:
    """The step that begins next makes all of a run's objects again when the ConfigMap's name is another."""
    single = frozen({"compute": {"generation": {"replicas": 1}}})
    gang = effective({"compute": {"generation": {"replicas": 2}}}, frozen=single)
    assert config_map_name(gang) != single.config_map_name
    assert [each["kind"] for each in run_objects(gang, "t")] == ["Service", "ConfigMap", "Secret", "NetworkPolicy"]


def test_how_a_run_lives_is_what_it_says_now() -> None:
    now = effective_run(open_run(failurePolicy={"maxRetriesPerStep": 7}, activeDeadlineSeconds=5), OTHER, begun())
    assert now.spec.failure_policy.max_retries_per_step == 7
    assert now.spec.active_deadline_seconds == 5
    assert now.frozen == begun()


def test_credentials_are_the_runs_own_or_those_of_the_profile_it_began_with() -> None:
    def secret(**life: Any) -> str:
        (entry,) = effective_run(open_run(**life), OTHER, begun()).spec.credentials or ()
        return entry.secret_name

    assert secret() == "profiles"
    assert secret(credentials=[{"urlPrefix": "s3://", "secretName": "own"}]) == "own"


def test_tracking_is_what_the_run_says_now_or_that_of_the_profile_it_began_with() -> None:
    def tracking(url: str) -> dict[str, str]:
        return {"type": "MLflow", "url": url}

    profile = PROFILE.model_copy(update={"tracking": parse(Tracking, tracking("https://profile"), "")})
    config = CONFIG.model_copy(update={"profiles": {"default": profile}})
    begun = frozen_of(config_map(effective_run(open_run(), config)))
    assert isinstance(begun, Frozen)
    for now in (config, OTHER):
        for life, url in (({}, "https://profile"), ({"tracking": tracking("https://own")}, "https://own")):
            found = effective_run(open_run(**life), now, begun).spec.tracking
            assert found is not None
            assert found.url == url


def test_without_tracking_the_config_map_says_nothing_of_it() -> None:
    assert "tracking" not in "".join(config_map(effective_run(open_run(), WITH_PROFILE))["data"].values())


def test_the_run_file_does_not_say_how_a_run_lives() -> None:
    spec = {"credentials": [{"urlPrefix": "pvc://", "secretName": "x"}], "suspend": True}
    assert frozen(spec).run_file == frozen().run_file
