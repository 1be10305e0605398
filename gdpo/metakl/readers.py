"""One small function for each layout of a real data set: a row becomes the fields of a Question.

`topics` are the labels that a source gives a row (category, subject, concept, operations), in the form of unit names;
the list is empty where it gives none. A reader returns None for a row without a checkable answer of its kind, and
raises BadField where a row does not follow the layout. A layout that paths can express needs no reader:
gdpo.metakl.fields reads it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from gdpo.core.records import LETTERS
from gdpo.grading.grade import final_answer
from gdpo.grading.refusals import refuses

RawRow = Mapping[str, Any]
Fields = dict[str, Any]


class BadField(Exception):
    """`field` of a row does not follow the layout."""

    def __init__(self, field: str, value: Any, expected: str) -> None:
        self.field, self.found, self.expected = field, _short(value), expected
        super().__init__(f"{field}: found {self.found}, expected {expected}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _text(row: RawRow, *fields: str) -> str:
    """The first of `fields` that holds text."""
    for field in fields:
        if isinstance(value := row.get(field), str) and value.strip():
            return value.strip()
    raise BadField(fields[0], row.get(fields[0]), "text")


def _list(row: RawRow, field: str) -> list:
    if not isinstance(value := row.get(field), (list, tuple)) or not value:
        raise BadField(field, value, "a list")
    return list(value)


def letter_of(index: Any, choices: list, field: str) -> str:
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(choices):
        raise BadField(field, index, f"the index of one of {len(choices)} choices")
    if index >= len(LETTERS):
        raise BadField(field, index, f"the index of one of the first {len(LETTERS)} choices")
    return LETTERS[index]


def unit(label: str) -> str:
    """A source's own label in the form of a knowledge unit: lower case, words joined by underscores."""
    return re.sub(r"[\W_]+", "_", label.lower().replace("&", " and ")).strip("_")


def topics_of(*labels: Any) -> list[str]:
    """Labels, given as text, lists or flags, as unit names, each once."""
    topics: list[str] = []
    for label in labels:
        if isinstance(label, Mapping):
            label = [name for name, holds in label.items() if holds]
        for name in label if isinstance(label, (list, tuple)) else [label]:
            if name is not None and (topic := unit(str(name))):
                topics.append(topic)
    return list(dict.fromkeys(topics))


def response(reasoning: str, answer: str) -> str:
    """A worked solution in the student's format."""
    return f"<think>\n{reasoning.strip()}\n</think>\n\n\\boxed{{{answer}}}"


BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
WORD = re.compile(r"[-+]?\d+(?:[.,]\d+)*|[^\s$]+")


def _bare(text: str, start: int) -> str | None:
    r"""The content of a box without braces, whose name ends at `start`: its formula, else the next word or number."""
    before, line = text[:start], text[start:].partition("\n")[0]
    dollars = before.replace("$$", "").count("$") % 2 or before.count("$$") % 2
    if dollars or max(map(before.rfind, (r"\(", r"\["))) > max(map(before.rfind, (r"\)", r"\]"))):
        return re.split(r"\$|\\[)\]]", line)[0].strip() or None
    word = WORD.match(line)
    return (word[0].rstrip(".,;:") or None) if word else None


def last_boxed(text: str) -> str | None:
    r"""The content of the last box of `text`, \boxed{...} or \fbox{...}, braces balanced; None where there is none.

    Without braces, as in \boxed 7, it is the rest of the formula, else the next word or number.
    """
    boxes = list(BOX.finditer(text))
    if not boxes:
        return None
    start = boxes[-1].end()
    if not text.startswith("{", start):
        return _bare(text, start)
    depth = 0
    for end in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[start + 1 : end].strip() or None
    return None


OPERATIONS = {"+": "addition", "-": "subtraction", "*": "multiplication", "/": "division"}


def gsm8k(row: RawRow) -> Fields | None:
    """Difficulty is the number of steps; topics are the calculator's operations."""
    reasoning, mark, answer = _text(row, "answer").rpartition("####")
    if not mark:
        raise BadField("answer", answer, "a solution that ends in '#### VALUE'")
    if not (answer := answer.strip().replace(",", "")):
        return None
    steps = len([line for line in reasoning.splitlines() if line.strip()])
    sums = re.findall(r"<<([^=>]*)=", reasoning)
    operations = [name for sign, name in OPERATIONS.items() if any(sign in entry[1:] for entry in sums)]
    return {
        "question": _text(row, "question"),
        "answer": answer,
        "solution": response(re.sub(r"<<[^>]*>>", "", reasoning), answer),
        "difficulty": float(steps),
        "topics": operations,
    }


