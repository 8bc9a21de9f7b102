"""The pod of the manifests and of the chart, run with all that it is denied: by podman, as there is no cluster."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubernetes.files import ROOT
from tests.deploy.containers import Engine, engine
from tests.deploy.manifests import Manifest, container, documents, kustomize, named, pod, template
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
    """Both ways to the same pod, which polls often: by helm because a file says so, else because a variable does."""
    if request.param == "helm":
        values = "--set=apiKey.existingSecret=late-api-key,config.poll.interval=2s"
        return documents(template(require_tool("helm"), values))
    manifests = documents(kustomize(require_tool("kubectl"), ROOT / "deploy/kubernetes/base"))
    container(manifests)["env"].append({"name": "LATE_EXPORTER_POLL__INTERVAL", "value": "2s"})
    return manifests


@pytest.fixture
def running(image: str, require_tool: Callable[[str], str]) -> Iterator[tuple[Engine, str]]:
    """An engine whose network is its own, with the simulator in it, and the image."""
    require_tool("catatonit")
    with engine(network=True) as found:
        found.podman("run", "--detach", "--network=host", image, "simulate", "--simulate.history=1h")
        yield found, image


def played(resources: Sequence[Manifest], image: str, state: Path, keys: Path) -> str:
    """What podman can play: the pod in place of what makes it, with folders that are as the kubelet would make them."""
    spec, each = pod(resources), container(resources)
    each |= {"image": image, "imagePullPolicy": "Never"}
    each["env"].append({"name": "LATE_EXPORTER_API__BASE_URL", "value": API})
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        del each[probe]  # podman would ask by a curl that is not in the image
    (claim,) = named(resources, "StatefulSet")["spec"]["volumeClaimTemplates"]
    own = [volume for volume in spec["volumes"] if "secret" not in volume]
    spec["volumes"] = [*own, folder("keys", keys), folder(claim["metadata"]["name"], state)]
    maps = [each for each in resources if each["kind"] == "ConfigMap"]
    return yaml.safe_dump_all([*maps, resource("Pod", "late", spec=spec)])


def folder(name: str, path: Path) -> dict[str, Any]:
    """A volume that is a folder of this machine."""
    return {"name": name, "hostPath": {"path": str(path), "type": "Directory"}}


def as_volume(path: Path) -> Path:
    """A folder, made the way the kubelet does it for a pod with a fsGroup: root's, and the group may write."""
    path.mkdir()
    os.chown(path, 0, GROUP)
    path.chmod(0o2775)
    return path


def put_key(keys: Path, key: str) -> None:
    """What the kubelet does where a Secret has changed: it writes new files, and then points to them at once."""
    new = as_volume(keys / f"..{len(list(keys.iterdir()))}")
    (new / "api-key").write_text(key, "ascii")
    (new / "api-key").chmod(0o440)
    os.chown(new / "api-key", 0, GROUP)
    (keys / "..new").symlink_to(new.name)
    (keys / "..new").rename(keys / "..data")
    if not (keys / "api-key").is_symlink():
        (keys / "api-key").symlink_to("..data/api-key")


def resource(kind: str, name: str, **rest: Any) -> dict[str, Any]:
    """A resource of a kind that Kubernetes has from the beginning."""
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **rest}


def scrape(engine_: Engine) -> Samples:
    """What the exporter serves once it is ready."""
    wait_until(
        lambda: "is ready" in engine_.sandbox.get(f"{EXPORTER}/-/ready"),
        describe=lambda: engine_.podman("logs", CONTAINER, check=False),
    )
    return Samples.parse(engine_.sandbox.get(f"{EXPORTER}/metrics"))


def test_run(running: tuple[Engine, str], resources: list[Manifest], tmp_path: Path) -> None:
    """Within the restricted profile it finds its key and options, serves, and goes on where the pod before it was."""
    engine_, image = running
    state, keys, manifest = as_volume(tmp_path / "state"), as_volume(tmp_path / "keys"), tmp_path / "pod.yaml"
    put_key(keys, KEY)
    manifest.write_text(played(resources, image, state, keys), "utf-8")
    engine_.podman("kube", "play", "--network=host", manifest)
    before = scrape(engine_)
    assert before.sum("late_publishing_logs_total") > 0
    assert_confined(engine_)
    assert KEY not in engine_.podman("logs", CONTAINER)

    engine_.podman("kube", "down", manifest)
    with pytest.raises(ConnectionError):
        engine_.sandbox.get(f"{EXPORTER}/-/healthy")
    engine_.podman("kube", "play", "--network=host", manifest)
    again = scrape(engine_)
    assert again.sum("late_publishing_logs_total") >= before.sum("late_publishing_logs_total")
    began = "late_exporter_coverage_start_timestamp_seconds"
    assert before.sum(began) == again.sum(began)


def test_a_key_that_is_changed(running: tuple[Engine, str], resources: list[Manifest], tmp_path: Path) -> None:
    """With a key that is refused it is healthy and can be scraped; with a good one in its place it goes on."""
    engine_, image = running
    state, keys, manifest = as_volume(tmp_path / "state"), as_volume(tmp_path / "keys"), tmp_path / "pod.yaml"
    put_key(keys, "sk_refused")
    manifest.write_text(played(resources, image, state, keys), "utf-8")
    engine_.podman("kube", "play", "--network=host", manifest)
    wait_until(lambda: 'outcome="unauthorized"' in engine_.sandbox.get(f"{EXPORTER}/metrics"))
    assert "healthy" in engine_.sandbox.get(f"{EXPORTER}/-/healthy")
    with pytest.raises(ConnectionError, match="503"):
        engine_.sandbox.get(f"{EXPORTER}/-/ready")

    put_key(keys, KEY)
    samples = scrape(engine_)
    assert samples.sum("late_publishing_logs_total") > 0
    assert "0" == engine_.podman("inspect", "--format={{.RestartCount}}", CONTAINER)


def assert_confined(engine_: Engine) -> None:
    """The kernel says what it may do, and it can write nothing but its state and what is for a while."""
    status = engine_.podman("exec", CONTAINER, "cat", "/proc/1/status")
    kept = dict(re.findall(r"^(Uid|Gid|CapEff|CapBnd|NoNewPrivs|Seccomp):\s+(\w+)", status, re.MULTILINE))
    none = "0" * 16
    assert {"Uid": "65532", "Gid": "65532", "CapEff": none, "CapBnd": none, "NoNewPrivs": "1", "Seccomp": "2"} == kept
    for folder in ("/", "/etc", "/etc/late-exporter/keys", "/opt/late-exporter"):
        assert "Read-only file system" in engine_.podman("exec", CONTAINER, "touch", f"{folder}/x", check=False)
    for folder in ("/tmp", "/var/lib/late-exporter"):  # noqa: S108 - in the container
        assert "" == engine_.podman("exec", CONTAINER, "touch", f"{folder}/x")
