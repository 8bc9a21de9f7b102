"""The webhook of the simulated workspace, as the API shows it: with its secret and its headers."""

from __future__ import annotations

from late_exporter.simulator.accounts import hashed_id
from late_exporter.simulator.events import timestamp
from late_exporter.simulator.log_list import JsonObject

WEBHOOK_URL = "https://hooks.example.com/late"
WEBHOOK_QUERY = "token=simulated-url-token"
WEBHOOK_SECRET = "whsec_simulated_signing_secret"  # noqa: S105 - of a simulation
WEBHOOK_HEADERS = {"Authorization": "Basic c2ltdWxhdGVkOmhlYWRlci1zZWNyZXQ="}
MAX_FAILURES = 20
"""Failed deliveries in a row after which a webhook is switched off."""


class SimulatedWebhook:
    """Webhook of one customer.

    Attributes:
        last_fired_at: Unix time of the last successful delivery.
    """

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.last_fired_at: float | None = None

    def document(self, *, is_disabled: bool) -> JsonObject:
        """Return the webhook in the format of ``GET /v1/webhooks/settings``."""
        return {
            "_id": hashed_id(f"webhook {self.user_id}"),
            "name": "Newsroom",
            "url": f"{WEBHOOK_URL}?{WEBHOOK_QUERY}",
            "secret": WEBHOOK_SECRET,
            "events": ["post.published", "post.failed"],
            "isActive": not is_disabled,
            "lastFiredAt": None if self.last_fired_at is None else timestamp(self.last_fired_at),
            "failureCount": MAX_FAILURES if is_disabled else 0,
            "customHeaders": WEBHOOK_HEADERS,
        }
