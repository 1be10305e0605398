"""Headless Chromium for tests, by WebDriver: Debian's `chromium` and `chromium-driver`, and nothing from PyPI."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "Debian's chromium and chromium-driver are not installed (`make chromium-packages`, as root)"
# Nothing of the browser's own may ask a server: what the log of requests has is then the page's.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # of the standard: the key of an element's id
KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "Left": "\ue012", "Up": "\ue013", "Right": "\ue014", "Down": "\ue015",
        "Tab": "\ue004"}  # fmt: skip


class Browser:
    """One window. `clicks` counts what was clicked."""

    def __init__(self, server: str, profile: Path):
        self.server, self.clicks = server, 0
        wanted = {
            "goog:chromeOptions": {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.base = f"/session/{session['sessionId']}"
        self.size(1280, 900)
        self.post("/url", url="about:blank")
        self.requests()  # those of Chromium's own first page

    def _ask(self, method: str, path: str, body: dict | None = None) -> Any:
        data = None if method != "POST" else json.dumps(body or {}).encode()
        request = Request(self.server + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urlopen(request, timeout=60) as reply:
                return json.load(reply)["value"]
        except HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"].splitlines()[0]) from None

    def post(self, path: str, **body: Any) -> Any:
        return self._ask("POST", self.base + path, body)

    def close(self) -> None:
        self._ask("DELETE", self.base)

    def size(self, width: int, height: int) -> None:
        """The window's inner size, in CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.post("/goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params=metrics)

    def open(self, page: Path, address: str = "") -> None:
        self.post("/url", url="about:blank")  # a new document, also where the address alone differs
        self.post("/url", url=f"{page.as_uri()}{address}")
        self.wait("return document.body.dataset.drawn")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.post("/execute/sync", script=script, args=list(arguments))

    def wait(self, script: str, *arguments: Any, seconds: float = 60) -> Any:
        """What `script` returns, as soon as that is true."""
        end = time.monotonic() + seconds
        while not (found := self.run(script, *arguments)):
            assert time.monotonic() < end, f"not within {seconds} s: {script}"
            time.sleep(0.03)
        return found

    def click(self, selector: str, text: str = "") -> None:
        """A click at the first element of `selector`, as soon as there is one, whose text or label has `text`."""
        script = (
            "return [...document.querySelectorAll(arguments[0])].find((one) => one.checkVisibility() && "
            "`${one.textContent} ${one.ariaLabel || ''}`.includes(arguments[1]))"
        )
        element = self.wait(script, selector, text)
        self.post(f"/element/{element[ELEMENT]}/click")
        self.clicks += 1

    def keys(self, *names: str) -> None:
        """Each key pressed and let go, by its name or as the characters that it types."""
        typed = [KEYS.get(name, name) for name in names]
        steps = [{"type": kind, "value": c} for text in typed for c in text for kind in ("keyDown", "keyUp")]
        self.post("/actions", actions=[{"type": "key", "id": "keyboard", "actions": steps}])

    def hover(self, x: int, y: int) -> None:
        move = {"type": "pointerMove", "x": x, "y": y, "duration": 0}
        self.post("/actions", actions=[{"type": "pointer", "id": "mouse", "actions": [move]}])

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0])?.innerText || ''", selector)

    def texts(self, selector: str) -> list[str]:
        return self.run("return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText)", selector)

    def console(self) -> list[str]:
        """What was written to the console since the last call: errors of scripts, refusals, missing files."""
        return [entry["message"] for entry in self.post("/se/log", type="browser")]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last call."""
        told = [json.loads(entry["message"])["message"] for entry in self.post("/se/log", type="performance")]
        return [one["params"]["request"]["url"] for one in told if one["method"] == "Network.requestWillBeSent"]

    def cpu_seconds(self) -> float:
        """What the page's process has computed since it began: unlike a clock's time, the same on a busy machine."""
        self.post("/goog/cdp/execute", cmd="Performance.enable", params={})
        metrics = self.post("/goog/cdp/execute", cmd="Performance.getMetrics", params={})["metrics"]
        return next(one["value"] for one in metrics if one["name"] == "ProcessTime")

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._ask("GET", f"{self.base}/screenshot")))


def _port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        number: int = bound.getsockname()[1]
        return number


@contextmanager
def browser(directory: Path) -> Iterator[Browser]:
    """A browser with a new profile below `directory`, and its driver, which end with the block."""
    port = _port()
    with (directory / "driver.log").open("w") as log:
        driver = subprocess.Popen([str(DRIVER), f"--port={port}"], stdout=log, stderr=subprocess.STDOUT)
    try:
        opened = _connected(f"http://127.0.0.1:{port}", directory / "profile")
        try:
            yield opened
        finally:
            opened.close()
    finally:
        driver.terminate()
        driver.wait(timeout=20)


def _connected(server: str, profile: Path) -> Browser:
    end = time.monotonic() + 20
    while True:
        try:
            return Browser(server, profile)
        except OSError:  # it does not listen yet
            assert time.monotonic() < end, "chromedriver does not answer"
            time.sleep(0.05)
