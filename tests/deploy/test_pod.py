"""The pod of the manifests and of the chart, run with all that it is denied: by podman, as there is no cluster."""

from __future__ import annotations

import base64
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
from tests.e2e.program import eventually
from tests.worlds import Samples

pytestmark = [pytest.mark.e2e, pytest.mark.container, pytest.mark.kubernetes]

API = "http://127.0.0.1:10078/api"
EXPORTER = "http://127.0.0.1:10077"
CONTAINER = "late-late-exporter"


@pytest.fixture(params=["kustomize", "helm"])
def resources(request: pytest.FixtureRequest, require_tool: Callable[[str], str]) -> list[Manifest]:
    """Both ways to the same pod, by helm with a file of options."""
    if request.param == "kustomize":
        return documents(kustomize(require_tool("kubectl"), ROOT / "deploy/kubernetes/base"))
    helm = require_tool("helm")
    return documents(template(helm, "--set=apiKey.existingSecret=late-api-key,config.poll.interval=2s"))


@pytest.fixture
def running(image: str, require_tool: Callable[[str], str]) -> Iterator[tuple[Engine, str]]:
    """An engine whose network is its own, with the simulator in it, and the image."""
    require_tool("catatonit")
    with engine(network=True) as found:
        found.podman("run", "--detach", "--network=host", image, "simulate", "--simulate.history=1h")
        yield found, image


def played(resources: Sequence[Manifest], image: str) -> str:
    """What podman can play: the pod in place of what makes it, and what it mounts."""
    spec, each = pod(resources), container(resources)
    each |= {"image": image, "imagePullPolicy": "Never"}
    each["env"].append({"name": "LATE_EXPORTER_API__BASE_URL", "value": API})
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        del each[probe]  # podman would ask by a curl that is not in the image
    for volume in spec["volumes"]:
        if "secret" in volume:
            volume["secret"]["defaultMode"] = 0o444  # podman does not give it to the group of fsGroup
    (claim,) = named(resources, "StatefulSet")["spec"]["volumeClaimTemplates"]
    spec["volumes"].append({"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": "state"}})
    key = base64.b64encode(KEY.encode()).decode()
    return yaml.safe_dump_all(
        [
            resource("Secret", "late-api-key", data={"api-key": key}),
            resource("PersistentVolumeClaim", "state", spec=claim["spec"]),
            *(each for each in resources if each["kind"] == "ConfigMap"),
            resource("Pod", "late", spec=spec),
        ]
    )


def resource(kind: str, name: str, **rest: Any) -> dict[str, Any]:
    """A resource of a kind that Kubernetes has from the beginning."""
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **rest}


def scrape(engine_: Engine) -> Samples:
    """What the exporter serves once it is ready."""
    eventually(
        lambda: "is ready" in engine_.sandbox.get(f"{EXPORTER}/-/ready"),
        hint=lambda: engine_.podman("logs", CONTAINER, check=False),
    )
    return Samples.parse(engine_.sandbox.get(f"{EXPORTER}/metrics"))


def test_run(running: tuple[Engine, str], resources: list[Manifest], tmp_path: Path) -> None:
    """Within the restricted profile it finds its key and options, serves, and goes on where the pod before it was."""
    engine_, image = running
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(played(resources, image), "utf-8")
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
