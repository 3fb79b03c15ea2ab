#!/usr/bin/env python3
"""Many migrations in a row of the checking guest, every one different, by a seed.

  soak.py [--count 100] [--seed N] [--seconds-max S]

Size, pattern, vCPUs, kind of RAM, QEMU version and the engine's options come from the seed. A guest goes
from A to B, from there to C, and so on for a few moves, checked after each; then a new one is booted.
Ends at the first thing that is wrong, with the seed that repeats it. Exit status 0, 1, 77 (skipped).
"""

import argparse
import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.move import Move, require  # noqa: E402
from lib.node import Machine  # noqa: E402
from lib.site import Site  # noqa: E402
from comparator.processes import end_on_signals  # noqa: E402

HOPS_MAX = 5
DESCRIPTORS_SLACK = 2


def random_machine(dice):
    """A guest of 64 to 512 MiB, on one or two backends."""
    first = dice.randrange(64, 320)
    kinds = ["tmpfs", "tmpfs", "tmpfs", "hugetmpfs", "unlinked"]
    ram = [(first, dice.choice(kinds))]
    if dice.random() < 0.3:
        ram.append((dice.randrange(64, 192), dice.choice(kinds)))
    pattern = dice.choice(["random", "sequential", "stride", "hotset"])
    words = [f"pattern={pattern}", f"seed={dice.randrange(1, 10000)}", f"write_pct={dice.choice([5, 50, 95])}"]
    if dice.random() < 0.4:
        words.append(f"spread={dice.randrange(2, 9)}")
    if dice.random() < 0.2:
        words.append("fill=0")
    if pattern == "stride":
        words.append(f"stride={dice.choice([2, 3, 17, 64, 513])}")
    return Machine(qemu=dice.choice(["7.2", "10.0"]), ram=tuple(ram), smp=dice.choice([1, 1, 2, 3, 4]),
                   append=" ".join(words))


def random_options(dice):
    migrate, receive = [], []
    if dice.random() < 0.4:
        migrate += ["--streams", str(dice.choice([2, 3, 4, 8]))]
    if dice.random() < 0.2:
        migrate += ["--max-bandwidth", dice.choice(["150MiB", "2Gbit"])]
    if dice.random() < 0.4:
        receive += ["--window", dice.choice(["256KiB", "512KiB", "4MiB"])]
    if dice.random() < 0.25:
        receive += ["--io", "epoll"]
    if dice.random() < 0.25:
        migrate += ["--io", "epoll"]
    return {"migrate_args": migrate, "receive_args": receive,
            "listen": dice.choice(["127.0.0.1:0", "127.0.0.1:0", "[::1]:0"])}


def own_state():
    """What this process and its machine hold: descriptors, files in memory, children."""
    descriptors = len(os.listdir("/proc/self/fd"))
    mine = [name for name in os.listdir("/dev/shm") if str(os.getpid()) in name]
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as children:
        return descriptors, mine, children.read().split()


def journey(dice, hops, number):
    """One guest, moved `hops` times; everything of it is gone afterwards."""
    machine = random_machine(dice)
    print(f"guest: {machine}", flush=True)
    with Site() as site:
        move = Move(site, machine)
        for hop in range(hops):
            options = random_options(dice)
            started = time.monotonic()
            summary = move.go(**options)
            print(f"{number + hop + 1:4d}  hop {hop + 1}  blackout {summary['blackout_ms']:6.1f} ms  total "
                  f"{summary['total_ms']:7.1f} ms  {summary['data_bytes'] >> 20:4d} MiB  faults "
                  f"{summary['faults']['count']:6d}  p99 {summary['fault_latency_us']['p99']:7.0f} us  "
                  f"{time.monotonic() - started:5.1f} s  {' '.join([*options['migrate_args'], *options['receive_args']])}",
                  flush=True)
            move.turn_round()


def soak(count, seed, seconds_max):
    dice = random.Random(seed)
    print(f"seed {seed}", flush=True)
    before = own_state()
    started, done = time.monotonic(), 0
    while done < count and time.monotonic() - started < seconds_max:
        hops = min(dice.randrange(1, HOPS_MAX + 1), count - done)
        journey(dice, hops, done)
        done += hops
        after = own_state()
        require(after[0] <= before[0] + DESCRIPTORS_SLACK, f"descriptors here: {before[0]}, then {after[0]}")
        require(after[1:] == ([], []), f"left behind: {after}")
    require(done >= count, f"only {done} of {count} moves in {seconds_max} s")
    print(f"{done} moves in {time.monotonic() - started:.0f} s, nothing wrong, nothing left")


def main():
    parser = argparse.ArgumentParser(description="many migrations in a row, every one different")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--seconds-max", type=float, default=3600)
    args = parser.parse_args()
    end_on_signals()
    try:
        soak(args.count, args.seed, args.seconds_max)
    except Exception as failure:  # with what repeats it
        print(f"FAIL (--seed {args.seed}) {type(failure).__name__}: {failure}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
