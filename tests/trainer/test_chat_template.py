"""A thought that the chat template opens, by hand: what is put back, and what is left out."""

from __future__ import annotations

import pytest

from gdpo.trainer.chat_template import opening, restore_think, skip_thinking, strip_open_think

OPENED = "<|user|>2 + 2?<|assistant|><think>\n"


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        (OPENED, "<think>\n"),
        ("2 + 2? <think>", "<think>"),
        ("2 + 2? <think> \n\n", "<think> \n\n"),
        ("What does <think> mean?<|assistant|>", ""),
        ("<|assistant|><think>\n\n</think>\n\n", ""),  # Qwen3, its thinking switched off
        ("", ""),
    ],
)
def test_only_a_tag_at_the_end_opens_a_thought(prompt, found):
    assert opening(prompt) == found


@pytest.mark.parametrize(
    ("completion", "rest"),
    [
        # Whole: without the opening that the prompt has, white space included.
        ("<think>\nTwo.\n</think>\n\n4", "Two.\n</think>\n\n4"),
        ("<think>\n\n\tTwo.</think>4", "\n\tTwo.</think>4"),
        ("<think>Two.</think>4", "Two.</think>4"),
        ("\n<think> Two.</think>4", "Two.</think>4"),
        ("<think>\nTwo and", "Two and"),  # cut off
        ("<think>", ""),
        # Without a thought: one that is closed at once.
        ("4", "\n</think>\n\n4"),
        ("So <think>two</think> 4", "\n</think>\n\nSo <think>two</think> 4"),
        # Closed without being opened: what a model wrote behind such a prompt.
        ("Two.\n</think>\n\n4", "Two.\n</think>\n\n4"),
    ],
)
def test_strip_open_think(completion, rest):
    assert strip_open_think(OPENED, completion) == rest
    assert strip_open_think("2 + 2?", completion) == completion
    assert restore_think("2 + 2?", completion) == completion


@pytest.mark.parametrize("generated", ["Two.\n</think>\n\n4", "\n\tTwo.</think>4", "Two and", "", "\n</think>\n\n4"])
def test_strip_open_think_inverts_restore_think(generated):
    assert restore_think(OPENED, generated) == "<think>\n" + generated
    assert strip_open_think(OPENED, restore_think(OPENED, generated)) == generated


def test_skip_thinking_ends_in_an_empty_thought():
    assert skip_thinking(OPENED) == OPENED + "\n</think>\n\n"
    assert skip_thinking(OPENED) + "4" == OPENED + strip_open_think(OPENED, "4")
    assert skip_thinking("2 + 2?") == "2 + 2?"
