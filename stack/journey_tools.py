"""`throughline journeys`: definitions in files, checked, compared and drawn, alone or with what a tenant has."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer

from core.yaml_text import YamlError, load
from journeys.definition import JourneyDefinition
from journeys.differences import between
from journeys.picture import Counts, svg
from journeys.validation import InvalidDefinition, parse, shape_problems

app = typer.Typer(no_args_is_help=True, help="Definitions of journeys, in files or of a tenant.")

TIMEOUT: Final = 30.0

UrlOption = Annotated[str, typer.Option("--url", envvar="THROUGHLINE_URL", help="Where the API is.")]
KeyOption = Annotated[
    str | None,
    typer.Option("--api-key", envvar="THROUGHLINE_API_KEY", help="A key of the tenant; without one, files alone."),
]
DEFAULT_URL: Final = "http://127.0.0.1:8080"


class ToolError(Exception):
    """What was asked for cannot be done; the message says why."""


@dataclass(frozen=True, slots=True)
class _Tenant:
    url: str
    api_key: str

    def call(self, method: str, path: str, **options: Any) -> Any:  # noqa: ANN401 - JSON
        """Return what the API answers.

        Raises:
            ToolError: it refuses, or is not there.
        """
        try:
            answer = httpx.request(
                method,
                f"{self.url.rstrip('/')}/v1/journeys{path}",
                headers={"Authorization": f"Bearer {self.api_key}"},
                timeout=TIMEOUT,
                **options,
            )
        except httpx.HTTPError as error:
            raise ToolError(f"{self.url} does not answer: {error}") from error
        if answer.is_error:
            told: Any = answer.json() if "json" in answer.headers.get("content-type", "") else {"detail": answer.text}
            raise ToolError(f"{self.url} answers {answer.status_code}: {str(told.get('detail'))[:500]}")
        return answer.json()


def _tenant(url: str, api_key: str | None) -> _Tenant | None:
    return None if api_key is None else _Tenant(url, api_key)


def _read(path: Path) -> Any:  # noqa: ANN401 - JSON
    """Return what a file holds, as JSON or YAML; `-` is standard input."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(f"{path}: cannot be read: {error}") from error
    except (YamlError, json.JSONDecodeError) as error:
        raise ToolError(f"{path}: {error}") from error


def _definition(source: str, tenant: _Tenant | None) -> tuple[JourneyDefinition, str]:
    """Return the definition in a file, or of a tenant's journey: `KEY` its draft, `KEY@active` what people enter."""
    path = Path(source)
    if source == "-" or path.exists() or tenant is None:
        raw, name = _read(path), path.stem
    else:
        key, _, which = source.partition("@")
        journey = tenant.call("GET", f"/{key}")
        raw, name = journey["draft"], journey["name"]
        if which == "active":
            if journey["active_version_id"] is None:
                raise ToolError(f"{key} was never published")
            raw = tenant.call("GET", f"/{key}/versions/{journey['active_version_id']}")["definition"]
        elif which:
            raise ToolError(f"{source}: write KEY for the draft, or KEY@active")
    try:
        return parse(raw), name
    except InvalidDefinition as error:
        problems = (f"{source}: {each.path or 'definition'}: {each.reason}" for each in error.problems)
        raise ToolError("\n".join(problems)) from error


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="JSON or YAML; - for standard input.")],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
) -> None:
    """Say what keeps the definitions in FILES from being published; with a key, what the tenant lacks too."""
    tenant = _tenant(url, api_key)
    bad = 0
    for file in files:
        try:
            problems = _problems(_read(file), tenant)
        except ToolError as error:
            problems = [str(error).removeprefix(f"{file}: ")]
        bad += bool(problems)
        for problem in problems:
            typer.echo(f"{file}: {problem}")
        if not problems:
            typer.echo(f"{file}: good")
    if bad:
        raise typer.Exit(1)


def _problems(raw: Any, tenant: _Tenant | None) -> list[str]:  # noqa: ANN401 - JSON
    if tenant is not None:
        found = tenant.call("POST", "/check", json={"definition": raw})["problems"]
        return [f"{each['field'].removeprefix('definition.')}: {each['reason']}" for each in found]
    try:
        problems = shape_problems(parse(raw))
    except InvalidDefinition as error:
        problems = error.problems
    return [f"{each.path or 'definition'}: {each.reason}" for each in problems]


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="A file, or with a key a journey: KEY, or KEY@active.")],
    after: Annotated[str, typer.Argument(help="The same.")],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
) -> None:
    """Show what differs between two definitions; the exit code is 1 where something does, as diff has it."""
    tenant = _tenant(url, api_key)
    try:
        old, new = (_definition(source, tenant)[0] for source in (before, after))
    except ToolError as error:
        raise _failed(error) from error
    found = between(old, new)
    for name in found.removed:
        typer.echo(f"- node {name}: {_text(old.to_json()['nodes'][name])}")
    for name in found.added:
        typer.echo(f"+ node {name}: {_text(new.to_json()['nodes'][name])}")
    for name, fields in found.changed.items():
        for field, change in fields.items():
            typer.echo(f"~ node {name}.{field}: {_text(change.before)} -> {_text(change.after)}")
    for field, change in found.rules.items():
        typer.echo(f"~ {field}: {_text(change.before)} -> {_text(change.after)}")
    if found:
        raise typer.Exit(1)


@app.command()
def render(
    source: Annotated[str, typer.Argument(help="A file, or with a key a journey: KEY, or KEY@active.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; standard output else.")] = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
) -> None:
    """Draw a definition as SVG; a journey of the tenant's with how many came to each node and went each way."""
    tenant = _tenant(url, api_key)
    try:
        definition, name = _definition(source, tenant)
        counts = None
        if tenant is not None and not Path(source).exists():
            counts = _counts(tenant.call("GET", f"/{source.partition('@')[0]}/stats")["nodes"])
    except ToolError as error:
        raise _failed(error) from error
    picture = svg(definition, counts, title=name)
    if output is None:
        typer.echo(picture, nl=False)
    else:
        output.write_text(picture, encoding="utf-8")


def _counts(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Counts]:
    fields = "entered", "waiting", "failed", "left"
    return {name: Counts(**{field: node[field] for field in fields}) for name, node in nodes.items()}


def _text(value: Any) -> str:  # noqa: ANN401 - JSON
    return json.dumps(value, ensure_ascii=False)


def _failed(error: ToolError) -> typer.Exit:
    typer.secho(f"throughline: {error}", err=True, fg="red")
    return typer.Exit(2)
