"""The data folder of an embedded Postgres, and where its socket fits."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from bandit_router.errors import EmbeddedPostgresError
from bandit_router.store.postgres_files import ServerUser

SUPERUSER = "bandit_router"
PORT = 5432
# sun_path holds 108 bytes, the last of them a zero.
SOCKET_PATH_LIMIT = 107


def make_cluster(folder: Path, cluster: Path, binaries: Path, user: ServerUser | None) -> None:
    """Run initdb for ``cluster`` below ``folder``, unless it is there already.

    Raises EmbeddedPostgresError with what initdb said and the remedy.
    """
    if (cluster / "PG_VERSION").exists():
        return
    if cluster.exists() and any(cluster.iterdir()):
        raise EmbeddedPostgresError(
            f"{cluster} is not empty and not a Postgres data folder; move it away or "
            "set another store.data_dir"
        )
    # Made aside and renamed, so that a killed initdb leaves nothing that looks whole.
    unfinished = folder / "data.unfinished"
    if unfinished.exists():
        shutil.rmtree(unfinished)
    command = [str(binaries / "initdb"), "-D", str(unfinished), "-U", SUPERUSER]
    command += ["--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=reject"]
    command += ["--no-instructions"]
    made = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        cwd=folder,
        env={**os.environ, "LC_ALL": "C"},
        **(user.as_popen_arguments() if user else {}),
    )
    if made.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise EmbeddedPostgresError(
            f"initdb failed on {cluster} (exit {made.returncode}): "
            f"{' / '.join(made.stderr.strip().splitlines()[-4:])}; free space or fix "
            "permissions there, or set another store.data_dir, or store.url"
        )
    if cluster.exists():
        cluster.rmdir()
    unfinished.rename(cluster)


def choose_socket_dir(folder: Path, user: ServerUser | None) -> Path:
    """The folder itself, or a private one in the temporary folder where its path is too long."""
    if len(os.fsencode(folder / f".s.PGSQL.{PORT}")) <= SOCKET_PATH_LIMIT:
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"bandit-router-{digest}"
    owner = user.uid if user else os.geteuid()
    short.mkdir(mode=0o700, exist_ok=True)
    if user and short.stat().st_uid == 0:
        os.chown(short, user.uid, user.gid)
    found = short.lstat()
    if short.is_symlink() or found.st_uid != owner or found.st_mode & 0o077:
        raise EmbeddedPostgresError(
            f"{folder} is too long for a unix socket and {short} belongs to someone "
            "else; set a shorter store.data_dir"
        )
    return short
