"""The explorer's page in headless Chromium, from disk: clicks, filters, keys, no request, and `checklist.yaml`."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

from gdpo.report import explorer
from tests.explorer import browser as chromium
from tests.explorer.results import CODE, HOSTILE, ITEMS, made
from tests.explorer.shots import POINT

HERE = Path(__file__).parent
CHECKLIST = yaml.safe_load((HERE / "checklist.yaml").read_text())
CHECKS = (HERE / "checks.js").read_text()
pytestmark = pytest.mark.skipif(not (chromium.CHROMIUM and chromium.DRIVER), reason=chromium.MISSING)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page over results that are written by hand."""
    directory = tmp_path_factory.mktemp("explorer")
    before = Path.cwd()
    os.chdir(directory)
    try:
        layout = made(directory)
        explorer.write(layout, layout.explorer)
        return (layout.explorer / "index.html").resolve()
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with chromium.browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def shown(window, page):
    """The page as it opens. What it does in a test writes nothing to the console and asks no server."""
    window.size(1280, 900)
    window.open(page)
    window.clicks = 0
    yield window
    assert window.console() == []
    root = page.parent.as_uri()
    assert [url for url in window.requests() if not url.startswith((root, "about:", "data:image/"))] == []
    assert window.run("return window.owned === undefined")


def heads(shown) -> list[str]:
    return [text.splitlines()[0] for text in shown.texts("tbody th .rowname div")]


def open_items(shown, row: str = "MetaGDPO, Hop") -> None:
    shown.click(".cell", row)
    shown.wait("return document.querySelector('.detail pre')")


# --- tables


def test_page_opens_with_the_first_table_and_its_badge(window, page):
    window.open(page)
    assert window.text("h2") == "Table 2: <b>retention</b>"
    assert window.texts(".badge b, .badge code") == ["micro", CODE]
    assert heads(window) == ["Origin", "safety-only", "MetaGDPO"] * 2


def test_table_is_sorted_by_a_column(shown):
    """Hop: 12.5, 50 and 52.5 percent, largest first; again, smallest first."""
    shown.click("thead button", "Hop")
    assert heads(shown) == ["MetaGDPO"] * 2 + ["Origin"] * 2 + ["safety-only"] * 2
    assert shown.run("return document.querySelector('th:nth-child(3)').ariaSort") == "descending"
    shown.click("thead button", "Hop")
    assert heads(shown) == ["safety-only"] * 2 + ["Origin"] * 2 + ["MetaGDPO"] * 2


def test_table_is_filtered_by_words(shown):
    shown.keys("/", "tiny-m gdpo")
    assert heads(shown) == ["MetaGDPO"]
    shown.keys(" nothing")
    assert shown.texts("tbody .note") == ["No row matches the filter."]
    shown.keys("Escape")
    assert len(heads(shown)) == 6


def test_differences_are_from_any_row_with_intervals(shown):
    """From safety-only, 5 of 40 on Hop: Origin +37.5, MetaGDPO +40; the same row has none."""
    shown.click(".delta", "safety-only")
    column = shown.texts("tbody tr:nth-child(-n+3) td:nth-child(3)")
    assert [text.splitlines()[0] for text in column] == ["+37.5", "base", "+40.0"]
    assert re.fullmatch(r"\[\d+\.\d, \d+\.\d\]", column[0].splitlines()[1])
    shown.click(".chip", "Retention")
    column = shown.texts("tbody tr:nth-child(-n+3) td:nth-child(3) i")
    assert column == ["100.0", "25.0", "85.0"]  # 5 and 17 of the 20 that Origin had right
    shown.keys("Escape")
    assert shown.run("return document.querySelector('.chip').ariaPressed") == "true"


def test_a_table_of_another_kind_is_shown_as_its_csv(shown, page):
    shown.open(page, "#tables/tableA4")
    assert shown.texts("tbody th, tbody td") == ["metakl", "96", HOSTILE[1], "12"]


# --- items


def test_a_cell_shows_its_items_before_and_after(shown):
    open_items(shown)
    assert shown.text("h2") == "Tiny-S · MetaGDPO on Hop"
    assert shown.texts(".chip b") == ["40", "3", "4", "17", "16"]
    assert len(shown.texts(".item p")) == ITEMS
    prompt, answer, before, after = shown.texts(".detail pre")
    assert (prompt, answer) == (f"{HOSTILE[0]} hop 0?", "duck")
    assert (before, after) == (f"{HOSTILE[0]} 0", f"{HOSTILE[0]} gdpo")
    assert shown.texts(".detail .verdict") == ["right", "wrong"]


