"""Asking an endpoint: retries, re-asks, budget, journal and key, against a server that does everything wrong."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from gdpo.models.endpoint import (
    Request,
    again,
    complete_all_endpoint,
    completion,
    identity,
    request_all,
)
from gdpo.models.openai_client import most_tokens
from gdpo.models.request_log import Entry, Journal
from gdpo.models.request_pace import MAX_CONSECUTIVE_FAILURES, backoff_seconds
from tests.fault_server import CANARY, FaultServer, check, endpoint, reply, requests, seeded
from tests.refusal import refused


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("CANARY_KEY", CANARY)


def sampled(samples, temperature, top_p, max_new_tokens):
    from gdpo.models.sampling_types import Sampling  # which imports torch

    return Sampling(samples, temperature, top_p, max_new_tokens, batch_size=8, seed=0)


def events(journal):
    return [json.loads(line) for line in journal.read_text().splitlines()]


def test_every_request_is_answered_once_and_a_second_call_asks_nothing(tmp_path, capsys):
    journal = tmp_path / "work" / "j.jsonl"
    with FaultServer(reply, delay=0.02) as server:
        values, totals = request_all(endpoint(server), requests(20), check, journal, "test")
        assert values == {f"q{n}": f"what is {n}?" for n in range(20)}
        assert list(values) == [f"q{n}" for n in range(20)]
        assert server.most_in_flight <= 8
        assert server.keys == {f"Bearer {CANARY}"}
        again_values, again_totals = request_all(endpoint(server), requests(20), check, journal, "test")
        assert (again_values, again_totals) == (values, totals)
        assert len(server.received) == 20
    assert totals.requests == totals.replies == 20
    assert totals.retries == totals.asked_again == totals.estimated == 0
    assert totals.money is None
    assert "test: 20 of 20 answered; in all 20 requests" in capsys.readouterr().err


def test_request_body_has_the_endpoints_settings(tmp_path):
    with FaultServer(reply) as server:
        request_all(endpoint(server, temperature=0.5, top_p=0.9), requests(1), check, tmp_path / "j", "test")
    assert server.received == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "what is 0?"}],
            "max_tokens": 100,
            "temperature": 0.5,
            "top_p": 0.9,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


@pytest.mark.parametrize("fault", ["429", "500", "408", "hang", "stall", "cut", "unfinished", "garbage"])
def test_a_failed_attempt_is_made_again(tmp_path, fault):
    journal = tmp_path / "j"
    with FaultServer(reply, lambda body, seen: fault if seen < 2 else "ok") as server:
        values, totals = request_all(
            endpoint(server, timeout=1.0 if fault in ("hang", "stall") else 20.0), requests(1), check, journal, "test"
        )
    assert values == {"q0": "what is 0?"}
    assert (totals.requests, totals.retries, totals.asked_again) == (3, 2, 0)
    # An error status costs nothing; of a reply whose end was not seen, everything that was reserved counts as spent.
    reserved = sum(most_tokens(requests(1)[0].messages, endpoint("http://x")))
    spent = [e.get("prompt", 0) + e.get("completion", 0) for e in events(journal) if e["event"] == "failed"]
    assert spent == ([0, 0] if fault in ("429", "500") else [reserved, reserved])


def test_unfit_reply_is_asked_again_with_the_reason_and_counted(tmp_path):
    journal = tmp_path / "j"
    with FaultServer(reply, lambda body, seen: "wrong schema" if len(body["messages"]) == 1 else "ok") as server:
        values, totals = request_all(endpoint(server), requests(1), check, journal, "test")
        assert values == {"q0": "what is 0?"}
        assert (totals.requests, totals.retries, totals.asked_again) == (2, 0, 1)
        first, second = server.received
        assert second["messages"][0] == first["messages"][0]
        assert second["messages"][1] == {"role": "assistant", "content": '{"skills": ["answer 1;"]}'}
        assert "it has no 'said'" in second["messages"][2]["content"]
        assert totals.prompt_tokens + totals.completion_tokens == server.charged
        request_all(endpoint(server), requests(1), check, journal, "test")
        assert len(server.received) == 2


def test_requests_that_never_fit_are_named_after_everything_else_is_done(tmp_path):
    journal, bad = tmp_path / "j", ("what is 3?", "what is 5?")
    stubborn = [True]

    def fault(body, seen):
        return "wrong schema" if stubborn[0] and body["messages"][0]["content"] in bad else "ok"

    with FaultServer(reply, fault) as server:
        with refused(problem=re.compile(r"test: 2 had no reply that fits, first q[35]: it has no 'said'; 8 of 10 are")):
            request_all(endpoint(server, max_rephrasings=2), requests(10), check, journal, "test")
        assert len(server.received) == 8 + 2 * 2
        with refused(problem=re.compile(r"2 had no reply that fits")):
            request_all(endpoint(server, max_rephrasings=2), requests(10), check, journal, "test")
        assert len(server.received) == 8 + 2 * 4  # a further call asks for those alone, as often again
        stubborn[0] = False
        values, _ = request_all(endpoint(server, max_rephrasings=2), requests(10), check, journal, "test")
        assert len(values) == 10
        assert len(server.received) == 8 + 2 * 5


def test_a_reply_cut_by_its_length_does_not_fit(tmp_path):
    with FaultServer(reply, lambda body, seen: "too long") as server, refused(problem=re.compile("cut off at 100")):
        request_all(endpoint(server), requests(1), check, tmp_path / "j", "test")


def test_refused_request_does_not_stop_the_others(tmp_path):
    """A provider's filter answers 400 to some prompts of safety sets; the others are still to be paid for only once."""

    def fault(body, seen):
        return "400" if body["messages"][0]["content"] == "what is 9?" else "ok"

    with FaultServer(reply, fault) as server:
        with refused(problem=re.compile(r"1 had no reply that fits, first q9: \S+ answered 400 .*29 of 30 are")):
            request_all(endpoint(server, concurrency=1), requests(30), check, tmp_path / "j", "test")
        assert len(server.received) == 30


