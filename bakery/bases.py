"""The operating systems that a bake starts from, each a bootable raw disk in the cache."""

import json
import shutil
import tomllib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bakery import bootdisk, debian, store, ubuntu
from bakery.errors import InputError
from bakery.log import note, step
from bakery.pins import IMAGES, LOCK, UbuntuRelease, read_lock

DEFAULT_BASE = "ubuntu-20.04"
FALLBACK_BASE = "debian-13"
RECIPES = IMAGES / "bases"
# Raised when the same recipe is to give another disk.
_SCHEMA = 1


@dataclass(frozen=True)
class Base:
    """A base as it is in the cache; nobody writes to its disk."""

    name: str
    requested: str
    disk: Path
    digest: str
    """Of what decides the disk: the recipe and the packages, or the published checksum."""
    source: str
    """The address of a published image, or "mmdebstrap"."""
    fallback: str = ""
    """Why this is not the base that was meant, in one line; empty when it is."""


@dataclass(frozen=True)
class Recipe:
    """A file of images/bases: how to get one base."""

    name: str
    values: dict[str, Any]
    folder: Path

    @property
    def bootstrapped(self) -> bool:
        """Whether the base is built here rather than downloaded."""
        return bool(self.values["kind"] == "bootstrap")

    @property
    def digest(self) -> str:
        """The digest of the recipe and of the files that belong to it."""
        mine = [self.folder / f"{self.name}.toml", self.folder / self.name]
        files = store.tree_digest([path for path in mine if path.exists()], base=self.folder)
        return store.digest({"schema": _SCHEMA, "files": files})


def base_names(recipes: Path = RECIPES) -> list[str]:
    """Return the names of all bases."""
    return sorted(path.stem for path in recipes.glob("*.toml"))


def load_recipe(name: str, recipes: Path = RECIPES) -> Recipe:
    """Read the recipe of a base.

    Raises:
        InputError: There is no such base.
    """
    names = base_names(recipes)
    if name not in names:
        raise InputError(f"there is no base {name!r}", hint=f"the bases are: {', '.join(names)}")
    with (recipes / f"{name}.toml").open("rb") as file:
        return Recipe(name, tomllib.load(file), recipes)


def resolve_base(
    name: str | None, *, cache: Path, recipes: Path = RECIPES, lock: Path = LOCK
) -> Base:
    """Return a base, from the cache or newly made.

    Without a name it is the default one, and Debian 13 where that cannot be had; this is decided
    once and remembered in the cache. A base that was asked for by its name is that one or an error.

    Raises:
        InputError: Unknown name, the base cannot be reached, what was downloaded is not what was
            published, or a tool is missing.
        BakeryError: It could not be built.
    """
    recipe = load_recipe(name or DEFAULT_BASE, recipes)
    if recipe.bootstrapped:
        return _bootstrapped(recipe, cache)
    pinned = read_lock(lock).ubuntu_release(recipe.name)
    if name is not None:
        return _downloaded(recipe, pinned, cache)
    choice = _Choice(
        cache / "bases" / "default.json", store.digest([recipe.digest, asdict(pinned)])
    )
    if choice.recall() is None:
        choice.remember(_why_not(recipe, pinned, cache))
    why_not = choice.recall()
    if not why_not:
        return _downloaded(recipe, pinned, cache)
    made = _bootstrapped(load_recipe(FALLBACK_BASE, recipes), cache)
    return replace(made, requested=recipe.name, fallback=why_not)


@dataclass(frozen=True)
class _Choice:
    """Whether the default base can be had here, as it was found once."""

    file: Path
    question: str

    def recall(self) -> str | None:
        """Return why it cannot, nothing if it can, or None when nobody has looked."""
        try:
            known = json.loads(self.file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return known["why_not"] if known["question"] == self.question else None

    def remember(self, why_not: str) -> None:
        """Keep the answer."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"question": self.question, "why_not": why_not}, indent=1)
        self.file.write_text(text + "\n", encoding="utf-8")


def _why_not(recipe: Recipe, pinned: UbuntuRelease, cache: Path) -> str:
    try:
        _downloaded(recipe, pinned, cache)
    except ubuntu.UnreachableError as unreachable:
        note(f"{unreachable}; {FALLBACK_BASE} takes the place of {recipe.name}")
        return str(unreachable)
    return ""


def _downloaded(recipe: Recipe, pinned: UbuntuRelease, cache: Path) -> Base:
    key = store.digest([_SCHEMA, recipe.digest, asdict(pinned)])
    entry = cache / "bases" / f"{recipe.name}-{key[7:19]}"
    if not entry.is_dir():
        # Before the step begins: a site out of reach is no failure where Debian 13 will do.
        published = ubuntu.find_published(recipe.values, pinned, cache=cache)
        if not pinned.release:
            note(f"the lock names no release of {recipe.name}: {published.release} is the newest")
        with step(f"Fetch the base {recipe.name}"):
            store.build(entry, lambda part: _download(published, part))
    facts = json.loads((entry / "base.json").read_text(encoding="utf-8"))
    return Base(recipe.name, recipe.name, entry / "disk.raw", facts["digest"], facts["url"])


def _download(published: ubuntu.Published, part: Path) -> None:
    ubuntu.fetch_disk(published, part)
    facts = {**asdict(published), "digest": f"sha256:{published.sha256}"}
    (part / "base.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _bootstrapped(recipe: Recipe, cache: Path) -> Base:
    entry = cache / "bases" / f"{recipe.name}-{recipe.digest[7:19]}"
    if not entry.is_dir():
        with step(f"Build the base {recipe.name} from Debian packages"):
            store.build(entry, lambda part: _build(recipe, part, cache / "bases"))
    facts = json.loads((entry / "base.json").read_text(encoding="utf-8"))
    return Base(recipe.name, recipe.name, entry / "disk.raw", facts["digest"], "mmdebstrap")


def _build(recipe: Recipe, part: Path, logs: Path) -> None:
    mirrors = debian.host_mirrors()
    log = logs / f"{recipe.name}.log"
    log.unlink(missing_ok=True)
    root = part / "root"
    with step(f"Install {recipe.values['suite']} from {mirrors.main}"):
        debian.bootstrap(
            recipe.values["suite"], root, recipe.values["packages"], mirrors=mirrors, log=log
        )
    with step("Write a bootable disk"):
        shutil.copytree(recipe.folder / recipe.name / "root", root, dirs_exist_ok=True)
        debian.enable_networkd(root)
        bootdisk.empty_identity(root)
        packages = debian.installed(root)
        facts = {"recipe": recipe.digest, "packages": packages}
        bootdisk.write_disk(
            part / "disk.raw",
            root,
            esp=recipe.folder / recipe.name / "esp",
            size_mib=recipe.values["size_mib"],
            seed=recipe.digest,
        )
        shutil.rmtree(root)
    facts["digest"] = store.digest(facts)
    facts["mirror"] = mirrors.main
    (part / "base.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
