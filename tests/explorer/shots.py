"""Pictures of a finished explorer for docs/: `python -m tests.explorer.shots results/tiny/explorer docs/explorer`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from tests.explorer.browser import Browser, browser

FORGOTTEN = "return document.querySelector('.detail pre')"
# The middle of the last row's point, as soon as it is drawn.
POINT = (
    "const all = [...document.querySelectorAll('.plot .scatterlayer .trace')];"
    "const box = all.at(-1)?.querySelector('.points path')?.getBoundingClientRect();"
    "return box && [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)]"
)
COLOURS = 256  # ours: of a page of few colours; a third of the bytes
SHOTS = ("table", "difference", "items", "front")  # four states, each a file


def take(shown: Browser, page: Path, name: str, out: Path) -> None:
    if name in ("table", "difference"):
        shown.open(page)
    if name == "difference":
        shown.click(".delta", "safety-only")
    if name == "items":
        shown.open(page)
        shown.click(".cell", "MetaGDPO, Hop")
        shown.wait(FORGOTTEN)
        shown.click(".chip", "forgotten")
    if name == "front":
        shown.open(page, "#fronts")
        shown.hover(*shown.wait(POINT))
        shown.wait("return document.querySelector('.plot .hoverlayer .hovertext')")
    path = out / f"{name}.png"
    shown.screenshot(path)
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE)
    few.save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("explorer", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, browser(Path(directory)) as shown:
        for name in SHOTS:
            take(shown, (options.explorer / "index.html").resolve(), name, options.out)


if __name__ == "__main__":
    main()
