"""What Azure offers: sizes, images of the Marketplace, quotas, prices."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Size:
    """A size of virtual machines."""

    name: str
    family: str
    cores: int
    memory_gib: float
    price: float
    """US dollars an hour."""


_SIZES = (
    Size("Standard_B2s", "standardBSFamily", 2, 4, 0.0416),
    Size("Standard_B1s", "standardBSFamily", 1, 1, 0.0104),
    Size("Standard_B2ms", "standardBSFamily", 2, 8, 0.0832),
    Size("Standard_B4ms", "standardBSFamily", 4, 16, 0.166),
    Size("Standard_B2als_v2", "standardBasv2Family", 2, 4, 0.0376),
    Size("Standard_B2as_v2", "standardBasv2Family", 2, 8, 0.0752),
    Size("Standard_B2ls_v2", "standardBsv2Family", 2, 4, 0.0416),
    Size("Standard_B2s_v2", "standardBsv2Family", 2, 8, 0.0832),
    Size("Standard_B4s_v2", "standardBsv2Family", 4, 16, 0.166),
    Size("Standard_D2s_v3", "standardDSv3Family", 2, 8, 0.096),
    Size("Standard_D2s_v5", "standardDSv5Family", 2, 8, 0.096),
    Size("Standard_D2as_v5", "standardDASv5Family", 2, 8, 0.086),
    Size("Standard_NC4as_T4_v3", "Standard NCASv3_T4 Family", 4, 28, 0.526),
    Size("Standard_NC8as_T4_v3", "Standard NCASv3_T4 Family", 8, 56, 0.752),
    Size("Standard_NC16as_T4_v3", "Standard NCASv3_T4 Family", 16, 110, 1.204),
    Size("Standard_D4s_v5", "standardDSv5Family", 4, 16, 0.192),
)

Urn = tuple[str, str, str]


@dataclass
class Catalogue:
    """What can be had in this subscription's location."""

    sizes: dict[str, Size] = field(
        default_factory=lambda: {size.name.lower(): size for size in _SIZES}
    )
    not_available: set[str] = field(default_factory=set)
    """Sizes that this subscription may not have here (SkuNotAvailable), lower-cased."""
    no_capacity: set[str] = field(default_factory=set)
    """Sizes that cannot be allocated just now (AllocationFailed), lower-cased."""
    quota: dict[str, int] = field(default_factory=dict)
    """Cores allowed by family, and by `cores` in all; 10 unless said otherwise."""
    public_ips: int = 20
    images: dict[Urn, list[str]] = field(
        default_factory=lambda: {
            ("Canonical", "0001-com-ubuntu-server-focal", "20_04-lts-gen2"): ["20.04.202505200"],
            ("Canonical", "0001-com-ubuntu-pro-focal", "pro-20_04-lts-gen2"): ["20.04.202611100"],
            ("Canonical", "ubuntu-22_04-lts", "server"): ["22.04.202610010", "22.04.202611120"],
            ("Canonical", "ubuntu-24_04-lts", "server"): ["24.04.202611120"],
            ("Canonical", "0001-com-ubuntu-server-jammy", "22_04-lts-gen2"): ["22.04.202611120"],
            ("Debian", "debian-12", "12-gen2"): ["0.20261112.1988"],
            ("Debian", "debian-13", "13-gen2"): ["0.20261112.1988"],
        }
    )
    plans: set[Urn] = field(
        default_factory=lambda: {("Canonical", "0001-com-ubuntu-pro-focal", "pro-20_04-lts-gen2")}
    )
    """The images that cannot be used without their plan."""

    def size(self, name: str) -> Size | None:
        return self.sizes.get(name.lower())

    def allowed(self, family: str) -> int:
        return self.quota.get(family, 10)
