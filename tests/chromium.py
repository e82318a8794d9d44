"""A headless Chromium driven over its DevTools protocol through two pipes: no driver, no port, no network."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync --disable-extensions"
).split()


class Chromium:
    """A browser with an empty profile; close it.

    Args:
        profile: An empty folder for what the browser keeps.
        patience: Seconds after which a silent browser is an error.
    """

    def __init__(self, profile: Path, patience: float = 60) -> None:
        self.patience = patience
        self._unread = b""
        self._answers: dict[int, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self._count = 0
        commands, self._to = os.pipe()
        self._from, replies = os.pipe()
        # The browser reads commands from descriptor 3 and writes replies to 4. Not every shell but bash can
        # redirect descriptors of two digits.
        redirected = ["bash", "-c", f'exec "$0" "$@" 3<&{commands} 4>&{replies}', str(PROGRAM)]
        self._process = subprocess.Popen(
            [*redirected, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"],
            pass_fds=(commands, replies),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(replies)

    def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Sends a command and waits for its result."""
        self._count += 1
        command: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if session:
            command["sessionId"] = session
        os.write(self._to, json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + self.patience
        while self._count not in self._answers:
            self.read(deadline - time.monotonic())
        answer = self._answers.pop(self._count)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def read(self, seconds: float) -> None:
        """Takes in what the browser says next."""
        if not select.select([self._from], [], [], max(seconds, 0))[0]:
            raise TimeoutError(f"Chromium was silent for {self.patience} s")
        received = os.read(self._from, 1 << 20)
        if not received:
            raise RuntimeError(f"Chromium has ended with code {self._process.wait()}")
        *messages, self._unread = (self._unread + received).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self.events.append(message)

    def open(self, path: Path, width: int, height: int, *, dark: bool = False, phone: bool = False) -> Page:
        """Opens a file in a new page of this size and waits until it has loaded."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.send(f"{domain}.enable")
        page.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip
        page.send("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.send("Emulation.setEmulatedMedia", features=[scheme])
        page.send("Page.navigate", url=path.resolve().as_uri())
        page.wait("document.readyState === 'complete' && location.protocol === 'file:'")
        return page

    def close(self) -> None:
        try:
            self.send("Browser.close")
            self._process.wait(10)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._to)
            os.close(self._from)


class Page:
    """One page of a browser."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self.browser, self.session = browser, session

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.send(method, self.session, **params)

    def events(self, method: str) -> list[dict[str, Any]]:
        """The parameters of all events of a kind so far."""
        told = self.browser.events
        return [
            event["params"]
            for event in told
            if event.get("sessionId") == self.session and event["method"] == method
        ]

    def run(self, script: str) -> Any:
        """The value of an expression; a promise is awaited."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Waits until an expression is true."""
        deadline = time.monotonic() + self.browser.patience
        while not self.run(condition):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{condition} did not come true within {self.browser.patience} s")
            time.sleep(0.02)

    def settle(self) -> None:
        """Waits until what was asked for is drawn."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        held = {"mousePressed": 1, "mouseMoved": 1, "mouseReleased": 0, "mouseWheel": 0}[kind]
        button = "none" if kind == "mouseWheel" else "left"
        params = {"type": kind, "x": x, "y": y, "button": button, "buttons": held, "clickCount": held} | more
        self.send("Input.dispatchMouseEvent", **params)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.mouse("mousePressed", *start)
        for share in (0.25, 0.5, 0.75, 1.0):
            x, y = (a + share * (b - a) for a, b in zip(start, end, strict=True))
            self.mouse("mouseMoved", x, y)
        self.mouse("mouseReleased", *end)
        self.settle()

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        self.send("Input.dispatchTouchEvent", type=kind, touchPoints=touches)

    def key(self, name: str) -> None:
        """Presses and releases a key; a printing one is given as its letter."""
        text = {"text": name} if len(name) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            code = {" ": "Space"}.get(name, name)
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=name,
                code=code,
                **(text if kind == "keyDown" else {}),
            )
        self.settle()

    def middle(self, selector: str) -> tuple[float, float]:
        """Middle of an element, scrolled into sight, in pixels of the window."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{element}.scrollIntoView({{block: 'nearest'}})")
        box = self.run(f"{element}.getBoundingClientRect().toJSON()")
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def click(self, selector: str) -> None:
        at = self.middle(selector)
        self.mouse("mousePressed", *at)
        self.mouse("mouseReleased", *at)
        self.settle()

    def pixels(self, selector: str) -> str:
        """A canvas's content, as a data URI of its PNG."""
        return self.run(f"document.querySelector({json.dumps(selector)}).toDataURL()")

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))
