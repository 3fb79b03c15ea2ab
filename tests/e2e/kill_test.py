"""Somebody ends a process amid a move: an engine by signal, a QEMU by force."""

import os
import signal
import time

from comparator.processes import wait_until

from lib.move import Move, require
from lib.node import Machine
from lib.proxy import Proxy
from lib.refusal import clean, one_line, refuses, source_runs_on
from lib.scenario import add, scenario

MACHINE = Machine(ram=((96, "tmpfs"),))
SLOW = ["--max-bandwidth", "30MiB"]


class Strike:
    """A move over a proxy; when the message `name` passes, `strike(transfer, move)` is called first."""

    def __init__(self, site, name, strike, **transfer):
        self.move = Move(site, MACHINE)
        self.struck = []
        self.proxy = Proxy(site, self._decide)
        self.name, self.strike = name, strike
        self.transfer = None
        self.options = {"via": self.proxy.between, **transfer}

    def _decide(self, message):
        if message.name == self.name and not self.struck:
            self.struck.append(message)
            self.strike(self.transfer, self.move)
        return False

    def start(self):
        self.move.ready()
        self.before = self.move.descriptors()
        self.transfer = self.move.transfer(**self.options)
        self.transfer.start()
        return self.transfer

    def source_goes_on(self, what, *, receive_word=None):
        """Both engines end with exit code 1 and one line; the source's guest runs on."""
        transfer = self.start()
        refuses(transfer.migrate, f"migrate, {what}")
        refuses(transfer.receive, f"receive, {what}", receive_word)
        require(self.struck, f"{self.name} never passed")
        source_runs_on(self.move, what)
        clean(self.move, self.before, what, self.name in ("Welcome", "ExtentsDone"))


def kill_destination(_transfer, move):
    os.kill(move.destination.pid, signal.SIGKILL)
    move.destination.qemu.wait(10)


def send(side, number):
    """The handler only notes the signal: what the engine was doing goes on until it looks."""

    def strike(transfer, _move):
        getattr(transfer, side).send(number)
        time.sleep(0.3)

    return strike


def goes_on(name, strike, what, **options):
    return lambda site: Strike(site, name, strike).source_goes_on(what, **options)


for name in ("Welcome", "ExtentsDone", "Prepared", "Stopped"):
    add(f"kill.destination_qemu_at_{name}", goes_on(name, kill_destination, f"QEMU killed at {name}"))
for side in ("migrate", "receive"):
    for number, name in ((signal.SIGINT, "ExtentsDone"), (signal.SIGTERM, "DeviceState"), (signal.SIGINT, "Stopped")):
        add(f"kill.{side}_by_{number.name}_at_{name}",
            goes_on(name, send(side, number), f"{number.name} to {side} at {name}"))


@scenario()
def receive_by_SIGKILL_before_the_commit(site):
    strike = Strike(site, "DeviceState", send("receive", signal.SIGKILL))
    transfer = strike.start()
    refuses(transfer.migrate, "migrate, receive killed")
    source_runs_on(strike.move, "receive killed")
    require(not strike.move.destination.console.lines, "the guest ran at the destination")


@scenario()
def migrate_by_SIGKILL_while_the_guest_runs(site):
    strike = Strike(site, "ExtentsDone", send("migrate", signal.SIGKILL))
    transfer = strike.start()
    refuses(transfer.receive, "receive, migrate killed")
    source_runs_on(strike.move, "migrate killed")


@scenario()
def receive_by_SIGINT_while_it_waits(site):
    move = Move(site, MACHINE)
    move.ready()
    before = move.descriptors()
    transfer = move.transfer()
    transfer.start_receive()
    transfer.receive.send(signal.SIGINT)
    require(transfer.receive.wait(10) == 1, f"receive exited with {transfer.receive.status}")
    one_line(transfer.receive, "receive")
    clean(move, before, "SIGINT")


@scenario()
def signals_after_the_commit_end_nothing(site):
    """Both sides hold state that exists nowhere else: they say so and go on."""
    move = Move(site, MACHINE)
    move.ready()
    before = move.descriptors()
    transfer = move.transfer(migrate_args=SLOW)
    transfer.start()
    wait_until(lambda: "the guest runs at" in transfer.migrate.out(), 30, "the switch", transfer.migrate)
    for number in (signal.SIGINT, signal.SIGTERM):
        for child in (transfer.migrate, transfer.receive):
            child.send(number)
        time.sleep(0.3)
    require(transfer.wait(60) == (0, 0), transfer.logs())
    move.summary = transfer.summary("migrate")
    move.verify(transfer, before)
    for child in (transfer.migrate, transfer.receive):
        require("not stopping" in child.log(), f"did not say why it goes on:\n{child.log()}")


@scenario()
def a_broken_off_move_can_be_tried_again(site):
    """Interrupted before the switch, then done: the same source, a new destination QEMU."""
    strike = Strike(site, "Prepared", send("migrate", signal.SIGINT))
    strike.source_goes_on("interrupted")
    move = strike.move
    move.destination.end()
    move.boot_destination()
    move.go()


@scenario()
def a_destination_that_nobody_came_to_can_be_used_again(site):
    """`receive` interrupted while it waits, then started anew on the same QEMU."""
    move = Move(site, MACHINE)
    move.ready()
    first = move.transfer()
    first.start_receive()
    first.receive.send(signal.SIGTERM)
    require(first.receive.wait(10) == 1, f"receive exited with {first.receive.status}")
    move.go()


@scenario()
def destination_qemu_after_the_commit(site):
    """The guest is lost with the host that ran it. `receive` says so; nothing hangs there."""
    move = Move(site, MACHINE)
    move.ready()
    transfer = move.transfer(migrate_args=SLOW)
    transfer.start()
    wait_until(lambda: "the guest runs here" in transfer.receive.out(), 30, "the switch", transfer.receive)
    kill_destination(transfer, move)
    status = transfer.receive.wait(30)
    require(status not in (None, 0, 1), f"receive exited with {status}: {transfer.logs()}")
    one_line(transfer.receive, "receive", "ended")
    require(move.source.status() == "postmigrate", f"the source is {move.source.status()}")


