#!/usr/bin/env python3
"""The heartbeat sink of the guests: records, checks and analyses. README.md has the formats.

  sink.py record --fifo PATH --log FILE   makes the FIFO, prints "sink ready", records until SIGTERM or SIGINT
  sink.py check LOG                       exit 1 unless exactly one guest ran at every moment
  sink.py analyse LOG [--from NS --to NS] [--base-from NS --base-to NS] [--bin-ms MS]
                                          JSON: rate over time, longest gap, lost work in the window

All QEMUs of one guest write into one FIFO, so what it carries is the guest's own output, in order, whichever
QEMU ran it: two guests at once show as frames in pieces or as counters that were there before.
Times are CLOCK_MONOTONIC nanoseconds, as precise as the sampling (1 ms unless told otherwise).
"""

import argparse
import fcntl
import json
import os
import signal
import stat
import struct
import sys
import time

FRAME_BYTES = 8
FIELD_BITS = 28
FIELD_MASK = (1 << FIELD_BITS) - 1
RECORD = struct.Struct("<QQQ")  # time_ns, counter, ops
TORN = (1 << 64) - 1  # as counter: a torn frame; ops then says how many bytes
PIPE_BYTES = 1 << 20
GAP_FLOOR_MS = 2.0


class Decoder:
    """Finds frames in the stream and widens their two 28-bit fields."""

    def __init__(self):
        self.rest = b""
        self.counter = 0
        self.ops = 0

    def feed(self, data):
        """Yields (counter, ops); (TORN, bytes) for what is no frame."""
        data = self.rest + data
        at = 0
        while len(data) - at >= FRAME_BYTES:
            frame = data[at : at + FRAME_BYTES]
            torn = self._torn_bytes(frame)
            if torn:
                at += torn
                yield TORN, torn
                continue
            at += FRAME_BYTES
            yield self._widen(frame)
        self.rest = data[at:]

    @staticmethod
    def _torn_bytes(frame):
        for i, byte in enumerate(frame):
            if (byte >= 0x80) != (i == 0):
                return max(i, 1)
        return 0

    def _widen(self, frame):
        payload = 0
        for byte in frame:
            payload = payload << 7 | (byte & 0x7F)
        self.counter = _nearest(self.counter, payload >> FIELD_BITS)
        self.ops = _nearest(self.ops, payload & FIELD_MASK)
        return self.counter, self.ops


def _nearest(previous, low):
    """The number with these low bits that is nearest to the previous one: small steps back stay visible."""
    value = (previous & ~FIELD_MASK) | low
    half = 1 << (FIELD_BITS - 1)
    if value + half < previous:
        return value + FIELD_MASK + 1
    if value > previous + half and value > FIELD_MASK:
        return value - FIELD_MASK - 1
    return value


def open_fifo(path):
    if not os.path.exists(path):
        os.mkfifo(path, 0o666)
        os.chmod(path, 0o666)
    if not stat.S_ISFIFO(os.stat(path).st_mode):
        sys.exit(f"sink.py: {path} exists and is no FIFO: remove it or choose another path")
    # Read and write, so that no end of file comes while no QEMU is there.
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.fcntl(fd, 1031, PIPE_BYTES)  # F_SETPIPE_SZ: a late sink must not hold the guest up
    except OSError:
        pass
    return fd


def record(args):
    fd = open_fifo(args.fifo)
    running = True

    def stop(_signal, _frame):
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    be_punctual()
    decoder = Decoder()
    with open(args.log, "wb") as log:
        print("sink ready", flush=True)
        while running:
            time.sleep(args.sample_us / 1e6)
            drain(fd, decoder, log)
        drain(fd, decoder, log)
    os.unlink(args.fifo)


