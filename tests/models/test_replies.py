"""Replies of every form that servers give: each comes to a sample or to a sentence, never to an empty success."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from gdpo.config.endpoint import Budget, Endpoint
from gdpo.models.endpoint import Request, complete_all_endpoint, request_all
from tests.refusal import refused

HEAD = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m"}
ASKED = [[{"role": "user", "content": "2 + 2?"}]]
TOOL = {"tool_calls": [{"index": 0, "id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}]}


class Server:
    """Streams `deltas` and `finish`, or answers `refuse(body)`, a status and a text; keeps what it was sent."""

    def __init__(self, deltas=(), finish="stop", refuse=lambda body: None):
        self.received = received = []

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                return

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                received.append(body)
                status, text = refuse(body) or (200, stream(deltas, finish))
                self.send_response(status)
                self.send_header("Content-Type", "text/event-stream" if status == 200 else "application/json")
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()

    def endpoint(self, **changes):
        quick = {"key": None, "timeout": 20.0, "attempts": 2, "backoff": 0.01, "max_rephrasings": 2, "max_tokens": 100}
        return Endpoint(base_url=self.url, model="m", **quick | changes)


def stream(deltas, finish):
    events = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    events += [{"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}]
    events += [{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}}]
    return "".join(f"data: {json.dumps(HEAD | event)}\n\n" for event in events) + "data: [DONE]\n\n"


def sample(server, tmp_path, **changes):
    sampling = SimpleNamespace(samples=1, temperature=0.7, top_p=0.9, max_new_tokens=50)
    return complete_all_endpoint(server.endpoint(**changes), ASKED, sampling, tmp_path / "j")[0][0]


@pytest.mark.parametrize(
    ("deltas", "finish", "expected"),
    [
        ([{"content": "The answer "}, {"content": "is 4."}], "stop", "The answer is 4."),
        ([{"content": "4", "refusal": None, "tool_calls": None}], "stop", "4"),
        ([{"refusal": "I can't "}, {"refusal": "help."}], "stop", "I can't help."),
        ([{"refusal": "I can't help.", "content": ""}], "content_filter", "I can't help."),
        ([{"content": "First, "}, {"refusal": "I must stop."}], "stop", "First,\n\nI must stop."),
        ([{"content": [{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]}], "stop", "42"),
        ([{"content": [{"type": "output_text", "text": "4"}]}], "stop", "4"),
        ([{"content": {"type": "text", "text": "4"}}], "stop", "4"),
        ([{"content": [{"type": "refusal", "refusal": "No."}]}], "stop", "No."),
        (
            [{"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "two twos"}]}]}, {"content": "4"}],
            "stop",
            "<think>\ntwo twos\n</think>\n\n4",
        ),
        ([{"reasoning_content": "so"}, {"content": "4"}], "stop", "<think>\nso\n</think>\n\n4"),
        ([{"reasoning": "so", "reasoning_content": None}, {"content": "4"}], "stop", "<think>\nso\n</think>\n\n4"),
        (
            [{"reasoning_details": [{"type": "reasoning.text", "text": "so"}]}, {"content": "4"}],
            "stop",
            "<think>\nso\n</think>\n\n4",
        ),
        ([{"reasoning_content": "let me "}, {"reasoning_content": "think"}], "length", "<think>\nlet me think"),
        ([{"reasoning_content": "let me think", "content": ""}], "max_tokens", "<think>\nlet me think"),
        ([{"reasoning_content": "so"}, {"content": "The ans"}], "length", "<think>\nso\n</think>\n\nThe ans"),
        ([{"content": "The ans"}], "length", "The ans"),
        ([{"content": "4"}], "eos", "4"),
        ([{"content": "4"}], "end_turn", "4"),
        ([{"content": "4"}], "a reason of its own", "4"),
        ([{"content": "4"}], "tool_calls", "4"),
    ],
)
def test_streamed_reply_is_a_completion(tmp_path, deltas, finish, expected):
    with Server(deltas, finish) as server:
        assert sample(server, tmp_path) == expected
        assert len(server.received) == 1
        assert sample(server, tmp_path) == expected  # as the journal has it
        assert len(server.received) == 1


@pytest.mark.parametrize(
    ("deltas", "finish", "sentence"),
    [
        ([], "stop", r"it is empty \(finish_reason 'stop'\)"),
        ([{"content": None}], "stop", "it is empty"),
        ([{"content": " \n"}], "stop", "it is empty"),
        ([{"content": []}], "length", "it is empty"),
        ([{"refusal": ""}], "a reason of its own", "it is empty"),
        ([{"content": None}], "content_filter", "a content filter of the endpoint ended it"),
        ([{"content": "Mix the"}], "content_filter", "a content filter of the endpoint ended it"),
        ([{"content": "Mix the"}], "SAFETY", "a content filter of the endpoint ended it"),
        ([TOOL], "tool_calls", "it calls add, and no tool was offered"),
        ([{"content": "I shall add."}, TOOL], "tool_calls", "it calls add"),
        ([{"function_call": {"name": "add", "arguments": "{}"}}], "function_call", "it calls add"),
        ([{"content": "The ans"}], "insufficient_system_resource", "the reply was cut off"),
        ([{"content": "The ans"}], "abort", "the reply was cut off"),
        ([{"content": "The ans"}], None, "the reply was cut off"),
        ([{"content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "stop", "the reply holds a part of type"),
        ([{"content": 4}], "stop", "the reply holds a part that is no text"),
    ],
)
def test_unusable_reply_is_one_sentence(tmp_path, deltas, finish, sentence):
    with Server(deltas, finish) as server:
        with refused(problem=re.compile(sentence)):
            sample(server, tmp_path)
        assert len(server.received) <= 2
        assert all(body["messages"] == ASKED[0] for body in server.received)  # a sample is asked for in the same words


def test_an_annotator_is_told_what_was_wrong_and_its_refusal_is_its_reply(tmp_path):
    with Server([{"refusal": "I can't help."}]) as server:
        found, _ = request_all(
            server.endpoint(), [Request("q", ASKED[0])], lambda _, text: text, tmp_path / "j", "test"
        )
        assert found == {"q": "I can't help."}
    with Server([TOOL], "tool_calls") as server, refused(problem="first q: it calls add"):
        request_all(server.endpoint(), [Request("q", ASKED[0])], lambda _, text: text, tmp_path / "k", "test")
    assert "it calls add" in server.received[1]["messages"][2]["content"]


PARAMETERS = ("temperature", "top_p", "max_tokens", "stream_options")


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("status", [400, 422])
def test_null_leaves_a_parameter_out_and_a_refusal_says_so(tmp_path, name, status):
    def refuse(body):
        found = {"max_tokens", "max_completion_tokens"} if name == "max_tokens" else {name}
        if found & body.keys():
            return status, json.dumps({"error": {"message": f"Unsupported parameter: '{name}' is not supported."}})
        return None

    with Server([{"content": "4"}], refuse=refuse) as server:
        with refused(problem=re.compile(rf"answered {status} .*; '{name}: null' at the endpoint leaves it out")):
            sample(server, tmp_path)
        server.received.clear()
        assert sample(server, tmp_path, **{name: None}) == "4"
        assert server.received[0].keys() == {"model", "messages", "stream", *PARAMETERS} - {name}


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    "told", ["Use 'max_completion_tokens' instead.", "max_tokens: Extra inputs are not permitted", "Unknown max_tokens"]
)
def test_another_name_for_the_most_tokens_is_tried_whatever_the_status(tmp_path, status, told):
    with Server(
        [{"content": "4"}], refuse=lambda b: (status, json.dumps(told)) if "max_tokens" in b else None
    ) as server:
        assert sample(server, tmp_path) == "4"
        assert [body.get("max_completion_tokens") for body in server.received] == [None, 50]


def test_a_value_that_is_refused_is_not_taken_for_an_unknown_parameter(tmp_path):
    told = json.dumps({"error": {"message": "max_tokens is too large: 50, at most 40"}})
    with Server(refuse=lambda body: (400, told)) as server:
        with refused(problem="at most 40") as error:
            sample(server, tmp_path)
        assert "null" not in str(error.value)
        assert len(server.received) == 1


def test_a_budget_needs_to_know_what_a_reply_may_cost():
    with pytest.raises(ValueError, match="max_tokens: found null beside a budget"):
        Endpoint(base_url="http://x", model="m", max_tokens=None, budget=Budget(tokens=5))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SSL_CERT_FILE", "/not/there.pem"),
        ("HTTPS_PROXY", "nonsense://me:secret@host:1"),
        ("ALL_PROXY", "socks9://me:secret@host"),
    ],
)
def test_client_setup_error_is_one_sentence(tmp_path, monkeypatch, name, value):
    for other in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(other, raising=False)
        monkeypatch.delenv(other.lower(), raising=False)
    monkeypatch.setenv(name, value)
    with (
        Server([{"content": "4"}]) as server,
        refused(problem="no connection to it can be set up", expected=name) as error,
    ):
        sample(server, tmp_path)
    assert "secret" not in str(error.value)
