"""A TOML file read with the line of each key."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, cast

from tidegate.config.problem import ConfigError, Keys, Problem

MAX_FILE_BYTES = 1_048_576


def parsed(path: Path) -> tuple[dict[str, Any], dict[Keys, int]]:
    """Its content, and the line of every table, key and list item. Blocks on the file. Raises ConfigError."""
    where = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ConfigError([Problem(where, "", "expected at most 1 MiB, the file is bigger")])
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
        return tomllib.loads(text), _Scanner(text).found
    except OSError as error:
        raise ConfigError([Problem(where, "", f"cannot be read: {error.strerror or error}")]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(f"{where}:{line}", "", "expected UTF-8, got other bytes")]) from error
    except ValueError as error:  # tomllib's own, or Python's for a number of 5,000 digits
        at = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error))
        if at is None:
            raise ConfigError([Problem(where, "", f"not valid TOML: {error}")]) from error
        line = int(at[1] or text.count("\n") + (not text.endswith("\n")))
        place = f"column {at[2]}" if at[2] else "the end of the file"
        told = f"not valid TOML at {place}: {str(error)[: at.start()]}"
        raise ConfigError([Problem(f"{where}:{line}", "", told)]) from error
    except RecursionError:
        raise ConfigError([Problem(where, "", "is nested too deeply")]) from None


_TOKEN = re.compile(
    r'''(?P<string>"""(?:[^\\]|\\.)*?""""{0,2}|\'\'\'.*?\'\'\'\'{0,2}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')'''
    r"""|(?P<comment>\#[^\n]*)|(?P<newline>\n)|(?P<mark>[\[\]{}=.,])|(?P<bare>[^\s\[\]{}=.,"'\#]+)""",
    re.S,
)


class _Scanner:
    """Reads what tomllib has found valid once more, for the lines that it does not tell."""

    def __init__(self, text: str) -> None:
        self.found: dict[Keys, int] = {}
        self.tokens: list[tuple[str, str, int]] = []  # (kind, token, line), the next one last
        line = 1
        for match in _TOKEN.finditer(text):
            kind, token = match.lastgroup or "", match.group()
            if kind != "comment":
                self.tokens.append((kind, token, line))
            line += token.count("\n")
        self.tokens.reverse()
        self.document()

    def sees(self, mark: str) -> bool:
        return bool(self.tokens) and self.tokens[-1][1] == mark and self.tokens[-1][0] != "string"

    def document(self) -> None:
        table: Keys = ()
        counts: dict[Keys, int] = {}
        while self.tokens:
            if self.sees("\n"):
                self.tokens.pop()
            elif self.sees("["):
                table = self.header(counts)
            else:
                self.pair(table)

    def header(self, counts: dict[Keys, int]) -> Keys:
        line = self.tokens.pop()[2]
        many = self.sees("[")
        header, table = self.key("]"), cast(Keys, ())
        for depth, key in enumerate(header, 1):
            table = (*table, key)
            if depth == len(header) and many:
                self.note(table, line)
                counts[table] = counts.get(table, -1) + 1
                self.tokens.pop()
            if table in counts:
                table = (*table, str(counts[table]))
        return self.note(table, line)

    def key(self, end: str) -> list[str]:
        keys = []
        while not self.sees(end):
            kind, token, _ = self.tokens.pop()
            if kind == "string":
                keys.append(tomllib.loads(f"key = {token}")["key"])
            elif kind == "bare":
                keys.append(token)
        self.tokens.pop()
        return keys

    def note(self, keys: Keys, line: int, known: int = 0) -> Keys:
        for end in range(known + 1, len(keys) + 1):
            self.found.setdefault(keys[:end], line)
        return keys

    def pair(self, table: Keys) -> None:
        line = self.tokens[-1][2]
        self.value(self.note((*table, *self.key("=")), line, len(table)))

    def value(self, keys: Keys) -> None:
        if not self.sees("[") and not self.sees("{"):
            while self.tokens and (self.tokens[-1][0] in ("string", "bare") or self.sees(".")):
                self.tokens.pop()
            return
        end, index = {"[": "]", "{": "}"}[self.tokens.pop()[1]], 0
        while not self.sees(end):
            if self.sees(",") or self.sees("\n"):
                self.tokens.pop()
            elif end == "}":
                self.pair(keys)
            else:
                self.value(self.note((*keys, str(index)), self.tokens[-1][2], len(keys)))
                index += 1
        self.tokens.pop()
