"""An MLproject file that cannot run, or would show a password, is refused in one line."""

from pathlib import Path

import pytest
import yaml

from bakery.errors import InputError
from bakery.pins import read_lock
from bakery.render import PROJECT
from bakery.train.order import Order
from bakery.train.project import Project, parse_parameters, read_project, requirement_files

EXAMPLE = PROJECT / "examples" / "wine"
ENTRY = "entry_points: {main: {command: python x.py}}\n"
DOCKER = f"name: x\n{ENTRY}docker_env: "


def written(folder: Path, text: str, name: str = "MLproject") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_the_example_is_one_project_in_two_places() -> None:
    here, contained = read_project(EXAMPLE), read_project(EXAMPLE / "docker")
    assert (here.name, contained.name) == ("wine", "wine")
    assert here.entry_points == contained.entry_points
    assert here.entry_points["main"] == dict.fromkeys(("epochs", "rate", "penalty", "seed"), False)
    assert contained.image == f"mlflow-bakery/mlflow:{read_lock().mlflow}"
    assert requirement_files(EXAMPLE, here.dependencies) == [EXAMPLE / "requirements.txt"]
    for name in ("train.py", "serve.py"):
        assert (EXAMPLE / "docker" / name).read_text() == (EXAMPLE / name).read_text()


def test_the_locks_have_the_servers_mlflow() -> None:
    wanted = f"mlflow-skinny=={read_lock().mlflow} "
    assert wanted in (EXAMPLE / "requirements.txt").read_text()
    assert wanted in (PROJECT / "images" / "train" / "requirements.txt").read_text()


def test_both_entry_points_start_the_same_but_for_the_python() -> None:
    def commands(folder: Path) -> list[str]:
        values = yaml.safe_load((folder / "MLproject").read_text())
        points = values["entry_points"].values()
        return [point["command"].replace("python3 ", "python ") for point in points]

    assert commands(EXAMPLE) == commands(EXAMPLE / "docker")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{ENTRY}python_env: p.yaml", "has no name"),
        (f"name: My Project\n{ENTRY}python_env: p.yaml", "is no image's"),
        (f"name: x\n{ENTRY}", "has no environment"),
        (f"name: x\n{ENTRY}conda_env: c.yaml", "has conda_env"),
        (f"{DOCKER}{{image: i}}\npython_env: p.yaml", "has python_env and docker_env"),
        (f"{DOCKER}{{volumes: [a]}}", "docker_env has no image"),
        (f"{DOCKER}i", "docker_env has no image"),
        (f"{DOCKER}{{image: '$(id)'}}", "no name of an image"),
        (f"{DOCKER}{{image: --privileged}}", "no name of an image"),
        (f"{DOCKER}{{image: i, environment: [[MLFLOW_TRACKING_PASSWORD, s3]]}}", "can read"),
        (f"{DOCKER}{{image: i, environment: [MLFLOW_TRACKING_PASSWORD]}}", "can read"),
        (f"{DOCKER}{{image: i, environment: [AZURE_STORAGE_ACCESS_KEY]}}", "can read"),
        (f"{DOCKER}{{image: i, environment: [HF_TOKEN]}}", "can read"),
        (f"{DOCKER}{{image: i, environment: [[A, 'b; id']]}}", "unquoted"),
        (f"{DOCKER}{{image: i, volumes: ['/a:/b$(id)']}}", "not safe"),
        ("name: x\npython_env: p.yaml\n", "no entry_points"),
        ("name: x\nentry_points: {main: {}}\ndocker_env: {image: i}", "main has no command"),
        ("- a list", "no names with values"),
        ("a: [", "line 1: cannot be read as YAML"),
        (f"name: x\n{ENTRY}python_env: gone.yaml", "gone.yaml: No such file"),
    ],
)
def test_what_cannot_run_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=r".") as refusal:
        read_project(written(tmp_path, text))
    assert said in str(refusal.value)
    assert refusal.value.hint
    assert "\n" not in str(refusal.value)
    assert "s3" not in str(refusal.value) + refusal.value.hint


def test_what_can_run_is_read(tmp_path: Path) -> None:
    environment = "image: reg.example.org:5000/a/b:1, environment: [[A, 'b/c:d'], CUDA_DEVICE]"
    found = read_project(written(tmp_path, f"{DOCKER}{{{environment}, volumes: ['/a:/b']}}"))
    assert found.image == "reg.example.org:5000/a/b:1"
    text = f"name: x\n{ENTRY}python_env: p.yaml"
    written(tmp_path, "python: '3.12'\ndependencies: [-r r.txt, numpy]\n", "p.yaml")
    written(tmp_path, "pandas\n", "r.txt")
    (tmp_path / "MLproject").unlink()
    found = read_project(written(tmp_path, text, "mlproject"))
    assert (found.python, found.dependencies) == ("3.12", ("-r r.txt", "numpy"))


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_project(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no file MLproject"):
        read_project(tmp_path)
    (tmp_path / "MLproject").mkdir()
    with pytest.raises(InputError, match="Is a directory"):
        read_project(tmp_path)
    (tmp_path / "MLproject").rmdir()
    (tmp_path / "MLproject").write_bytes(b"name: \xff\n")
    with pytest.raises(InputError, match="cannot be read as YAML"):
        read_project(tmp_path)
    text = f"name: x\n{ENTRY}python_env: p.yaml"
    written(tmp_path, "dependencies: [-r gone.txt]", "p.yaml")
    with pytest.raises(InputError, match=r"gone\.txt: No such file"):
        read_project(written(tmp_path, text))


def test_parameters_are_names_and_values() -> None:
    assert parse_parameters(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    for given in (["a"], ["=1"], ["a;id=1"], ["a=1", "a=2"]):
        with pytest.raises(InputError, match="--param"):
            parse_parameters(given)


def test_a_call_needs_its_entry_point_and_parameters() -> None:
    project = Project(Path("/p"), "x", entry_points={"main": {"data": True, "rate": False}})
    project.check_call("main", {"data": "d", "other": "o"})
    with pytest.raises(InputError, match="no entry point evaluate"):
        project.check_call("evaluate", {})
    with pytest.raises(InputError, match="main of x needs data"):
        project.check_call("main", {"rate": "1"})


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (Order(where="remote"), "--where remote: not known"),
        (Order(where="ssh://-oProxyCommand=id"), "not known"),
        (Order(where="ssh://a b@c"), "not known"),
        (Order(gpus="all"), "--gpus is for containers"),
        (Order(where="docker", gpus="all;id"), "--gpus all;id: not known"),
        (Order(experiment="a\nb"), "control character"),
        (Order(project=EXAMPLE / "docker"), "is for a container"),
        (Order(where="docker", project=EXAMPLE), "not for a container"),
        (Order(entry_point="x"), "no entry point x"),
    ],
)
def test_what_cannot_be_done_is_refused(order: Order, said: str) -> None:
    with pytest.raises(InputError) as refusal:
        order.checked()
    assert said in str(refusal.value)
    assert refusal.value.hint


@pytest.mark.parametrize(
    "order",
    [
        Order(),
        Order(where="docker", gpus="device=GPU-3a23c669"),
        Order(where="ssh://me@gpu.example.org:2222", gpus="all", experiment="ä'b"),
        Order(where="ssh://gpu"),
    ],
)
def test_what_can_be_done_is_not(order: Order) -> None:
    assert order.checked().name == "wine"
