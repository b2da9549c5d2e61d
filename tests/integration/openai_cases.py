"""Calls of the official client, to be made once through the router and once directly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

HELLO: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
TIME_TOOL: dict[str, Any] = {**TOOL, "function": {**TOOL["function"], "name": "time"}}
RESPONSE_TOOL: dict[str, Any] = {"type": "function", **TOOL["function"]}
PICTURE = "data:image/png;base64,iVBORw0KGgo="
CALLED: list[Any] = [
    *HELLO,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_0",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_0", "content": "-3.5"},
]


class Weather(BaseModel):
    city: str
    degrees: float


@dataclass(frozen=True)
class Case:
    """One call. call: of a client, sync or async, and the model to name. by_class: the errors
    are to agree in class only, since the router tells of a chain and not of one model."""

    name: str
    call: Callable[[Any, str], Any]
    asynchronous: bool = False
    by_class: bool = False
    raises: type[Exception] | None = None


def chat(**fields: Any) -> Callable[[Any, str], Any]:
    def call(client: Any, model: str) -> Any:
        return client.chat.completions.create(**{"model": model, "messages": HELLO, **fields})

    return call


def completion(**fields: Any) -> Callable[[Any, str], Any]:
    def call(client: Any, model: str) -> Any:
        return client.completions.create(**{"model": model, "prompt": "Once", **fields})

    return call


def embedding(**fields: Any) -> Callable[[Any, str], Any]:
    def call(client: Any, model: str) -> Any:
        return client.embeddings.create(**{"model": "embedder", "input": "One", **fields})

    return call


def response(**fields: Any) -> Callable[[Any, str], Any]:
    def call(client: Any, model: str) -> Any:
        return client.responses.create(**{"model": model, "input": "Why?", **fields})

    return call


def parsed(client: Any, model: str) -> Any:
    return client.chat.completions.parse(model=model, messages=HELLO, response_format=Weather)


def parsed_tool(client: Any, model: str) -> Any:
    return client.chat.completions.parse(model=model, messages=HELLO, tools=[TOOL])


def parsed_response(client: Any, model: str) -> Any:
    return client.responses.parse(model=model, input="Why?", text_format=Weather)


def raw(client: Any, model: str) -> Any:
    return client.chat.completions.with_raw_response.create(model=model, messages=HELLO)


def helper_stream(client: OpenAI, model: str) -> Any:
    with client.chat.completions.stream(model=model, messages=HELLO) as stream:
        events = list(stream)
        return [*events, stream.get_final_completion()]


def helper_response_stream(client: OpenAI, model: str) -> Any:
    with client.responses.stream(model=model, input="Why?") as stream:
        events = list(stream)
        return [*events, stream.get_final_response()]


async def async_helper_stream(client: AsyncOpenAI, model: str) -> Any:
    async with client.chat.completions.stream(model=model, messages=HELLO) as stream:
        events = [event async for event in stream]
        return [*events, await stream.get_final_completion()]


def without_retries(call: Callable[[Any, str], Any], **options: Any) -> Callable[[Any, str], Any]:
    return lambda client, model: call(client.with_options(max_retries=0, **options), model)


def asking(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


PICTURED = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
        ],
    }
]
SPOKEN = [
    {
        "role": "user",
        "content": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}],
    }
]
SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "weather", "strict": True, "schema": Weather.model_json_schema()},
}
USAGE = {"stream_options": {"include_usage": True}}

CASES: tuple[Case, ...] = (
    Case("chat", chat()),
    Case("chat, system and developer", chat(messages=[{"role": "system", "content": "x"}, *HELLO])),
    Case(
        "chat, temperature, top_p, penalties",
        chat(temperature=0.1, top_p=0.9, presence_penalty=1.5),
    ),
    Case("chat, seed", chat(seed=2**53 + 1)),
    Case("chat, n = 3", chat(n=3)),
    Case("chat, logprobs", chat(logprobs=True, top_logprobs=3)),
    Case("chat, logit_bias and stop", chat(logit_bias={"50256": -100}, stop=["\n", "END"])),
    Case("chat, max_completion_tokens", chat(max_completion_tokens=17)),
    Case("chat, max_tokens", chat(max_tokens=17)),
    Case("chat, user and service tier", chat(user="u-1", service_tier="flex")),
    Case("chat, reasoning effort", chat(reasoning_effort="low")),
    Case("chat, prediction", chat(prediction={"type": "content", "content": "blue"})),
    Case("chat, unknown future fields", chat(extra_body={"future": {"deep": [1, None, 0.5]}})),
    Case("chat, text outside ASCII", chat(**asking("Warum? 青い \U0001f535 \u2028 \x00"))),
    Case("chat, an image part", chat(messages=PICTURED)),
    Case("chat, audio in", chat(messages=SPOKEN)),
    Case(
        "chat, audio out",
        chat(modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"}),
    ),
    Case("chat, a tool", chat(tools=[TOOL])),
    Case("chat, two tools, parallel off", chat(tools=[TOOL, TIME_TOOL], parallel_tool_calls=False)),
    Case(
        "chat, tool_choice",
        chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "weather"}}),
    ),
    Case("chat, a tool's result", chat(messages=CALLED, tools=[TOOL])),
    Case("chat, json_object", chat(response_format={"type": "json_object"})),
    Case("chat, json_schema", chat(response_format=SCHEMA)),
    Case("chat, parse", parsed),
    Case("chat, parse of tool arguments", parsed_tool),
    Case("chat, raw response", raw),
    Case("chat, metadata and store", chat(store=True, metadata={"task": "sky"})),
    Case("chat stream", chat(stream=True)),
    Case("chat stream, usage", chat(stream=True, **USAGE)),
    Case("chat stream, usage off", chat(stream=True, stream_options={"include_usage": False})),
    Case("chat stream, n = 2", chat(stream=True, n=2)),
    Case("chat stream, logprobs", chat(stream=True, logprobs=True)),
    Case("chat stream, two tools", chat(stream=True, tools=[TOOL, TIME_TOOL], **USAGE)),
    Case("chat stream, json_schema", chat(stream=True, response_format=SCHEMA)),
    Case("chat stream, helper", helper_stream),
    Case("async chat", chat(), asynchronous=True),
    Case("async chat, tools", chat(tools=[TOOL]), asynchronous=True),
    Case("async chat, parse", parsed, asynchronous=True),
    Case("async chat stream", chat(stream=True), asynchronous=True),
    Case("async chat stream, usage", chat(stream=True, **USAGE), asynchronous=True),
    Case("async chat stream, helper", async_helper_stream, asynchronous=True),
    Case("completions", completion()),
    Case("completions, n, echo, suffix", completion(n=2, echo=True, suffix="end", best_of=2)),
    Case("completions, several prompts", completion(prompt=["a", "b"])),
    Case("completions, token ids", completion(prompt=[1, 2, 3])),
    Case("completions stream", completion(stream=True)),
    Case("completions stream, usage", completion(stream=True, **USAGE)),
    Case("async completions stream", completion(stream=True), asynchronous=True),
    Case("embeddings", embedding()),
    Case("embeddings, floats", embedding(encoding_format="float", dimensions=8)),
    Case("embeddings, several texts", embedding(input=["a", "b", "c"])),
    Case("embeddings, token ids", embedding(input=[[1, 2], [3]])),
    Case("async embeddings", embedding(), asynchronous=True),
    Case("responses", response()),
    Case(
        "responses, items and an image",
        response(
            input=[
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "x"},
                        {"type": "input_image", "image_url": PICTURE, "detail": "low"},
                    ],
                }
            ]
        ),
    ),
    Case(
        "responses, instructions, reasoning",
        response(instructions="Short.", reasoning={"effort": "low"}),
    ),
    Case("responses, a tool", response(tools=[RESPONSE_TOOL])),
    Case("responses, parse", parsed_response),
    Case("responses, going on", response(previous_response_id="resp_0")),
    Case("responses stream", response(stream=True)),
    Case("responses stream, a tool", response(stream=True, tools=[RESPONSE_TOOL])),
    Case("responses stream, helper", helper_response_stream),
    Case("async responses stream", response(stream=True), asynchronous=True),
    Case("400", without_retries(chat(**asking("fail:400"))), raises=openai.BadRequestError),
    Case(
        "422", without_retries(chat(**asking("fail:422"))), raises=openai.UnprocessableEntityError
    ),
    Case(
        "400 of a stream",
        without_retries(chat(stream=True, **asking("fail:400"))),
        raises=openai.BadRequestError,
    ),
    Case(
        "400 of completions",
        without_retries(completion(prompt="fail:400")),
        raises=openai.BadRequestError,
    ),
    Case(
        "400 of responses",
        without_retries(response(input="fail:400")),
        raises=openai.BadRequestError,
    ),
    Case(
        "429",
        without_retries(chat(**asking("fail:429"))),
        by_class=True,
        raises=openai.RateLimitError,
    ),
    Case(
        "500",
        without_retries(chat(**asking("fail:500"))),
        by_class=True,
        raises=openai.InternalServerError,
    ),
    Case(
        "503 of a stream",
        without_retries(chat(stream=True, **asking("fail:503"))),
        by_class=True,
        raises=openai.InternalServerError,
    ),
    Case(
        "async 429",
        without_retries(chat(**asking("fail:429"))),
        asynchronous=True,
        by_class=True,
        raises=openai.RateLimitError,
    ),
    Case("503 once, retried", chat(**asking("fail:503:once"))),
    Case("429 once, retried", chat(**asking("fail:429:once"))),
    Case(
        "the client's timeout",
        without_retries(chat(**asking("slow:1.5")), timeout=0.3),
        by_class=True,
        raises=openai.APITimeoutError,
    ),
)
