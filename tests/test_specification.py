"""Tests of the comparison with the vendor's specification, with a small specification of one endpoint."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.specification import Specification, compare_names, compare_reads, compare_traffic

PATH = "/v1/webhooks/settings"
TEXT = {"type": "string"}
ERROR = {"type": "object", "properties": {"error": TEXT, "code": TEXT, "type": TEXT, "docUrl": TEXT}}
WEBHOOK = {
    "_id": TEXT,
    "name": TEXT,
    "url": TEXT,
    "secret": TEXT,
    "customHeaders": {"type": "object", "additionalProperties": TEXT},
    "events": {"type": "array", "items": TEXT},
    "isActive": {"type": "boolean"},
    "failureCount": {"type": "integer"},
    "lastFiredAt": {"type": "string", "format": "date-time"},
}


def build_specification(change: dict[str, Any], parameters: dict[str, Any]) -> Specification:
    """Return a specification with changed fields of webhooks (None for those without), and parameters of posts."""
    fields = {name: field for name, field in {**WEBHOOK, **change}.items() if field is not None}
    webhook = {"type": "object", "properties": fields}
    listed = {"type": "object", "properties": {"webhooks": {"type": "array", "items": {"$ref": "#/components/W"}}}}
    responses = {"200": {"content": {"application/json": {"schema": listed}}}}
    rows = [{"name": name, "schema": schema} for name, schema in parameters.items()]
    paths = {PATH: {"get": {"responses": responses}}, "/v1/posts": {"get": {"parameters": rows, "responses": {}}}}
    return Specification(copy.deepcopy({"paths": paths, "components": {"W": webhook}}))


READ = f"field that is read of {PATH}: here webhooks"
SENT = f"field of the simulator's {PATH}: here webhooks"
INVALID = f"200 of the simulator to {PATH}: here invalid; in the specification webhooks"

CHANGES = [
    ({}, []),
    ({"lastFiredAt": None}, [f"{each}.lastFiredAt; in the specification missing" for each in (SENT, READ)]),
    ({"secret": None}, [f"{SENT}.secret; in the specification missing"]),
    ({"failureCount": TEXT}, [f"{INVALID}.failureCount: 0 is not of type 'string'"]),
    ({"isActive": {"enum": [False]}}, [f"{INVALID}.isActive: True is not one of [False]"]),
    ({"new": TEXT}, []),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_differences_of_a_response(change: dict[str, Any], expected: list[str]) -> None:
    """Fields that are read or simulated must be in the specification, and simulated ones have its types."""
    specification = build_specification(change, {})
    differences = [*compare_traffic(specification, ()), *compare_reads(specification)]
    assert [line for line in dict.fromkeys(map(str, differences)) if PATH in line] == expected


def test_differences_of_requests() -> None:
    """Each parameter must be in the specification, with its values and limits."""
    parameters = {
        "status": {"enum": ["scheduled"]},
        "sortBy": TEXT,
        "limit": {"type": "integer", "maximum": 499},
        "profileId": TEXT,
    }
    differences = set(map(str, compare_traffic(build_specification({}, parameters), ())))
    assert "parameter of /v1/posts: here fields; in the specification missing" in differences
    problem = "response: 500 is greater than the maximum of 499"
    assert f"parameter limit of /v1/posts: here 500; in the specification {problem}" in differences
    problem = "response: 'failed' is not one of ['scheduled']"
    assert f"parameter status of /v1/posts: here failed; in the specification {problem}" in differences
    assert "/v1/accounts: here requested; in the specification missing" in differences
    assert not [line for line in differences if "sortBy" in line]


def test_differences_of_vocabularies_and_limits() -> None:
    """Values that only one side knows differ, in both directions."""
    values = ["scheduled", "publishing", "pending_approval", "failed", "published", "partial", "draft", "archived"]
    parameters = {"status": {"enum": values}, "limit": {"maximum": 500}}
    differences = [str(each) for each in compare_names(build_specification({}, parameters))]
    assert [line for line in differences if line.startswith(("statuses of posts", "posts per page"))] == [
        "statuses of posts: here cancelled; in the specification missing",
        "statuses of posts: here missing; in the specification archived",
    ]
