"""Pictures for the documents, which only an explicit switch makes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.e2e.bakery import PROJECT

PICTURES = PROJECT / "docs" / "pictures"


@pytest.fixture
def picture(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Page, str], None]:
    """Take a picture of a page: into docs/pictures with --pictures, else to be thrown away."""
    folder = PICTURES if request.config.getoption("--pictures") else tmp_path

    def take(page: Page, name: str) -> None:
        page.mouse.move(0, 0)
        page.screenshot(path=folder / f"{name}.png", animations="disabled")

    return take
