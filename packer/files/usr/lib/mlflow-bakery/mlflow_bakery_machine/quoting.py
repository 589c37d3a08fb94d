"""Values with any symbol, written for SQL, for option files and for Compose."""

from __future__ import annotations


def sql_string(text: str) -> str:
    r"""Return a MySQL string literal (for the default SQL mode, where \ escapes)."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return "'" + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\0", "\\0") + "'"


def client_option(text: str) -> str:
    r"""Return a quoted value for an option file that MySQL's own programs read.

    They end a value at an unquoted # and understand escapes even in quotes.
    """
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def pymysql_option(text: str) -> str:
    """Return a quoted value for an option file that PyMySQL reads.

    It removes one pair of quotes and understands no escapes. It sends the characters of a password
    as Latin-1, so each UTF-8 byte is written as the Latin-1 character of that number.
    """
    return '"' + text.encode("utf-8").decode("latin-1") + '"'


def compose_value(text: str) -> str:
    """Return a value for a file of variables that Compose reads, taken as it is.

    Raises:
        ValueError: The text has a character that cannot be written there.
    """
    if "'" in text or "\\" in text or any(ord(character) < 32 for character in text):
        raise ValueError("a Compose variable with a quote, a backslash or a control character")
    return "'" + text + "'"
