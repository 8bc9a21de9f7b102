"""Compare the program and its simulator with the vendor's newest specification of the API.

``python -m tests.specification`` fetches it, and prints what differs. Exit codes: 0 for no difference, 1 for at least
one, 75 if the specification could not be fetched.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tarfile
from collections.abc import Awaitable, Callable, Collection, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self, TypeAlias
from unittest import mock

import httpx
import yaml
from jsonschema import Draft202012Validator, validators

from late_exporter.api.client import LateClient
from late_exporter.api.pages import fetch_page
from late_exporter.errors import ApiError
from late_exporter.feeds import vocabulary, zernio
from late_exporter.feeds.schema import documented_paths
from late_exporter.feeds.status_feeds import STATUS_FEEDS, accounts, posts, refresh
from late_exporter.ingest.status_poller import fetch_status
from late_exporter.ingest.steps import perform
from late_exporter.model import DAY_MS, FAILED, PAGE_SIZE
from late_exporter.simulator import INCIDENTS, SimulatedApi, simulate_world
from tests.support.api import create_client
from tests.support.clock import VirtualClock

Document: TypeAlias = dict[str, Any]

DIFFERENT = 1
NOT_FETCHED = 75
TIMEOUT_SECONDS = 600

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = 3600.0

PACKAGE = "zernio-sdk"
"""The vendor's client for Python, whose source distribution has the specification."""

KNOWN = {
    "balance.spendableCents": "the vendor's client for Rust has it, which is newer than the one for Python",
    "accounts.platformStatus": "responses that customers have published have it",
    "accounts.platformStatusReason": "as platformStatus",
    "imessage": "the logs of messages have it; there are no such accounts",
}
"""Fields and values that the program knows and the specification does not, with the reason."""


_Validator = validators.extend(Draft202012Validator, {"oneOf": Draft202012Validator.VALIDATORS["anyOf"]})
"""Accepts a value of several variants, because those of the specification require no fields that tell them apart."""


class Difference(NamedTuple):
    """Something that the program and the specification see differently."""

    subject: str
    ours: str
    theirs: str

    def __str__(self) -> str:
        return f"{self.subject}: here {self.ours}; in the specification {self.theirs}"


class Specification:
    """An OpenAPI document."""

    def __init__(self, document: Document) -> None:
        self._document = document

    @property
    def version(self) -> str:
        return str(self._document["info"]["version"])

    @classmethod
    def fetch(cls) -> Self:
        """Return the newest one; raise OSError or CalledProcessError if it cannot be fetched."""
        with TemporaryDirectory() as folder:
            command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check")
            options = (f"--no-binary={PACKAGE}", f"--dest={folder}", PACKAGE)
            subprocess.run((*command, *options), check=True, timeout=TIMEOUT_SECONDS)
            (archive,) = Path(folder).glob("*.tar.gz")
            with tarfile.open(archive) as tar:
                (name,) = (name for name in tar.getnames() if name.count("/") == 1 and name.endswith("/openapi.yaml"))
                file = tar.extractfile(name)
                assert file is not None
                loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
                return cls(yaml.load(file, loader))  # noqa: S506 - a safe loader

    def resolve(self, node: Any) -> Document:
        """Return an object of the document, or that to which it refers."""
        while "$ref" in node:
            path = node["$ref"].removeprefix("#/").split("/")
            node = self._document
            for name in path:
                node = node[name.replace("~1", "/")]
        found: Document = node
        return found

    def operation(self, path: str) -> Document:
        return self.resolve(self._document["paths"].get(path, {}).get("get", {}))

    def parameters(self, path: str) -> dict[str, Document]:
        """Return the schemas of the query parameters of a GET request by name."""
        found = map(self.resolve, self.operation(path).get("parameters", ()))
        return {each["name"]: self.resolve(each.get("schema", {})) for each in found}

    def response(self, path: str) -> Document | None:
        """Return the schema of a successful response; None if the operation has none."""
        responses = self.operation(path).get("responses", {})
        if "200" not in responses:
            return None
        content = self.resolve(responses["200"]).get("content", {})
        return self.resolve(content.get("application/json", {}).get("schema", {}))

    def properties(self, schema: Document) -> dict[str, Document] | None:
        """Return the schemas of an object's fields, of all of its variants; None if it may have any."""
        schema = self.resolve(schema)
        found = dict(schema.get("properties", {}))
        for name in ("allOf", "anyOf", "oneOf"):
            for variant in schema.get(name, ()):
                found.update(self.properties(variant) or {})
        is_open = schema.get("additionalProperties", not found)
        return None if is_open else found

    def items(self, schema: Document) -> Document:
        return self.resolve(self.resolve(schema).get("items", {}))

    def field(self, schema: Document | None, *names: str) -> Document:
        """Return the schema of a field of a field ...; of the items where there is a list."""
        found = schema or {}
        for name in names:
            found = (self.properties(found) or {}).get(name, {})
            found = self.items(found) or self.resolve(found)
        return found

    def problems(self, schema: Document, value: object) -> Iterator[str]:
        """Yield where a value does not have its schema, without the numbers of list items."""
        whole = {"components": self._document.get("components", {}), **schema}
        for error in _Validator(whole).iter_errors(value):
            path = ".".join(part for part in error.absolute_path if isinstance(part, str))
            yield f"{path or 'value'}: {error.message[:100]}"

    def unknown_fields(self, schema: Document, value: object, prefix: str = "") -> Iterator[str]:
        """Yield the paths of fields of a value that its schema does not have."""
        if isinstance(value, list):
            for item in value:
                yield from self.unknown_fields(self.items(schema), item, prefix)
        elif isinstance(value, dict):
            known = self.properties(schema)
            if known is None:
                return
            for name, field in value.items():
                if name in known:
                    yield from self.unknown_fields(known[name], field, f"{prefix}{name}.")
                else:
                    yield f"{prefix}{name}"

    def sample(self, schema: Document) -> Any:
        """Return a value that has every field of its schema."""
        schema = self.resolve(schema)
        fields = self.properties(schema)
        if fields:
            return {name: self.sample(field) for name, field in fields.items()}
        types = schema.get("type", "object")
        if "array" in types:
            return [self.sample(self.items(schema))]
        if "string" in types:
            return NOW.isoformat() if schema.get("format") == "date-time" else schema.get("enum", ["text"])[0]
        return {"boolean": True, "object": {}}.get(types if isinstance(types, str) else types[0], 1)


