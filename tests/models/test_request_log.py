"""The journal: what a kill leaves open is spent, a torn line is cut off, one process at a time, a budget that holds."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gdpo.config.endpoint import Price
from gdpo.models.request_log import Entry, Journal
from tests.fault_server import endpoint
from tests.refusal import refused


def sent(journal, id, **more):
    journal.write(Entry(event="sent", id=id, prompt=10, completion=90, **more))


def test_an_attempt_without_an_end_counts_as_spent_in_full(tmp_path):
    """Two attempts of 10 + 90 tokens are killed, a third of the same request replies with 8 + 4: 212 in all."""
    for _ in range(2):
        with Journal(tmp_path / "j") as journal:
            sent(journal, "a")
    with Journal(tmp_path / "j") as journal:
        assert (journal.prompt, journal.completion) == (20, 180)
        sent(journal, "a")
        journal.write(Entry(event="replied", id="a", prompt=8, completion=4, reply="x", finish="stop"))
    with Journal(tmp_path / "j") as journal:
        totals = journal.totals(Price(prompt=1.0, completion=2.0))
    assert (totals.prompt_tokens, totals.completion_tokens) == (28, 184)
    assert totals.estimated == 200 / 212
    assert totals.money == pytest.approx((28 * 1 + 184 * 2) / 1e6)
    assert (totals.requests, totals.retries, totals.replies) == (3, 2, 1)


def test_a_torn_last_line_is_cut_off(tmp_path):
    path = tmp_path / "j"
    with Journal(path) as journal:
        sent(journal, "a")
        journal.write(Entry(event="replied", id="a", prompt=1, completion=1, reply="x"))
    whole = path.read_bytes()
    for cut in (1, 9, 40):
        path.write_bytes(whole + whole.splitlines(keepends=True)[1][:-cut])
        with Journal(path) as journal:
            assert len(journal.replies["a"]) == 1
        assert path.read_bytes() == whole
    path.write_bytes(whole + b'{"event": "sent", "id"')
    with Journal(path) as journal:
        sent(journal, "b")
    assert path.read_bytes().startswith(whole + b'{"event": "sent", "id": "b"')


def test_invalid_journal_line_is_refused(tmp_path):
    (tmp_path / "j").write_text('{"event": "sent", "id": "a"}\n{"question": 3}\n')
    with (
        refused(path=tmp_path / "j", line=2, expected="an entry of the journal"),
        Journal(tmp_path / "j"),
    ):
        pass


def test_journal_is_locked_for_other_processes(tmp_path):
    code = (
        "import sys; from pathlib import Path; from gdpo.models.request_log import Journal\n"
        "with Journal(Path(sys.argv[1])): pass"
    )
    with Journal(tmp_path / "j"):
        done = subprocess.run([sys.executable, "-c", code, tmp_path / "j"], capture_output=True, text=True)
        assert "UserError" in done.stderr and "another process is asking into this journal" in done.stderr
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "j"]).returncode == 0


def test_a_second_process_may_wait_for_the_first(tmp_path):
    code = (
        "import sys; from pathlib import Path; from gdpo.models.request_log import Journal\n"
        "with Journal(Path(sys.argv[1]), wait=True) as journal: print(sorted(journal.replies))"
    )
    with Journal(tmp_path / "j") as journal:
        second = subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / "j"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert "another process is asking into this journal; waiting for it" in second.stderr.readline()
        sent(journal, "a")
        journal.write(Entry(event="replied", id="a", prompt=1, completion=1, reply="x"))
        assert second.poll() is None
    said, told = second.communicate(timeout=30)
    assert (second.returncode, said, told) == (0, "['a']\n", "")


def test_a_refusal_is_kept_and_costs_nothing(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.write(Entry(event="refused", id="a", key="q", why="because"))
    with Journal(tmp_path / "j") as journal:
        assert journal.refused == {"a": "because"}
        assert journal.requests == journal.prompt == journal.completion == 0


def test_a_budget_holds_what_is_in_flight_at_its_most(tmp_path):
    """In flight 100; a further 100 fits 200 tokens and not 199. At 1 and 2 the million, 200 cost 0.00038."""
    with Journal(tmp_path / "j") as journal:
        sent(journal, "a")
        for budget, exceeded in (
            ({"tokens": 200}, None),
            ({"tokens": 199}, "tokens"),
            ({"money": 0.00038}, None),
            ({"money": 0.00037}, "money"),
        ):
            settings = endpoint("http://x", budget=budget, price={"prompt": 1.0, "completion": 2.0})
            assert journal.exceeded(10, 90, settings) == exceeded
