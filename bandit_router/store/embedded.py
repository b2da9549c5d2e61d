"""A Postgres of our own: the packaged binaries as a direct child that dies with its parent.

Layout below ``data_dir``: ``postgres/`` (0700, owned by the server's user) with ``data/`` (the
cluster), the unix socket, ``server.log``, and two lock files: ``supervisor.lock`` while someone
starts it, ``owner.lock`` for as long as it runs and the process that started it lives. There is
no TCP port and no password: only the owner of that folder, and root, reach the socket.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self
from urllib.parse import quote

import platformdirs

from bandit_router.errors import EmbeddedPostgresError
from bandit_router.store.cluster import PORT, SUPERUSER, choose_socket_dir, make_cluster
from bandit_router.store.file_locks import is_locked, lock
from bandit_router.store.postgres_files import (
    ServerUser,
    accepts_connections,
    check_traversable,
    check_version,
    disown_pid_file,
    is_postmaster_of,
    major_version,
    packaged_binaries,
    reachable_binaries,
    read_pid_file,
    server_user,
)

DATABASE = "postgres"
STILL_IN_USE = "is still in use"
LOG_LIMIT_BYTES = 10 * 1024 * 1024
ROOT_DATA_DIR = Path("/var/lib/bandit-router")

# fsync and synchronous_commit keep their safe defaults. jit never pays for short statements.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "wal_compression": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

# Run by a fresh interpreter, so that nothing happens between fork and exec in a process with
# threads. The death signal is set after the change of user, which clears it.
LAUNCHER = """
import ctypes, os, signal, sys
parent, uid, gid = map(int, sys.argv[1:4])
if uid >= 0:
    os.setgroups([]); os.setgid(gid); os.setuid(uid)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(signal.SIGINT), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent is gone")
