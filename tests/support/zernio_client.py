"""Call the API with zernio-sdk in a process of its own, because its package has the same name as late-sdk's.

Arguments are a URL and a key; standard input is a JSON list of calls, each a method of the client, for example
``logs.list_logs``, and its keywords. Print the version of the client and the outcome of each call. If the client has a
model of the response, the answer is what the model keeps of it, without fields that are not set.
"""

from __future__ import annotations

import json
import sys
from operator import attrgetter
from typing import Any

from late import Zernio, __version__  # type: ignore[import-untyped]
from late.client.exceptions import LateError  # type: ignore[import-untyped]
from late.models._generated import models  # type: ignore[import-untyped]

MODELS = {
    "posts.list_posts": models.PostsListResponse,
    "accounts.list_accounts": models.AccountsListResponse,
    "usage.get_billing": models.BillingSnapshot,
    "usage.get_usage": models.UsageStats,
}
"""Models of whole responses. ``GET /v1/webhooks/settings`` has one for its webhooks only, the others have none."""


def outcome(client: Zernio, method: str, keywords: dict[str, Any]) -> dict[str, Any]:
    """Return the response of a call, or the exception."""
    try:
        answer = attrgetter(method)(client)(**keywords)
        return {"answer": _through_model(method, answer)}
    except LateError as exc:
        details = getattr(exc, "details", None) or {}
        models.ErrorResponse.model_validate(details)
        return {"raised": type(exc).__name__, "text": str(exc), "details": details}


def _through_model(method: str, answer: dict[str, Any]) -> dict[str, Any]:
    if method == "webhooks.get_webhook_settings":
        webhooks = [models.Webhook.model_validate(webhook) for webhook in answer["webhooks"]]
        return {"webhooks": [_dump(webhook) for webhook in webhooks]}
    return _dump(MODELS[method].model_validate(answer)) if method in MODELS else answer


def _dump(model: Any) -> dict[str, Any]:
    document: dict[str, Any] = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return document


def main() -> None:
    """Make the calls."""
    url, key = sys.argv[1:]
    client = Zernio(api_key=key, base_url=url, max_retries=1)
    outcomes = [outcome(client, method, keywords) for method, keywords in json.load(sys.stdin)]
    json.dump({"version": __version__, "outcomes": outcomes}, sys.stdout)


if __name__ == "__main__":
    main()
