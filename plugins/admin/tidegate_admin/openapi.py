"""The OpenAPI document of the API, made from the administrators' commands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tidegate import Command

from tidegate_admin import problems

BASE = "/api/v1"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_PATH = re.compile(r"(/([a-z0-9_.-]+|\{[a-z_]+\}))+")
#: Paths that are the site's own.
_TAKEN = ("commands", "openapi.json", "stream")


class Operation(NamedTuple):
    """A command and where it is: `("GET", ("security", "blocks"))`; a segment in braces is a parameter."""

    command: Command
    method: str
    path: tuple[str, ...]
    schemas: Mapping[str, Mapping[str, Any]]  # of the parameters, by name

    @property
    def own(self) -> bool:
        """Whether it has a path of its own, from its note `http`."""
        return self.path[0] != "commands"

    def takes(self, segments: list[str]) -> dict[str, str] | None:
        """The parameters in a path, or None where it is not this one's."""
        if len(segments) != len(self.path):
            return None
        found = {}
        for mine, said in zip(self.path, segments, strict=True):
            if mine.startswith("{"):
                found[mine[1:-1]] = said
            elif mine != said:
                return None
        return found


def operations(commands: Iterable[tuple[Command, Mapping[str, Any]]]) -> tuple[list[Operation], list[str]]:
    """Where each administrators' command is, and what is wrong with notes `http`; those commands are at their plain
    place. `commands`: each with its OpenRPC method object."""
    made: list[Operation] = []
    mistakes: list[str] = []
    taken: dict[tuple[str, tuple[str, ...]], str] = {}
    for command, described in commands:
        if command.notes.get("requires") != "admin":
            continue
        schemas = {param["name"]: param["schema"] for param in described["params"]}
        method: str = "POST"
        path: tuple[str, ...] = ("commands", command.name)
        if (note := command.notes.get("http")) is not None:
            try:
                method, path = place_of(note, command)
                if (owner := taken.get((method, shape(path)))) is not None:
                    raise ValueError(f"{owner} is there already")
            except ValueError as error:
                mistakes.append(f"command {command.name!r}: http: {error}, got {note!r}")
                method, path = "POST", ("commands", command.name)
        taken[method, shape(path)] = command.name
        made.append(Operation(command, method, path, schemas))
    return made, mistakes


def shape(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("{}" if part.startswith("{") else part for part in path)


def place_of(note: Any, command: Command) -> tuple[str, tuple[str, ...]]:
    """What `"GET /security/blocks"` says. Raises ValueError."""
    method, _, path = str(note).partition(" ")
    if method not in METHODS or not _PATH.fullmatch(path):
        raise ValueError("expected a method and a path, as 'GET /security/blocks'")
    parts = tuple(path.split("/")[1:])
    if parts[0] in _TAKEN:
        raise ValueError(f"/{parts[0]} is the site's own")
    if unknown := [part for part in parts if part.startswith("{") and part[1:-1] not in command.arguments]:
        raise ValueError(f"{unknown[0]} is no parameter of it")
    if method == "GET" and command.notes.get("scope") != "read":
        raise ValueError("a command that changes something is no GET")
    return method, parts


# --- the document ---------------------------------------------------------------------------------

_INTRODUCTION = """\
Every administrators' command of this server. It runs through the same decorators as over TCP; a fault is an RFC 9457
problem document with its Tidegate code. Each command is also there as `POST /commands/NAME` with its parameters by
name. Send an administrators' token as `Authorization: Bearer TOKEN`; a browser's session sends `X-CSRF-Token` with
each change."""


def document(title: str, version: str, made: Iterable[Operation], described: Mapping[str, Any]) -> dict[str, Any]:
    """An OpenAPI 3.1 document. `described`: OpenRPC method objects by name."""
    paths: dict[str, dict[str, Any]] = {}
    areas = set()
    for operation in sorted(made, key=lambda one: (one.path, one.method)):
        entry = _entry(operation, described[operation.command.name])
        areas.add(entry["tags"][0])
        paths.setdefault("/" + "/".join(operation.path), {})[operation.method.lower()] = entry
    return {
        "openapi": "3.1.0",
        "info": {"title": f"{title}: administration", "version": version, "description": _INTRODUCTION},
        "servers": [{"url": BASE}],
        "security": [{"token": []}, {"session": []}],
        "tags": [{"name": area} for area in sorted(areas)],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token"},
            },
            "schemas": {"Problem": problems.SCHEMA},
            "responses": {
                "Problem": {
                    "description": "A fault.",
                    "content": {problems.CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
        },
    }


def _entry(operation: Operation, described: Mapping[str, Any]) -> dict[str, Any]:
    command = operation.command
    entry: dict[str, Any] = {
        "operationId": command.name,
        "summary": described.get("summary", ""),
        "tags": [command.name.partition(".")[0]],
        "x-plugin": command.plugin.name,
        "x-scope": command.notes.get("scope", "operate"),
        "responses": {
            "200": {
                "description": "What the command answers.",
                "content": {"application/json": {"schema": _response(described["result"]["schema"])}},
            },
            "default": {"$ref": "#/components/responses/Problem"},
        },
    }
    if "description" in described:
        entry["description"] = described["description"]
    if described.get("deprecated"):
        entry["deprecated"] = True
    in_path = {part[1:-1] for part in operation.path if part.startswith("{")}
    in_query = operation.method in ("GET", "DELETE")
    fields, rest = [], []
    for param in described["params"]:
        where = "path" if param["name"] in in_path else "query" if in_query else ""
        if where:
            needed = where == "path" or param["required"]
            field = {"name": param["name"], "in": where, "required": needed, "schema": param["schema"]}
            fields.append(field | ({"description": param["description"]} if "description" in param else {}))
        else:
            rest.append(param)
    if fields:
        entry["parameters"] = fields
    if not in_query:
        entry["requestBody"] = _body(rest)
    return entry


def _response(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A result may have more than its schema tells; and it is what the command gives, not what it takes."""
    loose = {key: value for key, value in schema.items() if key not in ("required", "additionalProperties", "default")}
    if "properties" in loose:
        loose["properties"] = {name: _response(each) for name, each in loose["properties"].items()}
    return loose


def _body(params: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    properties, required = {}, []
    for param in params:
        schema = dict(param["schema"])
        if "description" in param:
            schema["description"] = param["description"]
        properties[param["name"]] = schema
        if param["required"]:
            required.append(param["name"])
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = required
    return {"required": bool(required), "content": {"application/json": {"schema": schema}}}