os.execv(sys.argv[4], sys.argv[4:])
"""


def default_data_dir() -> Path:
    """Where data goes unless told otherwise: the user's data folder, or /var/lib for root.

    Root's own home is closed to the unprivileged user that Postgres must run as.
    """
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return ROOT_DATA_DIR
    return Path(platformdirs.user_data_dir("bandit-router"))


class EmbeddedPostgres:
    """Starts the packaged Postgres on a folder, or attaches to the one that runs there.

    data_dir: where the data lives; made if absent. settings: server settings on top of
    ``SETTINGS`` (tests pass ``fsync=off``). binaries: a folder with ``initdb`` and
    ``postgres``, the packaged Postgres 18 by default. Use as a context manager, or call
    ``start`` and ``stop``. On Linux the server shuts down cleanly even when this process is
    killed; elsewhere it stays. A server whose owner is dead is shut down and started anew.
    Raises EmbeddedPostgresError, with a remedy, from ``start``.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        binaries: Path | None = None,
        start_timeout_s: float = 60.0,
        stop_timeout_s: float = 60.0,
    ) -> None:
        self.data_dir = (data_dir or default_data_dir()).absolute()
        self.folder = self.data_dir / "postgres"
        self.cluster = self.folder / "data"
        self.log_path = self.folder / "server.log"
        self._settings = {**SETTINGS, **(settings or {})}
        self._binaries = binaries
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._socket_dir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: threading.Thread | None = None

    @property
    def owned(self) -> bool:
        """Whether this object started the server, and will stop it."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """The server's process id as its pid file has it, None when it does not run."""
        found = read_pid_file(self.cluster)
        return found.pid if found else None

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the server, through its unix socket."""
        if self._socket_dir is None:
            raise EmbeddedPostgresError("the embedded Postgres is not started: call start() first")
        return url_through(self._socket_dir)

    def start(self) -> Self:
        """Start or attach; returns once the server accepts connections."""
        try:
            user = server_user(self.cluster)
            self._make_folder(user)
            with self._sole_supervisor():
                if not self._attach():
                    binaries = reachable_binaries(
                        self._binaries or packaged_binaries(), self.data_dir, user
                    )
                    make_cluster(self.folder, self.cluster, binaries, user)
                    check_version(self.cluster, major_version(binaries))
                    self._launch(binaries, user)
        except OSError as error:
            raise EmbeddedPostgresError(
                f"cannot prepare {self.folder}: {error}; free space or fix its permissions, "
                "or set store.data_dir or store.url"
            ) from error
        return self

    def stop(self) -> None:
        """Shut the server down, if this object started it; a second call does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.stop)
        # SIGINT is Postgres' fast shutdown: clients are cut, everything is written.
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        if self._keeper is not None:
            self._keeper.join(self._stop_timeout_s)
        if process.poll() is None:
            raise EmbeddedPostgresError(
                f"Postgres {process.pid} did not stop within {self._stop_timeout_s:g} s; "
                f"see {self.log_path}"
            )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _make_folder(self, user: ServerUser | None) -> None:
        fresh = not self.data_dir.exists()
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if user:
            if fresh:
                self.data_dir.chmod(0o755)
            check_traversable(self.data_dir)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if user:
            os.chown(self.folder, user.uid, user.gid)
        self.folder.chmod(0o700)

    def _sole_supervisor(self) -> IO[str]:
        """Hold off other supervisors of this folder while it is looked at and started."""
        try:
            return lock(self.folder / "supervisor.lock", self._start_timeout_s)
        except TimeoutError as error:
            raise EmbeddedPostgresError(
                f"another process has been starting Postgres in {self.folder} for "
                f"{self._start_timeout_s:g} s; end it, or set another store.data_dir"
            ) from error

    def _attach(self) -> bool:
        """True when a running server was found; waits for one that starts up or shuts down."""
        deadline = time.monotonic() + self._start_timeout_s
        while (found := read_pid_file(self.cluster)) is not None:
            if not is_postmaster_of(found.pid, self.cluster):
                disown_pid_file(self.cluster, os.getpid())
                return False
            if not is_locked(self.folder / "owner.lock"):
                # It may still take connections, but not for long: the kernel has told it to end.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(found.pid, signal.SIGINT)
            elif found.socket_dir and accepts_connections(
                found.socket_dir / f".s.PGSQL.{PORT}", SUPERUSER, DATABASE
            ):
                self._socket_dir = found.socket_dir
                return True
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"Postgres {found.pid} holds {self.cluster} but takes no connections; see "
                    f"{self.log_path}, and stop it with: kill -INT {found.pid}"
                )
            time.sleep(0.02)
        return False

    def _launch(self, binaries: Path, user: ServerUser | None) -> None:
        socket_dir = choose_socket_dir(self.folder, user)
        settings = {**self._settings, "unix_socket_directories": str(socket_dir)}
        uid, gid = (user.uid, user.gid) if user else (-1, -1)
        command = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), str(uid)]
        command += [str(gid), str(binaries / "postgres"), "-D", str(self.cluster)]
        command += ["-p", str(PORT)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_LIMIT_BYTES:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        process = self._spawn(command)
        deadline = time.monotonic() + self._start_timeout_s
        socket_path = socket_dir / f".s.PGSQL.{PORT}"
        while not accepts_connections(socket_path, SUPERUSER, DATABASE):
            exited, late = process.poll() is not None, time.monotonic() > deadline
            if exited and not late and STILL_IN_USE in self._log_tail():
                # Children of a killed server are on their way out; Postgres rightly waits.
                time.sleep(0.1)
                process = self._spawn(command)
            elif exited or late:
                process.kill()
                raise EmbeddedPostgresError(
                    f"Postgres did not start on {self.cluster}: {self._log_tail()}; "
                    f"the whole log is {self.log_path}; mend the cause it names, or set "
                    "another store.data_dir, or store.url"
                )
            time.sleep(0.01)
        self._process, self._socket_dir = process, socket_dir
        atexit.register(self.stop)

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start the server from a thread that lives as long as it does.

        The death signal of Linux is tied to the thread that forked, not to the process.
        """
        started: list[subprocess.Popen[bytes] | OSError] = []
        ready = threading.Event()
        # One who has yet to notice that his server died gives the lock up soon.
        ownership = lock(self.folder / "owner.lock", self._start_timeout_s)

        def keep() -> None:
            try:
                with self.log_path.open("ab") as log:
                    process = subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        cwd=self.folder,
                        env={**os.environ, "LC_ALL": "C"},
                        # Ctrl-C in a terminal is for us; we stop the server when we are done.
                        start_new_session=True,
                    )
            except OSError as error:
                ownership.close()
                started.append(error)
                ready.set()
                return
            started.append(process)
            ready.set()
            process.wait()
            ownership.close()

        self._keeper = threading.Thread(target=keep, name="embedded-postgres", daemon=True)
        self._keeper.start()
        ready.wait()
        process = started[0]
        if isinstance(process, OSError):
            raise process
        return process

    def _log_tail(self) -> str:
        try:
            lines = self.log_path.read_text(errors="replace").strip().splitlines()
        except OSError as error:
            return f"no log: {error}"
        return " / ".join(lines[-4:])


def url_through(socket_dir: Path, database: str = DATABASE) -> str:
    """SQLAlchemy URL of a database of the server whose socket lies in socket_dir."""
    return f"postgresql+asyncpg://{SUPERUSER}@/{database}?host={quote(str(socket_dir), safe='/')}"
