"""Units beside values, and units that contradict each other."""

from __future__ import annotations

import pytest

from gdpo.grading.math_units import contradict, leading_unit, value_and_unit


@pytest.mark.parametrize(
    ("latex", "value", "unit"),
    [
        (r"12\text{ cm}^2", "12", "cm^2"),
        (r"30 \frac{\text{m}}{\text{s}}", "30", "m/s"),
        (r"40^\circ\text{ N}", "40", "degree N"),
        (r"10\ \Omega", "10", "ohm"),
        ("12 km/h", "12", "km/h"),
        (r"-\$5", "-5", "$"),
        ("3.50 €", "3.50", "€"),
        (r"2.5\text{ million dollars}", "2500000", "dollars"),
        ("0.1234 million", "123400", ""),
        (r"3\text{ dozen}", "36", ""),
        ("8 oranges", "8", "oranges"),
        ("3t", "3t", ""),
        ("2 x", "2 x", ""),
        (r"5\text{ or more}", r"5\text{ or more}", ""),
        (r"50\%", r"50\%", ""),
        (r"\text{Evelyn}", r"\text{Evelyn}", ""),
    ],
)
def test_value_and_unit(latex: str, value: str, unit: str) -> None:
    assert value_and_unit(latex) == (value, unit)


@pytest.mark.parametrize(
    ("reference", "answer", "other"),
    [
        ("cm", "m", True),
        ("cm", "centimeters", False),
        ("cm", "cm^2", True),
        ("sq cm", "cm^2", False),
        ("mph", "miles per hour", False),
        ("mph", "km/h", True),
        ("feet per second squared", "ft/s^2", False),
        ("AM", "a.m.", False),
        ("AM", "PM", True),
        ("AM", "", True),
        ("", "AM", False),
        ("PM", "in the afternoon", False),
        ("degree", "degree C", False),
        ("degree C", "degree F", True),
        ("degree", "radians", True),
        ("$", "cents", True),
        ("$", "dollars", False),
        ("apples", "cm", False),
        ("cm", "", False),
        ("degree N", "degree S", True),
    ],
)
def test_units_that_contradict(reference: str, answer: str, other: bool) -> None:
    assert contradict(reference, answer) is other


def test_leading_unit_of_prose() -> None:
    texts = [" miles per hour.", " PM", " million people", " in total", ", since", " apples", " a day"]
    assert [leading_unit(text) for text in texts] == ["miles per hour", "PM", "million", "", "", "", ""]
