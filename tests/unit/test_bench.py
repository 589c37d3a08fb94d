"""The table, the sums behind it, and a load on a small real server."""

import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from bakery import bench
from bakery.bench import clients, load, measure, start
from bakery.checks import door
from bakery.errors import BakeryError, InputError
from bakery.settings import Settings
from tests.unit.checks_server import Front, serving


class Api(Front):
    """Answers every POST; the hundredth goes wrong when asked to."""

    seen = 0
    lock = threading.Lock()

    def do_POST(self) -> None:  # noqa: N802 - the name is http.server's
        self.rfile.read(int(self.headers["Content-Length"]))
        with Api.lock:
            Api.seen += 1
            wrong = "hundredth" in self.faults and Api.seen >= 100
        self.answer(500 if wrong else 200, "{}")


def way(port: int) -> load.Way:
    return load.Way("here", f"http://127.0.0.1:{port}", requests.Session)


def test_load_counts_what_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_SECONDS", 0.5)
    Api.seen = 0
    with serving(Api, set()) as port:
        calls = load._calls("1", ["run"] * 8)
        taken = load._load(way(port), calls["search-runs"], 8)
    assert len(taken) == Api.seen - 8
    assert len(taken) > 8
    assert 0 < min(taken) <= max(taken) < 1


def test_a_wrong_answer_ends_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_SECONDS", 20.0)
    Api.seen = 0
    with serving(Api, {"hundredth"}) as port, pytest.raises(BakeryError, match="answered 500"):
        load._load(way(port), load._calls("1", ["run"])["log-batch of 10"], 1)


def test_sums_need_every_step() -> None:
    steps = [("Boot generation 1", 2.0), ("Other", 5.0), ("Ready: a call", 3.5)]
    assert start._sum(steps, ("Boot generation", "Ready")) == 5.5
    with pytest.raises(BakeryError, match="no step 'Boot generation'"):
        start._sum(steps[1:], ("Boot generation", "Ready"))


def test_table_and_json_show_medians(capsys: pytest.CaptureFixture[str]) -> None:
    above = measure.Measure("a", "above", [1.0, 9.0, 3.0], "s", "soon")
    below = measure.Measure("a", "below", [2.0], "s")
    measure.print_json([above, measure.ratio("a", "both", above, below, "at most 2")])
    rows = json.loads(capsys.readouterr().out)
    assert [row["median"] for row in rows] == [3.0, 1.5]
    measure.print_table([above])
    assert {"above", "3.0", "9.0", "soon"} <= set(capsys.readouterr().out.split())


def test_bad_input_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state", name="bench")
    with pytest.raises(InputError, match="unknown rows: x"):
        bench.bench(settings, rows=["a", "x"], runs=1, as_json=False)
    with pytest.raises(InputError, match="1 or more"):
        bench.bench(settings, rows=["a"], runs=0, as_json=False)
    assert not (tmp_path / "state").exists()


def test_a_deployment_of_the_same_name_is_left_alone(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, name="bench")
    facts = tmp_path / "deployments" / "bench" / "deployment.json"
    facts.parent.mkdir(parents=True)
    facts.write_text('{"name": "bench"}')
    with pytest.raises(InputError, match="would destroy it"):
        bench.bench(settings, rows=["a"], runs=1, as_json=False)
    assert facts.exists()


def test_a_break_is_as_long_as_nobody_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    away = threading.Event()

    def ask(*_: object, **__: object) -> object:
        if away.is_set():
            raise requests.ConnectionError
        return SimpleNamespace(status_code=200)

    monkeypatch.setattr(door, "ask", ask)
    monkeypatch.setattr(door, "front", lambda _: SimpleNamespace(login=None))
    server: Any = SimpleNamespace(as_client=None)
    with clients.asking(server) as found:
        away.set()
        time.sleep(0.3)  # what is measured
        away.clear()
        time.sleep(0.1)
    assert 0.25 < found.seconds < 3
