"""Medians of ratios with bootstrap intervals, which draw pairs: their runs are neighbours in time."""

import random
import statistics

from .histogram import Histogram

RESAMPLES = 4000
RESAMPLES_POOLED = 400
SEED = 20240229


def _interval(values):
    """The middle 95 %."""
    values = sorted(values)
    return values[int(0.025 * (len(values) - 1))], values[round(0.975 * (len(values) - 1))]


def _divide(a, b):
    return a / b if b else None


def of_medians(ours, theirs):
    """(median of the pairs' ratios, low, high); None where there is no such ratio."""
    ratios = [a / b for a, b in zip(ours, theirs) if a is not None and b]
    if not ratios:
        return None
    draw = random.Random(SEED)
    medians = [statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES)]
    return statistics.median(ratios), *_interval(medians)


def pool(dumps):
    """One histogram from the JSON of several."""
    pooled = Histogram()
    for dump in dumps:
        part = Histogram()
        for low, high, count in dump["buckets_us"]:
            part.add(low, high, count)
        part.count, part.sum_us, part.max_us = dump["count"], dump["sum_us"], dump["max_us"]
        pooled.merge(part)
    return pooled


def of_pooled(ours, theirs, figure):
    """Ratio of a figure of the pooled histograms, with an interval over the pairs drawn."""
    ratio = _divide(figure(pool(ours)) or 0.0, figure(pool(theirs)))
    if ratio is None:
        return None
    draw, drawn = random.Random(SEED), []
    for _ in range(RESAMPLES_POOLED if len(ours) > 1 else 0):
        pairs = draw.choices(range(len(ours)), k=len(ours))
        value = _divide(figure(pool([ours[i] for i in pairs])) or 0.0,
                        figure(pool([theirs[i] for i in pairs])))
        if value is not None:
            drawn.append(value)
    return ratio, *(_interval(drawn) if drawn else (ratio, ratio))
