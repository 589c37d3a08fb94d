"""The tutorial's deployment, browsers that look at it, pictures that an explicit switch keeps."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, Playwright, sync_playwright

from bakery.checks.client import client_python
from tests.browser import tutorial
from tests.browser.chromium import Tab, chromium, tab, trust
from tests.browser.room import apart
from tests.e2e.bakery import PROJECT, Bakery

TUTORIAL = PROJECT / "docs" / "tutorial.md"
CONNECT = PROJECT / "docs" / "connect.md"
PICTURES = PROJECT / "docs" / "pictures"

Picture = Callable[[Page, str], None]


@dataclass(frozen=True)
class Client:
    """What `./inv env` says, and where the browsers that use it run."""

    url: str
    login: tuple[str, str]
    authority: Path
    variables: dict[str, str]
    playwright: Playwright
    room: int

    def chromium(
        self, home: Path, login: tuple[str, str] | None = None
    ) -> AbstractContextManager[BrowserContext]:
        """Run a browser in a home, with the right login unless another one is given."""
        return chromium(self.playwright, home, login=login or self.login, room=self.room)


@dataclass(frozen=True)
class Run:
    """A run, by its number, and the paths of its experiment's page and its own."""

    experiment: str
    number: str

    @property
    def path(self) -> str:
        return f"{self.experiment}/runs/{self.number}"


@pytest.fixture(scope="module")
def bakery(make_bakery: Callable[..., Bakery]) -> Bakery:
    """The deployment that the tutorial makes."""
    return make_bakery(BAKERY_BASE="debian-13")


@pytest.fixture(scope="module")
def walked(bakery: Bakery, tmp_path_factory: pytest.TempPathFactory) -> tutorial.Walk:
    """The tutorial, all but its end, then the page about clients."""
    folder = tmp_path_factory.mktemp("reader")
    tutorial.write_files(TUTORIAL, folder)
    typed = [*tutorial.commands(TUTORIAL)[:-1], *tutorial.commands(CONNECT)]
    return tutorial.walk(typed, bakery, folder)


@pytest.fixture(scope="module")
def server(bakery: Bakery, walked: tutorial.Walk) -> Bakery:
    return bakery


@pytest.fixture(scope="module")
def client(server: Bakery) -> Iterator[Client]:
    found = server.client()
    login = (found["MLFLOW_TRACKING_USERNAME"], found["MLFLOW_TRACKING_PASSWORD"])
    authority = Path(found["MLFLOW_TRACKING_SERVER_CERT_PATH"])
    # One for all browsers: it cannot be started within itself.
    with sync_playwright() as playwright, apart(server) as room:
        yield Client(found["MLFLOW_TRACKING_URI"], login, authority, found, playwright, room)


@pytest.fixture(scope="module")
def wine(server: Bakery) -> Run:
    """The first run of the example."""
    found = server.api("experiments/get-by-name?experiment_name=wine").json()["experiment"]
    order = {"experiment_ids": [found["experiment_id"]], "order_by": ["start_time"]}
    first = server.api("runs/search", "POST", json=order).json()["runs"][0]
    return Run(f"/#/experiments/{found['experiment_id']}", first["info"]["run_id"])


@pytest.fixture(scope="module")
def run(client: Client, state: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that a client has logged."""
    python, script = client_python(state / "cache"), Path(__file__).with_name("runs.py")
    done = subprocess.run(
        [python, script],
        cwd=tmp_path_factory.mktemp("client"), env=client.variables,
        check=True, text=True, stdout=subprocess.PIPE, timeout=120,
    )  # fmt: skip
    experiment, number = done.stdout.splitlines()[-1].split()
    return Run(f"/#/experiments/{experiment}", number)


@pytest.fixture(scope="module")
def make_home(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Make homes whose browser trusts the deployment's authority."""

    def make() -> Path:
        home = tmp_path_factory.mktemp("home")
        trust(home, client.authority)
        return home

    return make


@pytest.fixture(scope="module")
def browser(client: Client, make_home: Callable[[], Path]) -> Iterator[BrowserContext]:
    """A browser of somebody who trains models: MLflow has another face for others."""
    with client.chromium(make_home()) as context:
        with tab(context, client.url) as opened:
            opened.go("/")
            opened.page.get_by_role("button", name="Model training").click()
        yield context


@pytest.fixture
def page(browser: BrowserContext, client: Client) -> Iterator[Tab]:
    """A new tab; whatever it complains of, or asks of others, fails the test."""
    with tab(browser, client.url) as opened:
        yield opened
        assert opened.complaints == []
        assert {f"https://{host}" for host in opened.hosts} == {client.url}


@pytest.fixture
def picture(request: pytest.FixtureRequest, tmp_path: Path) -> Picture:
    """Take a picture of a page: into docs/pictures with --pictures, else to be thrown away."""
    folder = PICTURES if request.config.getoption("--pictures") else tmp_path

    def take(page: Page, name: str) -> None:
        page.mouse.move(0, 0)
        page.screenshot(path=folder / f"{name}.png", animations="disabled")

    return take
