"""Sees attacks as they happen, answers in proportion, keeps a trail that can't be forged, and leaves people alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar

from tidegate import Call, Command, Connection, Event, Fault, hookimpl
from tidegate.faults import MethodNotFound

from tidegate_security import rules
from tidegate_security.administration import Administration
from tidegate_security.answers import Answers
from tidegate_security.attack import Attack
from tidegate_security.audit import Trail
from tidegate_security.blocks import Block, Blocks, ipset_list, nft_list, plain_list
from tidegate_security.engine import cache_folders
from tidegate_security.looking import PANELS
from tidegate_security.recorder import SEVERITIES, Recorder
from tidegate_security.reputation import Evidence, Reputation
from tidegate_security.scanner import Scanner, Verdict
from tidegate_security.settings import SETTINGS
from tidegate_security.signals import POINTS, Signals
from tidegate_security.store import Store
from tidegate_security.threats import Threats

if TYPE_CHECKING:
    from tidegate import Server

__all__ = ["Security"]

Proceed = Callable[[Call], Any]
CHANNEL = "security.blocks"
SEVERE_SCORE = 20  # of a threat
_CLIENT_FAULTS = frozenset(
    {
        1001,
        1002,
        1004,
        1007,
        1008,
        1101,
        1102,
        1103,
        1106,
        1107,
        1108,
        1111,
        1112,
        1113,
        1114,
        1605,
    }
)


class Security(Administration):
    """The plugin. Its part `threats` looks at parameters; it itself knows the address."""

    ring = "guard"
    parts = (Threats,)
    reads = frozenset({"honeypot"})
    listens = Signals.topics | SEVERITIES.keys()
    settings = SETTINGS
    offers: ClassVar[dict[str, Any]] = {"panels": PANELS}

    def configure(self, config: Any) -> None:
        for name, below in (
            ("refuse_score", "delay_score"),
            ("block_high_score", "block_score"),
        ):
            if getattr(config, name) < getattr(config, below):
                raise ValueError(f"{name} is below {below}")
        self.check_networks(config.allow)
        self.config = config
        if not hasattr(self, "answers"):
            self._make(config)
        else:
            self.recorder.durable = config.audit_durable
            self.blocks.cap = config.max_blocks

    def _make(self, config: Any) -> None:
        server = self.server
        self.mode = config.mode
        self.allowed: dict[str, dict[str, Any]] = {}  # by commands, beside config.allow
        self.switched: dict[str, bool] = {}  # rules, by commands
        self.detections: dict[tuple[str, str], int] = {}
        self.scans = 0
        self.scan_s = 0.0
        self.slowest_s = 0.0
        self.blocks = Blocks(server.clock, config.max_blocks, self._block_changed)
        self.reputation = Reputation(
            server.state, server.clock.wall, config.max_addresses, lambda prefix: self.answers.spared(prefix),
            self._counted,
        )  # fmt: skip
        self.attack = Attack(self)
        self.signals = Signals(server.state, self.reputation, config.max_addresses)
        self.answers = Answers(self, self.reputation, self.blocks)
        checkpoints = Path(config.checkpoints) if config.checkpoints else None
        self.trail = Trail(
            self.data,
            checkpoints=checkpoints,
            max_bytes=config.audit_max_bytes,
            queue=config.audit_queue,
        )
        self.recorder = Recorder(server, self.trail, config.audit_durable, self.log)
        self.store = Store(server, self.data / "state.json", self._texts, self.log)
        self.known_rules = rules.built_in()
        self.scanner = Scanner(())  # until the rules are read, when the server starts
        self._spare()

    # --- the server's life -------------------------------------------------------------------------

    @hookimpl
    def tidegate_serve(self, server: Server) -> Generator[None, None, None]:
        torn = self.trail.open()
        self._take_up(self.store.read())
        self.load_rules()
        self._spare()
        self.recorder.start()
        self.recorder.record("chain.resume", "high", entries=self.trail.seq, torn=torn, mode=self.mode)
        subscription = server.bus.subscribe(CHANNEL, self._told)

        def tick() -> None:
            timer.start(1.0)
            self.recorder.sweep()
            self.attack.sweep()

        timer = server.clock.timer(tick)
        timer.start(1.0)
        try:
            yield
        finally:
            timer.stop()
            subscription.close()
            self.attack.end()
            self.blocks.stop()
            self.store.stop()
            self.recorder.record("chain.pause", "high", entries=self.trail.seq)
            self.recorder.stop()

    @hookimpl
    def tidegate_connection(self, connection: Connection) -> Generator[None, None, None]:
        self.answers.admit(connection)
        yield

    @hookimpl
    def tidegate_decorate(self, command: Command, proceed: Proceed) -> Proceed | None:
        answers, failed = self.answers, self._failed
        marks = answers.marks
        always = bool(command.notes.get("always"))
        if command.notes.get("honeypot"):
            return self._trap

        def guard(call: Call) -> Any:
            if marks and call.connection.prefix in marks:
                answers.meet(call, always)
            try:
                return proceed(call)
            except Fault as fault:
                failed(call, fault)
                raise

        return guard

    @hookimpl
    def tidegate_event(self, event: Event) -> None:
        topic = event.topic
        if topic in Signals.topics:
            self.signals.hear(event)
        if topic in SEVERITIES:
            self.recorder.hear(event)
        if topic == "login.succeeded":
            self._learn(event)
        if topic == "config.reloaded":
            self._spare()
            self.server.spawn(self._reload_rules)
        elif topic == "server.started":
            self.server.spawn(self._tell_plugins)

    def _learn(self, event: Event) -> None:
        """Where an account logs in from is no stranger to it."""
        connection = self.server.connections.get(event.connection_id)
        if connection is not None and connection.user is not None and event.prefix is not None:
            self.signals.familiar(connection.user.name, event.prefix)

    def _counted(self, evidence: Evidence) -> None:
        self.answers.crossed(evidence)
        self.attack.count(evidence)

    # --- what comes from calls ---------------------------------------------------------------------

    def scan(self, text: str, profile: str) -> Verdict:
        """Scan and keep the time. Never switches."""
        start = perf_counter()
        verdict = self.scanner.scan(text, profile)
        took = perf_counter() - start
        self.scans += 1
        self.scan_s += took
        self.slowest_s = max(self.slowest_s, took)
        return verdict

    def weigh(self, verdict: Verdict, profile: str) -> tuple[str, bool]:
        """The signal that a threat is, and whether its call is refused where that is enforced."""
        severity = "high" if verdict.score >= SEVERE_SCORE else "medium" if verdict.score >= 10 else "low"
        config = self.config
        refuse = verdict.score >= config.free_text_refuse if profile == "free_text" else config.content == "refuse"
        return f"threat {severity}", refuse

    def threat(self, call: Call, field: str, verdict: Verdict, profile: str) -> bool:
        """Tell of a threat and count it; whether the call is to be refused."""
        signal, refuse = self.weigh(verdict, profile)
        enforced = self.mode == "enforce"
        self._tell(
            call,
            field,
            verdict.category or "",
            list(verdict.rules),
            verdict.score,
            refuse,
        )
        key = (verdict.category or "", signal.removeprefix("threat "))
        self.detections[key] = self.detections.get(key, 0) + 1
        points = POINTS[signal] * (0.5 if profile == "free_text" else 1.0)
        self._count(
            call,
            signal,
            points,
            f"{verdict.category} in {method_of(call)} {field}",
        )
        return refuse and enforced

    def _trap(self, call: Call) -> Any:
        """A command that nobody has a reason to call."""
        self._tell(call, "", "honeypot", [], 100, True)
        self._count(call, "honeypot", POINTS["honeypot"], call.command.name)
        raise MethodNotFound

    def _tell(
        self,
        call: Call,
        field: str,
        category: str,
        ids: list[str],
        score: int,
        refuse: bool,
    ) -> None:
        peer = call.connection.peer
        if call.user is not None:
            peer["user_id"] = call.user.id
        action = "refused" if refuse else "noted"
        self.server.publish(
            "threat.detected",
            **peer,
            method=method_of(call),
            field=field,
            category=category,
            rules=ids,
            score=score,
            action=action if self.mode == "enforce" or not refuse else "would be refused",
            mode=self.mode,
        )

    def _count(self, call: Call, signal: str, points: float, detail: str) -> None:
        peer = call.connection.peer
        user = call.user.id if call.user is not None else peer["user_id"]
        self.reputation.add(peer["prefix"], user, signal, points, detail)

    def _failed(self, call: Call, fault: Fault) -> None:
        """A call was refused: somebody who is mostly refused is up to something."""
        code = fault.code
        connection = call.connection
        if code not in _CLIENT_FAULTS or connection.prefix is None or connection.exempt:
            return
        if code == 1002:
            peer = connection.peer
            self.signals.denied(peer["prefix"], peer["user_id"], method_of(call))
        self.signals.erred(connection)

    # --- blocks -------------------------------------------------------------------------------------

    def _block_changed(self, block: Block, on: bool, why: str) -> None:
        """A block came or went: act on it, tell it, keep it."""
        if on:
            self.answers.enforce(block)
            self.answers.tell(block, "enforce")
        else:
            self.server.publish(
                "address.unblocked",
                prefix=block.network,
                until=block.until,
                severity=block.severity,
                reason=why,
                actor=self.acting,
                mode="enforce",
            )
            self.reputation.forget(block.network)
        row = json.loads(json.dumps({k: getattr(block, k) for k in Block.__slots__}))
        self.server.bus.publish(CHANNEL, {"from": id(self), "on": on, "block": row})
        self.store.changed()

    def _told(self, message: dict[str, Any]) -> None:
        """Another process changed its blocks."""
        if message["from"] != id(self):
            self.blocks.follow(message["block"], message["on"])
            if message["on"]:
                self.answers.enforce(Block(**message["block"]))

    # --- what is kept -------------------------------------------------------------------------------

    def _texts(self) -> dict[Path, str]:
        """Runs in a thread, so what the loop may change meanwhile is copied first, in one step."""
        kept = {
            **self.blocks.dump(),
            "allowed": dict(self.allowed),
            "rules": dict(self.switched),
            "mode": self.mode if self.mode != self.config.mode else None,
        }
        texts = {self.store.path: json.dumps(kept, indent=1)}
        config, wall, blocks = self.config, self.server.clock.wall(), self.blocks.all()
        if config.blocklist:
            texts[Path(config.blocklist)] = plain_list(blocks)
        if config.ipset:
            texts[Path(config.ipset)] = ipset_list(blocks, wall, "tidegate")
        if config.nftables:
            texts[Path(config.nftables)] = nft_list(blocks, wall, "tidegate")
        return texts

    def _take_up(self, kept: dict[str, Any]) -> None:
        self.blocks.load(kept)
        self.allowed = dict(kept.get("allowed", {}))
        self.switched = dict(kept.get("rules", {}))
        self.mode = kept.get("mode") or self.config.mode

    def _spare(self) -> None:
        self.answers.spare([*self.config.allow, *self.allowed])

    # --- rules ---------------------------------------------------------------------------------------

    def load_rules(self) -> None:
        """Read the rules again: ours, other plugins', the operator's files. Reads files; raises ValueError, OSError."""
        found = rules.built_in()
        for name, offered in self.server.offered("threats"):
            found += rules.read(offered if isinstance(offered, dict) else {"rule": list(offered)}, name)
        for path in self.config.rule_files:
            found += rules.read_file(Path(path))
        off = {
            *self.config.rules_off,
            *(id for id, on in self.switched.items() if not on),
        }
        on = {id for id, on in self.switched.items() if on}
        before, self.known_rules = self.scanner.plain, found
        self.scanner = Scanner(rules.chosen(found), off=off - on, caches=[*cache_folders(), self.data])
        if self.scanner.plain != before:  # the decorators hold it
            self.server.compose()

    def _reload_rules(self) -> None:
        try:
            self.server.pool("security.files", 1, 16).run(self.load_rules)
        except (ValueError, OSError) as error:
            self.log.error("the old rules stay: %s", error)
            self.recorder.record("rules.refused", "high", reason=str(error))

    def _tell_plugins(self) -> None:
        plugins = {p["name"]: p["version"] for p in self.server.call("system.info")["plugins"]}
        self.recorder.record("plugins.loaded", "high", plugins=plugins)


def method_of(call: Call) -> str:
    """The method's name as it was asked for."""
    if call.command.name == "unknown":
        return str((call.resources or {}).get("method", ""))[:64]
    return call.command.name
