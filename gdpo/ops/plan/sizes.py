"""How many questions, groups and tokens there are: counted on disk, or else as the scale expects them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

from gdpo.config.estimates import Expected
from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.core.files import read_jsonl
from gdpo.core.records import Domain

Counts = dict[Domain, float]


@dataclass(frozen=True)
class Groups:
    """A training set's groups."""

    count: float
    size: float  # completions a group
    contrast: float  # the share of groups with two different rewards
    distinct: float  # the share of a group's completions that no other repeats
    prompt: float  # mean tokens
    response: float  # mean tokens


class Sizes:
    """The sizes of a scale. Raises UserError, naming the key, where `expected` lacks a size that is not on disk."""

    def __init__(self, scale: Scale):
        self.scale, self.layout = scale, Layout(scale)
        self.pool = cache(self._pool)
        self.trainset = cache(self._trainset)
        self.groups = cache(self._groups)

    @property
    def expected(self) -> Expected:
        if self.scale.expected is None:
            raise self.lacks("expected", "what `gdpo plan` takes for granted")
        return self.scale.expected

    def lacks(self, key: str, expected: str) -> UserError:
        """The error that the scale's file has no `key`."""
        return UserError(path=self.scale.scale, key=key, found="none", expected=expected)

    def _pool(self) -> Counts:
        """Questions after decontamination, by domain."""
        if self.layout.decontaminated.exists():
            return _domains(self.layout.decontaminated)
        if self.scale.world:
            counts: Counter[Domain] = Counter()
            for skill in self.scale.world.skills.values():
                counts[skill.domain] += skill.pool
            return dict(counts)
        if not self.expected.pool:
            raise self.lacks("expected.pool", "questions by domain")
        return dict(self.expected.pool)

    def answered(self) -> Counts:
        """The pool's questions that base models answer, by domain."""
        limit, pool = self.scale.proficiency.questions, self.pool()
        if isinstance(limit, int):
            return _scaled(pool, limit)
        return {domain: min(n, (limit or pool).get(domain, n)) for domain, n in pool.items()}

    def items(self, name: str) -> float:
        """Test items of a benchmark."""
        path = self.layout.benchmark(name, "test")
        if path.exists():
            return sum(1 for _ in read_jsonl(path))
        available = self.expected.items.get(name) if self.scale.expected else None
        counts = [count for count in (self.scale.benchmark(name).items, available) if count is not None]
        if not counts:
            raise self.lacks(f"expected.items.{name}", "how many items it has")
        return min(counts)

    def _trainset(self, name: str) -> Counts:
        """Questions of a training set, by domain."""
        if self.layout.trainset(name).exists():
            return _domains(self.layout.trainset(name))
        entry = self.scale.trainset(name)
        if self.scale.expected and name in self.scale.expected.mixes:
            return _scaled(self.scale.expected.mixes[name], entry.size)
        if entry.select in ("part", "renoted"):
            whole = self.trainset(entry.parts[0])
            return _scaled({d: n for d, n in whole.items() if entry.domain in (None, d)}, entry.size)
        if entry.select == "union":
            share = entry.size / len(entry.parts)
            parts = [_scaled(self.trainset(part), share) for part in entry.parts]
            return _summed(parts)
        if entry.select == "joined":
            return _scaled(_summed([self.trainset(part) for part in entry.parts]), entry.size)
        if entry.mix and self.scale.world:
            shares = _summed(
                [{skill.domain: skill.mix.get(entry.mix, 0.0)} for skill in self.scale.world.skills.values()]
            )
            return {domain: entry.size * share / sum(shares.values()) for domain, share in shares.items()}
        if entry.domain:
            return {entry.domain: entry.size}
        origins = self.scale.world.skills if self.scale.world else self.scale.sources
        domains = {origins[source].domain for source in entry.sources}
        pool = self.pool()
        return _scaled({d: n for d, n in pool.items() if not domains or d in domains}, entry.size)

    def prompt(self, counts: Mapping[Domain, float]) -> float:
        return _mean(self.expected.prompt_tokens, counts)

    def response(self, counts: Mapping[Domain, float]) -> float:
        return _mean(self.expected.response_tokens, counts)

    def answer(self, counts: Mapping[Domain, float]) -> float:
        return _mean(self.expected.answer_tokens, counts)

    def group_size(self, trainset: str) -> int:
        """Completions a question; a part of a set has those of the whole set."""
        while self.scale.trainset(trainset).derived:
            if not self.scale.trainset(trainset).parts:
                return 1  # a gold response
            trainset = self.scale.trainset(trainset).parts[0]
        return self.scale.respond_of(trainset).group_size

    def _groups(self, trainset: str) -> Groups:
        path, tokenizer = self.layout.groups(trainset), self.layout.model(self.scale.students[0]) / "tokenizer.json"
        if path.exists() and tokenizer.exists():
            return count_groups(path, tokenizer)
        counts, expected = self.trainset(trainset), self.expected
        lengths = self.prompt(counts), self.response(counts)
        size = self.group_size(trainset)
        return Groups(sum(counts.values()), size, expected.contrast, expected.distinct, *lengths)


def count_groups(path: Path, tokenizer: Path) -> Groups:
    """The groups of a file, by the tokenizer in file `tokenizer`; the tokens of a chat template are left out."""
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_file(str(tokenizer))

    def mean_tokens(texts: list[str]) -> float:
        encoded = encoder.encode_batch(texts, add_special_tokens=False)
        return sum(len(encoding.ids) for encoding in encoded) / len(encoded)

    rows = [row for _, row in read_jsonl(path)]
    prompts = [row["prompt"][-1]["content"] for row in rows]
    completions = [text for row in rows for text in row["completions"]]
    distinct = sum(len(set(row["completions"])) for row in rows) / len(completions)
    contrast = sum(len(set(row["rewards"])) > 1 for row in rows) / len(rows)
    size = len(completions) / len(rows)
    return Groups(len(rows), size, contrast, distinct, mean_tokens(prompts), mean_tokens(completions))


def _domains(path: Path) -> Counts:
    return dict(Counter(row["domain"] for _, row in read_jsonl(path)))


def _summed(parts: Sequence[Mapping[Domain, float]]) -> Counts:
    return {domain: sum(part.get(domain, 0.0) for part in parts) for domain in dict.fromkeys(chain(*parts))}


def _scaled(counts: Mapping[Domain, float], size: float) -> Counts:
    """`counts` reduced in equal proportion to at most `size` in all."""
    share = min(1.0, size / max(1e-9, sum(counts.values())))
    return {domain: n * share for domain, n in counts.items()}


def _mean(lengths: Mapping[Domain, float], counts: Mapping[Domain, float]) -> float:
    """The mean length over so many questions of each domain. Raises UserError where a domain has no length."""
    missing = [domain for domain in counts if domain not in lengths]
    if missing:
        raise UserError(
            key="expected", found=f"no tokens of domain {missing[0]}", expected="prompt, response and answer tokens"
        )
    return sum(lengths[d] * n for d, n in counts.items()) / max(1e-9, sum(counts.values()))
