#!/usr/bin/env python3
"""What ./demo shows once everything is built: boots, loads, moves, verifies. See ./demo --help."""

import argparse
import json
import os
import signal
import sys
import time
import types

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.chart import columns, rate_chart, rows  # noqa: E402
from lib.move import Move  # noqa: E402
from lib.node import Machine  # noqa: E402
from lib.redis import make_network, start_load  # noqa: E402
from lib.site import Failure, Site, Skip, sink  # noqa: E402
from comparator.moves import QemuMove, free_port  # noqa: E402
from comparator.processes import end_on_signals  # noqa: E402

BEFORE_S, AFTER_S = 2.0, 3.0
BIN_MS = 100
SECOND = 10**9


SPEEDS = lambda show: ("per s before/amid/after", show.speeds())


class Redis:
    """redis-server in the guest, its client outside: what the client saw is what counts."""

    unit = "redis operations per second, verified by the client"

    def __init__(self, site):
        self.site = site
        self.network = make_network(site)
        self.taps = {"source": (self.network, "src"), "destination": (self.network, "dst")}

    machine = {"guest": "redis", "ram": ((1024, "tmpfs"),)}
    describes = "redis-server under Debian's kernel, 1 GiB of RAM, 200,000 keys of 1,000 bytes"

    def start(self):
        self.client = start_load(self.site, self.network, seconds=300, keys=200000)

    def stop(self):
        """What the client saw: start, bins, rows for the table, and whether all was right."""
        os.kill(self.client.pid, signal.SIGTERM)
        if self.client.wait(90) is None:
            raise Failure("the redis client does not end")
        with open(self.site.file("load.json"), encoding="utf-8") as file:
            load = json.load(file)
        self.bad = load["errors"] + load["lost_connections"]
        return {"start_ns": load["start_ns"], "bins": [each["ops"] for each in load["bins"]], "rows": [
            ("latency p50 / p99", f"{load['p50_us'] / 1e3:.1f} / {load['p99_us'] / 1e3:.1f} ms"),
            ("worst latency", f"{load['worst_us'] / 1e3:.0f} ms"),
            ("longest silence", f"{load['longest_gap_ms']:.0f} ms"),
            ("wrong answers", str(load["errors"])),
            ("lost connections", str(load["lost_connections"]))]}

    remark = ("Packets lost in the blackout come back after TCP's retransmission time-out, 200 ms and more:\n"
              "  that, not the blackout, is the client's worst latency.")


class Checker:
    """The bare checking guest: its heartbeat tells how fast it runs."""

    unit = "page touches per second, as the guest's heartbeat says"
    machine = {"guest": "checker", "ram": ((1024, "tmpfs"),), "append": "pattern=random touch_mib=512"}
    describes = "the memory-checking guest, 1 GiB of RAM, touching 512 MiB at random"
    taps = {}
    bad = 0
    remark = "The blackout, and what the guest waits for pages that are not there yet."

    def __init__(self, site):
        self.site = site

    def start(self):
        self.began = time.monotonic_ns()
        self.beats = self.site.beats

    def stop(self):
        records = [r for r in sink.read_log(self.beats) if r[1] != sink.TORN]
        seen = sink.analyse(records, begin=self.began, bin_ms=BIN_MS)
        return {"start_ns": self.began, "bins": [max(0, rate) * BIN_MS for rate in seen["rate_ops_per_ms"]],
                "rows": [("longest silence", f"{seen['longest_gap_ms']:.0f} ms")]}


