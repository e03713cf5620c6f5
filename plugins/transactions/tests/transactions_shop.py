"""Commands that the tests of this folder serve: a till, and ways to go wrong."""

from __future__ import annotations

import gevent
from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    Enum,
    ForeignKey,
    Integer,
    String,
    Table,
    UniqueConstraint,
    delete,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.engine import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from tidegate import command
from tidegate.faults import ResourceConflict


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


metadata = Base.metadata
account = Table(
    "account",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("balance", Integer, nullable=False),
    CheckConstraint("balance >= 0", name="never_in_debt"),
)
transfer = Table(
    "transfer",
    metadata,
    Column("token", String(64), primary_key=True),
    Column("source", ForeignKey("account.id"), nullable=False),
    Column("target", ForeignKey("account.id"), nullable=False),
    Column("amount", Integer, nullable=False),
)
label = Table(
    "label",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("shelf", Integer, nullable=False),
    Column("text", String(40), nullable=False),
    UniqueConstraint("shelf", "text", name="one_label_a_shelf"),
)
paper = Table(
    "paper",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", Enum("letter", "note", native_enum=False, create_constraint=False)),
    Column("content", JSON),
)


@command("item.add", transaction=True)
def add(db, name: str):
    item = Item(name=name)
    db.add(item)
    db.flush()
    return item.id


@command("item.names", transaction="read")
def names(db):
    return list(db.scalars(select(Item.name).order_by(Item.id)))


@command("item.fail", transaction=True)
def fail(db, name: str):
    db.add(Item(name=name))
    db.flush()
    raise RuntimeError("after the insert")


@command("item.slow", transaction=True, timeout=20)
def slow(db, name: str, seconds: float):
    db.add(Item(name=name))
    db.flush()
    gevent.sleep(seconds)
    return name


@command("item.stubborn", transaction=True)
def stubborn(db, name: str, seconds: float):
    """Catches its own deadline, and goes on."""
    db.add(Item(name=name))
    db.flush()
    try:
        gevent.sleep(seconds)
    except BaseException:
        pass
    return name


@command("item.unsendable", transaction=True)
def unsendable(db, name: str):
    db.add(Item(name=name))
    return object()


@command("item.long_reply", transaction=True)
def long_reply(db, name: str, size: int):
    db.add(Item(name=name))
    return "x" * size


@command("item.some", transaction=True)
def some(db, transaction, good: str, bad: str):
    """One part of it fails and is undone; the rest stays."""
    db.add(Item(name=good))
    try:
        with transaction():
            db.add(Item(name=bad))
            db.flush()
            raise LookupError
    except LookupError:
        pass
    return good


@command("item.parts")
def parts(transaction, first: str, second: str, fail: bool = False):
    """Two transactions of its own, then perhaps an error."""
    with transaction() as db:
        db.add(Item(name=first))
    with transaction(core=True) as db:
        db.execute(insert(Item.__table__), {"name": second})
    if fail:
        raise RuntimeError("after both")
    with transaction(read=True) as db:
        return db.scalar(select(func.count()).select_from(Item))


@command("item.commit", transaction=True)
def commit(db, name: str):
    db.add(Item(name=name))
    db.commit()


@command("item.take_back", transaction=True)
def take_back(db, name: str):
    """The customary way to go on after a failed flush."""
    db.add(Item(name=name))
    db.flush()
    db.rollback()
    db.add(Item(name=f"{name} again"))
    return name


@command("item.go_on", transaction={"core": True})
def go_on(db, sql: str, name: str):
    """Catches whatever a statement raises, and goes on."""
    try:
        db.execute(text(sql))
    except Exception:
        pass
    db.execute(insert(Item.__table__), {"name": name})


@command("item.raw", transaction={"core": True})
def raw(db, sql: str):
    return db.execute(text(sql)).rowcount


@command("item.read_raw", transaction={"read": True, "core": True})
def read_raw(db, sql: str):
    return [list(row) for row in db.execute(text(sql))]


