"""Counts of calls, at the price of one addition each: what rates and the retry budget are made from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tidegate import Call

Proceed = Callable[[Call], Any]


class Tally:
    """The calls of one command that came as far as here.

    `failed` is kept for commands that are retried only; a call that is being repeated is failed until it isn't.
    """

    __slots__ = ("failed", "succeeded")

    def __init__(self) -> None:
        self.succeeded = self.failed = 0


def counted(tally: Tally, proceed: Proceed) -> Proceed:
    """`proceed`, counted where it succeeds: the least that a command has, 0.04 µs."""

    def count(call: Call) -> Any:
        result = proceed(call)
        tally.succeeded += 1
        return result

    return count


def retried(tally: Tally, proceed: Proceed, again: Callable[[Call, BaseException], Any]) -> Proceed:
    """The same, and `again(call, error)` where it fails, which gives a result or raises."""

    def attempt(call: Call) -> Any:
        try:
            result = proceed(call)
        except BaseException as error:
            tally.failed += 1
            result = again(call, error)
            tally.failed -= 1
        tally.succeeded += 1
        return result

    return attempt
