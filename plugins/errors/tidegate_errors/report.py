"""The log of failures: one line each, with all that is known; of many that are the same, a few and a count."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any

from tidegate import Call, Fault

from tidegate_errors.accounts import GROUPED, Accounts, Group
from tidegate_errors.fingerprint import Fingerprints, Print, masked, secrets_of, trace_of
from tidegate_errors.retry import ATTEMPTS

if TYPE_CHECKING:
    from tidegate import Server

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
WINDOW_S = 60.0


class Sampler:
    """Lets the first few of the same through in each minute, and counts the others. At most `cap` kinds."""

    def __init__(self, per_minute: int, cap: int = 1000) -> None:
        self.per_minute = per_minute
        self.cap = cap
        self._seen: OrderedDict[Hashable, list[float]] = OrderedDict()  # start, let through, left out

    def take(self, key: Hashable, now: float) -> int | None:
        """How many were left out before this one; None: leave this one out too."""
        seen = self._seen.get(key)
        if seen is None or now - seen[0] >= WINDOW_S:
            left_out = 0 if seen is None else int(seen[2])
            self._seen[key] = [now, 1, 0]
            self._seen.move_to_end(key)
            if len(self._seen) > self.cap:
                self._seen.popitem(last=False)
            return left_out
        if seen[1] < self.per_minute:
            seen[1] += 1
            return 0
        seen[2] += 1
        return None

    def over(self, now: float) -> Iterator[tuple[Any, int]]:
        """What was left out and will not be told by a next one, for none came for a minute; then forgotten."""
        while self._seen:
            key, (start, _, left_out) = next(iter(self._seen.items()))
            if now - start < WINDOW_S:
                return
            del self._seen[key]
            if left_out:
                yield key, int(left_out)


class Reporter:
    """Counts, groups and logs each call that failed; stands where the core's own logging does."""

    def __init__(self, server: Server, accounts: Accounts, sampler: Sampler) -> None:
        self.server = server
        self.accounts = accounts
        self.sampler = sampler
        self.prints = Fingerprints(())

    def failed(self, call: Call) -> None:
        """A call whose fault is what the client gets. Never switches."""
        fault, error = call.fault, call.error
        if fault is None or error is None:
            return
        clock = self.server.clock
        self.accounts.count(call.command.name, type(fault), clock.wall())
        planned = error is fault and fault.__cause__ is None
        if planned and fault.severity not in GROUPED:
            self._log_planned(call, fault, clock.now())
            return
        cause = fault.__cause__ if error is fault and fault.__cause__ is not None else error
        print = self.prints.of(cause)
        self._group(call, fault, error, print)
        # The server's own deadline or cancel has no story to tell, nor has what was raised on purpose.
        told = not planned and error is not call.interrupt
        self._log(call, fault, error if told or LEVELS[fault.level] >= logging.ERROR else None, print)

    def recovered(self, call: Call, error: BaseException, fault: Fault) -> None:
        """A failure that the client does not see, because something else answered: logged all the same."""
        print = self.prints.of(error)
        self._group(call, fault, error, print)
        self._log(call, fault, error if error is not fault else None, print, "a fallback answered; ")

    def tell_left_out(self) -> None:
        """Once in a while: what no further line will tell."""
        for (method, code, fingerprint, level), count in self.sampler.over(self.server.clock.now()):
            extra = {"method": method, "code": code, "fingerprint": fingerprint, "left_out": count}
            self.server.log.log(level, "%s: %s happened %d more times", method, code, count, extra=extra)

    def _group(self, call: Call, fault: Fault, error: BaseException, print: Print) -> None:
        at = self.server.clock.wall()
        group = self.accounts.group(print)
        if group is None:
            group = Group(print, fault, at, call.request_id, trace_of(error, secrets_of(call)))
            self.accounts.add(group)
        group.count += 1
        group.last = at
        if len(group.commands) < 16:
            group.commands.add(call.command.name)

    def _log_planned(self, call: Call, fault: Fault, now: float) -> None:
        """A client's mistake, told to the client: thousands a second may come, so one left out costs little."""
        log, level = self.server.log, LEVELS[fault.level]
        if not log.isEnabledFor(level):
            return
        left_out = self.sampler.take((call.command.name, fault.code, None, level), now)
        if left_out is not None:
            self._write(call, fault, None, self.prints.of(fault), "", left_out, now)

    def _log(self, call: Call, fault: Fault, error: BaseException | None, print: Print, prefix: str = "") -> None:
        now = self.server.clock.now()
        left_out = self.sampler.take((call.command.name, fault.code, print.id, LEVELS[fault.level]), now)
        if left_out is not None:
            self._write(call, fault, error, print, prefix, left_out, now)

    def _write(
        self,
        call: Call,
        fault: Fault,
        error: BaseException | None,
        print: Print,
        prefix: str,
        left_out: int,
        now: float,
    ) -> None:
        connection = call.connection
        extra: dict[str, Any] = {
            "request_id": call.request_id,
            "method": call.command.name,
            "code": fault.code,
            "culprit": call.culprit,
            "connection": connection.id,
            "address": connection.address,
            "user": call.user.id if call.user is not None else None,
            "attempt": call.stash.get(ATTEMPTS, 1),
            "seconds": round(now - call.now, 6),
            "fingerprint": print.id,
            "left_out": left_out or None,
        }
        secrets = secrets_of(call)
        text = masked(f"{prefix}{fault.log or ''}", secrets)
        shown: BaseException | None = error
        if error is not None and secrets and trace_of(error) != (clean := trace_of(error, secrets)):
            extra["trace"], shown = clean, None
        self.server.log.log(
            LEVELS[fault.level],
            "%s: %s %s %s",
            call.command.name,
            fault.code,
            fault.type,
            text,
            exc_info=shown,
            extra=extra,
        )
