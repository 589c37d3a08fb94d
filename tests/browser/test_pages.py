"""What a person sees: MLflow's pages in a real browser, over the deployment's real certificate.

The deployment is the one that the tutorial has made; the pictures of docs/pictures are of it.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Error, expect

from tests.browser.chromium import Tab, tab
from tests.browser.conftest import TUTORIAL, Client, Picture, Run
from tests.browser.tutorial import Walk, commands, walk
from tests.e2e.bakery import Bakery, traces
from tests.e2e.test_passwords import PASSWORDS


def test_every_command_of_the_tutorial_works(walked: Walk) -> None:
    assert walked.code == 0, walked
    assert len(walked.said) == len(walked.typed) > 10


def test_a_command_that_fails_ends_the_walk(server: Bakery, tmp_path: Path) -> None:
    found = walk(["true", "./inv env --shell csh", "true"], server, tmp_path)
    assert found.code == 2
    assert found.said[0] == ""
    assert "unknown shell" in found.said[1]
    assert len(found.said) == 2


def test_the_tutorial_has_its_experiments(page: Tab, wine: Run, picture: Picture) -> None:
    page.go("/#/experiments")
    for name in ("wine", "first", "Default"):
        expect(page.page.get_by_role("link", name=name, exact=True)).to_be_visible()
    picture(page.page, "experiments")


def test_runs_can_be_compared(page: Tab, wine: Run, picture: Picture) -> None:
    page.go(f"{wine.experiment}/runs?compareRunsMode=CHART")
    # Accuracy, and the loss of both parts of the data over the epochs.
    charts = page.page.locator(".js-plotly-plot")
    expect(charts).to_have_count(3)
    for chart in charts.all()[1:]:
        expect(chart.locator(".scatterlayer .trace").nth(2)).to_be_visible()
    picture(page.page, "compare")


def test_the_run_of_the_example(page: Tab, wine: Run, picture: Picture) -> None:
    page.go(wine.path)
    expect(page.page.get_by_role("row", name=re.compile("^epochs"))).to_contain_text("40")
    expect(page.page.get_by_role("link", name=re.compile("^wine")).first).to_be_visible()
    picture(page.page, "run")


def test_the_metrics_of_the_example(page: Tab, wine: Run, picture: Picture) -> None:
    page.go(f"{wine.path}/model-metrics")
    points = page.page.locator(".js-plotly-plot .scatterlayer .points path")
    # Two curves, a point for each epoch.
    expect(points).to_have_count(80)
    picture(page.page, "metrics")


def test_a_picture_of_the_example(page: Tab, wine: Run, picture: Picture) -> None:
    page.go(f"{wine.path}/artifacts")
    page.page.get_by_text("confusion.png").click()
    image = page.page.get_by_role("img", name="confusion.png")
    expect(image).to_be_visible()
    assert image.evaluate("found => found.naturalWidth") == 500
    picture(page.page, "artifact")


def test_the_model_of_the_example(page: Tab, wine: Run, picture: Picture) -> None:
    page.go("/#/models/wine")
    expect(page.page.get_by_text("champion").first).to_be_visible()
    expect(page.page.get_by_role("link", name="Version 3")).to_be_visible()
    picture(page.page, "model")


def test_without_the_authority_the_page_is_refused(client: Client, tmp_path: Path) -> None:
    """The control of all that follows: the certificate is really looked at."""
    with (
        client.chromium(tmp_path) as context,
        tab(context, client.url) as opened,
        pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"),
    ):
        opened.go("/")


def status(client: Client, home: Path, login: tuple[str, str]) -> int:
    """Open the first page in a new browser that types this login; what the server answered."""
    with client.chromium(home, login) as context, tab(context, client.url) as opened:
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


def test_the_right_login_shows_the_experiments(page: Tab, run: Run) -> None:
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
        page.go(f"{run.experiment}/runs")
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


def test_the_end_of_the_tutorial(server: Bakery, client: Client, tmp_path: Path) -> None:
    """The last test of this file: nothing can run after it."""
    last = commands(TUTORIAL)[-1:]
    assert last == ["./inv destroy"]
    network = server.facts["network"]["name"]
    assert traces(network), "the probe finds a running deployment"
    found = walk(last, server, tmp_path)
    assert found.code == 0, found
    assert [trace for trace in traces(network) if "-web" not in trace] == []
