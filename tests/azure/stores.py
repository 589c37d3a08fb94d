"""What stands behind a storage account: nothing here, or a real Azurite."""

from typing import Protocol


class Stores(Protocol):
    """The data plane of storage accounts."""

    def set_keys(self, account: str, keys: tuple[str, str]) -> None:
        """Accept these keys for an account, and no others."""

    def remove(self, account: str) -> None: ...
    def endpoint(self, account: str) -> str:
        """Return the account's Blob endpoint, with a slash at its end."""

    def containers(self, account: str, key: str) -> list[str] | None:
        """Return the containers that there are; None: only the fake remembers them."""

    def make_container(self, account: str, key: str, name: str) -> None: ...
    def delete_container(self, account: str, key: str, name: str) -> None: ...


class NoStores:
    """Accounts that hold nothing."""

    def set_keys(self, account: str, keys: tuple[str, str]) -> None:
        pass

    def remove(self, account: str) -> None:
        pass

    def endpoint(self, account: str) -> str:
        return f"https://{account}.blob.core.windows.net/"

    def containers(
        self,
        account: str,  # noqa: ARG002
        key: str,  # noqa: ARG002
    ) -> list[str] | None:
        return None

    def make_container(self, account: str, key: str, name: str) -> None:
        pass

    def delete_container(self, account: str, key: str, name: str) -> None:
        pass
