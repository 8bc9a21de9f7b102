"""The pod of the manifests and of the chart runs in podman with its restrictions."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubernetes.files import ROOT
from tests.deploy.container_engine import ContainerEngine, run_engine
from tests.deploy.manifests import (
    Manifest,
    container_spec,
    find_resource,
    helm_template,
    kustomize,
    parse_documents,
    pod_spec,
)
from tests.e2e.late import KEY
from tests.e2e.program import wait_until
from tests.support.samples import Samples

pytestmark = [pytest.mark.e2e, pytest.mark.container, pytest.mark.kubernetes]

API = "http://127.0.0.1:10078/api"
EXPORTER = "http://127.0.0.1:10077"
CONTAINER = "late-late-exporter"
GROUP = 65532


@pytest.fixture(params=["kustomize", "helm"])
def resources(request: pytest.FixtureRequest, require_tool: Callable[[str], str]) -> list[Manifest]:
    """Return the pod of the chart and of the manifests, with a short poll interval."""
    if request.param == "helm":
        values = "--set=apiKey.existingSecret=late-api-key,config.poll.interval=2s"
        return parse_documents(helm_template(require_tool("helm"), values))
    manifests = parse_documents(kustomize(require_tool("kubectl"), ROOT / "deploy/kubernetes/base"))
    container_spec(manifests)["env"].append({"name": "LATE_EXPORTER_POLL__INTERVAL", "value": "2s"})
    return manifests


@pytest.fixture
def engine_and_image(image: str, require_tool: Callable[[str], str]) -> Iterator[tuple[ContainerEngine, str]]:
    """Start an engine with an isolated network, the image and the simulator."""
    require_tool("catatonit")
    with run_engine(network=True) as engine:
        engine.podman("run", "--detach", "--network=host", image, "simulate", "--simulate.history=1h")
        yield engine, image


def pod_manifest(resources: Sequence[Manifest], image: str, state: Path, keys: Path) -> str:
    """Return a manifest that podman can play, with folders prepared as by the kubelet."""
    spec, each = pod_spec(resources), container_spec(resources)
    each |= {"image": image, "imagePullPolicy": "Never"}
    each["env"].append({"name": "LATE_EXPORTER_API__BASE_URL", "value": API})
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        del each[probe]  # podman would run curl, which the image lacks
    (claim,) = find_resource(resources, "StatefulSet")["spec"]["volumeClaimTemplates"]
    own = [volume for volume in spec["volumes"] if "secret" not in volume]
    spec["volumes"] = [*own, host_path_volume("keys", keys), host_path_volume(claim["metadata"]["name"], state)]
    maps = [each for each in resources if each["kind"] == "ConfigMap"]
    return yaml.safe_dump_all([*maps, resource("Pod", "late", spec=spec)])


def host_path_volume(name: str, path: Path) -> dict[str, Any]:
    """Return a volume backed by a folder of this machine."""
    return {"name": name, "hostPath": {"path": str(path), "type": "Directory"}}


def make_volume(path: Path) -> Path:
    """Create a folder as the kubelet does for a pod with fsGroup: owned by root, group-writable."""
    path.mkdir()
    os.chown(path, 0, GROUP)
    path.chmod(0o2775)
    return path


def put_key(keys: Path, key: str) -> None:
    """Update the key as the kubelet does: write new files, then switch a symlink atomically."""
    new = make_volume(keys / f"..{len(list(keys.iterdir()))}")
    (new / "api-key").write_text(key, "ascii")
    (new / "api-key").chmod(0o440)
    os.chown(new / "api-key", 0, GROUP)
    (keys / "..new").symlink_to(new.name)
    (keys / "..new").rename(keys / "..data")
    if not (keys / "api-key").is_symlink():
        (keys / "api-key").symlink_to("..data/api-key")


def resource(kind: str, name: str, **rest: Any) -> dict[str, Any]:
    """Return a core v1 resource."""
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **rest}


def scrape(engine: ContainerEngine) -> Samples:
    """Return the metrics of the exporter once it is ready."""
    wait_until(
        lambda: "is ready" in engine.sandbox.get(f"{EXPORTER}/-/ready"),
        describe=lambda: engine.podman("logs", CONTAINER, check=False),
    )
    return Samples.parse(engine.sandbox.get(f"{EXPORTER}/metrics"))


def test_pod_continues_from_its_state(
    engine_and_image: tuple[ContainerEngine, str], resources: list[Manifest], tmp_path: Path
) -> None:
    """The restricted pod finds its key and options, serves, and a new pod continues from its state."""
    engine, image = engine_and_image
    state, keys, manifest = make_volume(tmp_path / "state"), make_volume(tmp_path / "keys"), tmp_path / "pod.yaml"
    put_key(keys, KEY)
    manifest.write_text(pod_manifest(resources, image, state, keys), "utf-8")
    engine.podman("kube", "play", "--network=host", manifest)
    before = scrape(engine)
    assert before.sum("late_publishing_logs_total") > 0
    assert_restricted(engine)
    assert KEY not in engine.podman("logs", CONTAINER)

    engine.podman("kube", "down", manifest)
    with pytest.raises(ConnectionError):
        engine.sandbox.get(f"{EXPORTER}/-/healthy")
    engine.podman("kube", "play", "--network=host", manifest)
    again = scrape(engine)
    assert again.sum("late_publishing_logs_total") >= before.sum("late_publishing_logs_total")
    began = "late_exporter_coverage_start_timestamp_seconds"
    assert before.sum(began) == again.sum(began)


def assert_restricted(engine: ContainerEngine) -> None:
    """Assert that the kernel restricts the process, and that only the state and temporary files are writable."""
    status = engine.podman("exec", CONTAINER, "cat", "/proc/1/status")
    restrictions = dict(re.findall(r"^(Uid|Gid|CapEff|CapBnd|NoNewPrivs|Seccomp):\s+(\w+)", status, re.MULTILINE))
    none = "0" * 16
    assert {
        "Uid": "65532",
        "Gid": "65532",
        "CapEff": none,
        "CapBnd": none,
        "NoNewPrivs": "1",
        "Seccomp": "2",
    } == restrictions
    for folder in ("/", "/etc", "/etc/late-exporter/keys", "/opt/late-exporter"):
        assert "Read-only file system" in engine.podman("exec", CONTAINER, "touch", f"{folder}/x", check=False)
    for folder in ("/tmp", "/var/lib/late-exporter"):  # noqa: S108 - in the container
        assert "" == engine.podman("exec", CONTAINER, "touch", f"{folder}/x")
