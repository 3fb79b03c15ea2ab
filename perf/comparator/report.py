"""The table: each figure of faultline beside QEMU's, and their ratio."""

import statistics

from . import ratios
from .trial import STALL_US

# Issue 2's goals, faultline over QEMU with preempt; by QEMU's major version.
GOALS = {"longest_stall_ms": {7: 0.2, 10: 0.5}, "lost_work_ms": {7: 0.35, 10: 0.75},
         "slow_p99": {7: 0.1, 10: 0.2}, "total_ms": {7: 0.5, 10: 0.9}}

FIGURES = [
    ("longest_stall_ms", "longest stall of the guest, ms"),
    ("lost_work_ms", "lost work, ms (own settled base)"),
    ("lost_work_fastest_ms", "lost work, ms (own fastest base)"),
    ("lost_work_watched_ms", "lost work, ms (to the end of watching)"),
    ("brownout_ms", "brownout, ms"),
    ("blackout_ms", "blackout, ms (beat to beat)"),
    ("stop_to_resume_ms", "… of it from STOP to RESUME"),
    ("resume_to_beat_ms", "… of it from RESUME to the first beat"),
    ("stop_at_ms", "start of the move to STOP, ms"),
    ("total_ms", "total, ms"),
    ("total_wall_ms", "total, ms (harness's clock)"),
    ("cpu_s", "CPU, s (all)"),
    ("cpu_of_move_s", "CPU, s (without the guest's work)"),
]
# No ratios: they may be zero or negative.
LEVELS = [
    ("lowest_rate_pct", "lowest rate in 20 ms, % of base"),
    ("slowdown_pct", "guest slower at the end, %"),
    ("base_ops_per_ms", "speed before, touches per ms"),
]


def _slow(name):
    return lambda h: h.above(STALL_US).quantile(name)


LATENCIES = [
    ("p50", "first touches, p50 µs", lambda h: h.quantile(0.5)),
    ("p99", "first touches, p99 µs", lambda h: h.quantile(0.99)),
    ("p999", "first touches, p99.9 µs", lambda h: h.quantile(0.999)),
    ("slow_p50", f"… those above {STALL_US:.0f} µs, p50", _slow(0.5)),
    ("slow_p99", f"… those above {STALL_US:.0f} µs, p99", _slow(0.99)),
    ("slow_p999", f"… those above {STALL_US:.0f} µs, p99.9", _slow(0.999)),
    ("slow_sum_ms", f"… those above {STALL_US:.0f} µs, sum ms",
     lambda h: h.above(STALL_US).sum_us / 1000),
]


def _short(value):
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _spread(values):
    values = [v for v in values if v is not None]
    if not values:
        return "-"
    return f"{_short(statistics.median(values))} [{_short(min(values))}–{_short(max(values))}]"


def _ratio(found):
    return "-" if found is None else f"{found[0]:.3f}"


def _span(found):
    return "" if found is None else f"{found[1]:.3f}–{found[2]:.3f}"


def _goal(name, version, found):
    goal = GOALS.get(name, {}).get(int(version.split(".")[0]))
    if goal is None or found is None:
        return ""
    return f"≤ {goal} {'met' if found[0] <= goal else 'MISSED'}"


def compare(ours, theirs, version):
    """Rows (name, title, ours, theirs, ratio or None, goal) for pairs of runs."""
    rows = []
    for name, title in FIGURES + LEVELS:
        a, b = [run[name] for run in ours], [run[name] for run in theirs]
        found = ratios.of_medians(a, b) if (name, title) in FIGURES else None
        rows.append((name, title, _spread(a), _spread(b), found, _goal(name, version, found)))
    a, b = [run["first_touch"] for run in ours], [run["first_touch"] for run in theirs]
    for name, title, figure in LATENCIES:
        found = ratios.of_pooled(a, b, figure)
        texts = [_spread([figure(ratios.pool([dump])) for dump in dumps]) for dumps in (a, b)]
        rows.append((name, title, *texts, found, _goal(name, version, found)))
    return rows


def _counts(runs):
    pooled = ratios.pool([run["first_touch"] for run in runs])
    quiet = ratios.pool([run["quiet_first"] for run in runs])
    return (f"{pooled.count} first touches, {pooled.above(STALL_US).count} above "
            f"{STALL_US:.0f} µs; without a move {quiet.count}, {quiet.above(STALL_US).count} above "
            f"(p99 {quiet.quantile(0.99):.2f} µs, p99.9 {quiet.quantile(0.999):.2f} µs)")


def table(title, ours, theirs, version):
    lines = [title, f"{'':44}{'faultline':>30}{'QEMU':>30}{'ratio':>8}  {'95 %':<13}goal"]
    for _, text, a, b, found, goal in compare(ours, theirs, version):
        lines.append(f"{text:44}{a:>30}{b:>30}{_ratio(found):>8}  {_span(found):<13}{goal}")
    lines += [f"  faultline: {_counts(ours)}", f"  QEMU:      {_counts(theirs)}"]
    return "\n".join(lines)


def single(title, runs):
    """One contender alone."""
    lines = [title]
    lines += [f"{text:44}{_spread([run[name] for run in runs]):>28}" for name, text in FIGURES + LEVELS]
    for _, text, figure in LATENCIES:
        values = [figure(ratios.pool([run["first_touch"]])) for run in runs]
        lines.append(f"{text:44}{_spread(values):>28}")
    return "\n".join(lines + [f"  {_counts(runs)}"])


def one_line(run):
    noise = run["noise"]
    head = (f"{run['number']:3}  {run['contender']:26} noise {noise['lost_pct']:4.1f} % lost, "
            f"{noise['max_gap_us']:6.0f} µs max, busy {noise['busy_pct']:3.0f} %  ")
    if run["invalid"]:
        return f"{head}INVALID: {run['invalid']}"
    return (f"{head}total {run['total_ms']:5.0f}  stall {run['longest_stall_ms']:5.0f}  blackout "
            f"{run['blackout_ms']:4.0f}  lost {run['lost_work_ms']:5.0f} ms  stalls p99 "
            f"{run['first_touch']['stalled_us']['p99'] or 0:6.0f} µs")
