"""What the control plane says no with: a status, a code and a sentence."""

from typing import Any


class Refusal(Exception):  # noqa: N818 (it is an answer, not a mistake)
    """An answer other than success, in the shape that Azure Resource Manager gives it."""

    def __init__(
        self, status: int, code: str, message: str, *, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """The answer's body."""
        return {"error": {"code": self.code, "message": self.message}}


def bad_request(code: str, message: str) -> Refusal:
    return Refusal(400, code, message)


def conflict(code: str, message: str) -> Refusal:
    return Refusal(409, code, message)


def not_found(kind: str, name: str, group: str = "") -> Refusal:
    where = f" under resource group '{group}'" if group else ""
    return Refusal(404, "ResourceNotFound", f"The Resource '{kind}/{name}'{where} was not found.")
