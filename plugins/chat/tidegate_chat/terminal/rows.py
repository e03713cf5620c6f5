"""Text for the screen: harmless, coloured, and cut into rows."""

from __future__ import annotations

from prompt_toolkit.styles import Style
from prompt_toolkit.utils import get_cwidth

STYLE = Style.from_dict(
    {
        "title": "reverse",
        "here": "bold underline",
        "unread": "bold ansiyellow",
        "author": "bold ansicyan",
        "me": "bold ansigreen",
        "time": "ansibrightblack",
        "note": "italic ansibrightblack",
        "problem": "ansired",
        "mark": "bold ansiyellow",
    }
)

#: A line as it is shown: pieces of style and text.
Line = list[tuple[str, str]]


#: Invisible and harmless: they join letters of some scripts, and the parts of an emoji.
_JOINERS = frozenset("\n\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}")


def printable(text: str) -> str:
    """What others wrote must not steer this terminal, nor turn its letters round."""
    return "".join(
        letter if letter.isprintable() or letter in _JOINERS else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def wrapped(line: Line, width: int) -> list[Line]:
    """A line cut into rows of at most `width` cells, between words where there are any."""
    rows: list[Line] = [[]]
    used = 0
    for style, text in line:
        piece = ""
        for letter in text:
            cells = get_cwidth(letter)
            if letter == "\n" or used + cells > width:
                cut = len(piece) if letter in "\n " else piece.rfind(" ") + 1
                if len(piece) - cut > width // 2 or not piece[:cut].strip():  # a word too long to keep whole
                    cut = len(piece)
                rows[-1].append((style, piece[:cut]))
                rows.append([("", "      ")])
                piece = piece[cut:]
                used = 6 + get_cwidth(piece)
                if letter == " ":  # the row's end stands for it
                    continue
            if letter != "\n":
                piece += letter
                used += cells
        rows[-1].append((style, piece))
    return rows