def test_items_are_filtered_by_what_changed(shown):
    open_items(shown)
    for chip, change, ids in (("forgotten", "1→0", ["0", "1", "2"]), ("gained", "0→1", ["20", "21", "22", "23"])):
        shown.click(".chip", chip)
        assert shown.texts(".item small") == [f"hop-{number}" for number in ids]
        assert set(shown.texts(".item .change")) == {change}
    shown.keys("/", "hop-22")
    assert shown.texts(".item small") == ["hop-22"]


def test_an_average_has_the_items_of_its_benchmarks(shown):
    open_items(shown, "MetaGDPO, general avg")
    assert shown.texts(".chip b")[0] == str(2 * ITEMS)
    assert {text.split(" ")[0] for text in shown.texts(".item small")} == {"Fact", "Hop"}


def test_items_before_are_those_of_the_row_that_differences_are_from(shown):
    shown.click(".delta", "safety-only")
    open_items(shown)
    assert "safety-only" in shown.texts(".pair h3")[0]
    assert shown.texts(".chip b")[1:3] == ["3", "19"]  # 5 right before, 0 to 4; after, 3 to 23


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_text_is_text(shown, number):
    """Characters that cannot be seen, or that turn the direction, are shown as escapes."""
    if number == 0:
        open_items(shown)
    else:
        shown.open(
            Path(shown.run("return decodeURIComponent(location.pathname)")), f"#items/table2/2/hop/own/all/hop-{number}"
        )
        shown.wait("return document.querySelector('.detail pre')")
    text = shown.texts(".detail pre")[0]
    seen = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in HOSTILE[number])
    assert text == f"{seen} hop {number}?"
    assert shown.run("return document.querySelectorAll('main script, main img, main svg, main a').length") == 0


# --- fronts, claims, figures, runs, groups


def test_a_point_of_a_front_tells_its_numbers(shown):
    shown.click("nav a", "Fronts")
    shown.hover(*shown.wait(POINT))
    told = shown.wait("return document.querySelector('.plot .hoverlayer .hovertext')?.textContent")
    assert "Tiny-S · MetaGDPO" in told and "forgotten" in told and "[" in told
    assert shown.texts("tbody td:nth-child(2)") == ["", "yes"]  # it forgets less and gains more than SFT


def test_a_study_has_its_front(shown, page):
    shown.open(page, "#fronts/study/tradeoff")
    shown.wait("return document.querySelector('.plot .legend')")
    assert shown.texts("tbody td:nth-child(2)") == ["", "", "yes"]


def test_claims_are_filtered_by_verdict_and_rule(shown):
    shown.click("nav a", "Claims")
    shown.wait("return document.querySelector('.verdict')")
    assert len(shown.texts("tbody tr")) == 8
    shown.click(".chip", "contradicted")
    assert shown.wait("return document.querySelectorAll('tbody tr').length === 2")
    assert set(shown.texts("tbody .verdict")) == {"contradicted"}
    shown.run("const s = document.querySelector('.bar select'); s.value = 'best'; s.dispatchEvent(new Event('change'))")
    assert shown.wait(
        "return document.querySelector('tbody .note')"
    )  # contradicted ones have an odd number: difference
    shown.click(".chip", "supported")
    shown.click(".open", "claim 0")
    assert HOSTILE[2] in shown.texts("dialog dd")
    shown.keys("Escape")
    assert shown.wait("return !document.querySelector('dialog').open")


def test_figures_open_one_after_the_other(shown):
    shown.click("nav a", "Figures")
    shown.click(".card")
    first = shown.text("dialog h2")
    assert shown.wait("return document.querySelector('dialog img').naturalWidth > 0")
    shown.keys("Right")
    assert first != shown.text("dialog h2")
    shown.keys("Left")
    assert first == shown.text("dialog h2")


def test_runs_have_their_time(shown):
    shown.click("nav a", "Runs")
    shown.click("thead button", "seconds")
    assert shown.texts("table")[0].split()[-3:] == ["tiny-m", "gdpo", "9.5"]
    assert "train gdpo" in shown.texts("table")[1]