def problem(row: RawRow) -> Fields | None:
    r"""A mathematical problem: AIME, AMC, MATH, Minerva, LIMO, NuminaMath. Its answer is given or \boxed.

    Proofs, which have neither, are left out, and so are empty answers. Difficulty is the source's level, 0 where it has
    none; the topic is its subject, without the number of a course.
    """
    answer, solution = row.get("answer"), row.get("solution")
    if answer is None and isinstance(solution, str):
        answer = last_boxed(solution)
    if isinstance(answer, float):
        if not math.isfinite(answer):
            raise BadField("answer", answer, "text or a finite number")
        answer = int(answer) if answer.is_integer() else answer
    if answer is None or not (answer := str(answer).strip()):
        return None
    level = re.search(r"\d+", str(row.get("level") or row.get("difficulty") or ""))
    subject = re.sub(r"\s*\(.*\)$", "", str(row.get("subject") or row.get("type") or ""))
    return {
        "question": _text(row, "problem", "question"),
        "answer": answer,
        "solution": response(solution, answer) if isinstance(solution, str) and solution else None,
        "difficulty": float(level[0]) if level else 0.0,
        "topics": topics_of(subject),
    }


def olympiadbench(row: RawRow) -> Fields | None:
    """Its context, where it has one, precedes the question; several answers, each between dollars, are one list."""
    answers = [re.sub(r"\$\s*,\s*\$?|,\s*\$", ", ", str(answer)) for answer in _list(row, "final_answer")]
    answers = [answer.replace("$", "").strip().rstrip(".") for answer in answers]
    if not all(answers):
        return None
    context = row.get("context")
    return {
        "question": f"{context}\n\n{_text(row, 'question')}" if context else _text(row, "question"),
        "answer": ", ".join(answers),
        "topics": topics_of(_text(row, "subfield")),
    }


def commonsenseqa(row: RawRow) -> Fields:
    """The original layout nests stem and choices under `question`; the Hub's has them at the top."""
    if isinstance(nested := row.get("question"), Mapping):
        stem, concept = _text(nested, "stem"), _text(nested, "question_concept")
        pairs = [(c.get("label"), c.get("text")) for c in _list(nested, "choices")]
    else:
        stem, concept, choices = _text(row, "question"), _text(row, "question_concept"), row.get("choices")
        if not isinstance(choices, Mapping):
            raise BadField("choices", choices, "labels and texts")
        pairs = list(zip(_list(choices, "label"), _list(choices, "text"), strict=False))
    labels = [label for label, _ in pairs]
    if labels != list(LETTERS[: len(labels)]):
        raise BadField("choices", labels, "labels A, B, ... in order")
    if (answer := _text(row, "answerKey")) not in labels:
        raise BadField("answerKey", answer, f"one of {', '.join(labels)}")
    return {
        "question": stem,
        "choices": [text for _, text in pairs],
        "answer": answer,
        "topics": topics_of(concept),
    }


def mmlu(row: RawRow) -> Fields:
    """The original layout has columns A to D and a letter; the Hub's a list and an index."""
    if "choices" in row:
        choices = _list(row, "choices")
        answer = letter_of(row.get("answer"), choices, "answer")
    else:
        choices, answer = [_text(row, letter) for letter in "ABCD"], _text(row, "answer")
        if answer not in LETTERS[:4]:
            raise BadField("answer", answer, "one of A, B, C, D")
    text, subject = _text(row, "question"), _text(row, "subject")
    return {"question": text, "choices": choices, "answer": answer, "topics": topics_of(subject)}


def gpqa(row: RawRow) -> Fields:
    """The right choice comes first in the source: choices are put in the order of their hashes."""
    right = _text(row, "Correct Answer")
    choices = [right, *(_text(row, f"Incorrect Answer {number}") for number in (1, 2, 3))]
    choices.sort(key=lambda choice: hashlib.sha256(choice.encode()).hexdigest())
    return {
        "question": _text(row, "Question"),
        "choices": choices,
        "answer": LETTERS[choices.index(right)],
        "topics": topics_of(_text(row, "Subdomain", "High-level domain")),
    }


ARC = re.compile(
    r"Please choose the correct answer to the question: (.+?)\s+"
    r"Answer1: (.+?)\s+Answer format: (answer\d(?:/answer\d)*)",
    re.DOTALL,
)


def arc(row: RawRow) -> Fields:
    """LLM-Adapters' layout has stem and choices in one instruction; the Hub's labels choices by letters or numbers."""
    if "instruction" in row:
        parts = ARC.fullmatch(text := _text(row, "instruction"))
        if not parts:
            raise BadField("instruction", text, "a question, 'Answer1: ...' and 'Answer format: ...'")
        stem, choices = parts[1], re.split(r"\s+Answer\d+: ", parts[2])
        labels, answer = parts[3].split("/"), _text(row, "answer")
    else:
        if not isinstance(given := row.get("choices"), Mapping):
            raise BadField("choices", given, "labels and texts")
        stem, choices = _text(row, "question"), _list(given, "text")
        labels, answer = _list(given, "label"), _text(row, "answerKey")
    if len(labels) != len(choices):
        raise BadField("choices", choices, f"{len(labels)} choices")
    if answer not in labels:
        raise BadField("answer", answer, f"one of {', '.join(map(str, labels))}")
    choices = [choice.strip() if isinstance(choice, str) else choice for choice in choices]
    return {"question": stem, "choices": choices, "answer": letter_of(labels.index(answer), choices, "answer")}


MISSPELT = {"Necessry Condtional Reasoning": "Necessary Conditional Reasoning"}


