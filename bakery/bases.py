"""The operating systems that a bake starts from, each a bootable raw disk in the cache."""

import json
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakery import bootdisk, debian, store
from bakery.errors import InputError
from bakery.log import step

DEFAULT_BASE = "ubuntu-20.04"
FALLBACK_BASE = "debian-13"
_RECIPES = Path(__file__).resolve().parent.parent / "images" / "bases"
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

    @property
    def bootstrapped(self) -> bool:
        """Whether the base is built here rather than downloaded."""
        return bool(self.values["kind"] == "bootstrap")

    @property
    def digest(self) -> str:
        """The digest of the recipe and of the files that belong to it."""
        mine = [_RECIPES / f"{self.name}.toml", _RECIPES / self.name]
        files = store.tree_digest([path for path in mine if path.exists()], base=_RECIPES)
        return store.digest({"schema": _SCHEMA, "files": files})


def base_names() -> list[str]:
    """Return the names of all bases."""
    return sorted(path.stem for path in _RECIPES.glob("*.toml"))


def load_recipe(name: str) -> Recipe:
    """Read the recipe of a base.

    Raises:
        InputError: There is no such base.
    """
    if name not in base_names():
        raise InputError(
            f"there is no base {name!r}", hint=f"the bases are: {', '.join(base_names())}"
        )
    with (_RECIPES / f"{name}.toml").open("rb") as file:
        return Recipe(name, tomllib.load(file))


def resolve_base(name: str | None, *, cache: Path) -> Base:
    """Return a base, from the cache or newly made.

    Without a name it is the default one, and Debian 13 where that cannot be had; a base that was
    asked for by its name is that one or an error.

    Raises:
        InputError: Unknown name, the base cannot be reached, or a tool is missing.
        BakeryError: It could not be built, or what was downloaded is not what was published.
    """
    recipe = load_recipe(name or DEFAULT_BASE)
    return _bootstrapped(recipe, cache)


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
        shutil.copytree(_RECIPES / recipe.name / "root", root, dirs_exist_ok=True)
        debian.enable_networkd(root)
        bootdisk.empty_identity(root)
        packages = debian.installed(root)
        facts = {"recipe": recipe.digest, "packages": packages}
        bootdisk.write_disk(
            part / "disk.raw",
            root,
            esp=_RECIPES / recipe.name / "esp",
            size_mib=recipe.values["size_mib"],
            seed=recipe.digest,
        )
        shutil.rmtree(root)
    facts["digest"] = store.digest(facts)
    facts["mirror"] = mirrors.main
    (part / "base.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
