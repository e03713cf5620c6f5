"""Transactions around calls, around parts of them, and outside of calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gevent.hub import get_hub
from greenlet import getcurrent
from tidegate import Call, Command, Fault, Key
from tidegate.faults import CallCancelled, CallTimeout, TransactionFailed, TransactionTimeout

from tidegate_transactions import explain
from tidegate_transactions.parts import Handle, Part, Spec, spec_of
from tidegate_transactions.transaction import ACTIVE, COMMITTED, ROLLED_BACK, TIMED_OUT, Stopped, Transaction

if TYPE_CHECKING:
    from tidegate_transactions import Transactions

ALONE = Key[bool]("transactions.alone")
Proceed = Callable[[Call], Any]


class Scope:
    """Opens and ends transactions. Each greenlet has one at most; what opens another inside it gets a savepoint."""

    def __init__(self, plugin: Transactions) -> None:
        self.plugin = plugin
        self.server = plugin.server
        self.now = plugin.server.clock.now
        self.open: dict[Any, Transaction] = {}  # by greenlet, the oldest first
        self._alarm: Any = None

    # --- around a whole call ---------------------------------------------------------------------

    def decorate(self, command: Command, proceed: Proceed) -> Proceed | None:
        note = command.notes.get("transaction")
        injected = {"db", "transaction"} & set(command.injected)
        if note is None or note is False:
            if "db" in injected:
                raise ValueError("asks for `db` and has no transaction: note transaction=True")
            return self._parts_only(proceed) if injected else None
        spec = spec_of(note)
        keyless = self.plugin.keys.refusal(command, spec.read)
        once = self._once(spec, proceed)
        tries = 1 if self.server.readers("retry") else 3  # where nobody else tries again

        def scope(call: Call) -> Any:
            if call.idempotency_key is not None:
                self.plugin.keys.check(call, keyless)
            if tries == 1:
                return once(call)
            for left in range(tries - 1, -1, -1):
                try:
                    return once(call)
                except Fault as fault:
                    if not left or fault.code not in explain.RETRIED or self.now() >= call.deadline:
                        raise
                    self.plugin.book.retried += 1
            raise AssertionError

        words = ["reads" if spec.read else "writes", spec.isolation, "in a thread" if spec.long else ""]
        words += ["keeps idempotency keys" if keyless is None else "", f"tries {tries} times" if tries > 1 else ""]
        scope.explain = ", ".join(word for word in words if word)  # type: ignore[attr-defined]
        return scope

    def _once(self, spec: Spec, proceed: Proceed) -> Proceed:
        keys = self.plugin.keys

        def once(call: Call) -> Any:
            outer = self.open.get(getcurrent())
            if outer is not None:
                return self._inside(outer, call, spec, proceed)
            transaction = self.begin(call, spec)
            try:
                stored = keys.find(transaction, call) if call.idempotency_key is not None else None
                if stored is None:
                    self._give(call, transaction, spec)
                    result = proceed(call)
                    if transaction.session is not None:
                        transaction.session.flush()
                    if call.encoded is None or call.result is not result:
                        call.encode(result)
                    if call.idempotency_key is not None:
                        keys.keep(transaction, call)
                    self.prepare(transaction)
                else:
                    result = keys.replay(call, stored)
                self.commit(transaction)
            except BaseException as error:
                raised = self.abandon(transaction, error)
                if raised is error:
                    raise
                raise raised from error
            return result

        return once

    def _parts_only(self, proceed: Proceed) -> Proceed:
        def parts(call: Call) -> Any:
            if call.idempotency_key is not None:
                self.plugin.keys.check(call, "its effects are not one transaction")
            resources = call.resources
            if resources is None:
                resources = call.resources = {}
            resources["transaction"] = Handle(self, call)
            return proceed(call)

        return parts

    def _give(self, call: Call, transaction: Transaction, spec: Spec) -> None:
        """Put `db` and `transaction` where the command's function gets them from."""
        resources = call.resources
        if resources is None:
            resources = call.resources = {}
        injected = call.command.injected
        if "db" in injected:
            resources["db"] = transaction.database(spec.core)
        if "transaction" in injected:
            resources["transaction"] = Handle(self, call)

    def prepare(self, transaction: Transaction) -> None:
        """What can still go wrong goes wrong before the commit."""
        if transaction.session is not None:
            transaction.session.flush()
        call = transaction.call
        if call is not None and call.effects is not None and not transaction.read:
            self.plugin.outbox.keep(transaction, call.effects[transaction.mark :])

    def _inside(self, outer: Transaction, call: Call, spec: Spec, proceed: Proceed) -> Any:
        """A call made by a call (`server.call`): a savepoint of its transaction, told with it."""
        with Part(self, spec) as db:
            resources = call.resources
            if resources is None:
                resources = call.resources = {}
            resources["db"], resources["transaction"] = db, Handle(self, call)
            result = proceed(call)
            call.encode(result)
            effects, call.effects = call.effects, None
            if effects:
                if outer.call is not None:
                    outer.call.effects = (outer.call.effects or []) + effects
                else:
                    outer.later = [*(outer.later or ()), (call, effects)]
        return result

    # --- one transaction -------------------------------------------------------------------------

    def begin(self, call: Call | None, spec: Spec) -> Transaction:
        """Open one in this greenlet. Raises a Fault or what the driver raises. May switch."""
        plugin, greenlet = self.plugin, getcurrent()
        plugin.gate.enter()
        now = self.now()
        transaction = Transaction(plugin.store, call, greenlet, now, now + plugin.limit_s, spec.read, spec.long)
        if spec.isolation:
            transaction.isolation = spec.isolation
        if call is not None:
            if call.deadline < transaction.due:
                transaction.due = call.deadline
            if call.effects is not None:
                transaction.mark = len(call.effects)
            transaction.alone = call.stash.get(ALONE, False)
        else:
            transaction.own_id = plugin.server.new_id()
        self.open[greenlet] = transaction
        if self._alarm is None:
            self._watch(transaction)
        try:
            plugin.store.begin(transaction)
        except BaseException as error:
            raised = self.abandon(transaction, error)
            if raised is error:
                raise
            raise raised from error
        return transaction

    def commit(self, transaction: Transaction) -> None:
        """Make it durable and tell what was gathered. Raises, before anything is committed, when it is too late."""
        call, now = transaction.call, self.now()
        if transaction.stopped is not None:
            raise transaction.stopped  # its function caught it and went on
        if call is not None:
            if call.interrupt is not None:
                raise call.interrupt  # so is the deadline
            if now > call.deadline:
                raise CallTimeout
            if not transaction.read and call.connection.gone:
                raise CallCancelled("The client is gone")
            call.shielded += 1
        elif now > transaction.due:
            raise TransactionTimeout
        transaction.committing = True
        try:
            thrown = self.plugin.store.commit(transaction)
        finally:
            if call is not None:
                call.shielded -= 1
        transaction.state = COMMITTED
        self._over(transaction)
        if self.plugin.lost is not None:
            self.plugin.look_again(transaction)
        if thrown is not None:
            raise thrown

    def abandon(self, transaction: Transaction, error: BaseException) -> BaseException:
        """Roll it back; what to raise instead of `error`."""
        if transaction.state is not ACTIVE:
            return error  # raised after the commit
        call = transaction.call
        raised = self.explained(transaction, error)
        late = isinstance(raised, TransactionTimeout | CallTimeout) or isinstance(
            getattr(raised, "__fault__", None), CallTimeout
        )
        transaction.state = TIMED_OUT if late else ROLLED_BACK
        try:
            self.plugin.store.rollback(transaction)
        finally:
            if call is not None:
                transaction.forget_effects()
                call.encoded = None
                if isinstance(raised, TransactionFailed):
                    call.stash[ALONE] = True  # its next try shares a commit with nobody
            self._over(transaction)
        return raised

    def explained(self, transaction: Transaction, error: BaseException) -> BaseException:
        """A fault for what the database says; everything else as it is."""
        if isinstance(error, Stopped):
            return error.__fault__.with_traceback(error.__traceback__)
        if isinstance(error, Fault) or not isinstance(error, Exception):
            return error
        fault = explain.fault_of(error, read=transaction.read, metadata=self.plugin.metadata())
        if fault is None:
            return error
        transaction.unfit |= self.plugin.look_at(fault)
        fault.__cause__ = error
        return fault.with_traceback(error.__traceback__)

    def _over(self, transaction: Transaction) -> None:
        self.open.pop(transaction.greenlet, None)
        self.plugin.gate.leave()
        transaction.let_go()
        transaction.seconds = self.now() - transaction.started
        self.plugin.finished(transaction)

    # --- their time ------------------------------------------------------------------------------

    def _watch(self, first: Transaction) -> None:
        """One timer for all: the limit is the same, so the oldest is over its time first."""
        self._alarm = self.server.clock.timer(self._ring)
        self._alarm.start(max(first.started + self.plugin.limit_s - self.now(), 0.0))

    def _ring(self) -> None:
        now, limit = self.now(), self.plugin.limit_s
        self._alarm = None
        for transaction in list(self.open.values()):
            if transaction.started + limit > now:
                self._watch(transaction)
                return
            if transaction.may_be_stopped:
                self.stop(transaction, TransactionTimeout())

    def stop(self, transaction: Transaction, fault: Fault) -> None:
        """Throw `fault` into a transaction, unless it is being committed. From anywhere; never switches."""
        get_hub().loop.run_callback(self._throw, transaction, fault)

    def _throw(self, transaction: Transaction, fault: Fault) -> None:
        if self.open.get(transaction.greenlet) is transaction and transaction.may_be_stopped:
            transaction.stopped = Stopped(fault)
            transaction.greenlet.throw(transaction.stopped)

    def close(self) -> None:
        if self._alarm is not None:
            self._alarm.stop()
            self._alarm = None

    def current(self) -> Transaction | None:
        """This greenlet's transaction."""
        return self.open.get(getcurrent())
