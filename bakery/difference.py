"""What differs between two images: packages, container images, base, sizes."""

from dataclasses import dataclass

from bakery.manifest import ContainerInfo, Manifest

_SHOWN = 100
"""So many packages are listed; a new base changes hundreds."""
Change = tuple[str, str, str]
"""A name, what it was and what it is; empty where it was or is not there."""


@dataclass(frozen=True)
class Difference:
    """What a newer image has that an older one has not, and the other way round."""

    base: Change | None
    containers: list[Change]
    """Versions, or digests where the versions are the same."""
    packages: list[Change] | None
    """None where the packages of one of them are not known."""
    sizes: list[Change]

    @property
    def nothing(self) -> bool:
        """Whether they hold the same."""
        return not (self.base or self.containers or self.packages)

    @property
    def line(self) -> str:
        """All of it in a few words."""
        words = [f"base {self.base[2]}"] if self.base else []
        words += [f"{name} {new}" for name, _, new in self.containers]
        if self.packages:
            count = len(self.packages)
            words.append(f"{count} package{'s' if count > 1 else ''}")
        return ", ".join(words) or "the same contents"


def difference(old: Manifest, new: Manifest) -> Difference:
    """Compare two images."""
    known = bool(old.packages) and bool(new.packages)
    base = None
    if old.base.digest != new.base.digest:
        base = (new.base.name, old.base.source, new.base.source)
    return Difference(
        base=base,
        containers=_containers(old, new),
        packages=_changes(_words(old), _words(new)) if known else None,
        sizes=_changes(_sizes(old), _sizes(new)),
    )


def markdown(old: Manifest | None, new: Manifest) -> str:
    """Return a report of what a new image changes, for people and for GitHub's job summary."""
    head = f"## Image {new.id}\n\nBase: {new.base.name} ({new.base.source})\n"
    if old is None:
        return head + "\nThe first image: there is none to compare it with.\n"
    found = difference(old, new)
    parts = [head, f"Compared with {old.id}: {found.line}.\n"]
    if found.base:
        parts.append(table("Base", [found.base]))
    parts.append(table("Container images", found.containers))
    if found.packages is None:
        parts.append("The packages of the older image are not known here.\n")
    else:
        parts.append(table(f"Packages ({len(found.packages)})", found.packages))
    parts.append(table("Sizes", found.sizes))
    return "\n".join(part for part in parts if part)


def table(title: str, changes: list[Change]) -> str:
    """Return a table in Markdown; nothing when nothing changed."""
    if not changes:
        return ""
    rows = [f"| {name} | {old or '-'} | {new or '-'} |" for name, old, new in changes[:_SHOWN]]
    left = len(changes) - len(rows)
    more = f"\n… and {left} more\n" if left else ""
    head = f"### {title}\n\n| | was | is |\n| --- | --- | --- |\n"
    return head + "\n".join(rows) + "\n" + more


def _changes(old: dict[str, str], new: dict[str, str]) -> list[Change]:
    names = sorted(old.keys() | new.keys())
    pairs = [(name, old.get(name, ""), new.get(name, "")) for name in names]
    return [one for one in pairs if one[1] != one[2]]


def _words(manifest: Manifest) -> dict[str, str]:
    return {name: str(version) for name, version in manifest.packages.items()}


def _containers(old: Manifest, new: Manifest) -> list[Change]:
    was = {one.name: one for one in old.containers}
    return [
        (one.name, *_versions(was.get(one.name), one))
        for one in new.containers
        if one.name not in was or was[one.name].image_id != one.image_id
    ]


def _versions(old: ContainerInfo | None, new: ContainerInfo) -> tuple[str, str]:
    if old is None:
        return "", new.version
    if old.version != new.version:
        return old.version, new.version
    return f"{old.version} {old.image_id[:19]}", f"{new.version} {new.image_id[:19]}"


def _sizes(manifest: Manifest) -> dict[str, str]:
    found = {f"container {one.name}": _mib(one.size) for one in manifest.containers}
    if manifest.disk_used:
        found["disk"] = _mib(manifest.disk_used)
    return found


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