def content(body):
    return body["messages"][0]["content"]


@pytest.mark.parametrize("status", ["400", "413", "422"])
def test_the_first_request_may_be_refused(tmp_path, status):
    """Two at the start, one after the other; a further call asks for these alone."""

    def fault(body, seen):
        return status if content(body) in ("what is 0?", "what is 1?") else "ok"

    with FaultServer(reply, fault) as server:
        settings = endpoint(server, concurrency=1)
        for received in (30, 32):
            with refused(problem=re.compile(rf"2 had no reply that fits, first q0: .*{status} .*28 of 30")):
                request_all(settings, requests(30), check, tmp_path / "j", "test")
            assert len(server.received) == received


@pytest.mark.parametrize("concurrency", [1, 8])
def test_an_endpoint_that_refuses_everything_ends_the_call(tmp_path, concurrency):
    with FaultServer(reply, lambda body, seen: "400") as server:
        for left_to in (None, "others"):
            with refused(problem=re.compile(r"\d+ requests were refused and none answered: .* 400")):
                request_all(
                    endpoint(server, concurrency=concurrency), requests(30), check, tmp_path / "j", "test", left_to
                )
        assert 2 * MAX_CONSECUTIVE_FAILURES <= len(server.received) <= 2 * (concurrency + MAX_CONSECUTIVE_FAILURES - 1)


def test_refusals_that_come_before_the_first_reply_do_not_end_the_call(tmp_path):
    """Six of the first eight are refused at once, while the other two take their time."""

    def slow(body, number):
        time.sleep(0.5)
        return reply(body, number)

    def fault(body, seen):
        return "400" if content(body) in [f"what is {n}?" for n in range(6)] else "ok"

    with FaultServer(slow, fault) as server:
        values, _ = request_all(endpoint(server), requests(12), check, tmp_path / "j", "test", "others")
    assert list(values) == [f"q{n}" for n in range(6, 12)]


def test_unfit_requests_are_left_to_the_fallback_once(tmp_path, capsys):
    """q0 is refused, q3 never fits: 8 replies, 1 refusal, 3 asks. Where 4 asks are allowed, q3 alone has one more."""
    faults = {"what is 0?": "400", "what is 3?": "wrong schema"}
    with FaultServer(reply, lambda body, seen: faults.get(content(body), "ok")) as server:
        settings = endpoint(server, max_rephrasings=3, concurrency=1)
        for received in (8 + 1 + 3, 8 + 1 + 3, 8 + 1 + 4):
            asks = 4 if received == 8 + 1 + 4 else 3
            settings = settings.model_copy(update={"max_rephrasings": asks})
            values, _ = request_all(settings, requests(10), check, tmp_path / "j", "test", "others")
            assert sorted(values) == [f"q{n}" for n in (1, 2, 4, 5, 6, 7, 8, 9)]
            assert len(server.received) == received
            told = capsys.readouterr().err
            assert "test: 2 of 10 had no reply that fits, first q" in told and "they are left to others" in told
        faults.clear()
        values, _ = request_all(settings, requests(10), check, tmp_path / "j", "test")  # which leaves nothing
        assert len(values) == 10


@pytest.mark.parametrize(
    ("fault", "changes", "message"),
    [
        ("ok", {"budget": {"tokens": 500}}, "budget is spent"),
        ("401", {}, "refused the key"),
        ("500", {}, "3 requests in a row had no reply"),
    ],
)
def test_a_call_that_ends_early_leaves_nothing(tmp_path, fault, changes, message):
    with (
        FaultServer(reply, lambda body, seen: fault) as server,
        refused(problem=re.compile(message)),
    ):
        request_all(endpoint(server, **changes), requests(40), check, tmp_path / "j", "test", "others")


