"""The state of security in figures, and a report on a period with what to do about it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidegate_security.looking import Looking

PROXY_SHARE = 0.9  # of the connections from one private address: probably a proxy without a PROXY header
PROXY_LEAST = 20


def status(security: Looking) -> dict[str, Any]:
    """What is so now."""
    scanner, trail = security.scanner, security.trail
    by_severity = Counter(block.severity for block in security.blocks.all())
    return {
        "mode": security.mode,
        "under_attack": None
        if security.attack.since is None
        else {"since": security.attack.since, "addresses": security.attack.addresses},
        "blocks": {
            "active": len(security.blocks),
            "soft": sum(block.soft for block in security.blocks.all()),
            "added": security.blocks.added,
            "expired": security.blocks.expired,
            "by_severity": dict(by_severity),
        },
        "detections": [
            {"category": category, "severity": severity, "count": count}
            for (category, severity), count in sorted(security.detections.items())
        ],
        "signals": dict(sorted(security.reputation.signals.items(), key=lambda row: -row[1])),
        "answers": dict(security.answers.counts),
        "top": [{"prefix": p, "score": round(s, 1)} for p, s in security.reputation.top(10)],
        "tracked": {
            "addresses": len(security.reputation.addresses),
            "addresses_cap": security.config.max_addresses,
            "accounts": len(security.reputation.accounts),
        },
        "scanner": {
            "rules": len(scanner.rules) - len(scanner.off),
            "scans": security.scans,
            "mean_us": round(security.scan_s / security.scans * 1e6, 1) if security.scans else 0.0,
            "slowest_us": round(security.slowest_s * 1e6, 1),
        },
        "audit": {
            "entries": trail.seq,
            "signed": trail.signed_seq,
            "queued": len(trail.queue),
            "lost": trail.lost_in_all,
            "broken": trail.broken or None,
        },
        "warnings": warnings(security),
    }


def warnings(security: Looking) -> list[str]:
    """What an administrator should look at."""
    found = []
    server = security.server
    if security.mode == "observe":
        found.append("Observing only: nothing is answered. `security.mode enforce` when the report looks right.")
    if security.attack.since is not None:
        found.append(f"Under attack: {security.attack.addresses} addresses or more misbehave; time limits are halved.")
    if security.trail.broken:
        found.append(f"The audit trail can't be written: {security.trail.broken}.")
    if security.trail.lost_in_all:
        found.append(f"{security.trail.lost_in_all} entries of the audit trail were lost.")
    if security.blocks.full:
        found.append(f"{security.blocks.full} blocks found no room: raise max_blocks.")
    prefixes = Counter(c.address for c in server.connections.values() if c.prefix is not None and c.address)
    proxied = any(limits.proxy_from for limits in server.settings.listen)
    if not proxied and prefixes.total() >= PROXY_LEAST:
        address, count = prefixes.most_common(1)[0]
        if count >= PROXY_SHARE * prefixes.total() and _is_private(address):
            found.append(
                f"{count} of {prefixes.total()} connections come from {address}: if that is a proxy, "
                "set proxy_from and its PROXY protocol, or everybody behind it is blocked with one."
            )
    return found


def _is_private(address: str) -> bool:
    import ipaddress

    return ipaddress.ip_address(address.partition("%")[0]).is_private


def report(security: Looking, period_s: float) -> dict[str, Any]:
    """A period against the one before it, from the evidence that is kept."""
    server = security.server
    wall = server.clock.wall()
    since, before = wall - period_s, wall - 2 * period_s
    evidence = list(security.reputation.evidence)
    now_s = server.clock.now()
    counted = max(since, wall - (now_s - (server.started or now_s)))
    if len(evidence) == security.reputation.evidence.maxlen:
        counted = max(counted, evidence[0].at)
    now_of = [e for e in evidence if e.at >= since]
    then_of = [e for e in evidence if before <= e.at < since]
    now, then = Counter(e.signal for e in now_of), Counter(e.signal for e in then_of)
    blocks = [b for b in security.blocks.all() if b.since >= since]
    logged_in = sum(e.user is not None for e in now_of if e.signal.startswith("threat"))
    threats = sum(count for signal, count in now.items() if signal.startswith("threat"))
    found = {
        "from": since,
        "to": wall,
        "counted_from": counted,  # evidence is in memory: since the start, and so much of it
        "complete": counted <= since,
        "signals": [
            {"signal": signal, "count": now[signal], "before": then[signal]}
            for signal in sorted(now | then, key=lambda s: -now[s])
        ],
        "offenders": [
            {"prefix": prefix, "points": round(points, 1)} for prefix, points in _sums(now_of).most_common(10)
        ],
        "blocks_begun": len(blocks),
        "threats": threats,
        "threats_by_accounts": logged_in,  # false alarms, if anything is: attackers rarely log in
        **{key: value for key, value in status(security).items() if key in ("mode", "blocks", "detections", "audit")},
    }
    found["advice"] = [*warnings(security), *_advice(now, then, threats, logged_in)]
    return found


def _sums(evidence: list[Any]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for each in evidence:
        if each.prefix is not None:
            sums[each.prefix] += each.points
    return sums


def _advice(now: Counter[str], then: Counter[str], threats: int, logged_in: int) -> list[str]:
    found = []
    if now["distributed guessing"]:
        found.append("Accounts are guessed at from many addresses: have their owners choose new passwords.")
    if now["enumeration"] or now["spraying"]:
        found.append("Somebody looks for accounts: a rate limit on logins per address helps.")
    if now["foreign protocol"] > 20:
        found.append("Scanners find this port: a firewall with the exported block list keeps them off.")
    if threats >= 20 and logged_in > 0.5 * threats:
        found.append("Most threats were found in what accounts write: look at security.events for rules to switch off.")
    for signal in now:
        if now[signal] > 10 and now[signal] > 3 * max(1, then[signal]):
            found.append(f"{signal}: {now[signal]} times, before {then[signal]}: see who in security.events.")
    return found


def as_text(found: dict[str, Any]) -> str:
    """A report for people."""
    from datetime import UTC, datetime

    def when(wall: float) -> str:
        return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d %H:%M UTC")

    lines = [
        f"Security, {when(found['from'])} to {when(found['to'])} ({found['mode']})",
        "",
    ]
    if not found["complete"]:
        lines.append(f"(signals are counted from {when(found['counted_from'])} on: older ones are no longer in memory)")
    lines.append(
        f"{found['blocks_begun']} blocks begun, {found['blocks']['active']} active, {found['threats']} threats"
    )
    if found["signals"]:
        lines += ["", f"{'signal':24}{'now':>8}{'before':>8}"]
        lines += [f"{row['signal']:24}{row['count']:8}{row['before']:8}" for row in found["signals"]]
    if found["offenders"]:
        lines += ["", f"{'top offenders':32}{'points':>8}"]
        lines += [f"{row['prefix']:32}{row['points']:8}" for row in found["offenders"]]
    lines += [
        "",
        "What to do:",
        *(f"- {text}" for text in found["advice"] or ["Nothing."]),
    ]
    return "\n".join(lines) + "\n"
