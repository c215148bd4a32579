"""A small chat server for tests: real sockets, deterministic answers, and faults on demand.

It speaks `/v1/models` and `/v1/chat/completions` on a free port of 127.0.0.1, built on `http.server`, so that it
shares no code with the clients under test.
"""

import hashlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Reply:
    """Say this instead of an answer. `cut` closes the connection in the middle of the body."""

    body: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    cut: bool = False


@dataclass(frozen=True)
class Drop:
    """Close the connection without a word."""


@dataclass(frozen=True)
class Stall:
    """Say nothing until the client leaves or the server stops."""


Fault = Reply | Drop | Stall
WRONG_JSON = Reply('{"choices": [{"mess')
EMPTY_CHOICES = Reply('{"choices": []}')
HALF_BODY = Reply('{"choices": [{"message": {"content": "never seen whole"}}]}', cut=True)

Faults = Callable[[str, int], Fault | None]
"""Last message and number of the try for it (from 1) → what goes wrong, or None."""


def status(code: int, **headers: str) -> Reply:
    """An error as such servers word it; `retry_after="1"` becomes `Retry-After: 1`."""
    body = json.dumps({"error": {"message": f"told to answer {code}", "code": code}})
    return Reply(body, code, {name.replace("_", "-").title(): value for name, value in headers.items()})


def answer_to(prompt: str, seed: int, temperature: float) -> str:
    """What the server says: the prompt back, and at a temperature something that depends on the seed."""
    if temperature == 0:
        return f"Hai chiesto: {prompt}"
    return f"Hai chiesto: {prompt} [{hashlib.sha256(f'{seed} {prompt}'.encode()).hexdigest()[:8]}]"


class ChatServer:
    """Serves while the `with` block lasts."""

    def __init__(
        self,
        faults: Faults = lambda _prompt, _attempt: None,
        *,
        models: tuple[str, ...] = ("eco",),
        api_key: str | None = None,
        delay_s: float = 0.0,
    ) -> None:
        self.models = models
        self.api_key = api_key
        self.delay_s = delay_s
        self.bodies: list[dict[str, Any]] = []
        self.in_flight = self.peak = self.left = 0
        self._faults = faults
        self._tries: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        server = self

        class Handler(_Handler):
            peer = server

        self._http = _Http(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Base address, with /v1."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._http.shutdown()
        self._http.hang_up()
        self._http.server_close()
        self._thread.join()

    def tries(self, prompt: str) -> int:
        """How often a prompt was asked."""
        return self._tries[prompt]

    def arrive(self, body: dict[str, Any]) -> tuple[str, Fault | None]:
        """Count a request in; the prompt, and what shall go wrong with it."""
        prompt = body["messages"][-1]["content"]
        with self._lock:
            self.bodies.append(body)
            self._tries[prompt] += 1
            self.in_flight += 1
            self.peak = max(self.peak, self.in_flight)
            attempt = self._tries[prompt]
        return prompt, self._faults(prompt, attempt)

    def depart(self) -> None:
        """Count a request out."""
        with self._lock:
            self.in_flight -= 1

    def wait(self, connection: socket.socket, seconds: float | None) -> bool:
        """Wait so long, or for ever; false when the client left or the server stops meanwhile."""
        connection.settimeout(0.02)
        waited = 0.0
        while (seconds is None or waited < seconds) and not self._stopping.is_set():
            try:
                if connection.recv(1, socket.MSG_PEEK) == b"":
                    self.left += 1
                    return False
            except TimeoutError:
                waited += 0.02
        connection.settimeout(None)
        return seconds is not None and not self._stopping.is_set()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, *args: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End connections that clients keep alive."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave early are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    peer: ChatServer

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            self._send(status(404))
        elif self._allowed():
            models = [{"id": model, "object": "model"} for model in self.peer.models]
            self._send(Reply(json.dumps({"object": "list", "data": models})))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            self._send(status(404))
        elif self._allowed():
            prompt, fault = self.peer.arrive(body)
            try:
                self._answer(body, prompt, fault)
            finally:
                self.peer.depart()

    def _answer(self, body: dict[str, Any], prompt: str, fault: Fault | None) -> None:
        if self.peer.delay_s and not self.peer.wait(self.connection, self.peer.delay_s):
            self.close_connection = True
        elif isinstance(fault, Stall):
            self.peer.wait(self.connection, None)
            self.close_connection = True
        elif isinstance(fault, Drop):
            self.close_connection = True
        elif isinstance(fault, Reply):
            self._send(fault)
        elif body["model"] not in self.peer.models:
            self._send(status(404))
        else:
            self._send(Reply(json.dumps(_completion(body, prompt))))

    def _allowed(self) -> bool:
        """Like some providers, a refusal quotes the key it was given."""
        given = self.headers.get("Authorization")
        if self.peer.api_key is None or given == f"Bearer {self.peer.api_key}":
            return True
        self._send(Reply(json.dumps({"error": {"message": f"Incorrect API key: {given}"}}), 401))
        return False

    def _send(self, reply: Reply) -> None:
        body = reply.body.encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if reply.cut else body)
        self.close_connection = self.close_connection or reply.cut

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Quiet."""


def _completion(body: dict[str, Any], prompt: str) -> dict[str, Any]:
    words = answer_to(prompt, body["seed"], body["temperature"]).split(" ")
    said = words[: body["max_tokens"]]
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": " ".join(said)},
                "finish_reason": "stop" if said == words else "length",
            }
        ],
        "usage": {
            "prompt_tokens": sum(len(message["content"].split(" ")) for message in body["messages"]),
            "completion_tokens": len(said),
        },
    }