def test_a_request_that_no_attempt_reached_is_not_left(tmp_path):
    """A server that fails is no refusal: another call may find it well."""

    def fault(body, seen):
        return "500" if content(body) == "what is 3?" else "ok"

    with (
        FaultServer(reply, fault) as server,
        refused(problem=re.compile(r"1 had no reply that fits, first q3: .*500")),
    ):
        request_all(endpoint(server), requests(10), check, tmp_path / "j", "test", "others")


def test_an_endpoint_that_is_down_ends_the_call(tmp_path):
    with FaultServer(reply) as server:
        gone = server.url
    with refused(
        problem=re.compile(r"3 requests in a row had no reply, .* no connection to http://127\S+, 3 attempts")
    ):
        request_all(endpoint(gone), requests(100), check, tmp_path / "j", "test")
    sent = [entry for entry in events(tmp_path / "j") if entry["event"] == "sent"]
    assert len(sent) <= (8 + MAX_CONSECUTIVE_FAILURES) * 3
    with Journal(tmp_path / "j") as journal:
        assert journal.prompt == journal.completion == 0  # nothing was ever sent


@pytest.mark.parametrize("kind", ["tokens", "money"])
def test_budget_is_never_exceeded_and_raising_it_pays_for_the_rest(tmp_path, kind):
    """All faults but a wrong reply's, which a test cannot tell from a further request; prices are 1 a token."""
    price = {"prompt": 1e6, "completion": 1e6}
    journal, faults = tmp_path / "j", ("429", "500", "stall", "cut", "hang", "garbage")
    with FaultServer(reply, seeded(1, 0.3, faults)) as server:
        settings = endpoint(server, timeout=1.0, attempts=20, price=price, budget={kind: 4000})
        with refused(problem=re.compile(rf"budget is spent .*raise 'budget\.{kind}'.* of 60 are answered")) as error:
            request_all(settings, requests(60), check, journal, "test")
        assert server.charged <= 4000
        with Journal(journal) as kept:
            assert 3000 < kept.prompt + kept.completion <= 4000
        answered = len(server.answered)
        assert 0 < answered < 60
        assert f"{answered} of 60 are answered" in str(error.value)
        with refused(problem=re.compile("budget is spent")):
            request_all(settings, requests(60), check, journal, "test")
        assert len(server.answered) == answered
        more = settings.model_copy(update={"budget": settings.budget.model_copy(update={kind: 10**6})})
        values, totals = request_all(more, requests(60), check, journal, "test")
        assert len(values) == len(server.answered) == 60
    assert totals.money == totals.prompt_tokens + totals.completion_tokens


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_completions_are_ordered_and_include_reasoning(tmp_path, field):
    sampling = sampled(3, 0.7, 0.9, 50)
    conversations = [request.messages for request in requests(4)]
    with FaultServer(
        lambda body, n: f"{body['messages'][0]['content']} answer {n};", reasoning=(field, "hm")
    ) as server:
        extra = {}
        texts = complete_all_endpoint(endpoint(server), conversations, sampling, tmp_path / "j", extra)
        assert [len(group) for group in texts] == [3] * 4
        assert len({text for group in texts for text in group}) == 12
        for number, group in enumerate(texts):
            assert all(text.startswith(f"<think>\nhm\n</think>\n\nwhat is {number}? answer") for text in group)
        sent = {(body["temperature"], body["top_p"], body["max_tokens"]) for body in server.received}
        assert sent == {(0.7, 0.9, 50)}
        assert extra["endpoint"]["requests"] == 12
        fewer = sampled(2, 0.7, 0.9, 50)
        assert complete_all_endpoint(endpoint(server), conversations, fewer, tmp_path / "j") == [t[:2] for t in texts]
        assert len(server.received) == 12