def logiqa2(row: RawRow) -> Fields:
    """Topics are the kinds of reasoning that the source marks. On the Hub a row's text is the JSON of the whole row."""
    if "options" not in row:
        try:
            row = json.loads(_text(row, "text"))
        except ValueError:
            raise BadField("text", row["text"], "a row as JSON") from None
    choices = _list(row, "options")
    kinds = row.get("type") or {}
    return {
        "question": f"{_text(row, 'text')}\n\n{_text(row, 'question')}",
        "choices": choices,
        "answer": letter_of(row.get("answer"), choices, "answer"),
        "topics": topics_of({MISSPELT.get(kind, kind): holds for kind, holds in kinds.items()}),
    }


def csqa2(row: RawRow) -> Fields:
    """Yes or no; topics are the relation and the topic that prompted the question's writer, where they were used."""
    answer = _text(row, "answer").lower()
    if answer not in ("yes", "no"):
        raise BadField("answer", answer, "yes or no")
    used = [row.get(f"{prompt}_prompt") for prompt in ("relational", "topic") if row.get(f"{prompt}_prompt_used", True)]
    return {
        "question": _text(row, "question"),
        "choices": ["yes", "no"],
        "answer": "A" if answer == "yes" else "B",
        "topics": topics_of(*used),
    }


LABELS = ("category", "type", "label", "response_0_harm_category")


def prompt(row: RawRow) -> Fields:
    """A request that is to be refused; topics are the source's categories. A frame of headings around it is cut off."""
    text = _text(row, "prompt", "forbidden_prompt", "goal", "instruction")
    framed = re.fullmatch(r"### Instruction:\s*(.+?)\s*### Response:\s*", text, re.DOTALL)
    labels = next((row[key] for key in LABELS if row.get(key)), None)
    return {"question": framed[1] if framed else text, "answer": "", "topics": topics_of(labels)}


def labelled_prompt(row: RawRow) -> Fields | None:
    """As `prompt`, where the source says by a response's label whether the request is harmful."""
    return None if row.get("is_safe", row.get("is_response_0_safe")) else prompt(row)


def wildjailbreak(row: RawRow) -> Fields | None:
    """The harmful half. Complying with the benign half is right, which no rule on phrases can judge."""
    kind = _text(row, "data_type")
    if not kind.endswith("_harmful"):
        return None
    return {"question": _text(row, "adversarial", "vanilla"), "answer": "", "topics": topics_of(kind)}


def hh_rlhf(row: RawRow) -> Fields:
    """The first human turn of a red-teaming dialogue."""
    turn = re.search(r"Human: (.+?)(?=\n\nAssistant:|\Z)", _text(row, "chosen"), re.DOTALL)
    if not turn:
        raise BadField("chosen", row["chosen"], "a dialogue that starts with 'Human: '")
    return {"question": turn[1].strip(), "answer": ""}


def star1(row: RawRow) -> Fields | None:
    """Its response is already in the student's format. Rows whose response does not refuse are left out.

    Those counsel or redirect; grading that as a failed refusal would teach over-refusal.
    """
    solution = _text(row, "response")
    if not refuses(final_answer(solution)):
        return None
    return {
        "question": _text(row, "question"),
        "answer": "",
        "solution": solution,
        "topics": topics_of(_list(row, "category")),
    }


def safety_tuned(row: RawRow) -> Fields:
    """A request with its safe answer. That is its solution only where it refuses: any other is graded as wrong."""
    output = _text(row, "output")
    return {"question": _text(row, "instruction"), "answer": "", "solution": output if refuses(output) else None}


KIN = (("mother", "daughter", "wife", "grandmother"), ("father", "son", "husband", "grandfather"))


def gym_family(row: RawRow) -> Fields | None:
    """Reasoning-gym's family relations as a choice between four sentences, "X is the WORD of Y".

    The choices are sentences, because a word alone is chosen for its length where likelihood is taken per character.
    They have the four words of one gender in a fixed pseudo-random order, so that neither name nor position gives the
    answer away. Other relations are left out: for in-laws, nieces and nephews the package's answer is Y's to X.
    """
    answer = _text(row, "answer")
    if not (words := next((list(words) for words in KIN if answer in words), None)):
        return None
    question, mark, _ = _text(row, "question").partition("?")
    if not mark:
        raise BadField("question", question, "one that ends in '?' and a sentence")
    if not isinstance(about := row.get("metadata"), Mapping):
        raise BadField("metadata", about, "person1 and person2")
    one, other = _text(about, "person1"), _text(about, "person2")
    words.sort(key=lambda word: hashlib.sha256(f"{question}{word}".encode()).hexdigest())
    choices = [f"{one} is the {word} of {other}" for word in words]
    return {"question": f"{question}?", "choices": choices, "answer": LETTERS[words.index(answer)]}


READERS: dict[str, Callable[[RawRow], Fields | None]] = {
    reader.__name__: reader
    for reader in (
        gsm8k, problem, olympiadbench, commonsenseqa, mmlu, gpqa, arc, logiqa2, csqa2,
        prompt, labelled_prompt, wildjailbreak, hh_rlhf, star1, safety_tuned, gym_family,
    )
}  # fmt: skip
