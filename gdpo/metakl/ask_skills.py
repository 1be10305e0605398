"""Annotation by an endpoint's model: the skills that each question needs, each with a short reason (paper, MetaKL 2).

A reply is parsed against one strict form and never executed: a question that makes the model answer in another form
costs one more request, and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gdpo.config.endpoint import Endpoint
from gdpo.core.records import Question, Skills, chat
from gdpo.metakl.prompts import skills_prompt
from gdpo.models.endpoint import Request, request_all

MAX_SKILLS = 12  # ours: skills a question; the paper's questions peak at 4, and few have more than 5 (Fig. A3)
MAX_NAME_LENGTH = 64  # ours: characters of a name; a longer one is a sentence
MAX_REASON_LENGTH = 300  # ours: characters of a reason that are kept
MAX_REPLY_LENGTH = 50_000  # ours: characters; what is longer is no short JSON object, and is not parsed

Annotator = Callable[[list[Question]], list[Skills]]


def annotate(
    questions: list[Question], endpoint: Endpoint, journal: Path, extra: dict, taxonomy: Annotator | None = None
) -> list[Skills]:
    """The skills of every question, in order; the journal's totals go into `extra`.

    `taxonomy` annotates the questions without a valid reply, whose number goes into `extra`; without it they are a
    UserError. Raises UserError otherwise as gdpo.models.endpoint.request_all does; the replies until then stay in
    `journal`.
    """
    requests = [Request(q.id, skills_prompt(q.domain, chat(q)[0]["content"], MAX_SKILLS)) for q in questions]
    fallback = "the taxonomy" if taxonomy else None
    skills, totals = request_all(endpoint, requests, lambda _, text: read_skills(text), journal, "annotate", fallback)
    extra["endpoint"] = asdict(totals)
    if taxonomy:
        unanswered = [question for question in questions if question.id not in skills]
        skills |= {entry.id: entry.skills for entry in (taxonomy(unanswered) if unanswered else [])}
        extra["fallback"] = len(unanswered)
    return [Skills(id=question.id, skills=skills[question.id]) for question in questions]


def read_skills(text: str) -> dict[str, str]:
    """Skill -> reason from a model's reply. Raises ValueError with what to tell the model."""
    reply = json_object(text)
    skills: dict[str, str] = {}
    for name, reason in reply.items():
        if not isinstance(reason, str) or not printable(reason):
            raise ValueError(f"the value of {quote(name)} is no text; expected a short reason")
        skills.setdefault(skill_name(name), printable(reason)[:MAX_REASON_LENGTH])
    if not 1 <= len(skills) <= MAX_SKILLS:
        raise ValueError(f"it has {len(skills)} skills; expected 1 to {MAX_SKILLS}")
    return skills


def json_object(text: str) -> dict[str, Any]:
    """The one JSON object in `text`, which a thought may precede and a fence of a code block enclose.

    Raises ValueError with what to tell the model.
    """
    text = text.rpartition("</think>")[2].strip()
    if len(text) > MAX_REPLY_LENGTH:
        raise ValueError(f"it has {len(text)} characters; expected a short JSON object")
    fenced = re.fullmatch(r"```(?:json)?\s*\n(.*?)\n?\s*```", text, re.DOTALL | re.IGNORECASE)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON ({error.msg} at character {error.pos}); expected one JSON object") from None
    except RecursionError:
        raise ValueError("its JSON is nested too deeply; expected one flat JSON object") from None
    if not isinstance(value, dict):
        raise ValueError(f"it is a JSON {type(value).__name__}; expected one JSON object")
    return value


def skill_name(name: str) -> str:
    """`name` in the form of a unit's name: lower case words of letters and digits joined by underscores.

    Blanks and hyphens become underscores. Raises ValueError where other characters, or too many, are in it.
    """
    normal = re.sub(r"[\s_-]+", "_", name.strip().lower()).strip("_")
    if len(normal) > MAX_NAME_LENGTH:
        raise ValueError(f"the name {quote(name)} has {len(normal)} characters; expected at most {MAX_NAME_LENGTH}")
    if not re.fullmatch(r"[a-z0-9_]*[a-z][a-z0-9_]*", normal):
        raise ValueError(f"the name {quote(name)} is not made of lower case words joined by underscores")
    return normal


def printable(text: str) -> str:
    """`text` on one line, without characters that do not print."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def quote(name: str) -> str:
    """A name as an error quotes it: short and on one line."""
    return json.dumps(name[:MAX_NAME_LENGTH])
