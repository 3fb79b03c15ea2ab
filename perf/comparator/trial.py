"""One run: boot, settle, move, watch, check, clean up."""

import os
import shutil
import time

from . import metrics, noise, warm
from .cpu import GuestCpu
from .guest import Guest, quiet_us, start_sink
from .moves import MOVES
from .network import Link, Loopback
from .processes import Failure, Scope

STALL_US = 20.0  # above this an access counts as a stall (EVIDENCE: the machine's own noise is below)
# So many accesses of the guest may stall while nothing moves (usually some dozens of 131,072).
QUIET_STALLS_MAX = 1000
# The destination may have its firmware and devices in memory, not the guest's pages.
EMPTY_BYTES_MAX = 64 << 20


class Contender:
    """Who moves the guest: `mover` in MOVES, under which QEMU, on which kind of RAM."""

    def __init__(self, mover, qemu, version, ram):
        self.mover, self.qemu, self.version, self.ram = mover, qemu, version, ram

    @property
    def label(self):
        return f"{self.mover} {self.version} {self.ram}"


def run_trial(config, contender, number):
    """The run as a JSON object; `invalid` says why it must not count, None where it may."""
    run = {"contender": contender.label, "mover": contender.mover, "qemu": contender.version,
           "ram": contender.ram, "number": number, "noise": noise.measure(), "invalid": None}
    with Scope() as scope:
        folder = scope.folder("/tmp", f"run{number}")
        if config.keep:
            scope.callback(_keep, folder, os.path.join(config.keep, f"run{number}"))
        try:
            _measure(config, contender, scope, folder, run)
        except Failure as failure:
            run["invalid"] = str(failure)
        except ZeroDivisionError:
            run["invalid"] = "noise: the guest did not get to run in the seconds before the move"
    return run


def _keep(folder, target):
    ignore = lambda parent, names: [n for n in names if not n.endswith((".log", ".json"))]
    shutil.copytree(folder, target, ignore=ignore, dirs_exist_ok=True)


def _measure(config, contender, scope, folder, run):
    link = Link(scope, config.link) if config.link else Loopback()
    fifo, log, recorder = start_sink(scope, folder)
    run["late_sink"] = "no real-time priority" in recorder.log()
    source, destination = _boot(config, contender, scope, folder, fifo, link)
    run["guest"] = source.wait_ready()
    run["quiet_first"] = _quiet_histogram(source, config.quiet_seconds)

    # The mover prepares while the source settles.
    settled = time.monotonic() + metrics.BASE_SECONDS + 0.2
    move = MOVES[contender.mover](scope, config, folder, source, destination, link)
    time.sleep(max(0.0, settled - time.monotonic()))
    run["destination_bytes_before"] = destination.ram_bytes()
    warm.memory(config.guest_mib << 20)
    cpu = GuestCpu((source, destination))
    moved = move.run()
    all_s, guest_s = cpu.since()
    destination.wait_switch(30)
    time.sleep(config.watch_seconds)
    last_ns = time.monotonic_ns()

    run.update(total_ms=moved.total_ms, total_wall_ms=moved.wall_ms, own=moved.own,
               cpu_s=all_s + moved.engine_cpu_s, cpu_of_move_s=all_s + moved.engine_cpu_s - guest_s)
    run["stalls"] = destination.stalls()
    _add_histograms(run, destination.histograms())
    errors = destination.full_check()
    source.qemu.stop()
    destination.qemu.stop()
    recorder.stop()

    beats = metrics.Beats(log)
    run["beats"] = {"count": len(beats.records), "missing": beats.missing,
                    "violations": [text for _, text in beats.violations][:5]}
    stop_ns, resume_ns = source.qmp.last("STOP"), destination.qmp.last("RESUME")
    run.update(metrics.of_beats(beats, moved, stop_ns, resume_ns, last_ns,
                                quiet_us(config.guest_mib) * 1000))
    run["invalid"] = _what_is_wrong(run, errors, source, destination, beats)


def _boot(config, contender, scope, folder, fifo, link):
    shm = scope.folder(config.ram_dir, f"ram{os.path.basename(folder)}")
    shared = contender.ram == "shared"
    sides = (("source", link.source_netns), ("destination", link.destination_netns))
    return [Guest(scope, config, side, folder, os.path.join(shm, side) if shared else None,
                  contender.qemu, fifo, netns) for side, netns in sides]


def _quiet_histogram(source, seconds):
    """First touches of the same guest where nothing moves it: the noise to compare with."""
    source.console.send("m")
    time.sleep(seconds)
    return _latency(source.histograms()["first"])


def _add_histograms(run, found):
    run["first_touch"] = _latency(found["first"])
    run["before_switch"] = _latency(found["before"])


def _latency(histogram):
    slow = histogram.above(STALL_US)
    quantiles = lambda h: {name: h.quantile(q)
                           for name, q in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))}
    return {"us": quantiles(histogram), "stalled": slow.count, "stalled_us": quantiles(slow),
            "stalled_sum_ms": slow.sum_us / 1000, **histogram.dump()}


def _what_is_wrong(run, errors, source, destination, beats):
    complaints = source.console.complaints() + destination.console.complaints()
    if errors or complaints or run["stalls"]["errors"]:
        return f"corruption: {errors} pages wrong at the end; {complaints[:3]}"
    if not beats.healthy():
        return f"heartbeat: {run['beats']}"
    if run["quiet_first"]["stalled"] > QUIET_STALLS_MAX:
        return f"noise: {run['quiet_first']['stalled']} accesses stalled before anything moved"
    if run["destination_bytes_before"] > EMPTY_BYTES_MAX:
        return f"the destination had {run['destination_bytes_before']} bytes before the move"
    return None
