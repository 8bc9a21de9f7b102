"""The values of the Helm chart have a strict schema."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.kubernetes.chart import parse_values
from deploy.kubernetes.files import CHART
from tests.deploy.manifests import (
    SECRET_SETTING,
    container_spec,
    helm_template,
    parse_documents,
    render_release,
)

pytestmark = pytest.mark.helm

VALUES_YAML = (CHART / "values.yaml").read_text("utf-8")


@pytest.mark.e2e
def test_numbers_in_maps_are_not_abbreviated(helm: str, tmp_path: Path) -> None:
    """Flags and variables have the numbers and truth values of a values file as they are written there."""
    file = tmp_path / "values.yaml"
    file.write_text(
        "extraArgs: {metrics.max-accounts: 2000000, api.quota-share: 0.25, log.level: debug}\n"
        "extraEnv: {LATE_EXPORTER_METRICS__MAX_ACCOUNTS: 2000000, LATE_EXPORTER_METRICS__CREATED_TIMESTAMPS: true}\n",
        "utf-8",
    )
    container = container_spec(parse_documents(helm_template(helm, f"--set={SECRET_SETTING}", "--values", file)))
    flags = ["--api.quota-share=0.25", "--log.level=debug", "--metrics.max-accounts=2000000"]
    assert container["args"] == ["run", *flags]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert (
        variables["LATE_EXPORTER_METRICS__MAX_ACCOUNTS"],
        variables["LATE_EXPORTER_METRICS__CREATED_TIMESTAMPS"],
    ) == ("2000000", "true")


def helm_error(helm: str, *settings: str) -> str:
    """Return the error message of helm for invalid values."""
    command = [helm, "template", "late", str(CHART), *(f"--set={setting}" for setting in settings)]
    process = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert process.returncode != 0
    return process.stderr


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((), "apiKey.existingSecret has to name a Secret with the API key of Zernio"),
        ((SECRET_SETTING, "apiKey.value=sk_1"), "the key belongs in a Secret: set apiKey.existingSecret"),
        ((SECRET_SETTING, "config.poll.intervall=1m"), "additional properties 'intervall' not allowed"),
        ((SECRET_SETTING, "replicas=2"), "replicas share a state in PostgreSQL: set state.url"),
        ((SECRET_SETTING, "state.url=postgresql://late:secret@db/late"), "'/state/url'"),
        ((SECRET_SETTING, "state.existingSecret=late-database"), "of no use without state.url"),
        ((SECRET_SETTING, "serviceMonitor.enabled=true", "podMonitor.enabled=true"), "enable one of them"),
        ((SECRET_SETTING, "ingress.enabled=true"), "ingress.enabled: metrics are not public"),
        ((SECRET_SETTING, "webConfig.certificateSecret=late-tls"), "of no use without webConfig.existingSecret"),
        ((SECRET_SETTING, "job=null"), "missing property 'job'"),
        (
            (SECRET_SETTING, "podDisruptionBudget.minAvailable=1", "podDisruptionBudget.maxUnavailable=1"),
            "Kubernetes accepts only one of minAvailable and maxUnavailable",
        ),
    ],
)
def test_invalid_values_are_rejected(helm: str, settings: Sequence[str], message: str) -> None:
    """Invalid values are rejected with a message that names them."""
    assert message in helm_error(helm, *settings, "prometheusRule.enabled=true")


@pytest.mark.e2e
def test_values_in_the_readme_render(helm: str, tmp_path: Path) -> None:
    """Every example of the README renders, each with a resource that the defaults do not have."""
    blocks = re.findall(r"^```yaml\n(.+?)^```$", (CHART / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) > 1
    defaults = render_release(helm)
    for block in blocks:
        file = tmp_path / "values.yaml"
        file.write_text(block, "utf-8")
        text = helm_template(helm, f"--set={SECRET_SETTING}", "--values", file)
        assert len(parse_documents(text)) > len(defaults)


def test_every_value_has_a_description() -> None:
    """Each value has a sentence in values.yaml and thus a row in the table."""
    assert [value.name for value in parse_values(VALUES_YAML) if not value.description.endswith(".")] == []
    assert len({value.name for value in parse_values(VALUES_YAML)}) > 50
