"""A whole move, from boot to verification: what most scenarios are made of."""

import os
import time

from comparator.processes import Failure, wait_until

from .node import Machine, Node, Stores
from .site import Site
from .transfer import Transfer, check_summary

BEAT_SECONDS = 30.0
BEATS = 200  # about 50 ms of guest time


class Broken(AssertionError):
    """What a scenario asserts is not so."""


def require(condition, text):
    if not condition:
        raise Broken(text)


def beats_on(site, what):
    """The guest runs: its heartbeat goes on, from now."""
    start = site.beat_count()
    try:
        wait_until(lambda: site.beat_count() >= start + BEATS, BEAT_SECONDS, what)
    except Failure as failure:
        raise Broken(f"the guest does not run on: {what}") from failure


class Move:
    def __init__(self, site: Site, machine=Machine(), *, netns=None, transport="tcp", **transfer):
        self.transport = transport
        self.site, self.machine, self.transfer_options = site, machine, transfer
        self.stores = Stores(site)
        site.new_guest()
        self.place = 1
        self.source = Node(site, machine, 1, self.stores, incoming=False, netns=netns)
        self.destination = None
        self.summary = None

    def boot_destination(self, machine=None, **options):
        """A new QEMU for the guest to go to; the last one is forgotten."""
        self.place = self.place % 250 + 1
        self.destination = Node(self.site, machine or self.machine, self.place, self.stores,
                                incoming=True, **options)
        return self.destination

    def ready(self, settle=0.3):
        """Source and destination are up; the guest has run for a little while."""
        if self.destination is None:
            self.boot_destination()
        if not self.source.incoming:  # one that came by a move is ready already
            self.source.wait_ready()
        time.sleep(settle)
        beats_on(self.site, "before the move")

    def transfer(self, **options):
        return Transfer(self.site, self.source, self.destination, **{**self.transfer_options, **options})

    def go(self, **options):
        """Moves and verifies; returns the summary of both sides."""
        self.ready()
        before = self.descriptors()
        transfer = self.transfer(**options)
        self.summary = transfer.run()
        self.last_transfer = transfer
        self.verify(transfer, before)
        return self.summary

    def descriptors(self):
        return {node: node.descriptors() for node in (self.source, self.destination)}

    def verify(self, transfer, before):
        """The guest is whole, runs once, and nothing is left behind."""
        problems = self.destination.check_guest() + self.destination.check_histograms()
        problems += self.site.beat_violations()
        problems += check_summary(self.summary, self.machine.mib << 20, self.transport)
        problems += check_summary(transfer.summary("receive"), self.machine.mib << 20, self.transport)
        problems += self.left_behind(before)
        if self.source.status() != "postmigrate":
            problems.append(f"the source is {self.source.status()}, not postmigrate")
        if self.destination.status() != "running":
            problems.append(f"the destination is {self.destination.status()}")
        if problems:
            raise Broken("\n".join([*problems, transfer.logs()]))
        beats_on(self.site, "after the move")

    def left_behind(self, before, allow=()):
        """`allow`: kinds of descriptors that the guest's devices open when they come."""
        problems = [f"a process is left: {pid} {line}" for pid, line in self.site.strangers()]
        for node, descriptors in before.items():
            if node.qemu.status is not None:
                continue
            extra = list(node.descriptors())
            for each in descriptors:
                if each in extra:
                    extra.remove(each)
            problems += [f"{node.name} (place {node.place}) has a new descriptor: {each}" for each in extra
                         if each not in allow]
            problems += [f"{node.name} is still watched: {each}" for each in node.watched_mappings()]
        for parent, _, names in os.walk(self.site.state_dir):
            problems += [f"left in the state folder: {os.path.join(parent, name)}" for name in names]
        return problems

    def turn_round(self):
        """The destination becomes the source of the next move; the old source ends."""
        self.source.end()
        self.source, self.destination = self.destination, None
