"""What a person sees: MLflow's pages in a real browser, over the deployment's real certificate."""

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Error, Page, expect

from bakery.checks.client import client_python
from tests.browser.chromium import Tab, chromium, tab, trust
from tests.e2e.bakery import Bakery
from tests.e2e.test_passwords import PASSWORDS

Picture = Callable[[Page, str], None]
Login = tuple[str, str]


@dataclass(frozen=True)
class Client:
    """What `./inv env` says."""

    url: str
    login: Login
    authority: Path
    variables: dict[str, str]


@dataclass(frozen=True)
class Run:
    """A run, and the path of its page."""

    number: str
    path: str


@pytest.fixture(scope="module")
def client(server: Bakery) -> Client:
    found = server.client()
    login = (found["MLFLOW_TRACKING_USERNAME"], found["MLFLOW_TRACKING_PASSWORD"])
    authority = Path(found["MLFLOW_TRACKING_SERVER_CERT_PATH"])
    return Client(found["MLFLOW_TRACKING_URI"], login, authority, found)


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
    return Run(number, f"/#/experiments/{experiment}/runs/{number}")


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
    with chromium(make_home(), login=client.login) as context:
        yield context


@pytest.fixture
def page(browser: BrowserContext, client: Client) -> Iterator[Tab]:
    """A new tab; whatever it complains of, or asks of others, fails the test."""
    with tab(browser, client.url) as opened:
        yield opened
        assert opened.complaints == []
        assert {f"https://{host}" for host in opened.hosts} == {client.url}


def test_without_the_authority_the_page_is_refused(client: Client, tmp_path: Path) -> None:
    """The control of all that follows: the certificate is really looked at."""
    with (
        chromium(tmp_path, login=client.login) as context,
        tab(context, client.url) as opened,
        pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"),
    ):
        opened.go("/")


def status(client: Client, home: Path, login: Login) -> int:
    """Open the first page in a new browser that types this login; what the server answered."""
    with chromium(home, login=login) as context, tab(context, client.url) as opened:
        response = opened.go("/")
        assert response is not None
        if response.status == 401:
            expect(opened.page.get_by_text("401 Unauthorized")).to_be_visible()
        else:
            expect(opened.page.get_by_text("Welcome to MLflow")).to_be_visible()
        return response.status


def test_a_wrong_login_is_refused(client: Client, make_home: Callable[[], Path]) -> None:
    user, password = client.login
    for login in (("", ""), (user, password[:-1]), (f"{user}x", password)):
        assert status(client, make_home(), login) == 401
    assert status(client, make_home(), client.login) == 200


@pytest.mark.parametrize("password", PASSWORDS)
def test_any_symbol_can_be_typed_into_the_login(
    server: Bakery, client: Client, make_home: Callable[[], Path], password: str
) -> None:
    ann = Bakery(server.state, server.name, {"BAKERY_USER_PASSWORD": password})
    ann.ok("users", "--add", "ann with ümlauts")
    assert status(client, make_home(), ("ann with ümlauts", password)) == 200


def test_the_right_login_shows_the_experiments(page: Tab, run: Run, picture: Picture) -> None:
    page.go("/#/experiments")
    expect(page.page.get_by_role("link", name="looked at")).to_be_visible()
    expect(page.page.get_by_role("link", name="Default")).to_be_visible()


def test_a_run_shows_what_was_logged(page: Tab, run: Run) -> None:
    page.go(run.path)
    expect(page.page.get_by_role("heading", name="a run")).to_be_visible()
    for name, value in (("alpha", "0.5"), ("epochs", "20"), ("loss", "0.02")):
        row = page.page.get_by_role("row", name=re.compile(f"^{name}"))
        expect(row).to_contain_text(value)


def test_a_metric_has_its_chart(page: Tab, run: Run) -> None:
    page.go(f"{run.path}/model-metrics")
    chart = page.page.locator(".js-plotly-plot")
    expect(chart).to_be_visible()
    # One point for each step that was logged.
    expect(chart.locator(".scatterlayer .points path")).to_have_count(20)


def test_artifacts_are_shown(page: Tab, run: Run) -> None:
    page.go(f"{run.path}/artifacts")
    page.page.get_by_text("note.txt").click()
    expect(page.page.get_by_text("kept, and shown")).to_be_visible()
    page.page.get_by_text("square.png").click()
    image = page.page.get_by_role("img", name="square.png")
    expect(image).to_be_visible()
    assert image.evaluate("found => [found.naturalWidth, found.naturalHeight]") == [64, 48]


def test_an_experiment_is_created_on_the_page(page: Tab, server: Bakery) -> None:
    """A POST with the browser's own Host, Origin and cookies."""
    page.go("/#/experiments")
    page.page.get_by_test_id("create-experiment-button").click()
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_label("Experiment Name").fill("made on the page")
    with page.page.expect_response("**/experiments/create") as made:
        dialog.get_by_role("button", name="Create").click()
    assert made.value.status == 200
    expect(page.page.get_by_text("made on the page").first).to_be_visible()
    found = server.api("experiments/get-by-name?experiment_name=made on the page")
    assert found.status_code == 200, found.text
    # The page has asked whether the name is free: it is.
    page.complaints.remove("404 for GET /ajax-api/2.0/mlflow/experiments/get-by-name")


def test_a_run_is_tagged_on_the_page(page: Tab, run: Run, server: Bakery) -> None:
    page.go(run.path)
    page.page.get_by_role("button", name="Add tags").click()
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_role("combobox").fill("quality")
    dialog.get_by_role("combobox").press("Enter")
    dialog.get_by_label("Value").fill("good enough")
    dialog.get_by_role("button", name="Add tag").click()
    with page.page.expect_response("**/runs/set-tag"):
        dialog.get_by_role("button", name="Save tags").click()
    expect(page.page.get_by_text("good enough")).to_be_visible()
    tags = server.api(f"runs/get?run_id={run.number}").json()["run"]["data"]["tags"]
    assert {"key": "quality", "value": "good enough"} in tags


def test_the_list_of_runs_is_not_told_that_anything_is_forbidden(page: Tab, run: Run) -> None:
    """It asks which models MLflow's gateway has, and would show an error to the user."""
    with page.page.expect_response("**/gateway-proxy?**") as asked:
        page.go(run.path.rpartition("/")[0])
    assert asked.value.json() == {"endpoints": []}
    expect(page.page.locator(f"a[href$='{run.number}']")).to_be_visible()
    expect(page.page.get_by_text("Forbidden")).to_have_count(0)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/", "Welcome to MLflow"),
        ("/#/models", "Registered Models"),
        ("/#/prompts", "Prompts"),
        ("/#/settings", "General"),
    ],
)
def test_other_pages_open_without_a_complaint(page: Tab, path: str, shown: str) -> None:
    page.go(path)
    expect(page.page.get_by_role("heading", name=shown)).to_be_visible()


def test_what_goes_wrong_in_a_page_is_noticed(browser: BrowserContext, client: Client) -> None:
    """The control of the pages that have nothing to complain of, and ask nobody else."""
    with tab(browser, client.url) as opened:
        opened.go("/#/experiments")
        opened.page.evaluate(
            """async () => {
                console.error("wrong");
                setTimeout(() => { throw new Error("worse") });
                await fetch("/metrics");
                await fetch("https://elsewhere.invalid/").catch(() => 0);
            }"""
        )
    assert {"console: wrong", "page: worse", "403 for GET /metrics"} <= set(opened.complaints)
    assert "elsewhere.invalid" in opened.hosts
