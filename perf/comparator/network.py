"""What lies between source and destination: the loopback, or a shaped link of our own."""

import contextlib
import os
import re
import subprocess

from .moves import free_port
from .processes import Failure, is_leftover

PREFIX = "flperf"
PORT = 4440
UNITS = {"kbit": 10**3, "mbit": 10**6, "gbit": 10**9,
         "kib": 8 * 2**10, "mib": 8 * 2**20, "gib": 8 * 2**30}
# What a switch port holds before it drops; more only adds waiting for everybody.
BUFFER_SECONDS = 0.005
BURST_SECONDS = 0.001
BURST_BYTES_MIN = 128 * 1024  # two of the largest packets that TCP hands down (64 KiB)


class Loopback:
    address, is_link = "127.0.0.1", False
    source_netns = destination_netns = None

    def port(self):
        return free_port()


def parse_rate(text):
    """Bits per second from `10Gbit` or `500MiB`."""
    match = re.fullmatch(r"([0-9.]+)([a-zA-Z]+)", text)
    if not match or match[2].lower() not in UNITS:
        raise Failure(f"--link {text}: not a rate; write it like 10Gbit or 500MiB (per second)")
    return int(float(match[1]) * UNITS[match[2].lower()])


def _run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)}: {done.stderr.strip()}; a shaped link needs root")


class Link:
    """Two network namespaces, a veth pair between them, a token bucket filter at both ends.

    Source and destination QEMU and both engines live in them, so device state, control and pages
    of either mover cross the same shaped link.
    """

    address, is_link = "10.213.97.2", True

    def __init__(self, scope, rate):
        bits = parse_rate(rate)
        self.source_netns, self.destination_netns = (f"{PREFIX}{os.getpid()}-{s}" for s in "sd")
        ends = ((self.source_netns, "10.213.97.1/30", "fl-s"),
                (self.destination_netns, "10.213.97.2/30", "fl-d"))
        for netns, _, _ in ends:
            _run("ip", "netns", "add", netns)
            scope.callback(self._remove, netns)
        _run("ip", "-n", self.source_netns, "link", "add", "fl-s", "type", "veth", "peer", "name",
             "fl-d", "netns", self.destination_netns)
        for netns, address, device in ends:
            _run("ip", "-n", netns, "address", "add", address, "dev", device)
            _run("ip", "-n", netns, "link", "set", "lo", "up")
            _run("ip", "-n", netns, "link", "set", device, "up")
            self._shape(netns, device, bits)

    @staticmethod
    def _shape(netns, device, bits):
        burst = max(BURST_BYTES_MIN, int(bits / 8 * BURST_SECONDS))
        limit = max(2 * burst, int(bits / 8 * BUFFER_SECONDS))
        _run("tc", "-n", netns, "qdisc", "add", "dev", device, "root", "tbf", "rate", f"{bits}bit",
             "burst", str(burst), "limit", str(limit))

    @staticmethod
    def _remove(netns):
        subprocess.run(["ip", "netns", "delete", netns], capture_output=True, check=False)

    def port(self):
        return PORT


def sweep_namespaces():
    """Those of a comparison that was killed."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/run/netns"):
            if is_leftover(name, PREFIX):
                Link._remove(name)
