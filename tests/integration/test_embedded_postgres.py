from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from bandit_router.errors import EmbeddedPostgresError
from bandit_router.store import embedded
from bandit_router.store.embedded import EmbeddedPostgres
from bandit_router.store.engine import make_engine
from bandit_router.store.postgres_files import (
    check_traversable,
    closed_folder,
    packaged_binaries,
    reachable_binaries,
    server_user,
)

# A program that starts the server, writes a row, says its process id and url, then waits.
HOLDER = """
import asyncio, sys
from pathlib import Path
from sqlalchemy import text
from bandit_router.store.embedded import EmbeddedPostgres
from bandit_router.store.engine import make_engine
async def write(url):
    engine = make_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text("DROP TABLE IF EXISTS kept"))
        await connection.execute(text("CREATE TABLE kept (n int)"))
        await connection.execute(text("INSERT INTO kept VALUES (42)"))
    await engine.dispose()
server = EmbeddedPostgres(Path(sys.argv[1])).start()
asyncio.run(write(server.url))
print(server.pid, server.url, flush=True)
sys.stdin.read()
"""


# Waits until its standard input ends.
STRANGER = ["cat"]


def user_arguments() -> dict[str, Any]:
    """Run a process as the user that the server runs as."""
    user = server_user()
    return user.as_popen_arguments() if user else {}


def ask(url: str, query: str) -> object:
    async def run() -> object:
        engine = make_engine(url)
        async with engine.begin() as connection:
            found = await connection.scalar(text(query))
        await engine.dispose()
        return found

    return asyncio.run(run())


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with a cluster in it, which every test leaves stopped and whole."""
    made = Path(tempfile.mkdtemp(prefix="br-"))
    made.chmod(0o755)
    EmbeddedPostgres(made).start().stop()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def running(folder: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(folder) as server:
        yield server


def test_it_starts_answers_and_stops(open_folder: Path) -> None:
    server = EmbeddedPostgres(open_folder).start()
    pid = server.pid
    assert pid is not None
    assert server.owned
    assert ask(server.url, "SELECT 1") == 1
    assert ask(server.url, "SHOW fsync") == ask(server.url, "SHOW synchronous_commit") == "on"
    assert ask(server.url, "SHOW server_encoding") == "UTF8"
    assert ask(server.url, "SHOW listen_addresses") == ""
    assert server.folder.stat().st_mode & 0o777 == 0o700
    server.stop()
    server.stop()
    wait_until_gone(pid)


def test_settings_may_change_from_start_to_start(folder: Path) -> None:
    with EmbeddedPostgres(folder, settings={"max_connections": "20"}) as server:
        assert ask(server.url, "SHOW max_connections") == "20"
    with EmbeddedPostgres(folder) as server:
        assert ask(server.url, "SHOW max_connections") == "100"


def test_a_second_instance_attaches_and_does_not_stop_it(running: EmbeddedPostgres) -> None:
    second = EmbeddedPostgres(running.data_dir).start()
    assert not second.owned
    assert (second.url, second.pid) == (running.url, running.pid)
    second.stop()
    assert ask(running.url, "SELECT 1") == 1


def test_two_that_start_at_once_share_one_server(folder: Path) -> None:
    servers = [EmbeddedPostgres(folder) for _ in range(2)]
    threads = [threading.Thread(target=server.start) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert sorted(server.owned for server in servers) == [False, True]
        # The thread that started it has ended; the server must not end with it.
        assert [ask(server.url, "SELECT 1") for server in servers] == [1, 1]
    finally:
        for server in servers:
            server.stop()


def test_a_killed_parent_takes_the_server_along_and_leaves_the_data_whole(
    folder: Path,
) -> None:
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[0])
        assert alive(pid)
        parent.kill()
        parent.wait()
        # The next start meets a server that is shutting down, and waits for it.
        with EmbeddedPostgres(folder) as server:
            assert server.owned
            assert not alive(pid)
            assert ask(server.url, "SELECT sum(n) FROM kept") == 42
    log = server.log_path.read_text()
    assert "received fast shutdown request" in log
    assert "database system was not properly shut down" not in log


def test_a_killed_server_recovers_what_was_committed(folder: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[0])
        os.kill(pid, signal.SIGKILL)
        wait_until_gone(pid)
        # Its pid file is still there, with the number of a process that is not.
        with EmbeddedPostgres(folder) as server:
            assert server.owned
            assert ask(server.url, "SELECT sum(n) FROM kept") == 42
        parent.communicate()


def test_a_stale_pid_file_with_a_living_strangers_number_is_cleared(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        pid_file = server.cluster / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
    with subprocess.Popen(STRANGER, stdin=subprocess.PIPE, **user_arguments()) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        with EmbeddedPostgres(folder) as server:
            assert server.owned
            assert server.pid != stranger.pid
        stranger.communicate()


def test_a_folder_of_another_major_version_is_refused_with_a_remedy(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        version = server.cluster / "PG_VERSION"
    version.write_text("16\n")
    with pytest.raises(EmbeddedPostgresError, match=r"made by Postgres 16.*carries 18.*pg_upgrade"):
        EmbeddedPostgres(folder).start()
    version.write_text("18\n")


def test_a_folder_with_something_else_in_it_is_left_alone(open_folder: Path) -> None:
    foreign = open_folder / "postgres" / "data" / "thesis.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    with pytest.raises(EmbeddedPostgresError, match="not a Postgres data folder"):
        EmbeddedPostgres(open_folder).start()
    assert foreign.read_text() == "mine"


def test_a_data_dir_that_is_a_file_is_named(open_folder: Path) -> None:
    file = open_folder / "file"
    file.write_text("")
    with pytest.raises(EmbeddedPostgresError, match=r"cannot prepare .*file.*store\.data_dir"):
        EmbeddedPostgres(file).start()


def test_a_disk_that_takes_no_more_is_reported_and_leaves_nothing_half_made(
    open_folder: Path,
) -> None:
    # A limit on file size fails the same writes that a full disk does.
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from bandit_router.errors import EmbeddedPostgresError\n"
        "from bandit_router.store.embedded import EmbeddedPostgres\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: EmbeddedPostgres(Path(sys.argv[1])).start()\n"
        "except EmbeddedPostgresError as error: print(error)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, str(open_folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "initdb failed" in told.stdout
    assert "free space" in told.stdout
    assert not (open_folder / "postgres" / "data").exists()
    with EmbeddedPostgres(open_folder) as server:
        assert ask(server.url, "SELECT 1") == 1


def test_a_setting_the_server_refuses_is_shown_from_its_log(folder: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"shared_buffers.*server\.log"):
        EmbeddedPostgres(folder, settings={"shared_buffers": "much"}).start()


def test_a_long_path_gets_its_socket_elsewhere(open_folder: Path) -> None:
    deep = open_folder / ("d" * 100)
    with EmbeddedPostgres(deep) as server, EmbeddedPostgres(deep) as second:
        assert str(deep) not in server.url
        assert second.url == server.url
        assert ask(second.url, "SELECT 1") == 1
        folder = Path(server.url.split("host=")[1])
    folder.rmdir()


def test_a_path_with_odd_characters_works(open_folder: Path) -> None:
    with EmbeddedPostgres(open_folder / "my data & 50% ü?") as server:
        assert ask(server.url, "SELECT 1") == 1


def test_the_url_needs_a_start() -> None:
    with pytest.raises(EmbeddedPostgresError, match="start\\(\\) first"):
        _ = EmbeddedPostgres(Path("/nowhere")).url


def test_a_closed_folder_on_the_way_is_named(open_folder: Path) -> None:
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedPostgresError, match=rf"chmod o\+x {closed}"):
        check_traversable(closed)


def test_a_socket_that_is_not_postgres_is_not_taken_for_one(open_folder: Path) -> None:
    path = open_folder / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert not embedded.accepts_connections(path, "bandit_router", "postgres")


# What an ordinary user runs.
AS_USER = """
import os, sys
from pathlib import Path
from bandit_router.store.embedded import EmbeddedPostgres, default_data_dir
assert default_data_dir() == Path(sys.argv[1]) / "bandit-router", default_data_dir()
with EmbeddedPostgres(binaries=Path(sys.argv[2])) as server:
    assert server.owned
    owners = {os.getuid(), server.folder.stat().st_uid, os.stat(f"/proc/{server.pid}").st_uid}
    print(owners, oct(server.folder.stat().st_mode))
