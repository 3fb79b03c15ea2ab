"""From what one run recorded to the figures of a comparison. perf/README.md defines each."""

import bisect
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "qemu-integration", "guests"))
import sink  # noqa: E402  (the guests' own heartbeat reader)

BASE_SECONDS = 2.0
BIN_MS = 20.0
SMOOTH_BINS = 5
SETTLED_SHARE = 0.9
AFTER_SECONDS = 1.0  # lost work counts this long beyond the end of the move
QUARTER_NS = 250 * 10**6


class Beats:
    """The heartbeats of one run, in order."""

    def __init__(self, log):
        self.records = sink.read_log(log)
        self.violations, self.missing = sink.violations(self.records)
        self.records = [r for r in self.records if r[1] != sink.TORN]
        self.times = [r[0] for r in self.records]

    def healthy(self):
        return bool(self.records) and not self.violations and not self.missing

    def rate(self, begin, end):
        return sink.rate(self.records, begin, end)

    def around(self, when):
        """Times of the last beat before and of the first one at or after."""
        after = bisect.bisect_left(self.times, when)
        return self.times[max(after - 1, 0)], self.times[min(after, len(self.times) - 1)]

    def longest_gap_ms(self, begin, end):
        return sink.longest_gap(self.records, begin, end)[0]

    def lost_ms(self, begin, end, base):
        done = sink.ops_at(self.records, end) - sink.ops_at(self.records, begin)
        return (end - begin) / 1e6 - done / base

    def fastest(self, begin, end):
        """The best quarter of a second between the two times."""
        starts = range(begin, max(end - QUARTER_NS, begin + 1), QUARTER_NS // 5)
        return max(self.rate(at, at + QUARTER_NS) for at in starts)

    def bins(self, begin, end):
        step = int(BIN_MS * 1e6)
        return [self.rate(at, at + step) for at in range(begin, end - step, step)]


def brownout_ms(bins, base):
    """Until the rate stays at 90 % of its base: the end of the last 100 ms whose mean is below."""
    slow = 0
    for i in range(len(bins) - SMOOTH_BINS + 1):
        if sum(bins[i : i + SMOOTH_BINS]) < SETTLED_SHARE * base * SMOOTH_BINS:
            slow = i + SMOOTH_BINS
    return slow * BIN_MS


def blackout(beats, start, stop_ns, resume_ns):
    """Last beat at the source to first one at the destination, and its parts by QEMU's own events:
    the beats themselves are read every millisecond only."""
    last, first = beats.around(resume_ns)
    return {"blackout_ms": (first - last) / 1e6, "stop_at_ms": (stop_ns - start) / 1e6,
            "stop_to_resume_ms": (resume_ns - stop_ns) / 1e6,
            "resume_to_beat_ms": (first - resume_ns) / 1e6}


def of_beats(beats, moved, stop_ns, resume_ns, last_ns, quiet_ns):
    """Everything that the heartbeats tell; `last_ns` is when watching ended, and `quiet_ns` after
    the switch the guest writes its first line, which takes it 25-45 ms without a heartbeat."""
    start, end = moved.start_ns, moved.end_ns
    base = beats.rate(start - int(BASE_SECONDS * 1e9), start)
    fastest = max(beats.fastest(start - int(BASE_SECONDS * 1e9), start), base)
    after = min(end + int(AFTER_SECONDS * 1e9), last_ns)
    line = resume_ns + quiet_ns
    bins = beats.bins(start, last_ns)
    return {
        **blackout(beats, start, stop_ns, resume_ns),
        "longest_stall_ms": beats.longest_gap_ms(start, line if end < line < last_ns else last_ns),
        "lost_work_ms": beats.lost_ms(start, after, base),
        "lost_work_fastest_ms": beats.lost_ms(start, after, fastest),
        "lost_work_watched_ms": beats.lost_ms(start, last_ns, base),
        "brownout_ms": brownout_ms(bins, base),
        "slowdown_pct": 100 * (1 - beats.rate(last_ns - 10**9, last_ns) / base),
        "base_ops_per_ms": base,
        "fastest_ops_per_ms": fastest,
        "lowest_rate_pct": 100 * min(bins) / base,
        "rate_bins": [round(value, 1) for value in bins],
    }
