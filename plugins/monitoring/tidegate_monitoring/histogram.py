"""A histogram with buckets of equal ratio: quantiles within 1 % of the true value, mergeable, in bounded memory.

The buckets are DDSketch's (Masson, Rim, Lee: "DDSketch", VLDB 2019): bucket k holds the values from g^k to g^(k+1)
with g = (1 + a) / (1 - a); whoever takes a bucket's middle is wrong by the share a at most, whatever the value. A
histogram is a plain dict, bucket -> count. Two are merged by adding, so a quantile over many commands, seconds or
processes is as good as one over a single second. From 1 ns to a day there are 1,600 buckets; a command that is
called all day uses about a hundred.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, inf, log2

#: The largest relative error of a quantile.
ERROR = 0.01
#: A bucket's width in powers of two.
STEP = log2((1 + ERROR) / (1 - ERROR))
#: What is less counts as this: 1 ns, so that 0.0 has a bucket.
LEAST = 1e-9

Histogram = dict[int, int]
_MIDDLE = 2 / (1 + 2**STEP) * 2**STEP  # of a bucket, as a factor on its lower end


class _Whole(dict[float, int]):
    """A bucket as the hot path has it, a float, to the one int of that value: a thousand histograms share them."""

    def __missing__(self, bucket: float) -> int:
        if len(self) > 4000:
            return int(bucket)
        return self.setdefault(bucket, int(bucket))


whole = _Whole().__getitem__


def bucket_of(value: float) -> int:
    """The bucket of a value (0 or above); `Meters.sort` has the same expression inline."""
    return whole(log2(max(value, LEAST)) // STEP)


def value_of(bucket: int) -> float:
    """The value that stands for a bucket."""
    return float(2 ** (bucket * STEP)) * _MIDDLE


def histogram_of(values: Iterable[float]) -> Histogram:
    histogram: Histogram = {}
    for value in values:
        add(histogram, value)
    return histogram


def add(histogram: Histogram, value: float, count: int = 1) -> None:
    bucket = bucket_of(value)
    histogram[bucket] = histogram.get(bucket, 0) + count


def merge(into: Histogram, other: Mapping[int, int], sign: int = 1) -> None:
    """Add `other`; with `sign` -1 take away again what was added before."""
    get = into.get
    for bucket, count in other.items():
        left = get(bucket, 0) + sign * count
        if left:
            into[bucket] = left
        else:
            into.pop(bucket, None)


def ranked(histogram: Mapping[int, int], ranks: Iterable[float], order: Sequence[int] = ()) -> list[int]:
    """The buckets in which the values of these ranks (1 to the number of all, rising) lie; none when it is empty.

    `order`: the buckets in their order, for who asks twice.
    """
    found: list[int] = []
    if not histogram:
        return found
    rest = iter(ranks)
    rank = next(rest, inf)
    seen = 0
    for bucket in order or sorted(histogram):
        seen += histogram[bucket]
        while seen >= rank:
            found.append(bucket)
            rank = next(rest, inf)
    return found


def quantiles(histogram: Mapping[int, int], *shares: float) -> list[float]:
    """The values below which these shares (0 to 1, rising) of all lie; 1 gives the largest. Zeros when it is empty."""
    if not histogram:
        return [0.0] * len(shares)
    total = sum(histogram.values())
    return [value_of(bucket) for bucket in ranked(histogram, [max(ceil(share * total), 1) for share in shares])]


def mean(histogram: Mapping[int, int]) -> float:
    """Within the same error as a quantile."""
    total = sum(histogram.values())
    return sum(value_of(bucket) * count for bucket, count in histogram.items()) / total if total else 0.0


def sample_ranks(total: int, limit: int) -> list[float]:
    """The ranks of at most `limit` values that stand for all: the middles of as many equal parts."""
    size = min(total, limit)
    return [(part + 0.5) * total / size for part in range(size)]
