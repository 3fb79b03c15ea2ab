"""How quiet the machine is just before a run."""

import time

SPIN_SECONDS = 0.25
GAP_NS = 50_000


def _busy_jiffies():
    with open("/proc/stat", encoding="ascii") as stat:
        fields = [int(word) for word in stat.readline().split()[1:]]
    idle = fields[3] + fields[4]
    return sum(fields) - idle, sum(fields), fields[7]


def measure():
    """One thread spins and looks at the clock: time that it did not get, and the longest such gap."""
    busy, total, steal = _busy_jiffies()
    begin = last = time.monotonic_ns()
    end = begin + int(SPIN_SECONDS * 1e9)
    gaps = []
    while last < end:
        now = time.monotonic_ns()
        if now - last > GAP_NS:
            gaps.append(now - last)
        last = now
    busy_after, total_after, steal_after = _busy_jiffies()
    passed = max(total_after - total, 1)
    with open("/proc/loadavg", encoding="ascii") as load:
        load_average = float(load.read().split()[0])
    return {"lost_pct": 100 * sum(gaps) / (last - begin), "gaps": len(gaps),
            "max_gap_us": max(gaps, default=0) / 1000, "load_average": load_average,
            "busy_pct": 100 * (busy_after - busy) / passed,
            "steal_pct": 100 * (steal_after - steal) / passed}
