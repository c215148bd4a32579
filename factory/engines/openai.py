"""Any OpenAI-compatible server: vllm serve, Ollama, llama.cpp, a provider.

The caller's thread pulls requests and hands out results; an event loop in a second thread holds the connections.
A request is pulled only when the window has room, so a source of millions of prompts is never read ahead.
"""

import asyncio
import atexit
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Thread
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator

from fucina.factory.engines._openai_http import OWN_FIELDS, ChatServer
from fucina.factory.errors import EngineError
from fucina.factory.hashing import canonical_json
from fucina.schemas.base import Record
from fucina.schemas.generation import EngineCard, GenerationRequest, GenerationResult

THREAD_NAME = "fucina-openai"


class OpenAIEngine(Record):
    """Chat completions over HTTP. Short form: `openai:http://HOST:PORT/v1#MODEL`; without `#MODEL` the only one served.

    The card names the model and whatever else shapes an answer, not the address: an answer stays good when the same
    model moves to another port. Without a model the card cannot know it, so there it names the address instead.
    """

    # Whoever puts a key where none belongs must not find it in an error message.
    model_config = ConfigDict(hide_input_in_errors=True)

    url: str = Field(description="base of the API, with /v1 where the server has it; no credentials")
    model: str | None = Field(None, min_length=1, description="null: the one model the server offers")
    api_key_env: str | None = Field(
        None, pattern="^[A-Z_][A-Z0-9_]*$", description="environment variable that holds the key, not the key"
    )
    concurrency: int = Field(32, ge=1, description="most requests in flight")
    timeout_s: float = Field(600.0, gt=0, description="longest wait for one answer, and for one Retry-After")
    retries: int = Field(5, ge=0, description="tries after the first, on 429, 5xx, time-outs and broken connections")
    extra_body: dict[str, Any] = Field(
        default_factory=dict[str, Any], description="more fields of the request, e.g. {top_k: 20}"
    )

    @field_validator("url")
    @classmethod
    def _plain_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must start with http:// or https:// and a host, e.g. http://127.0.0.1:8000/v1")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("must hold no credentials and no query; name the variable of the key with api_key_env")
        return url.rstrip("/")

    @field_validator("extra_body")
    @classmethod
    def _leaves_ours_alone(cls, extra: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(OWN_FIELDS & extra.keys()):
            raise ValueError(f"sets {', '.join(taken)}, which the engine sets itself")
        return extra

    @classmethod
    def at(cls, address: str, **settings: Any) -> Self:
        """`URL` or `URL#MODEL`."""
        url, _, model = address.partition("#")
        return cls.model_validate({"url": url, "model": model or None, **settings})

    def card(self) -> EngineCard:
        """The model by name. A server says nothing of its weights, so there is no revision."""
        notes = [] if self.model else [f"whichever model {self.url} serves alone"]
        if self.extra_body:
            notes.append(f"extra_body {canonical_json(self.extra_body)}")
        return EngineCard(engine="openai", model=self.model or "auto", notes="; ".join(notes) or None)

    def generate(self, requests: Iterable[GenerationRequest]) -> Generator[GenerationResult]:
        """Answers as they come, up to `concurrency` requests in flight. Closing it early cancels them.

        Raises:
            EngineError: no server at the address, no key in the environment, or no model to choose.
        """
        server = ChatServer(
            self.url,
            self.model,
            key=self._key(),
            timeout_s=self.timeout_s,
            retries=self.retries,
            extra_body=self.extra_body,
        )
        with _running(server) as loop:
            yield from _windowed(
                requests,
                lambda request: asyncio.run_coroutine_threadsafe(server.complete(request), loop),
                self.concurrency,
            )

    def close(self) -> None:
        """Nothing outlives a call of `generate`."""

    def _key(self) -> str | None:
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise EngineError(
                f"environment variable {self.api_key_env} holds no API key", f"export {self.api_key_env}=…"
            )
        if not (key.isascii() and key.isprintable()):
            raise EngineError(
                f"the key in {self.api_key_env} holds characters that no header may", "copy the key again"
            )
        return key


ENGINE = OpenAIEngine


@contextmanager
def _running(server: ChatServer) -> Generator[asyncio.AbstractEventLoop]:
    """Connect on an event loop in a thread of its own. At the end whatever still runs on it is cancelled."""
    connected: Future[asyncio.AbstractEventLoop] = Future()
    stopping = asyncio.Event()

    async def stay_connected() -> None:
        async with server:
            connected.set_result(asyncio.get_running_loop())
            await stopping.wait()

    thread = Thread(target=lambda: asyncio.run(stay_connected()), name=THREAD_NAME, daemon=True)
    thread.start()
    loop = connected.result()

    def stop() -> None:
        if thread.is_alive():
            loop.call_soon_threadsafe(stopping.set)
            thread.join()

    # A generator that is still open when the program ends would wait for a thread that no longer runs.
    atexit.register(stop)
    try:
        yield loop
    finally:
        stop()
        atexit.unregister(stop)


def _windowed(
    requests: Iterable[GenerationRequest],
    ask: Callable[[GenerationRequest], Future[GenerationResult]],
    window: int,
) -> Iterator[GenerationResult]:
    """Results as they come, with at most `window` requests asked and not yet handed out.

    Pulling and handing out take turns: a slow source holds a finished answer back for one request at most, and a
    slow consumer never empties the window.
    """
    source = iter(requests)
    finished: SimpleQueue[Future[GenerationResult]] = SimpleQueue()
    asked: set[Future[GenerationResult]] = set()
    more = True
    try:
        while more or asked:
            if more and len(asked) < window:
                request = next(source, None)
                more = request is not None
                if request is not None:
                    future = ask(request)
                    asked.add(future)
                    future.add_done_callback(finished.put)
            if asked and (not more or len(asked) == window or not finished.empty()):
                future = finished.get()
                asked.remove(future)
                yield future.result()
    finally:
        for future in asked:
            future.cancel()