def test_groups_have_their_reward_parts(shown):
    shown.click("nav a", "Groups")
    shown.wait("return document.querySelector('.detail pre')")
    assert shown.texts(".detail .note") == [
        "correctness 1.00 · format 0.50 · length 0.50",
        "correctness 0.00 · format 0.50 · length 0.25",
    ]
    assert shown.texts(".item .change")[0] == "1.25"


# --- keys and addresses


def test_keys_alone_reach_an_item(shown):
    """From the first cell right and down twice to MetaGDPO on Hop, its items, two down, back, and to another view."""
    shown.run("document.querySelector('.cell').focus()")
    shown.keys("Right", "Down", "Down", "Enter")
    shown.wait("return document.querySelector('.detail pre')")
    assert shown.text("h2") == "Tiny-S · MetaGDPO on Hop"
    shown.keys("Down", "Down")
    assert shown.text(".item[aria-selected=true] small") == "hop-2"
    assert shown.run("return location.hash").endswith("/hop-2")
    shown.keys("Escape")
    assert shown.wait("return document.querySelector('.delta') !== null")
    shown.keys("5")
    assert shown.wait("return document.querySelector('h2').textContent.startsWith('Trained runs')")
    shown.keys("?")
    assert shown.text("dialog h2") == "Keys"


def test_each_tab_stop_has_a_name_and_a_ring(shown):
    script = (
        "return [...document.querySelectorAll('a, button, select, input, [tabindex=\"0\"]')]"
        ".filter((one) => one.checkVisibility())"
        ".filter((one) => !(one.ariaLabel || one.textContent.trim() || one.placeholder)).length"
    )
    assert shown.run(script) == 0
    shown.keys("Tab")
    style = "const s = getComputedStyle(document.activeElement); return [s.outlineStyle, parseFloat(s.outlineWidth)]"
    kind, width = shown.run(style)
    assert kind == "solid" and width >= 2


def test_an_address_of_nothing_is_one_sentence(shown, page):
    shown.open(page, "#items/table9/0/hop")
    assert shown.text("h2") == "This address shows nothing."
    assert [line for line in shown.console() if "table9" in line]  # the file that is missing, named by Chromium


# --- the checklist


WRONG = {
    "contrast 2.8": "p.style.color = '#999'",
    "size 11px": "p.style.fontSize = '11px'",
    "overlap": "p.style.cssText = 'position: absolute; left: 30px; top: 75px'",
    "outside": "p.style.marginLeft = '1250px'; p.style.whiteSpace = 'nowrap'",
}


@pytest.mark.parametrize("found", WRONG)
def test_checks_find_what_is_wrong(shown, found):
    make = (
        "const p = document.createElement('p'); p.textContent = 'one line'; document.querySelector('main').prepend(p);"
    )
    shown.run(make + WRONG[found])
    told = shown.run(CHECKS, *(CHECKLIST[key] for key in ("contrast", "text_px", "overlap_px")))
    assert any(line.startswith(found) for line in told)


@pytest.mark.parametrize("width", CHECKLIST["widths"])
@pytest.mark.parametrize("state", CHECKLIST["states"])
def test_contrast_size_and_overlap(shown, page, state, width):
    wanted = CHECKLIST["states"][state]
    shown.size(width, 900)
    shown.open(page, wanted["address"])
    if "click" in wanted:
        shown.click(*wanted["click"])
    shown.wait("return document.querySelector(arguments[0])", wanted["there"])
    assert shown.run(CHECKS, *(CHECKLIST[key] for key in ("contrast", "text_px", "overlap_px"))) == []


@pytest.mark.parametrize("task", CHECKLIST["tasks"])
def test_task_takes_few_clicks(shown, task):
    wanted = CHECKLIST["tasks"][task]
    for selector, text in wanted["clicks"]:
        shown.click(selector, text)
    there = "return document.querySelectorAll(arguments[0]).length === arguments[1]"
    shown.wait(there, wanted["shows"]["selector"], wanted["shows"]["texts"])
    assert shown.clicks <= CHECKLIST["clicks"]


def test_page_is_small_and_opens_soon(window, page):
    size = sum(file.stat().st_size for file in page.parent.rglob("*") if file.is_file())
    assert size <= CHECKLIST["megabytes"] * 1e6
    started = window.cpu_seconds()
    window.open(page)
    assert window.run("return document.querySelectorAll('.cell').length") > 0
    assert window.cpu_seconds() - started <= CHECKLIST["open_seconds"]
