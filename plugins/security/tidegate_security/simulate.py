"""What would be done about a text, an address, a signal; nothing is counted, told or changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidegate_security.blocks import BASE_S, CAP_S, GROWTH
from tidegate_security.networks import Network
from tidegate_security.signals import POINTS

if TYPE_CHECKING:
    from tidegate_security.looking import Looking
    from tidegate_security.scanner import Verdict


def of_text(security: Looking, verdict: Verdict, profile: str) -> dict[str, Any]:
    """What a parameter with this text does to its call, and the signal that it is."""
    signal, refused = security.weigh(verdict, profile)
    return {
        **verdict._asdict(),
        "profile": profile,
        "refused": verdict.flagged and refused and security.mode == "enforce",
        "signal": signal if verdict.flagged else None,
        "points": POINTS[signal] * (0.5 if profile == "free_text" else 1.0) if verdict.flagged else 0.0,
    }


def of_address(security: Looking, place: Network, points: float) -> dict[str, Any]:
    """What an address has, what it would have with `points` more, and what is done from there on."""
    text, answers = str(place), security.answers
    score = security.reputation.addresses.get(text)
    after = score + max(0.0, points - security.reputation.credits.get(text))
    spared = answers.never.covers(place)
    block = security.blocks.covering(place)
    severity = None if spared else answers.severity(after)
    found: dict[str, Any] = {
        "prefix": text,
        "never_blocked": spared,
        "blocked": block is not None and not block.soft,
        "score": round(score, 1),
        "score_after": round(score if spared else after, 1),
        "answer": "none" if spared else answers.answer_to(after),
        "delay_s": 0.0 if spared else round(answers.delay_s(after), 2),
        "good_accounts": sorted(answers.good_accounts(place)),
        "mode": security.mode,
    }
    if severity is not None:
        earlier = security.blocks.earlier(place)
        found["severity"] = severity
        found["soft"] = answers.is_softened(place)
        found["block_s"] = min(BASE_S[severity] * GROWTH ** min(earlier, 16), CAP_S[severity])
        found["earlier_blocks"] = earlier
        found["connections"] = len(answers.connections(place))
    return found