def be_punctual():
    """A sink that waits for a CPU would show the guest stalls that it never had. It needs about 3 % of one."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        print("sink.py: no real-time priority, so gaps may be the sink's own: run as root", file=sys.stderr)


def drain(fd, decoder, log):
    try:
        data = os.read(fd, PIPE_BYTES)
    except BlockingIOError:
        return
    now = time.monotonic_ns()
    log.write(b"".join(RECORD.pack(now, *fields) for fields in decoder.feed(data)))


def read_log(path):
    """[(time_ns, counter, ops)], torn frames as counter TORN."""
    with open(path, "rb") as log:
        data = log.read()
    return list(RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]))


def violations(records):
    """What shows that not exactly one guest ran: [(time_ns, text)]. Also counts beats that are missing."""
    found, missing, last = [], 0, None
    for when, counter, ops in records:
        if counter == TORN:
            found.append((when, f"frame torn after {ops} bytes: two guests wrote at once"))
        elif last is not None and counter <= last:
            found.append((when, f"counter {counter} after {last}: a second guest ran, or one went back"))
        elif last is not None:
            missing += counter - last - 1
        if counter != TORN:
            last = counter if last is None else max(last, counter)
    return found, missing


def check(args):
    records = read_log(args.log_file)
    found, missing = violations(records)
    for when, text in found[:10]:
        print(f"VIOLATION at {when}: {text}")
    print(f"sink: beats={len(records)} violations={len(found)} missing={missing}")
    if not records:
        print(f"sink: {args.log_file} has no heartbeat: the guest never ran, or has no --sink")
    return 1 if found or missing or not records else 0


def ops_at(records, when):
    """Operations done by then, between two beats by interpolation; a gap counts as standing still until its end."""
    low, high = 0, len(records)
    while low < high:
        middle = (low + high) // 2
        if records[middle][0] <= when:
            low = middle + 1
        else:
            high = middle
    if low == 0:
        return records[0][2]
    before = records[low - 1]
    if low == len(records):
        return before[2]
    after = records[low]
    span = after[0] - before[0]
    if span > GAP_FLOOR_MS * 1e6:
        return before[2]
    return before[2] + (after[2] - before[2]) * (when - before[0]) / span


def rate(records, begin, end):
    """Operations per ms."""
    return (ops_at(records, end) - ops_at(records, begin)) / max((end - begin) / 1e6, 1e-6)


def longest_gap(records, begin, end):
    """(ms, when it began) between two neighbouring beats."""
    times = [begin] + [r[0] for r in records if begin < r[0] < end] + [end]
    return max(((b - a) / 1e6, a) for a, b in zip(times, times[1:]))


def analyse(records, begin=None, end=None, base_begin=None, base_end=None, bin_ms=10.0):
    """The metrics of one window [begin, end]; the base is the rate in [base_begin, base_end] (default: the two
    seconds before the window). lost_work_ms is the integral of (1 - rate/base), in ms at full speed."""
    records = [r for r in records if r[1] != TORN]
    begin = records[0][0] if begin is None else begin
    end = records[-1][0] if end is None else end
    base_end = begin if base_end is None else base_end
    base_begin = max(base_end - 2 * 10**9, records[0][0]) if base_begin is None else base_begin
    base = rate(records, base_begin, base_end) if base_end > base_begin else 0.0
    step = int(bin_ms * 1e6)
    edges = list(range(begin, end, step))
    bins = [rate(records, edge, edge + step) for edge in edges]
    quarter = 250 * 10**6
    fastest = max(
        (rate(records, at, at + quarter) for at in range(records[0][0], records[-1][0] - quarter, quarter)),
        default=0.0,
    )
    done = ops_at(records, end) - ops_at(records, begin)
    gap_ms, gap_at = longest_gap(records, begin, end)

    def lost(full):
        return (end - begin) / 1e6 - done / full if full else None

    slow = [edge for edge, value in zip(edges, bins) if value < 0.9 * base]
    return {
        "from_ns": begin,
        "to_ns": end,
        "ops": done,
        "base_ops_per_ms": base,
        "fastest_ops_per_ms": fastest,
        "longest_gap_ms": gap_ms,
        "longest_gap_at_ns": gap_at,
        "lost_work_ms": lost(base),
        "lost_work_fastest_ms": lost(max(fastest, base)),
        "brownout_ms": (slow[-1] + step - begin) / 1e6 if slow and base else 0.0,
        "bin_ms": bin_ms,
        "rate_ops_per_ms": [round(value, 2) for value in bins],
    }


def run_analyse(args):
    records = read_log(args.log_file)
    if not records:
        sys.exit(f"sink.py: {args.log_file} has no heartbeat")
    result = analyse(records, args.begin, args.end, args.base_begin, args.base_end, args.bin_ms)
    json.dump(result, sys.stdout)
    print()
    return 0


def main():
    parser = argparse.ArgumentParser(description="heartbeat sink of the guests")
    commands = parser.add_subparsers(dest="command", required=True)
    recorder = commands.add_parser("record")
    recorder.add_argument("--fifo", required=True)
    recorder.add_argument("--log", required=True)
    recorder.add_argument("--sample-us", type=int, default=1000)
    recorder.set_defaults(run=record)
    checker = commands.add_parser("check")
    checker.add_argument("log_file")
    checker.set_defaults(run=check)
    analyser = commands.add_parser("analyse")
    analyser.add_argument("log_file")
    analyser.add_argument("--from", dest="begin", type=int)
    analyser.add_argument("--to", dest="end", type=int)
    analyser.add_argument("--base-from", dest="base_begin", type=int)
    analyser.add_argument("--base-to", dest="base_end", type=int)
    analyser.add_argument("--bin-ms", type=float, default=10.0)
    analyser.set_defaults(run=run_analyse)
    args = parser.parse_args()
    sys.exit(args.run(args))


if __name__ == "__main__":
    main()
