"""Debian's Chromium, driven by Playwright, in a home of its own that trusts what we say."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import (
    BrowserContext,
    ConsoleMessage,
    Page,
    Playwright,
    Response,
    expect,
)

PROGRAM = Path("/usr/bin/chromium")
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# MLflow's page asks for these on every visit and does without: its own users (the proxy has them)
# and the assistant (shut). It shows nothing of it to anybody.
_DONE_WITHOUT = ("/ajax-api/2.0/mlflow/users/current", "/ajax-api/3.0/mlflow/assistant/")
# A failed request has a line of its own; the other says that a chart was drawn a frame later.
_NO_ERRORS = ("Failed to load resource", "ResizeObserver loop")
_MILLISECONDS = 30_000

expect.set_options(timeout=_MILLISECONDS)


@dataclass
class Tab:
    """A page and what went wrong or abroad in it since it was opened."""

    page: Page
    url: str
    """The server's address; paths are given relative to it."""
    complaints: list[str] = field(default_factory=list)
    """Errors of the page, of the console, and answers of 400 or more, known ones left out."""
    hosts: set[str] = field(default_factory=set)
    """Whom the page asked for anything."""

    def go(self, path: str) -> Response | None:
        """Open a path as anew: a change after the `#` alone would not load the page again."""
        self.page.goto("about:blank")
        return self.page.goto(f"{self.url}{path}")

    def said(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(one in message.text for one in _NO_ERRORS):
            self.complaints.append(f"console: {message.text}")

    def answered(self, response: Response) -> None:
        path = urlsplit(response.url).path
        if response.status >= 400 and not path.startswith(_DONE_WITHOUT):
            self.complaints.append(f"{response.status} for {response.request.method} {path}")


def trust(home: Path, authority: Path) -> None:
    """Let the browser of this home trust an authority, as an administrator would."""
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    certutil = ["certutil", "-d", f"sql:{store}"]
    for words in (
        ["-N", "--empty-password"],
        ["-A", "-t", "C,,", "-n", "mlflow-bakery", "-i", str(authority)],
    ):
        subprocess.run([*certutil, *words], check=True, capture_output=True)


@contextmanager
def chromium(
    playwright: Playwright, home: Path, *, login: tuple[str, str], room: int
) -> Iterator[BrowserContext]:
    """Run the browser in a home, and in the network of a process (see `apart`).

    It types this name and password when it is asked for a login.
    """
    start = home / "chromium"
    start.write_text(f'#!/bin/sh\nexec nsenter --target {room} --net {PROGRAM} "$@"\n')
    start.chmod(0o700)
    own = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TZ": "UTC"}
    context = playwright.chromium.launch_persistent_context(
        home / "profile",
        executable_path=start,
        headless=True,
        args=_FLAGS,
        env={**own},
        http_credentials={"username": login[0], "password": login[1]},
        viewport={"width": 1280, "height": 720},
        locale="en-GB",
    )
    context.set_default_timeout(_MILLISECONDS)
    try:
        yield context
    finally:
        context.close()


@contextmanager
def tab(context: BrowserContext, url: str) -> Iterator[Tab]:
    """Open a page that notes what goes wrong in it."""
    page = context.new_page()
    found = Tab(page, url)
    page.on("console", found.said)
    page.on("pageerror", lambda error: found.complaints.append(f"page: {error}"))
    page.on("response", found.answered)
    page.on("request", lambda request: found.hosts.add(urlsplit(request.url).netloc))
    try:
        yield found
    finally:
        page.close()
