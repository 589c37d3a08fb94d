"""How a test says that Azure refuses something, and with which words."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from azure.core.exceptions import HttpResponseError


@contextmanager
def refused(
    code: str, status: int | None = None
) -> Iterator[pytest.ExceptionInfo[HttpResponseError]]:
    """Expect that the SDK raises an error with this code of Azure's, and this status."""
    with pytest.raises(HttpResponseError) as caught:
        yield caught
    error = caught.value
    assert error.error is not None, error
    assert error.error.code == code
    if status is not None:
        assert error.status_code == status
