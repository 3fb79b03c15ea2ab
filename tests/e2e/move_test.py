"""The checking guest moves: both QEMUs, every pattern, one vCPU and several."""

from lib.move import Move
from lib.node import Machine
from lib.scenario import add

PATTERNS = ("random", "sequential", "stride", "hotset")


def moves(machine):
    return lambda site: Move(site, machine).go()


for qemu in ("7.2", "10.0"):
    for pattern in PATTERNS:
        add(f"move.checker_{pattern}_on_qemu_{qemu}",
            moves(Machine(qemu=qemu, append=f"pattern={pattern} seed={len(pattern)}")))
    for smp in (2, 4):
        add(f"move.checker_with_{smp}_vcpus_on_qemu_{qemu}", moves(Machine(qemu=qemu, smp=smp)))
