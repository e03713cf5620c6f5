"""The beat: once a second what was counted becomes a window, which history keeps, rules judge and StatsD gets."""

from __future__ import annotations

from types import CodeType
from typing import TYPE_CHECKING, Any

import gevent
import msgspec
from gevent import Greenlet

from tidegate_monitoring import alerts as kept_alerts
from tidegate_monitoring import history as kept_history
from tidegate_monitoring.histogram import quantiles
from tidegate_monitoring.lag import Lag
from tidegate_monitoring.resources import Collections, Resources
from tidegate_monitoring.tracks import Beat
from tidegate_monitoring.window import CHUNK

if TYPE_CHECKING:
    from tidegate_monitoring import Monitoring

BEAT_S = 1.0


def rest() -> None:
    """Let all others run, so that no piece of a beat is longer than half a millisecond. By a timer: a callback, as
    that of sleep(0), may run again before the loop looks at its sockets."""
    gevent.sleep(1e-6)


class Beats:
    """Runs the beat in a greenlet, and what blocks (files, disks, descriptors) in a thread."""

    def __init__(self, plugin: Monitoring) -> None:
        self.plugin = plugin
        self.server = plugin.server
        self.levels: dict[str, float] = {}  # every gauge as last read
        self.resources: dict[str, float] = {}
        self.lag_ms = 0.0
        self._greenlets: list[Greenlet[..., Any]] = []
        self.lag = Lag(self._late)
        self._collections = Collections(self._codes)
        self._done: dict[str, int] = {}
        self._pushed = 0
        self._reader: Resources | None = None

    # --- its life ---------------------------------------------------------------------------------

    @property
    def pool(self) -> Any:
        return self.server.pool("monitoring", 1, 16)

    def start(self) -> None:
        config = self.plugin.config
        self._reader = Resources(self.server.data, config.disks)
        self.read_resources()
        self._collections.start()
        self.lag.start()
        self.plugin.daemon.start()
        self._greenlets = [
            gevent.spawn(self._forever, BEAT_S, lambda: BEAT_S, self.beat),
            gevent.spawn(self._forever, 10.0, lambda: self.plugin.config.resources_every_s, self.read_resources),
            gevent.spawn(self._forever, 60.0, lambda: self.plugin.config.save_every_s, self.save),
        ]

    def stop(self) -> None:
        """A last beat, and all that is to be kept. Switches."""
        self._collections.stop()
        self.lag.stop()
        gevent.killall(self._greenlets)
        try:
            self.beat()
            self.save()
        except Exception:
            self.plugin.log.exception("the last of the metrics are lost")

    def _late(self, seconds: float) -> None:
        """Each tick of the timer that measures the lag: often enough for what calls leave not to grow."""
        self.plugin.meters.observe("loop.lag", seconds)
        self.plugin.meters.sort()

    def _forever(self, first: float, every: Any, act: Any) -> None:
        """Each so many seconds, whatever happens; what was missed is not made up for."""
        clock = self.server.clock
        due = clock.now() + min(first, every())
        while True:
            clock.sleep(due - clock.now())
            try:
                act()
            except Exception:
                self.plugin.log.exception("monitoring failed in %s", act.__name__)
            due = max(due + every(), clock.now())

    # --- a second ---------------------------------------------------------------------------------

    def beat(self) -> None:
        plugin = self.plugin
        for seconds, command in self._collections.take():
            plugin.meters.observe("gc.pause", seconds)
            if command:
                plugin.meters.observe(f"gc|{command}", seconds)
        window = plugin.meters.take(rest)
        self.lag_ms = quantiles(window.series.get("loop.lag", {}), 1.0)[0] * 1000
        self.levels["monitoring.loop_lag_ms"] = self.lag_ms
        for name, pool in self.server.pools.items():
            window.level(f"pool|{name}", pool.waiting)
            if worked := pool.done - self._done.get(name, 0):
                window.count(f"pool.done|{name}", worked)
                self._done[name] = pool.done
        if pushed := self.server.pushes - self._pushed:
            window.count("pushes", pushed)
            self._pushed = self.server.pushes
        if self._gauges_due():
            self.levels = self.server.gauges()
            for name, value in self.levels.items():
                window.level(name, value)
            plugin.doubt()
        if len(window.calls) > CHUNK:
            rest()
        beat = Beat(window, self.levels, rest)
        plugin.history.put(window, rest)
        plugin.alerts.beat(beat, self.server.clock.now())
        plugin.daemon.put(window, beat.calls, self.levels)

    _gauges_at = 0.0

    def _gauges_due(self) -> bool:
        now = self.server.clock.now()
        if now < self._gauges_at:
            return False
        self._gauges_at = now + self.plugin.config.gauges_every_s - BEAT_S / 2
        return True

    # --- slower things ----------------------------------------------------------------------------

    def read_resources(self) -> None:
        assert self._reader is not None
        self._reader.folders = self.plugin.config.disks
        self.resources = self.pool.run(self._reader.read)

    def _codes(self) -> dict[CodeType, str]:
        """The commands' own code: made only when a pause was long."""
        found = {name: getattr(command.function, "__code__", None) for name, command in self.server.commands.items()}
        return {code: name for name, code in found.items() if code is not None}

    # --- what is kept -----------------------------------------------------------------------------

    def restore(self) -> None:
        """Go on where the last process ended; a file that can't be read is put aside. Switches."""
        plugin = self.plugin
        history = self._read("history.msgpack", kept_history.load)
        if history is not None:
            plugin.history.restore(history)
        alerts = self._read("alerts.json", _load_alerts)
        if alerts is not None:
            plugin.alerts.restore(alerts)

    def _read(self, name: str, load: Any) -> Any:
        path = self.plugin.data / name
        try:
            return self.pool.run(load, path)
        except (OSError, ValueError) as error:
            self.plugin.log.error("%s is put aside: %s", path, error)
            self.pool.run(lambda: path.exists() and path.rename(path.with_suffix(".broken")))
            return None

    def save(self) -> None:
        """Write history, and alerts if they changed. Switches."""
        plugin = self.plugin
        self.pool.run(kept_history.save, plugin.data / "history.msgpack", *plugin.history.kept(rest))
        if plugin.alerts.changed:
            plugin.alerts.changed = False
            data = msgspec.json.format(msgspec.json.encode(plugin.alerts.kept()), indent=1)
            self.pool.run(kept_history.replace, plugin.data / "alerts.json", data)


def _load_alerts(path: Any) -> kept_alerts.Kept | None:
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=kept_alerts.Kept)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path.name} can't be read: {error}") from None