class Show:
    """One guest moved once, by `mover`; afterwards `self` holds everything there is to tell."""

    def __init__(self, site, load, qemu, mover):
        self.site, self.load, self.mover = site, load, mover
        ram = load.machine["ram"] if mover == "faultline" else ((load.machine["ram"][0][0], "private"),)
        self.machine = Machine(**{**load.machine, "qemu": qemu, "ram": ram})

    def run(self):
        move = Move(self.site, self.machine, netns=self.load.taps.get("source"))
        move.boot_destination(netns=self.load.taps.get("destination"))
        say(f"booting {self.load.describes} …")
        move.source.wait_ready()
        self.load.start()
        say(f"running; moving it in {BEFORE_S:.0f} s …")
        time.sleep(BEFORE_S)
        self.start_ns = time.monotonic_ns()
        self.own = self._faultline(move) if self.mover == "faultline" else self._qemu(move)
        self.end_ns = time.monotonic_ns()
        move.destination.wait_switch()
        time.sleep(AFTER_S)
        self.seen = self.load.stop()
        self.problems = move.destination.check_guest() + self.site.beat_violations()
        self.beats = self.site.beat_count()
        self.stall_ms = move.destination.lap()["epoch_max_stall_us"] / 1e3
        self.resume_ns = move.destination.qmp.last("RESUME") or self.end_ns
        self.blackout_ms = (self.resume_ns - (move.source.qmp.last("STOP") or self.resume_ns)) / 1e6
        for node in (move.source, move.destination):
            node.end()
        return self

    def _faultline(self, move):
        transfer = move.transfer(verbose=False)
        transfer.start_receive()
        say("faultline migrate:")
        print(flush=True)
        child = self.site.start([self.site.engine, "migrate", *transfer.common(move.source, "migrate"),
                                 "--to", transfer.address], self.site.file("migrate.err"),
                                stdout=sys.stdout)
        transfer.migrate = child
        if child.wait(300) != 0 or transfer.receive.wait(30) != 0:
            raise Failure(f"the move failed:\n{child.log()}\n{transfer.receive.log()}")
        return transfer.summary("migrate")

    def _qemu(self, move):
        say("QEMU's own post-copy …")
        link = types.SimpleNamespace(address="127.0.0.1", port=free_port)
        config = types.SimpleNamespace(timeout=300)
        moved = QemuMove(self.site, config, self.site.folder_path, move.source, move.destination, link).run()
        return {"total_ms": moved.total_ms}

    def chart(self):
        seen = self.seen
        at = lambda when: (when - seen["start_ns"]) / (BIN_MS * 1e6)
        first = max(0, int(at(self.start_ns) - BEFORE_S * 1000 / BIN_MS))
        last = int(at(self.end_ns) + AFTER_S * 1000 / BIN_MS)
        marks = [(at(self.start_ns) - first, "migrate starts"), (at(self.resume_ns) - first, "the guest runs there"),
                 (at(self.end_ns) - first, "every page is there")]
        return rate_chart(seen["bins"][first:last], BIN_MS, marks, self.load.unit)

    def speed(self, begin, end):
        """Operations per second between two times."""
        at = [int((when - self.seen["start_ns"]) / (BIN_MS * 1e6)) for when in (begin, end)]
        bins = self.seen["bins"][max(0, at[0]):at[1] + 1]
        return sum(bins) * 1000 / BIN_MS / max(1, len(bins))

    def speeds(self):
        before = self.speed(self.start_ns - int(BEFORE_S * SECOND), self.start_ns)
        after = self.speed(self.end_ns + SECOND // 2, self.end_ns + int(AFTER_S * SECOND))
        return f"{before:.0f} / {self.speed(self.start_ns, self.end_ns):.0f} / {after:.0f}"

    def ok(self):
        return not self.problems and not self.load.bad


def say(text):
    print(f"· {text}", flush=True)


def print_lines(title, lines):
    print(f"\n{title}\n" + "\n".join(lines), flush=True)


def tell(show):
    own = show.own
    faults, latency = own["faults"], own["fault_latency_us"]
    stages = latency["stages"]
    print_lines("The move", rows([
        ("blackout", f"{own['blackout_ms']:.1f} ms"),
        ("total", f"{own['total_ms']:.0f} ms, of it {own['prepare_ms']:.0f} ms before the switch"),
        ("sent", f"{own['data_bytes'] / 2**20:.0f} of {own['guest_bytes'] / 2**20:.0f} MiB"),
        ("faults", f"{faults['count']}: {faults['from_urgent']} fetched on demand, {faults['overtook']} "
                   f"overtook the pusher, {faults['joined_bulk']} joined it, {faults['zero']} zero"),
        ("fault latency", f"p50 {latency['p50']:.0f}  p90 {latency['p90']:.0f}  p99 {latency['p99']:.0f}  "
                          f"p99.9 {latency['p999']:.0f}  max {latency['max']:.0f} us"),
        ("its stages, p50 / p99", "  ".join(f"{name} {stages[name]['p50']:.1f}/{stages[name]['p99']:.0f}"
                                          for name in ("read", "request", "source", "network", "place")) + " us")]))
    print_lines("Seen from outside", [*show.chart(), "", *rows([SPEEDS(show), *show.seen["rows"]]), f"  {show.load.remark}"])
    checks = [("memory", "no corruption" if show.ok() else "WRONG"),
              ("one guest at every moment", f"{show.beats} heartbeats, none twice, none missing")]
    print_lines("The guest's own verdict", rows(checks) + [f"  {problem}" for problem in show.problems])


def compare(ours, theirs):
    print_lines("QEMU's own post-copy (preempt, private RAM), seen from outside", theirs.chart())
    table = [(name, [dict(show.seen["rows"]).get(name, "") for show in (ours, theirs)])
             for name, _ in ours.seen["rows"]]
    figure = lambda what, form: (what, [form(ours), form(theirs)])
    table = [(SPEEDS(ours)[0], [ours.speeds(), theirs.speeds()]), *table]
    table = [figure("blackout", lambda s: f"{s.blackout_ms:.1f} ms"),
             figure("total", lambda s: f"{s.own['total_ms']:.0f} ms"),
             figure("longest stall in the guest", lambda s: f"{s.stall_ms:.0f} ms"), *table]
    print_lines("Side by side (one run each: perf/compare makes it a measurement)",
                columns(["faultline", "QEMU post-copy"], table))


def main():
    parser = argparse.ArgumentParser(prog="./demo")
    for option in ("--qemu10", "--checker", "--compare"):
        parser.add_argument(option, action="store_true")
    args = parser.parse_args()
    end_on_signals()
    qemu = "10.0" if args.qemu10 else "7.2"
    movers = ["faultline", "qemu"] if args.compare else ["faultline"]
    shows = []
    try:
        for mover in movers:
            with Site() as site:
                load = (Checker if args.checker else Redis)(site)
                shows.append(Show(site, load, qemu, mover).run())
            if mover == "faultline":
                tell(shows[0])
    except KeyboardInterrupt:
        print("\ndemo: interrupted; everything is cleaned up", file=sys.stderr)
        return 130
    except (Failure, Skip) as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return 1
    if args.compare:
        compare(*shows)
    return 0 if all(show.ok() for show in shows) else 1


if __name__ == "__main__":
    sys.exit(main())