_kept = []


@command("item.keep_db", transaction={"core": True})
def keep_db(db):
    _kept[:] = [db]
    return True


@command("item.use_kept_db", transaction={"core": True})
def use_kept_db(db):
    _kept[0].execute(insert(Item.__table__), {"name": "from the grave"})


@command("label.put", transaction={"core": True})
def put(db, shelf: int, text: str):
    db.execute(insert(label), {"shelf": shelf, "text": text})


@command("label.put_kindly", transaction=True)
def put_kindly(db, transaction, shelf: int, text: str):
    from tidegate.faults import UniqueConstraintViolation

    try:
        with transaction():
            db.execute(insert(label), {"shelf": shelf, "text": text})
    except UniqueConstraintViolation as error:
        raise ResourceConflict("There is such a label") from error


@command("paper.kinds", transaction={"read": True, "core": True})
def kinds(db):
    return list(db.execute(select(paper.c.kind)).scalars())


@command("paper.contents", transaction={"read": True, "core": True})
def contents(db):
    return list(db.execute(select(paper.c.content)).scalars())


_heard = []


@command("item.heard", transaction={"read": True, "core": True})
def heard(db):
    """The statements that a listener of SQLAlchemy's has heard of since this was first asked."""

    def hear(connection, cursor, statement, parameters, context, executemany):
        _heard.append(statement)

    if not _heard:
        event.listen(Engine, "before_cursor_execute", hear)
        _heard.append("")
    return _heard


@command("bank.open", transaction={"core": True})
def open_accounts(db, count: int, balance: int):
    db.execute(delete(transfer))
    db.execute(delete(account))
    db.execute(insert(account), [{"id": id, "balance": balance} for id in range(count)])
    return count


@command("bank.move", transaction={"core": True}, timeout=10)
def move(call, db, source: int, target: int, amount: int, token: str, fault: str = "", pause: float = 0.0):
    """Move money; `fault` is where it goes wrong on purpose."""
    db.execute(insert(transfer), {"token": token, "source": source, "target": target, "amount": amount})
    for id in sorted((source, target)):  # one order for all, so that rows are locked without deadlocks
        change = amount if id == target else -amount
        done = db.execute(update(account).where(account.c.id == id).values(balance=account.c.balance + change))
        assert done.rowcount == 1
        if pause:
            gevent.sleep(pause)
        if fault == "middle" and id == max(source, target):
            raise RuntimeError("injected")
    call.publish("room.changed", room="bank", seq=amount, kind="moved", actor=None, data=token)
    if fault == "late":
        raise ResourceConflict("injected")
    return {"token": token, "moved": amount}


@command("bank.sum", transaction={"read": True, "core": True, "isolation": "repeatable read"})
def audit(db):
    return db.execute(select(func.sum(account.c.balance))).scalar()


@command("bank.books", transaction={"read": True, "core": True, "isolation": "repeatable read"}, timeout=60)
def books(db):
    """Every balance, and every transfer that was made."""
    balances = db.execute(select(account.c.id, account.c.balance).order_by(account.c.id)).all()
    made = db.execute(
        select(transfer.c.source, transfer.c.target, transfer.c.amount, func.count()).group_by(
            transfer.c.source, transfer.c.target, transfer.c.amount
        )
    ).all()
    return {"balances": [b for _, b in balances], "moves": [list(row) for row in made]}


@command("bank.has", transaction={"read": True, "core": True}, timeout=60)
def has(db, tokens: list):
    """Which of these transfers are missing."""
    found = set()
    for start in range(0, len(tokens), 500):
        some = tokens[start : start + 500]
        found.update(db.execute(select(transfer.c.token).where(transfer.c.token.in_(some))).scalars())
    return sorted(set(tokens) - found)


@command("bank.count", transaction={"read": True, "core": True})
def count(db):
    return db.execute(select(func.count()).select_from(transfer)).scalar()
