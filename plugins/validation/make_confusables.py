"""Make tidegate_validation/confusables.txt: `pip install confusable-homoglyphs`, then `python make_confusables.py`.

That package ships Unicode's confusables.txt (UTS #39) as JSON, each pair in both directions. What a
skeleton needs is one direction, and a tenth of its size and time.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

HEAD = """\
# Characters that look alike: a prototype, then what is confusable with it, in hexadecimal code points.
# Made by make_confusables.py from confusable-homoglyphs {version}, which has it from
# https://www.unicode.org/Public/security/latest/confusables.txt (UTS #39).
# Copyright 1991-2023 Unicode, Inc. Unicode License v3: https://www.unicode.org/license.txt
"""


def prototypes(pairs: dict[str, list[str]]) -> dict[str, str]:
    """What each confusable character stands for."""
    found: dict[str, str] = {}
    for one, others in pairs.items():
        if len(one) != 1 or len(others) != 1:
            continue  # a prototype of several
        (other,) = others
        mutual = len(pairs.get(other, ())) == 1  # each is the other's only one: the lower code point is the prototype
        if not (mutual and len(other) == 1 and one < other):
            found[one] = other
    return found


def settled(found: dict[str, str]) -> dict[str, str]:
    """With prototypes that are none but their own."""
    for _ in range(8):
        found = {one: "".join(found.get(char, char) for char in proto) for one, proto in found.items()}
    return {one: proto for one, proto in found.items() if one != proto}


def main() -> None:
    import confusable_homoglyphs

    raw = json.loads((files("confusable_homoglyphs") / "confusables.json").read_text("utf-8"))
    bare = "\u200e\u200f"  # marks that keep the file's own lines readable
    pairs: dict[str, list[str]] = {}
    for one, others in raw.items():
        pairs.setdefault(one.strip(bare) or one, []).extend(o["c"].strip(bare) or o["c"] for o in others)
    lines: dict[str, list[str]] = {}
    for one, proto in sorted(settled(prototypes(pairs)).items()):
        lines.setdefault(proto, []).append(f"{ord(one):04X}")
    rows = [
        f"{' '.join(f'{ord(char):04X}' for char in proto)} < {' '.join(ones)}\n"
        for proto, ones in sorted(lines.items())
    ]
    version = confusable_homoglyphs.__version__
    path = Path(__file__).parent / "tidegate_validation/confusables.txt"
    path.write_text(HEAD.format(version=version) + "".join(rows), "ascii")


if __name__ == "__main__":
    main()
