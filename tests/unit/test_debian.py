"""Which mirror this host's apt sources name."""

from pathlib import Path

import pytest

from bakery.debian import Mirrors, host_mirrors
from bakery.errors import InputError

_DEB822 = """\
Types: deb deb-src
# The mirror next door.
URIs: http://mirror.example/debian
Suites: bookworm
  bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""


def _apt(folder: Path, *, list_: str = "", sources: str = "", other: str = "") -> Path:
    (folder / "sources.list.d").mkdir(parents=True)
    if list_:
        (folder / "sources.list").write_text(list_, encoding="utf-8")
    if sources:
        (folder / "sources.list.d/debian.sources").write_text(sources, encoding="utf-8")
    if other:
        (folder / "sources.list.d/other.list").write_text(other, encoding="utf-8")
    return folder


def test_both_forms_are_read(tmp_path: Path) -> None:
    expected = Mirrors("http://mirror.example/debian", "https://mirror.example/debian-security")
    assert host_mirrors(_apt(tmp_path / "a", sources=_DEB822)) == expected
    one_line = (
        "# deb http://old.example/debian bookworm main\n"
        "deb-src http://src.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main # ours\n"
        "deb https://mirror.example/debian-security bookworm-security main\n"
    )
    assert host_mirrors(_apt(tmp_path / "b", list_=one_line)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "deb http://download.example/linux/debian bookworm stable\n",
        "deb http://mirror.example/ubuntu jammy main\n",
        "deb http://mirror.example/debian bookworm-backports main\n",
        "deb cdrom:[Debian 12]/ bookworm main\n",
        "deb file:/srv/debian bookworm main\n",
    ],
)
def test_a_host_without_a_debian_archive_is_told_so(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="no Debian archive") as refused:
        host_mirrors(_apt(tmp_path, other=text))
    assert "deb http://" in refused.value.hint


def test_a_disabled_source_does_not_count(tmp_path: Path) -> None:
    text = _DEB822.replace("Types: deb deb-src", "Enabled: no\nTypes: deb")
    with pytest.raises(InputError):
        host_mirrors(_apt(tmp_path, sources=text))


def test_the_suite_is_replaced() -> None:
    mirrors = Mirrors("http://m/debian", "http://m/security")
    assert mirrors.lines("trixie") == [
        "deb http://m/debian trixie main",
        "deb http://m/debian trixie-updates main",
        "deb http://m/security trixie-security main",
    ]
    assert mirrors.lines("sid") == ["deb http://m/debian sid main"]
    assert len(Mirrors("http://m/debian").lines("trixie")) == 2
