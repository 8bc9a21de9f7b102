"""Call the API with zernio-sdk in a process of its own, because its package has the same name as late-sdk's.

Arguments are a URL and a key; standard input is a JSON list of calls, each the keywords of one ``list_logs``. Print the
version of the client and the outcome of each call.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from late import Zernio, __version__  # type: ignore[import-untyped]
from late.client.exceptions import LateError  # type: ignore[import-untyped]


def outcome(client: Zernio, call: dict[str, Any]) -> dict[str, Any]:
    """Return the response of a call, or the exception, and the rest of the quota."""
    try:
        answer = {"answer": client.logs.list_logs(**call)}
    except LateError as exc:
        answer = {"raised": type(exc).__name__, "text": str(exc)}
    return {**answer, "quota": client.rate_limit_info}


def main() -> None:
    """Make the calls."""
    url, key = sys.argv[1:]
    client = Zernio(api_key=key, base_url=url, max_retries=1)
    outcomes = [outcome(client, call) for call in json.load(sys.stdin)]
    json.dump({"version": __version__, "outcomes": outcomes}, sys.stdout)


if __name__ == "__main__":
    main()
