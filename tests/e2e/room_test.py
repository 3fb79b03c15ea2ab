"""The destination's tmpfs fills up after the switch: the guest waits, and goes on when there is room."""

import os
import time

from comparator.processes import wait_until

from lib.move import Move, require
from lib.node import Machine
from lib.scenario import scenario

MACHINE = Machine(ram=((96, "tmpfs"),), append="pattern=random")
PIECE = bytes([1]) * (1 << 20)


def fill(path):
    """Writes until the file system has no room left."""
    with open(path, "wb", buffering=0) as file:
        while True:
            try:
                file.write(PIECE)
            except OSError:
                return


@scenario()
def a_tmpfs_that_fills_up_after_the_switch(site):
    move = Move(site, MACHINE)
    folder = site.mount("tmpfs", "size=200m")
    move.boot_destination(ram=((96, folder),))
    move.ready()
    before = move.descriptors()
    transfer = move.transfer(migrate_args=["--max-bandwidth", "20MiB"])
    transfer.start()
    wait_until(lambda: "the guest runs" in transfer.receive.out(), 60, "the switch", transfer.receive)
    filler = os.path.join(folder, "filler")
    fill(filler)
    wait_until(lambda: "no memory left for guest RAM" in transfer.receive.log(), 30, "what is wrong is said")
    time.sleep(1)
    require((transfer.migrate.status, transfer.receive.status) == (None, None),
            f"a full tmpfs ended an engine\n{transfer.logs()}")
    os.unlink(filler)
    require(transfer.wait(60) == (0, 0), transfer.logs())
    move.summary = transfer.summary("migrate")
    move.verify(transfer, before)
