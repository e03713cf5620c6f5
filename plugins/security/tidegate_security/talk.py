"""Whether a text reads like people talking."""

from __future__ import annotations

import re

#: Words of the languages that attacks are written in: they say nothing about who talks.
_WORDS = """
select from where union all and or not null insert into update delete drop table set values order by group having
limit offset like between in is exec execute declare waitfor delay sleep benchmark true false script alert img src
onerror onload svg body iframe javascript document cookie id ls cat whoami uname etc passwd curl wget bash sh nc ping
echo dir type cmd system var function return if else for while http https www com users user password admin username
information schema tables columns database version count concat char cast case when then end as distinct top dual
rlike regexp numeric begin returns replace language strict boolean mode repeat left right int varchar convert asc desc
exists elt get post put print sysobjects name objectclass uid cn python import os
"""
_CODE = frozenset(_WORDS.split())
_IDEOGRAPHS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u3040-\u9fff]")  # scripts that put no blanks between words
_EDGES = ".,!?;:\"'()[]«»„“”‘’…*_-–—"
_BEGINS = tuple(";|&")  # no sentence begins so
_QUOTES, _BEHIND = tuple("'\""), tuple(" );,|&+-")  # nor so: a quote that closes what others opened
_ENDS = frozenset("abcdefghijklmnopqrstuvwxyz.?!")
ENOUGH = 4  # fewer plain words are no sentence
LOOKED_AT = 400  # words; the rest of a longer text is more of the same


def talk(text: str) -> float:
    """0.0 for code or a bare value, up to 1.0 for prose: the share of plain words, where there are enough of them."""
    if text[:1] in _BEGINS or (text[:1] in _QUOTES and text[1:2] in _BEHIND and text[-1:] not in _ENDS):
        return 0.0
    tokens = text.split(None, LOOKED_AT)[:LOOKED_AT]
    if not text.isascii() and (other := len(_IDEOGRAPHS.findall(text, 0, 400))) > 5:
        return min(1.0, other / min(len(text), 400) * 1.5)
    words = shared = 0
    for token in tokens:
        word = token.strip(_EDGES)
        if len(word) > 1 and (word.isalpha() or word.replace("'", "", 1).replace("’", "", 1).isalpha()):
            if word.lower() in _CODE:
                shared += 1
            else:
                words += 1
        elif word in ("I", "a", "A"):
            words += 1
    if words < ENOUGH - 1 or words + shared / 2 < ENOUGH:
        return 0.0
    return (words + shared / 2) / len(tokens)
