"""A real headless Chromium, driven over WebDriver. Tests that need it are skipped without it."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1400,900",
]
needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")


class Browser:
    def __init__(self, address: str) -> None:
        self._address = address

    def open(self, url: str) -> None:
        self._post("url", {"url": url})

    def run(self, script: str) -> object:
        """The value that the script returns."""
        return self._post("execute/sync", {"script": script, "args": []})

    def complaints(self) -> list[str]:
        """The messages of the console: errors of scripts, and violations of the policy."""
        found = self._post("se/log", {"type": "browser"})
        assert isinstance(found, list)
        return [str(line["message"]) for line in found if "favicon" not in str(line["message"])]

    def screenshot(self, path: Path) -> None:
        with urllib.request.urlopen(f"{self._address}/screenshot", timeout=60) as reply:
            path.write_bytes(base64.b64decode(json.load(reply)["value"]))

    def _post(self, what: str, body: object) -> object:
        return post(f"{self._address}/{what}", body)


def post(address: str, body: object) -> object:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)["value"]


@contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    driver = subprocess.Popen([str(DRIVER), f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    root = f"http://127.0.0.1:{port}"
    try:
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
        session = _begin(root, {"capabilities": wanted})
        try:
            yield Browser(f"{root}/session/{session}")
        finally:
            ending = urllib.request.Request(f"{root}/session/{session}", method="DELETE")
            urllib.request.urlopen(ending, timeout=60).close()
    finally:
        driver.terminate()
        driver.wait()


def _begin(root: str, body: object) -> str:
    deadline = time.monotonic() + 30
    while True:
        try:
            found = post(f"{root}/session", body)
        except urllib.error.URLError as error:
            if isinstance(error, urllib.error.HTTPError) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            assert isinstance(found, dict)
            return str(found["sessionId"])
