"""What gc deletes, and what it must not: real paths, stand-ins for database and store."""

from dataclasses import dataclass, field

import pytest
from purge import KeptError, Purge, Thing, Version, check_unused, path_in_blob


def run(name: str = "a1", location: str = "", experiment: str = "7") -> Thing:
    where = location or f"mlflow-artifacts:/{experiment}/{name}/artifacts"
    return Thing("run", name, "fun-grub", experiment, where)


def model(name: str = "m-b2", experiment: str = "7") -> Thing:
    where = f"mlflow-artifacts:/{experiment}/models/{name}/artifacts"
    return Thing("model", name, "model", experiment, where)


def experiment(number: str = "7", location: str = "") -> Thing:
    return Thing("experiment", number, "wine", number, location or f"mlflow-artifacts:/{number}")


@dataclass
class World:
    """A store and a database that note what is deleted, and may fail."""

    done: list[str] = field(default_factory=list)
    fails: str = ""

    def erase(self, path: str) -> None:
        if path == self.fails:
            raise OSError(f"no way to {path}\nand more")
        self.done.append(f"blobs {path}")

    def forget(self, thing: Thing) -> None:
        self.done.append(f"{thing.kind} {thing.id}")

    def purge(self, *versions: Version, dry_run: bool = False) -> Purge:
        return Purge(self.erase, self.forget, versions, (OSError,), dry_run=dry_run)


def test_files_go_first_so_that_a_kill_leaves_the_mark() -> None:
    world = World()
    (taken,) = world.purge().run([run()], [])
    assert not taken.why
    assert world.done == ["blobs 7/a1/artifacts", "run a1"]


def test_one_that_fails_stays_and_the_others_go() -> None:
    world = World(fails="7/a1/artifacts")
    taken = world.purge().run([run(), run("a2"), model()], [experiment()])
    assert [one.why for one in taken] == [
        "no way to 7/a1/artifacts", "", "", "its run a1 is kept"
    ]  # fmt: skip
    assert world.done == [
        *("blobs 7/a2/artifacts", "run a2"),
        *("blobs 7/models/m-b2/artifacts", "model m-b2"),
    ]


def test_a_dry_run_deletes_nothing_and_says_the_same() -> None:
    world = World()
    things, bins = [run(), model()], [experiment()]
    dry = world.purge(dry_run=True).run(things, bins)
    assert world.done == []
    assert dry == world.purge().run(things, bins)
    assert world.done


def test_an_experiment_takes_its_own_folder_along_and_no_other() -> None:
    world = World()
    world.purge().run([], [experiment("8"), experiment("9", "mlflow-artifacts:/shared/place")])
    assert world.done == ["blobs 8", "experiment 8", "experiment 9"]


@pytest.mark.parametrize(
    "place",
    ["models:/m-b2", "mlflow-artifacts:/7/models/m-b2/artifacts", "models:/m-b2/some/file"],
)
def test_what_a_registered_model_is_made_of_stays(place: str) -> None:
    world, wine = World(), Version("wine version 3", (place,))
    taken = world.purge(wine).run([model(), run()], [experiment()])
    assert [one.why for one in taken] == [
        "wine version 3 is made of it", "", "its model m-b2 is kept"
    ]  # fmt: skip
    assert "model m-b2" not in world.done


def test_a_run_of_which_a_model_is_made_stays_and_one_beside_it_does_not() -> None:
    versions = [
        Version("old version 1", ("runs:/a1/model", "mlflow-artifacts:/7/a1/artifacts/model"))
    ]
    with pytest.raises(KeptError, match="old version 1 is made of it"):
        check_unused(run(), versions)
    check_unused(run("a"), versions)
    check_unused(run("a11"), versions)
    check_unused(model("m-b"), [Version("wine version 1", ("models:/m-b2",))])


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("s3://bucket/7/a1/artifacts", "not in this server's store"),
        ("file:///mlruns/7/a1/artifacts", "not in this server's store"),
        ("mlflow-artifacts:/", "no folder of their own"),
        ("mlflow-artifacts:/7", "no folder of their own"),
        ("mlflow-artifacts:/7/a11/artifacts", "no folder of their own"),
    ],
)
def test_files_that_are_not_its_own_are_not_touched(location: str, said: str) -> None:
    with pytest.raises(KeptError, match=said):
        path_in_blob(run(location=location))


def test_a_host_in_the_address_and_a_folder_of_the_user_s_choice_are_fine() -> None:
    assert path_in_blob(run(location="mlflow-artifacts://m.org/x y/a1/artifacts")) == (
        "x y/a1/artifacts"
    )
