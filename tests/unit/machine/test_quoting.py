import configparser

import pytest
from mlflow_bakery_machine.quoting import (
    client_option,
    compose_value,
    pymysql_option,
    sql_string,
)

from tests.unit.machine.samples import SYMBOLS

TEXTS = [SYMBOLS, SYMBOLS[::-1], " both ends ", "'", '"', "\\", "a\\'b", 'é€"#;', "%(x)s$1", "'\"'"]


def read_sql(literal: str) -> str:
    """Read a string literal as MySQL does."""
    assert literal[0] == literal[-1] == "'"
    result, rest = "", literal[1:-1]
    while rest:
        assert rest[0] != "'", "the literal ends too early"
        if rest[0] == "\\":
            known = {"n": "\n", "r": "\r", "0": "\0"}
            result, rest = result + known.get(rest[1], rest[1]), rest[2:]
        else:
            result, rest = result + rest[0], rest[1:]
    return result


def read_client_option(line: str) -> str:
    """Read a value as MySQL's programs do: quotes first, comments outside of them, then escapes."""
    quote, escaped, end = "", False, len(line)
    for place, character in enumerate(line):
        if character in "'\"" and not escaped:
            quote = "" if quote == character else quote or character
        if not quote and character == "#":
            end = place
            break
        escaped = bool(quote) and character == "\\" and not escaped
    value = line[:end].strip()
    assert value[0] == value[-1] == '"'
    result, rest = "", value[1:-1]
    while rest:
        if rest[0] == "\\":
            known = {"b": "\b", "t": "\t", "n": "\n", "r": "\r", "s": " "}
            result, rest = result + known.get(rest[1], rest[1]), rest[2:]
        else:
            result, rest = result + rest[0], rest[1:]
    return result


def read_pymysql_option(value: str) -> str:
    """Read a value as PyMySQL does: a raw parser, one pair of quotes, sent as Latin-1."""
    parser = configparser.RawConfigParser()
    parser.read_string(f"[client]\npassword = {value}\n")
    text = parser.get("client", "password")
    assert text[0] == text[-1] == '"'
    return text[1:-1].encode("latin-1").decode()


@pytest.mark.parametrize("text", [*TEXTS, "two\nlines\r\0"])
def test_sql_strings_come_back(text: str) -> None:
    assert read_sql(sql_string(text)) == text


@pytest.mark.parametrize("text", TEXTS)
def test_client_options_come_back(text: str) -> None:
    assert read_client_option(client_option(text)) == text


@pytest.mark.parametrize("text", TEXTS)
def test_pymysql_options_come_back(text: str) -> None:
    assert read_pymysql_option(pymysql_option(text)) == text


@pytest.mark.parametrize("character", SYMBOLS)
def test_each_symbol_alone(character: str) -> None:
    assert read_sql(sql_string(character)) == character
    assert read_client_option(client_option(character)) == character
    assert read_pymysql_option(pymysql_option(character)) == character


def test_a_compose_value_is_literal_or_refused() -> None:
    assert compose_value("a$b#c d") == "'a$b#c d'"
    for text in ("it's", "a\\b", "a\nb"):
        with pytest.raises(ValueError, match="Compose"):
            compose_value(text)
