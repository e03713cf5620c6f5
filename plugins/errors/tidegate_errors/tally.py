"""Counts of calls, at the price of one addition each: what rates and the retry budget are made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tidegate import Call

from tidegate_errors.retry import CONTAINERS, copied

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


def retried(
    tally: Tally, proceed: Proceed, again: Callable[[Call, BaseException, Any], Any], changeable: Sequence[str]
) -> Proceed:
    """The same, and `again(call, error, params)` where it fails, which gives a result or raises.

    `params` are those that came: where one of `changeable` is a list or an object, what is tried has a copy.
    """

    def attempt(call: Call) -> Any:
        params = call.params
        for name in changeable:
            if type(params.get(name)) in CONTAINERS:
                call.params = copied(params)
                break
        try:
            result = proceed(call)
        except BaseException as error:
            tally.failed += 1
            result = again(call, error, params)
            tally.failed -= 1
        tally.succeeded += 1
        return result

    return attempt