def compare(specification: Specification) -> list[Difference]:
    """Return everything that differs, and the known differences that do not exist any more."""
    found = [
        *compare_names(specification),
        *compare_requests(specification),
        *compare_simulator(specification),
    ]
    unknown = dict.fromkeys(each for each in found if each.ours not in KNOWN)
    obsolete = sorted(KNOWN.keys() - {each.ours for each in found})
    return [*unknown, *(Difference("known difference", name, "the same") for name in obsolete)]


def compare_names(specification: Specification) -> Iterator[Difference]:
    """Compare vocabularies, limits and the fields of logs."""
    logs = specification.parameters("/v1/logs")
    listed_posts = specification.parameters("/v1/posts")
    listed_accounts = specification.parameters("/v1/accounts")
    log = specification.field(specification.response("/v1/logs"), "logs")
    target = specification.field(specification.response("/v1/posts"), "posts", "platforms")
    account = specification.field(specification.response("/v1/accounts"), "accounts")
    health = specification.field(specification.response("/v1/accounts/health"), "accounts")

    def values(schema: Document) -> Collection[object]:
        return [value for value in schema.get("enum", ()) if value != "all"]

    def highest(schema: Document) -> Collection[object]:
        return [schema.get("maximum")]

    pairs: dict[str, tuple[Collection[object], Collection[object]]] = {
        "fields of a log": (list(documented_paths(zernio.ZernioRow)), (specification.properties(log) or {}).keys()),
        "types of logs": (("publishing", "connections", *zernio.ACTIVITIES), values(logs.get("type", {}))),
        "statuses of logs": (vocabulary.STATUSES, values(logs.get("status", {}))),
        "days of logs": ([zernio.RETENTION // DAY_MS], highest(logs.get("days", {}))),
        "logs per page": ([PAGE_SIZE], highest(logs.get("limit", {}))),
        "statuses of posts": (vocabulary.POST_STATUSES, values(listed_posts.get("status", {}))),
        "posts per page": ([posts.LARGE_PAGE], highest(listed_posts.get("limit", {}))),
        "accounts per page": ([accounts.PAGE_SIZE], highest(listed_accounts.get("limit", {}))),
        "platforms": (vocabulary.PLATFORMS, values(specification.field(account, "platform"))),
        "statuses of accounts": (vocabulary.HEALTH_STATUSES, values(specification.field(health, "status"))),
        "error categories": (vocabulary.FAILURE_CATEGORIES, values(specification.field(target, "errorCategory"))),
    }
    for subject, (ours, theirs) in pairs.items():
        for name in sorted(set(map(str, ours)) - set(map(str, theirs))):
            yield Difference(subject, name, "missing")
        for name in sorted(set(map(str, theirs)) - set(map(str, ours))):
            yield Difference(subject, "missing", name)


class _ReadObject(dict[str, Any]):
    """An object of a response that notes the paths of the fields that are read."""

    def __init__(self, values: Document, reads: set[str], prefix: str = "") -> None:
        super().__init__(values)
        self._reads = reads
        self._prefix = prefix

    def get(self, name: str, default: Any = None) -> Any:
        self._reads.add(f"{self._prefix}{name}")
        value = super().get(name, default)
        wrap = partial(_ReadObject, reads=self._reads, prefix=f"{self._prefix}{name}.")
        if isinstance(value, list):
            return [wrap(item) if isinstance(item, dict) else item for item in value]
        return wrap(value) if isinstance(value, dict) else value


def compare_requests(specification: Specification) -> Iterator[Difference]:
    """Compare the requests of the program, and what it reads if responses have all fields of the specification."""
    found: list[Difference] = []
    reads: dict[str, set[str]] = {}
    path = ""

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal path
        path = request.url.path.removeprefix("/api")
        found.extend(_request_differences(specification, path, request.url.params))
        document = specification.sample(specification.response(path) or {})
        if "posts" in document:
            document = {"posts": [{**post, "status": request.url.params["status"]} for post in document["posts"]]}
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps(document).encode()))

    def load(body: bytes) -> Document:
        return _ReadObject(json.loads(body), reads.setdefault(path, set()))

    with mock.patch.object(refresh, "load_object", load):
        found.extend(_request_all(answer))
    yield from found
    for each, names in reads.items():
        schema = specification.response(each)
        for name in sorted(names):
            *parents, last = name.split(".")
            known = specification.properties(specification.field(schema, *parents))
            if known is not None and last not in known:
                yield Difference(f"field that is read of {each}", name, "missing")


