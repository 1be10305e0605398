# Rewards from functions


def test_a_reward_function_is_called_as_trl_calls_it(tokenizer):
    """By keyword, an entry per completion; a text that answers messages comes as one assistant message."""
    calls = []

    def reward(prompts, completions, completion_ids, answer, **kwargs):
        calls.append((prompts, completions, completion_ids, answer, kwargs))
        return [float(len(ids)) for ids in completion_ids]

    rows = [{"prompt": "1 +", "completions": ["2", "3 4"], "answer": "2", "id": 7}]
    rows += [{"prompt": CHAT, "completions": ["4", answer("5 5")], "answer": "4", "id": 8}]
    scored = apply_reward_funcs(rows, [reward], tokenizer)
    assert calls[0] == (["1 +"] * 2, ["2", "3 4"], [[9, 1], [10, 11, 1]], ["2"] * 2, {"id": [7, 7]})
    assert calls[1] == ([CHAT] * 2, [answer("4"), answer("5 5")], [[11, 1], [12, 12, 1]], ["4"] * 2, {"id": [8, 8]})
    assert [row["rewards"] for row in scored] == [[2.0, 3.0], [2.0, 3.0]]
    assert "rewards" not in rows[0]  # the user's rows stay as they are


def test_several_functions_add_up_where_they_apply(tokenizer):
    """2 x first + 0.5 x second, the second alone where the first has None: (2 + 5, 5), as in TRL's nansum."""

    def first(completions, **_):
        return [1, None]

    def second(completions, **_):
        return [10, 10.0]

    row = {"prompt": "1", "completions": ["2", "3"]}
    assert apply_reward_funcs([row], [first, second], tokenizer, [2.0, 0.5])[0]["rewards"] == [7.0, 5.0]
    assert apply_reward_funcs([row], [first, second], tokenizer)[0]["rewards"] == [11.0, 10.0]


def few(completions, **_):
    return [1.0]


def silent(completions, **_):
    return [1.0, None]


class Scorer:
    """A reward function may be an object, which has no name of its own."""

    def __call__(self, completions, **_):
        return [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("functions", "weights", "key", "fields"),
    [
        ([few], None, "row 0, reward function few", {"found": 1, "expected": "2 rewards"}),
        ([Scorer()], None, "row 0, reward function Scorer", {"found": 3, "expected": "2 rewards"}),
        ([silent], None, "row 0, completions[1]", {"problem": "no reward function gave a reward"}),
        ([few], [1.0, 1.0], "reward_weights", {"found": 2, "expected": "1, one per function"}),
    ],
)
def test_bad_reward_functions(functions, weights, key, fields, tokenizer):
    with refused(DataError, key=key, **fields):
        apply_reward_funcs([{"prompt": "1", "completions": ["2", "3"]}], functions, tokenizer, weights)


def test_a_nan_from_a_function_is_a_nan_reward(tokenizer):
    scored = apply_reward_funcs([TEXT_ROW], [lambda completions, **_: [1.0, math.nan]], tokenizer)
    with refused(DataError, key="row 0, rewards[1]", found="nan", expected="a finite number"):
        tokenize_groups(scored, tokenizer)
