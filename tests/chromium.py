"""A headless Chromium driven over its own pipe: no library, no port, no window."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find():
    """The browser's program, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Chromium:
    """One page. `said` collects what it writes to the console, its errors, and all that it tries to load."""

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        self._to_browser, self._from_browser = os.pipe(), os.pipe()
        switches = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            "--hide-scrollbars",
        ]
        # The browser reads commands from descriptor 3 and writes answers to 4.
        shell = f'exec 3<&{self._to_browser[0]} 4>&{self._from_browser[1]}; exec "$@"'
        command = ["bash", "-c", shell, "bash", find(), *switches, f"--user-data-dir={self._folder.name}"]
        ends = (self._to_browser[0], self._from_browser[1])
        self._process = subprocess.Popen(command, pass_fds=ends, stderr=subprocess.DEVNULL)
        for end in ends:
            os.close(end)
        self._reader = os.fdopen(self._from_browser[0], "rb")
        self._numbers, self._session, self.said = itertools.count(1), None, []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        self._session = None
        self.send("Browser.close")
        self._process.wait(20)
        self._reader.close()
        os.close(self._to_browser[1])
        self._folder.cleanup()

    def send(self, method, **params):
        """Run one command of the DevTools protocol and return its answer."""
        number = next(self._numbers)
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": number, "method": method, "params": params, **session}
        os.write(self._to_browser[1], json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path: Path, width, height=900, scheme="light"):
        """Show a file in a window of that size, and wait until it is there."""
        self.said.clear()
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.send("Page.navigate", url=path.as_uri())
        while (event := self._next()).get("method") != "Page.loadEventFired":
            self._note(event)
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def run(self, script):
        """The value of a JavaScript expression."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path, whole=True):
        """Write a PNG of the whole page, or of the window."""
        data = self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def _note(self, event):
        kind, params = event.get("method"), event.get("params", {})
        if kind in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.said.append(json.dumps(params))
        if kind == "Network.requestWillBeSent" and not params["request"]["url"].startswith(
            ("data:", "file:")
        ):
            self.said.append(f"loads {params['request']['url']}")

    def _next(self):
        text = b"".join(iter(lambda: self._reader.read(1), b"\0"))
        return json.loads(text)
