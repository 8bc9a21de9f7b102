"""Releases of the Helm chart, rendered with values."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tests.deploy.manifests import Manifest, helm_template, parse_documents

SECRET_SETTING = "apiKey.existingSecret=late-api-key"


def render_release(
    helm: str, *settings: str, name: str = "late", values: Mapping[str, object] | None = None
) -> list[Manifest]:
    """Return the resources of a release with the given values and the name of the Secret."""
    flags = [f"--set={setting}" for setting in (SECRET_SETTING, *settings)]
    flags += [f"--set-json={key}={json.dumps(value)}" for key, value in (values or {}).items()]
    return parse_documents(helm_template(helm, *flags, name=name))
