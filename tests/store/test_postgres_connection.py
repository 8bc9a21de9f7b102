"""How a server is connected to: whom it may be, who may use it, and what ``check`` finds out about both."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from late_exporter.commands.check import check_state
from late_exporter.errors import ConfigError, StoreError
from tests.support.exporter import open_store
from tests.support.postgres import PASSWORD, USER, Cluster, without_password
from tests.support.store import commit, observation

SECRET = "Pg-pass-word-12345"
ASK_FOR_CLEAR_TEXT = struct.pack("!cII", b"R", 8, 3)
ACCEPT_EVERYONE = struct.pack("!cII", b"R", 8, 0)


class FakeServer:
    """Server that refuses encryption, and by default asks for the password in clear text; records what it is sent."""

    authentication = ASK_FOR_CLEAR_TEXT

    def __init__(self) -> None:
        self.received = bytearray()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql://late@127.0.0.1:{self.listener.getsockname()[1]}/late"

    def serve(self) -> None:
        """Answer until the socket is shut down."""
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection:
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        for answer in (b"N", self.authentication):  # to the request of encryption, and to the name of the user
            self.received += connection.recv(10_000)
            connection.sendall(answer)
        self.received += connection.recv(10_000)


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    server = FakeServer()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    yield server
    server.listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    server.listener.close()


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(SECRET)
    return file


def test_the_password_is_not_sent_in_clear_text(fake: FakeServer, password: Path) -> None:
    """A server that asks for that gets no password, and the error says what to do."""
    remedy = "use scram-sha-256, or accept that with sslmode=verify-full and require_auth=password or none"
    with pytest.raises(StoreError, match=remedy):
        open_store(fake.url, password)
    finding = check_state(fake.url, password)
    assert finding.level == "error"
    assert remedy in finding.message
    assert fake.received
    assert SECRET.encode() not in fake.received


def test_a_server_that_accepts_everyone_is_refused(fake: FakeServer, password: Path) -> None:
    """If there is a password, the server must ask for it."""
    fake.authentication = ACCEPT_EVERYONE
    with pytest.raises(StoreError, match="or for none: use scram-sha-256"):
        open_store(fake.url, password)


def test_a_password_in_clear_text_can_be_accepted(fake: FakeServer, password: Path) -> None:
    """What the URL requires is what is required."""
    with pytest.raises(StoreError):
        open_store(f"{fake.url}?require_auth=password", password)
    assert SECRET.encode() in fake.received


def as_user(url: str, name: str) -> str:
    return url.replace(f"{USER}:{PASSWORD}@", f"{name}:{SECRET}@")


@pytest.fixture
def reader(postgres: Cluster) -> Iterator[str]:
    """Create a user without rights."""
    url = postgres.url("postgres")
    postgres.execute(url, f"CREATE ROLE reader LOGIN PASSWORD '{SECRET}'")
    yield "reader"
    postgres.execute(url, "DROP OWNED BY reader", "DROP ROLE reader")


@pytest.mark.e2e
def test_unusable_servers_are_named(postgres: Cluster, reader: str) -> None:
    """Each error names the database without its password, and the remedy."""
    url = postgres.create_schema()
    for bad, words in (
        (as_user(url, reader), "no schema has been selected to create in; the user needs the right to create tables"),
        (url.replace(f":{postgres.port}/", ":9/"), "connection to server at .127.0.0.1., port 9 failed"),
        (url.replace(PASSWORD, SECRET), "password authentication failed.*; check the user in --state.url"),
        (url.replace("/postgres?", "/nothing?"), 'database "nothing" does not exist; create the database'),
    ):
        with pytest.raises(StoreError, match=f"^postgresql://.*{words}") as caught:
            open_store(bad)
        assert PASSWORD not in str(caught.value)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("host", ["db..example", ".db", "d" * 64])
def test_a_host_name_that_is_none_is_an_error(host: str) -> None:
    with pytest.raises(StoreError, match=rf"^postgresql://late@{host}/late: the host is not a valid name$"):
        open_store(f"postgresql://late@{host}/late")


@pytest.mark.e2e
def test_an_unknown_parameter_is_an_error_of_the_user() -> None:
    with pytest.raises(ConfigError, match=r"^--state\.url 'postgresql://late@db/late': .*sslmod") as caught:
        open_store(f"postgresql://late:{SECRET}@db/late?sslmod=require")
    assert SECRET not in str(caught.value)


@pytest.mark.e2e
def test_the_password_file_may_change(postgres: Cluster, tmp_path: Path) -> None:
    """It is read at each connection."""
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    with closing(open_store(without_password(postgres.create_schema()), file)) as store:
        commit(store, observation("a"))
        file.write_text("wrong")
        with pytest.raises(StoreError, match="password authentication failed"):
            store.database.connect()
        file.unlink()
        with pytest.raises(StoreError, match=f"^--state.password-file {file}: cannot be read: No such file"):
            store.database.connect()
        file.write_text(PASSWORD)
        store.database.connect()
        assert len(commit(store, observation("b")).observations) == 1


@pytest.mark.e2e
def test_check_tries_to_write(postgres: Cluster, reader: str) -> None:
    """A state that this user can read but not write is an error with the remedy; one in use by an exporter is not."""
    url = postgres.create_schema()
    schema = url.rpartition("%3D")[2]
    with closing(open_store(url)):
        assert (check_state(url).level, "in use by an exporter" in check_state(url).message) == ("ok", True)
    assert (check_state(url).level, "in use by an exporter" in check_state(url).message) == ("ok", False)
    postgres.execute(
        url, f"GRANT USAGE ON SCHEMA {schema} TO reader", f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader"
    )
    finding = check_state(as_user(url, reader))
    assert finding.level == "error"
    assert "permission denied for table late_workspace; the user needs the right to create tables" in finding.message
    postgres.execute(url, f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO reader")
    assert check_state(as_user(url, reader)).level == "ok"