"""


def ordinary_user(folder: Path) -> tuple[int, list[str]]:
    """The user id to test with, and what to put before a command to run it as that user."""
    user = server_user()
    if user is None:
        return os.getuid(), []
    os.chown(folder, user.uid, user.gid)
    drop = ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups"]
    if closed_folder(Path(sys.executable).resolve()) is not None:
        # This interpreter lies in root's home, where no one else could run anything.
        drop += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return user.uid, drop


def test_an_ordinary_user_needs_nothing_set_up(open_folder: Path) -> None:
    home = open_folder / "home"
    home.mkdir()
    binaries = reachable_binaries(packaged_binaries(), open_folder, server_user())
    uid, as_user = ordinary_user(home)
    told = subprocess.run(
        [*as_user, sys.executable, "-c", AS_USER, str(home), str(binaries)],
        check=True,
        capture_output=True,
        text=True,
        cwd=open_folder,
        env={**os.environ, "XDG_DATA_HOME": str(home), "HOME": str(home)},
    )
    assert told.stdout.split() == [f"{{{uid}}}", "0o40700"]
    # Root, who comes later, leaves the cluster to its owner.
    home.chmod(0o755)
    (home / "bandit-router").chmod(0o755)
    with EmbeddedPostgres(home / "bandit-router", binaries=binaries) as server:
        assert ask(server.url, "SELECT 1") == 1
        assert server.cluster.stat().st_uid == uid


def test_binaries_in_a_closed_folder_are_copied_for_the_servers_user(open_folder: Path) -> None:
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    package = packaged_binaries().parent.parent
    for part in (package / "pginstall18", package.with_name(f"{package.name}.libs")):
        if part.exists():
            place = closed / part.relative_to(package.parent)
            shutil.copytree(part, place, symlinks=True)
    binaries = closed / package.name / "pginstall18" / "bin"
    with EmbeddedPostgres(open_folder, binaries=binaries) as server:
        assert ask(server.url, "SELECT 1") == 1
    copied = any(open_folder.glob("postgres-18.*"))
    assert copied == (server_user() is not None)
