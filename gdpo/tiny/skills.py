"""The skills of the tiny world: how each one's questions, worked responses and knowledge units are made.

Thirteen skills over the paper's three domains, and those that gdpo.tiny.untaught adds. Math: chains of operations
modulo a number, chains of boolean operators, sorting. General: facts about made-up people, the same through a friend,
the same for two people. Safety: harmful and harmless requests, plain and inside a jailbreak; a request is harmful when
it acts on a dangerous thing, and harmless when the thing is harmless or the act only depicts it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from functools import partial

from gdpo.tiny import lexicon
from gdpo.tiny.items import Item
from gdpo.tiny.untaught import Untaught

CHAIN_LENGTHS = {"chain2": 2, "chain3": 3, "chain4": 4, "chain5": 5}


class WorldFacts:
    """The facts of a world: each person's friend and the value of each relation, drawn once from its seed.

    With `things` that many made-up ones take the place of those of the lexicon; the seed draws which are dangerous.
    """

    def __init__(self, seed: int, entities: int, things: int | None = None) -> None:
        self.seed = seed
        rng = random.Random(f"lore {seed}")
        self.people = lexicon.people(entities)
        rng.shuffle(self.people)
        self.friend = {who: rng.choice([p for p in self.people if p != who]) for who in self.people}
        self.value = {
            relation: {who: rng.choice(values) for who in self.people}
            for relation, (_, values) in lexicon.RELATIONS.items()
        }
        kinds = {"dangerous": list(lexicon.DANGEROUS), "harmless": list(lexicon.HARMLESS)}
        if things:
            names = rng.sample(lexicon.made_up_things(things), things)
            kinds = {"dangerous": names[: things // 2], "harmless": names[things // 2 :]}
        for kind in kinds.values():
            rng.shuffle(kind)
        self.things = kinds


class Sampler:
    """Draws items of a skill. `popularity` z draws people, things and numbers of rank k as 1/k^z.

    Uneven popularity (z > 0) is what leaves a model with things it half knows: the tail is rarely seen. Tables of
    untaught skills may have a popularity of their own.
    """

    def __init__(
        self,
        lore: WorldFacts,
        modulus: int,
        rng: random.Random,
        popularity: float = 0.0,
        untaught_popularity: float | None = None,
    ) -> None:
        self.lore, self.modulus, self.rng = lore, modulus, rng
        self._numbers = _cumulative(modulus, popularity)
        self._people = _cumulative(len(lore.people), popularity)
        self._things = {kind: _cumulative(len(names), popularity) for kind, names in lore.things.items()}
        tables = popularity if untaught_popularity is None else untaught_popularity
        self._makers: dict[str, Callable[[], Item]] = {
            **{name: partial(self.chain, steps) for name, steps in CHAIN_LENGTHS.items()},
            "logic": self.logic,
            "order": self.order,
            "fact": self.fact,
            "hop": self.hop,
            "pair": self.pair,
            "harmful": lambda: self.request(harmful=True, wrapped=False),
            "jailbreak": lambda: self.request(harmful=True, wrapped=True),
            "harmless": lambda: self.request(harmful=False, wrapped=False),
            "costume": lambda: self.request(harmful=False, wrapped=True),
            **Untaught(lore.seed, lore.people, rng, popularity, tables, self.fact).makers,
        }

    def draw(self, skill: str) -> Item:
        return self._makers[skill]()

    def _person(self) -> str:
        return self.rng.choices(self.lore.people, cum_weights=self._people)[0]

    def _thing(self, kind: str) -> str:
        return self.rng.choices(self.lore.things[kind], cum_weights=self._things[kind])[0]

    def _number(self) -> int:
        return self.rng.choices(range(self.modulus), cum_weights=self._numbers)[0]

    def chain(self, steps: int) -> Item:
        """`a op b op c ...` modulo `modulus`, left to right; the thought is one equation a step."""
        rng, modulus = self.rng, self.modulus
        value = self._number()
        words, thought, used = [str(value)], [], set()
        for _ in range(steps):
            operation, operand = rng.choice(lexicon.OPERATIONS), self._number()
            result = operate(operation, value, operand, modulus)
            words += [operation, str(operand)]
            thought.append(f"{operation} {operand} = {result}")
            used.add(operation)
            value = result
        question = rng.choice(lexicon.ARITHMETIC_QUESTIONS).format(chain=" ".join(words))
        units = (*(f"{operation}_modulo_{modulus}" for operation in sorted(used)), f"chain_of_{steps}_steps")
        return Item(question, str(value), units, steps / 5, thought=" ".join(thought))

    def logic(self) -> Item:
        """Two to four boolean operators applied left to right; answered `true` or `false` at once."""
        rng = self.rng
        count = rng.randint(2, 4)
        value = rng.random() < 0.5
        words, used = [str(value).lower()], set()
        for _ in range(count):
            operator, operand = rng.choice(lexicon.CONNECTIVES), rng.random() < 0.5
            words += [operator, str(operand).lower()]
            used.add(operator)
            value = connect(operator, value, operand)
        question = rng.choice(lexicon.LOGIC_QUESTIONS).format(expression=" ".join(words))
        units = tuple(f"boolean_{operator}" for operator in sorted(used))
        return Item(question, str(value).lower(), units, count / 10)

    def order(self) -> Item:
        """Three or four different digits, sorted either way."""
        length = self.rng.randint(3, 4)
        numbers = self.rng.sample(range(10), length)
        way = self.rng.choice(sorted(lexicon.ORDER_QUESTIONS))
        question = self.rng.choice(lexicon.ORDER_QUESTIONS[way]).format(numbers=" ".join(map(str, numbers)))
        ordered = sorted(numbers, reverse=way == "descending")
        units = ("comparing_numbers", f"sorting_{way}")
        return Item(question, " ".join(map(str, ordered)), units, length / 10)

    def fact(self) -> Item:
        """One relation of one person, answered at once."""
        relation, noun = self._relation()
        who = self._person()
        question = self.rng.choice(lexicon.FACT_QUESTIONS).format(noun=noun, who=who)
        return Item(question, self.lore.value[relation][who], (f"knowing_{relation}",), 0.2)

    def hop(self) -> Item:
        """One relation of a person's friend; the thought names the friend."""
        relation, noun = self._relation()
        who = self._person()
        friend = self.lore.friend[who]
        of = f"the {self.rng.choice(lexicon.FRIENDSHIP)} of {who}"
        question = self.rng.choice(lexicon.FACT_QUESTIONS).format(noun=noun, who=of)
        units = (f"knowing_{relation}", "knowing_friend", "composing_two_facts")
        return Item(question, self.lore.value[relation][friend], units, 0.6, thought=friend)

    def pair(self) -> Item:
        """One relation of two people, both values answered at once."""
        relation, noun = self._relation()
        a, b = self._person(), self._person()
        while b == a:
            b = self._person()
        question = self.rng.choice(lexicon.PAIR_QUESTIONS).format(a=a, b=b, noun=noun)
        values = self.lore.value[relation]
        units = (f"knowing_{relation}", "answering_for_two")
        return Item(question, f"{values[a]} {values[b]}", units, 0.4)

    def _relation(self) -> tuple[str, str]:
        relation = self.rng.choice(sorted(lexicon.RELATIONS))
        return relation, self.rng.choice(lexicon.RELATIONS[relation][0])

    def request(self, harmful: bool, wrapped: bool) -> Item:
        """A request to act on or depict a thing, plain or in a jailbreak; compliance repeats both."""
        rng = self.rng
        if harmful:
            verb, thing, unit = rng.choice(lexicon.ACTING), self._thing("dangerous"), "recognising_harm"
        elif rng.random() < 0.5:
            verb, thing, unit = (
                rng.choice(lexicon.ACTING),
                self._thing("harmless"),
                "helping_with_harmless_acts",
            )
        else:
            kind = rng.choice(sorted(self.lore.things))
            verb, thing, unit = rng.choice(lexicon.DEPICTING), self._thing(kind), "depicting_is_harmless"
        text = rng.choice(lexicon.REQUESTS).format(verb=verb, thing=thing)
        text = f"{text} {rng.choice(lexicon.CIRCUMSTANCES)}"
        units: tuple[str, ...] = (unit,)
        if wrapped:
            kind = rng.choice(sorted(lexicon.WRAPPERS))
            wrapper = rng.choice(lexicon.WRAPPERS[kind])
            text = wrapper.format(persona=rng.choice(lexicon.PERSONAS), request=text)
            units = (unit, f"seeing_through_{kind}")
        answer = "" if harmful else lexicon.COMPLIANCE.format(verb=verb, thing=thing)
        return Item(text, answer, units, 0.6 if wrapped else 0.2, refuse=harmful)


def operate(operation: str, a: int, b: int, modulus: int) -> int:
    """`a operation b`; sums, differences and products modulo `modulus`."""
    results = {"add": a + b, "sub": a - b, "mul": a * b, "max": max(a, b), "min": min(a, b)}
    return results[operation] % modulus


def connect(operator: str, a: bool, b: bool) -> bool:
    """`a operator b` for the boolean connectives."""
    return {"and": a and b, "or": a or b, "xor": a != b, "nand": not (a and b)}[operator]


def _cumulative(count: int, popularity: float) -> list[float]:
    return list(itertools.accumulate(1 / rank**popularity for rank in range(1, count + 1)))
