"""A local OpenAI-compatible endpoint that streams replies and, by a script or a seed, does what real ones do wrong.

It keeps what it received and what it answered in full. Every full answer carries a number of its own (`answer 17;`),
so that a test can tell from a file which answers were stored.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

from gdpo.config.endpoint import Endpoint
from gdpo.models.endpoint import Request

CANARY = "sk-canary-5f3a9c0b7e"
FAULTS = ("429", "500", "hang", "stall", "cut", "unfinished", "garbage", "not json", "wrong schema", "too long")
ANSWERS = ("ok", "not json", "wrong schema", "too long")  # what a client gets in full, and pays for


def seeded(seed: int, share: float, kinds: tuple[str, ...] = FAULTS) -> Callable[[dict, int], str]:
    """A fault of `kinds` in about `share` of the attempts, by seed, request and how often it has come."""

    def draw(body: dict, seen: int) -> str:
        digest = hashlib.sha256(json.dumps([seed, seen, body["messages"]]).encode()).digest()
        return kinds[digest[2] % len(kinds)] if int.from_bytes(digest[:2]) < share * 65536 else "ok"

    return draw


def endpoint(server, **changes):
    """The settings of `server`, or of the one at an address, with quick retries and the key of CANARY_KEY."""
    quick = {"timeout": 20.0, "attempts": 3, "backoff": 0.01, "max_tokens": 100, "key": "CANARY_KEY", "model": "m"}
    return Endpoint(base_url=server if isinstance(server, str) else server.url, **quick | changes)


def requests(count):
    """`what is N?`, on behalf of qN."""
    return [Request(f"q{n}", [{"role": "user", "content": f"what is {n}?"}]) for n in range(count)]


def reply(body, number):
    """The question, repeated in the form that `check` wants."""
    return json.dumps({"said": body["messages"][0]["content"], "by": f"answer {number};"})


def check(request, text):
    """What was said. Raises ValueError where nothing was."""
    said = json.loads(text).get("said")
    if said is None:
        raise ValueError("it has no 'said'")
    return said


class FaultServer:
    """Answers `reply(body, number)` unless `fault(body, times it came before)` names something else; a context manager.

    `charged` is what a provider could bill at most, in tokens: for hung and cut-off replies, all of the reply.
    """

    def __init__(
        self,
        reply: Callable[[dict, int], str],
        fault: Callable[[dict, int], str] = lambda body, seen: "ok",
        usage: bool = True,
        delay: float = 0.0,
        reasoning: tuple[str, str] | None = None,
    ):
        self.reply, self.fault, self.usage, self.delay, self.reasoning = reply, fault, usage, delay, reasoning
        self.received: list[dict] = []
        self.answered: dict[int, dict] = {}
        self.faults: Counter[str] = Counter()
        self.keys: set[str] = set()
        self.charged = self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        self.ended = threading.Event()
        outer = self

        class Handler(_Handler):
            server_state = outer

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> FaultServer:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._http.shutdown()
        self._http.server_close()

    def wait_for(self, answers: int, seconds: float = 60.0) -> None:
        """Return when so many requests were answered in full."""
        until = time.monotonic() + seconds
        while len(self.answered) < answers:
            assert time.monotonic() < until, f"{len(self.answered)} of {answers} answers after {seconds} s"
            time.sleep(0.005)

    def stored(self, text: str) -> dict[int, dict]:
        """The requests whose answers are in `text`, by number: that of `received`, counted from 1."""
        return {number: body for number, body in self.answered.items() if f"answer {number};" in text}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: FaultServer

    def log_message(self, *_: object) -> None:
        return

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # the client gave up, or was killed
            return

    def do_POST(self) -> None:
        state = self.server_state
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with state.lock:
            seen = sum(earlier == body for earlier in state.received)
            state.received.append(body)
            state.keys.add(self.headers["Authorization"])
            number = len(state.received)
            kind = state.fault(body, seen)
            state.faults[kind] += 1
            state.in_flight += 1
            state.most_in_flight = max(state.most_in_flight, state.in_flight)
        try:
            self.answer(body, number, kind)
        finally:
            with state.lock:
                state.in_flight -= 1

    def answer(self, body: dict, number: int, kind: str) -> None:
        state = self.server_state
        time.sleep(state.delay)
        if kind.isdigit():
            return self.refuse(int(kind))
        text = {
            "not json": f"Sure! Here is answer {number}; you sent {self.headers['Authorization']}.",
            "wrong schema": json.dumps({"skills": [f"answer {number};"]}),
        }.get(kind) or state.reply(body, number)
        prompt = sum(len(message["content"]) for message in body["messages"]) // 4
        counts = {"prompt_tokens": prompt, "completion_tokens": len(text) // 4 + 1}
        with state.lock:
            state.charged += sum(counts.values())
        if kind == "hang":
            return self.hang()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.stream(text, kind, number, body, counts)

    def stream(self, text: str, kind: str, number: int, body: dict, counts: dict) -> None:
        state, half = self.server_state, len(text) // 2
        self.chunk(": keep-alive\n\n")
        if state.reasoning:
            self.event({"choices": [{"index": 0, "delta": {state.reasoning[0]: state.reasoning[1]}}]})
        self.event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": text[:half]}}]})
        if kind == "stall":
            return self.hang()
        if kind == "cut":
            self.close_connection = True
            return None
        if kind == "garbage":
            self.chunk("data: {no json\n\n")
        self.event({"choices": [{"index": 0, "delta": {"content": text[half:]}}]})
        if kind != "unfinished":
            finish = "length" if kind == "too long" else "stop"
            self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        if state.usage and body["stream_options"]["include_usage"]:
            self.event({"choices": [], "usage": counts | {"total_tokens": sum(counts.values())}})
        self.chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()
        if kind in ANSWERS:
            with state.lock:
                state.answered[number] = body
        return None

    def refuse(self, status: int) -> None:
        """An error whose text repeats the key, whole, in part and encoded, as careless servers do."""
        key = self.headers["Authorization"]
        encoded = base64.b64encode(f"user:{key}".encode()).decode()
        error = {
            "message": f"refused {key}, which begins with {key[:22]} and is {encoded} or {quote(key)}",
            "code": f"e{status}",
            "type": "e",
            "param": None,
        }
        text = json.dumps({"error": error}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        if status == 429:
            self.send_header("Retry-After", "0.02")
        self.end_headers()
        self.wfile.write(text)

    def hang(self) -> None:
        self.close_connection = True
        self.server_state.ended.wait(5.0)

    def event(self, value: dict) -> None:
        base = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m"}
        self.chunk(f"data: {json.dumps(base | value)}\n\n")

    def chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()
