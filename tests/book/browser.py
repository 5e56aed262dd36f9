"""A headless Chromium driven over its DevTools protocol: pages as they are laid out."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Self

from websocket import create_connection

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)
START_SECONDS = 30.0


def find_chromium() -> str | None:
    """The program, or None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One tab; ``with Browser() as browser: browser.show(path, width=400)``."""

    def __enter__(self) -> Self:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        own = f"--user-data-dir={self._profile.name}"
        command = [find_chromium() or NAMES[0], *FLAGS, own, "about:blank"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, env={**os.environ, "LANG": "C.UTF-8"}, **quiet)
        self._numbers = itertools.count(1)
        self._socket = create_connection(self._address(), timeout=60, suppress_origin=True)
        self._call("Page.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(timeout=30)
        self._profile.cleanup()

    def _address(self) -> str:
        """The tab's socket, as soon as the browser has said on which port it listens."""
        told = Path(self._profile.name) / "DevToolsActivePort"
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if told.is_file() and (lines := told.read_text().split()):
                with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json/list") as answer:
                    tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
                if tabs:
                    return str(tabs[0]["webSocketDebuggerUrl"])
            time.sleep(0.05)
        raise TimeoutError(f"chromium did not start within {START_SECONDS:g} s")

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (answer := json.loads(self._socket.recv())).get("id") != number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def show(self, page: Path, width: int, height: int = 900, scheme: str = "light") -> None:
        """Load a page in a window of `width` pixels; return when it is laid out, fonts and maths included."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._call("Page.navigate", url=page.resolve().as_uri())
        self.run(_SETTLED)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page; a promise is awaited."""
        answer = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def picture(self) -> bytes:
        """PNG of the window."""
        return base64.b64decode(self._call("Page.captureScreenshot")["data"])


_SETTLED = """
(async () => {
  const frame = () => new Promise(done => requestAnimationFrame(done));
  while (document.readyState !== "complete") await frame();
  document.querySelectorAll("img[loading=lazy]").forEach(image => image.loading = "eager");
  if (window.MathJax?.startup?.promise) await MathJax.startup.promise;
  await document.fonts.ready;
  await frame();
  await frame();
})()
"""