def _request_differences(
    specification: Specification, path: str, parameters: httpx.QueryParams
) -> Iterator[Difference]:
    operation = specification.operation(path)
    if not operation or operation.get("deprecated"):
        yield Difference(path, "requested", "deprecated" if operation else "missing")
        return
    known = specification.parameters(path)
    for name, text in parameters.items():
        if name not in known:
            yield Difference(f"parameter of {path}", name, "missing")
            continue
        value = int(text) if known[name].get("type") == "integer" else text
        for problem in specification.problems(known[name], value):
            yield Difference(f"parameter {name} of {path}", text, problem)


def compare_simulator(specification: Specification) -> Iterator[Difference]:
    """Compare the responses of the simulator to the requests of the program, without and in each incident."""
    found: list[Difference] = []
    world = simulate_world(1, NOW.timestamp(), history=48 * HOUR, logs_per_day=500)
    api = SimulatedApi(world, clock=NOW.timestamp, rate_limit=10**6, generation="zernio")

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api")
        answered = api.handle("GET", path, request.url.query.decode(), dict(request.headers))
        schema = specification.response(path) or {}
        document = json.loads(answered.body)
        problems = specification.problems(schema, document)
        unknown = specification.unknown_fields(schema, document)
        found.extend(Difference(f"the simulator's {path}", "invalid", problem) for problem in problems)
        found.extend(Difference(f"field of the simulator's {path}", name, "missing") for name in unknown)
        stream = httpx.ByteStream(answered.body)
        return httpx.Response(answered.status, headers=answered.headers, stream=stream)

    yield from _request_all(answer)
    for name in INCIDENTS:
        world.start_incident(name, duration=HOUR)
        yield from _request_all(answer)
        world.incidents = ()
    yield from found


def _request_all(answer: Callable[[httpx.Request], httpx.Response]) -> list[Difference]:
    """Send each kind of request once; return what cannot be read of the responses."""
    clock = VirtualClock(NOW.timestamp())
    client = create_client(answer, monotonic=clock.monotonic, sleep=clock.sleep)
    unreadable: list[Difference] = []

    async def request_all() -> None:
        for subject, request in _requests(client):
            try:
                await request
            except ApiError as exc:
                unreadable.append(Difference(f"response of {subject}", "unreadable", str(exc)))

    asyncio.run(request_all())
    return unreadable


def _requests(client: LateClient) -> Iterator[tuple[str, Awaitable[object]]]:
    """Yield each kind of request, to be awaited before the next one."""
    now = round(NOW.timestamp() * 1000)
    filters = {"status": FAILED, "platform": "instagram", "action": "post.failed", "search": "a", "accountId": "a"}
    for feed in zernio.FEEDS.values():
        yield feed.path, fetch_page(client, feed)
        yield feed.path, fetch_page(client, feed, skip=1, filters=filters, created_after=0, created_before=now)
    for client.profile_id in (None, "profile"):
        for name, status_feed in STATUS_FEEDS.items():
            context = refresh.RefreshContext(workspace="", now=now, max_accounts=500)
            yield name, perform(status_feed.refresh(context), partial(fetch_status, client, status_feed))
    for status in vocabulary.POST_STATUSES:
        send = partial(fetch_status, client, STATUS_FEEDS["posts"])
        yield "posts", perform(posts.read_posts(status, posts.DUE_LAST), send)


def main() -> int:
    """Print the differences from the newest specification."""
    try:
        specification = Specification.fetch()
    except (OSError, subprocess.SubprocessError) as exc:
        sys.stdout.write(f"NOT COMPARED, the specification of the API could not be fetched: {exc}\n")
        return NOT_FETCHED
    differences = compare(specification)
    for each in differences:
        sys.stdout.write(f"specification {specification.version}: {each}\n")
    return DIFFERENT if differences else 0


if __name__ == "__main__":
    sys.exit(main())
