"""One attempt: refusals, nonsense, keys and estimates; whatever a server does, it ends in one sentence."""

from __future__ import annotations

import datetime
import re
import threading
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gdpo.config.endpoint import Price
from gdpo.models.endpoint import request_all
from gdpo.models.openai_client import likely_tokens, most_tokens, retry_after
from gdpo.models.request_log import cost
from gdpo.models.request_pace import MAX_CONSECUTIVE_FAILURES
from tests.fault_server import CANARY, FaultServer, check, endpoint, reply, requests
from tests.refusal import refused


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("CANARY_KEY", CANARY)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("401", r"refused the key in CANARY_KEY \(401\); 0 of 30 are answered and kept"),
        ("403", r"refused the key in CANARY_KEY \(403\)"),
        ("404", r"answered 404 \(refused Bearer \*{3}, which .* Bearer \*{3} and is \w+\*{3}U= or Bearer%20\*{3}\)"),
        ("400", r"answered 400 \(refused Bearer \*{3}, which .* or Bearer%20\*{3}\) to q"),
    ],
)
def test_a_refusal_ends_the_call_at_once_and_never_names_the_key(tmp_path, capsys, status, sentence):
    with (
        FaultServer(reply, lambda body, seen: status) as server,
        refused(problem=re.compile(sentence)) as error,
    ):
        request_all(endpoint(server), requests(30), check, tmp_path / "j", "test")
    assert len(server.received) <= 8 + (
        MAX_CONSECUTIVE_FAILURES - 1 if status == "400" else 0
    )  # a 400 may be of the request alone
    assert CANARY not in str(error.value) + capsys.readouterr().err + (tmp_path / "j").read_text()


class Nonsense(BaseHTTPRequestHandler):
    """Answers every request with `text`, as a stream of events."""

    def log_message(self, *_):
        return

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(self.text)


@pytest.mark.parametrize(
    "text",
    [
        '{"choices": "abc"}',
        "3",
        '{"choices": [{"delta": null, "finish_reason": "stop"}]}',
        '{"choices": [{"delta": {"content": ["x"]}, "finish_reason": 7}]}',
        '{"error": {"message": "overloaded"}}',
        "[" * 100_000,
        "",
    ],
)
def test_malformed_response_is_a_failed_attempt(tmp_path, text):
    handler = type("Handler", (Nonsense,), {"text": f"data: {text}\n\n".encode()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        with refused(problem=re.compile(r"test: 1 had no reply that fits, first q0: .*, 2 attempts")):
            request_all(
                endpoint(f"http://127.0.0.1:{server.server_port}", attempts=2),
                requests(1),
                check,
                tmp_path / "j",
                "test",
            )
        server.shutdown()


def test_max_completion_tokens_is_tried_after_max_tokens(tmp_path, monkeypatch):
    def fault(body, seen):
        return "400" if "max_tokens" in body else "ok"

    def refuse(self, status):
        text = b'{"error": {"message": "Use \'max_completion_tokens\' instead."}}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    monkeypatch.setattr("tests.fault_server._Handler.refuse", refuse)
    with FaultServer(reply, fault) as server:
        values, _ = request_all(endpoint(server, concurrency=1), requests(5), check, tmp_path / "j", "test")
    assert len(values) == 5
    assert ["max_tokens" in body for body in server.received] == [True] + [False] * 5


def test_a_missing_key_is_named_before_anything_is_asked_or_made(tmp_path, monkeypatch):
    monkeypatch.delenv("CANARY_KEY")
    with FaultServer(reply) as server, refused(found="no key", expected="environment variable CANARY_KEY"):
        request_all(endpoint(server), requests(2), check, tmp_path / "j", "test")
    assert server.received == []
    assert not list(tmp_path.iterdir())


def test_endpoint_without_key_never_gets_openai_api_key(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    with FaultServer(reply) as server:
        request_all(endpoint(server, key=None), requests(2), check, tmp_path / "j", "test")
    assert server.keys == {"Bearer none"}


def test_key_and_lone_surrogates_of_a_reply_reach_no_file(tmp_path):
    with FaultServer(lambda body, number: f"{CANARY} is your key \ud800") as server:
        values, _ = request_all(endpoint(server), requests(1), lambda _, text: text, tmp_path / "j", "test")
    assert values == {"q0": "*** is your key \ufffd"}
    assert CANARY not in (tmp_path / "j").read_text()


def test_estimates_stand_in_for_tokens_that_a_server_does_not_report(tmp_path):
    """'what is 0?' has 10 bytes, so about 4 tokens; its reply is estimated alike, and all of it is marked."""
    with FaultServer(lambda body, number: '{"said": "x"}', usage=False) as server:
        _, totals = request_all(endpoint(server), requests(1), check, tmp_path / "j", "test")
    assert (totals.prompt_tokens, totals.completion_tokens, totals.estimated) == (4, 5, 1.0)


def test_base_url_with_a_key_is_refused():
    for url in ("https://me:secret@host/v1", "https://host/v1?key=secret"):
        with pytest.raises(ValueError, match="base_url"):
            endpoint(url)


def test_retry_after_is_a_number_or_a_date():
    assert retry_after(None) == retry_after("soon") == retry_after("-3") == retry_after("nan") == 0.0
    assert retry_after("1.5") == 1.5
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=100)
    assert 95 < retry_after(format_datetime(later, usegmt=True)) <= 100


def test_most_and_likely_tokens():
    """Two messages of 3 bytes: 64 + 2 * (8 + 3) = 86 at most. 7 bytes are 2.3 of three bytes, so 3 tokens."""
    messages = [{"role": "system", "content": "abc"}, {"role": "user", "content": "€"}]
    assert most_tokens(messages, endpoint("http://x")) == (86, 100)
    assert likely_tokens("abcdefg") == 3
    assert cost(1_000_000, 500_000, Price(prompt=2.5, completion=10.0)) == 7.5
