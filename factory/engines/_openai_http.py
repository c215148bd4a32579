"""The wire side of the `openai` engine: one server, its retries, and what its bodies mean."""

import asyncio
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import aiohttp
from pydantic import BaseModel, ValidationError

from fucina.factory.errors import EngineError
from fucina.schemas.generation import GenerationRequest, GenerationResult
from fucina.schemas.rows import FinishReason

OWN_FIELDS = frozenset({"model", "messages", "max_tokens", "temperature", "top_p", "seed", "n", "stream"})
_CONNECT_S = 10.0
_FIRST_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 30.0


class ChatServer:
    """One server and how to ask it. Connected on one event loop by `async with`, and used there only."""

    def __init__(
        self,
        url: str,
        model: str | None,
        *,
        key: str | None,
        timeout_s: float,
        retries: int,
        extra_body: dict[str, Any],
    ) -> None:
        self._url = url
        self._model = model
        self._key = key
        self._timeout_s = timeout_s
        self._retries = retries
        self._extra_body = extra_body
        self._heard = False
        self._choosing = asyncio.Lock()
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers={} if self._key is None else {"Authorization": f"Bearer {self._key}"},
            timeout=aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=_CONNECT_S),
            # The engine's window is the only limit, and no answer may depend on a cookie of an earlier one.
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def complete(self, request: GenerationRequest) -> GenerationResult:
        """One result, whatever the server does.

        Raises:
            EngineError: it cannot be reached at all, or does not say which model to use.
        """
        body = {
            **self._extra_body,
            "model": self._model or await self._only_model(),
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            "max_tokens": request.sampling.max_tokens,
            "temperature": request.sampling.temperature,
            "top_p": request.sampling.top_p,
            "seed": request.seed,
        }
        try:
            answer = await self._call("POST", "chat/completions", body)
        except _CallError as error:
            return _failed(request.request_id, error.cause)
        return _read(request.request_id, answer)

    async def _only_model(self) -> str:
        """The one model on offer; whichever request comes first looks it up."""
        async with self._choosing:
            if self._model is None:
                self._model = await self._look_up_model()
            return self._model

    async def _look_up_model(self) -> str:
        name_it = f"name the model: openai:{self._url}#MODEL"
        try:
            offer = _Models.model_validate_json(await self._call("GET", "models"))
        except _CallError as error:
            raise EngineError(f"{self._url}/models does not list models: {error.cause}", name_it) from error
        except ValidationError as error:
            raise EngineError(f"{self._url}/models does not list models: {_first_fault(error)}", name_it) from error
        names = [model.id for model in offer.data]
        if len(names) != 1:
            raise EngineError(f"{self._url} serves {len(names)} models: {', '.join(names) or 'none'}", name_it)
        return names[0]

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        """Body of a good answer, after as many tries as it takes.

        Raises:
            _CallError: no try gave one.
            EngineError: nothing at this address has ever answered.
        """
        tries = 0
        while True:
            tries += 1
            try:
                return await self._try(method, path, body)
            except _CallError as error:
                last = tries > self._retries
                if last and error.nobody_there and not self._heard:
                    raise EngineError(
                        f"no server at {self._url}: {error.cause}",
                        "start it, e.g. `vllm serve MODEL`, or choose another engine, e.g. --set ROLE=vllm:MODEL",
                    ) from error
                if last or not error.passing or error.wait_s > self._timeout_s:
                    raise
                wait_s = error.wait_s
            backoff_s = min(_FIRST_BACKOFF_S * 2 ** (tries - 1), _LONGEST_BACKOFF_S)
            # Jitter keeps the window from coming back in step.
            await asyncio.sleep(max(wait_s, backoff_s * random.uniform(0.5, 1.0)))  # noqa: S311

    async def _try(self, method: str, path: str, body: dict[str, Any] | None) -> bytes:
        try:
            async with self._session.request(
                method, f"{self._url}/{path}", json=body, allow_redirects=False
            ) as response:
                self._heard = True
                answer = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise _CallError(str(error), passing=True, nobody_there=True) from error
        except TimeoutError as error:
            raise _CallError(f"no answer within {self._timeout_s:g} s", passing=True) from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise _CallError(f"the connection broke: {error}", passing=True) from error
        except aiohttp.ClientError as error:
            raise _CallError(f"no HTTP answer: {error}") from error
        if self._key is not None:
            # Some servers quote the key they refuse.
            answer = answer.replace(self._key.encode(), b"***")
        if HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
            return answer
        raise _CallError(
            f"HTTP {response.status} {response.reason or ''}: {_excerpt(answer)}",
            passing=response.status == HTTPStatus.TOO_MANY_REQUESTS
            or response.status >= HTTPStatus.INTERNAL_SERVER_ERROR,
            wait_s=_retry_after(response.headers.get("Retry-After")),
        )


@dataclass(eq=False)
class _CallError(Exception):
    """Why a call gave nothing. `passing`: the next try may do better, after `wait_s` where the server says so."""

    cause: str
    passing: bool = False
    wait_s: float = 0.0
    nobody_there: bool = False


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(BaseModel):
    choices: list[_Choice]
    usage: _Usage | None = None


def _read(request_id: str, answer: bytes) -> GenerationResult:
    """The result in a body that came with status 200; what holds no answer becomes an error."""
    try:
        completion = _Completion.model_validate_json(answer)
    except ValidationError as error:
        return _failed(request_id, f"malformed answer, {_first_fault(error)}: {_excerpt(answer)}")
    if not completion.choices:
        return _failed(request_id, "the answer has no choices")
    choice, usage = completion.choices[0], completion.usage or _Usage()
    if choice.message.content is None:
        why = choice.message.refusal or f"finish_reason {choice.finish_reason}"
        return _failed(request_id, f"the answer has no text: {why}", usage)
    if choice.finish_reason in {"abort", "error"}:
        return _failed(request_id, f"the server broke the answer off: finish_reason {choice.finish_reason}", usage)
    known: dict[str | None, FinishReason] = {"stop": "stop", "length": "length"}
    return GenerationResult(
        request_id=request_id,
        response=choice.message.content,
        finish_reason=known.get(choice.finish_reason, "unknown"),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def _failed(request_id: str, cause: str, usage: _Usage | None = None) -> GenerationResult:
    usage = usage or _Usage()
    return GenerationResult(
        request_id=request_id,
        finish_reason="error",
        error=cause,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in fault['loc']) or 'body'}: {fault['msg']}"


def _excerpt(body: bytes) -> str:
    """Start of a body on one line, for an error."""
    text = " ".join(body[:2000].decode("utf-8", "replace").split())
    return f"{text[:300]}…" if len(text) > 300 else text


def _retry_after(value: str | None) -> float:
    """Seconds to wait by a Retry-After header (RFC 9110, 10.2.3: seconds or a date); 0 without one."""
    if value is None:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    # A date in -0000 comes without a zone; HTTP dates are GMT.
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
