"""Jinja2 rendering; an undefined name is an error, never an empty string."""

import json
import shlex
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

PROJECT = Path(__file__).parents[1]


def render(template: str, **values: object) -> str:
    """Render a template of the project, named by its path from the project's folder."""
    environment = Environment(
        loader=FileSystemLoader(PROJECT),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - HCL and YAML: quoted by the filters below
    )
    # JSON strings are valid HCL strings (but for ${ and %{) and valid YAML.
    environment.filters["hcl"] = _hcl
    environment.filters["hcl_map"] = _hcl_map
    environment.filters["yaml"] = _yaml
    environment.filters["sh"] = shlex.quote
    return environment.get_template(template).render(**values)


def _hcl(value: object) -> str:
    return json.dumps(value, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")


def _hcl_map(values: dict[str, str]) -> str:
    rows = [f"{_hcl(name)} = {_hcl(value)}" for name, value in sorted(values.items())]
    return "{\n" + "\n".join(rows) + "\n}"


def _yaml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