def test_two_processes_at_one_journal_pay_once_for_what_both_ask(tmp_path):
    """0 to 19 and 10 to 29, of 2 samples each: 60 requests; the second process waits and says so."""
    code = (
        "import sys; from pathlib import Path; from types import SimpleNamespace\n"
        "from tests.models.test_endpoint import *\n"
        "talks = [request.messages for request in requests(30)[int(sys.argv[3]):][:20]]\n"
        "sampling = SimpleNamespace(samples=2, temperature=0.7, top_p=0.9, max_new_tokens=50)\n"
        "print('ready', flush=True), input()\n"
        "texts = complete_all_endpoint(endpoint(sys.argv[1]), talks, sampling, Path(sys.argv[2]))\n"
        "print(json.dumps(texts))"
    )
    with FaultServer(reply, delay=0.3) as server:
        command = [sys.executable, "-c", code, server.url, str(tmp_path / "j")]
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        first, second = (subprocess.Popen([*command, start], text=True, **streams) for start in ("0", "10"))
        # Both have imported before the first asks: that takes longer than all of its requests.
        assert [process.stdout.readline() for process in (first, second)] == ["ready\n"] * 2
        first.stdin.write("\n")
        first.stdin.flush()
        server.wait_for(1)
        told = [process.communicate(given, timeout=60) for process, given in ((second, "\n"), (first, None))]
        (texts_second, said), (texts_first, _) = told
    assert (first.returncode, second.returncode) == (0, 0), told
    assert len(server.received) == len(server.answered) == 60
    assert json.loads(texts_second)[:10] == json.loads(texts_first)[10:]
    assert said.count("waiting for it") == 1


def test_a_completion_keeps_one_think_block():
    entry = Entry(event="replied", id="i", reply="<think>\na\n</think>\n\nb")
    assert completion(entry) == entry.reply
    assert completion(entry.model_copy(update={"reply": "a\n</think>\n\nb"})) == entry.reply
    assert completion(entry.model_copy(update={"reply": " b ", "reasoning": "a\n"})) == entry.reply
    assert completion(entry.model_copy(update={"reply": "b"})) == "b"


def test_a_completion_cut_by_its_length_is_kept(tmp_path):
    with FaultServer(lambda body, number: "and so on", lambda body, seen: "too long") as server:
        texts = complete_all_endpoint(
            endpoint(server), [requests(1)[0].messages], sampled(1, 0.0, 1.0, 5), tmp_path / "j"
        )
    assert texts == [["and so on"]]


def test_identity_ignores_base_url_key_and_budget():
    request = Request("q", [{"role": "user", "content": "x"}])
    there, here = endpoint("http://there/v1"), endpoint("http://here/v1", budget={"tokens": 5})
    assert identity(there, request) == identity(here, Request("other", request.messages))
    changed = [
        identity(there, Request("q", [{"role": "user", "content": "y"}])),
        identity(there, Request("q", request.messages, 1)),
        *(identity(endpoint("http://there/v1", **c), request) for c in ({"model": "n"}, {"max_tokens": 9})),
        *(identity(endpoint("http://there/v1", **c), request) for c in ({"temperature": 1.0}, {"top_p": 0.5})),
    ]
    assert len({identity(there, request), *changed}) == 7


def test_interrupt_ends_at_once_and_a_second_call_resumes(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.models.test_endpoint import *\n"
        # Tests that a shell runs in the background are started with this signal ignored, and would hand that on.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try: request_all(endpoint(sys.argv[1]), requests(60), check, Path(sys.argv[2]), 'test')\n"
        "except KeyboardInterrupt: sys.exit(130)"
    )
    with FaultServer(reply, delay=1.0) as server:
        command = [sys.executable, "-c", code, server.url, str(tmp_path / "j")]
        client = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        server.wait_for(10)
        started = time.monotonic()
        client.send_signal(signal.SIGINT)
        _, told = client.communicate()
        assert client.returncode == 130
        assert time.monotonic() - started < 20
        assert "interrupted" in told and "Traceback" not in told
        stored = server.stored((tmp_path / "j").read_text())
        before, server.delay = len(server.received), 0.0
        values, _ = request_all(endpoint(server), requests(60), check, tmp_path / "j", "test")
        assert len(values) == 60
        assert len(stored) >= 10 - 8
        assert not [body for body in server.received[before:] if body in stored.values()]


def test_waits_double_up_to_a_minute_with_jitter():
    draw = random.Random(0)
    for attempt, longest in ((0, 1), (1, 2), (4, 16), (20, 60)):
        waits = [backoff_seconds(attempt, 1.0, draw) for _ in range(200)]
        assert longest / 2 <= min(waits) < 0.6 * longest
        assert 0.9 * longest < max(waits) <= longest


def test_a_longer_wait_than_is_reasonable_ends_the_call(tmp_path, monkeypatch):
    monkeypatch.setattr("gdpo.models.request_pace.MAX_REQUESTED_WAIT", 0.01)
    with (
        FaultServer(reply, lambda body, seen: "429") as server,
        refused(problem=re.compile(r"429 .*asks to wait 0 s")),
    ):
        request_all(endpoint(server), requests(9), check, tmp_path / "j", "test")
    assert len(server.received) <= 8


def test_unfit_reply_is_quoted_shortened():
    told = again([{"role": "user", "content": "x"}], Entry(event="replied", id="i", reply="y" * 9999), "why")
    assert [len(message["content"]) for message in told[:2]] == [1, 2000]
