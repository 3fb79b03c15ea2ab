"""Which processors the engines' threads use while pages move."""

import os
import time

from comparator.processes import Failure
from lib.move import Move, require
from lib.node import Machine
from lib.scenario import scenario
from lib.site import Skip

LOOK_SECONDS = 0.02


def cores_of(text):
    """`0,2-3` as proc(5) writes it."""
    cores = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        cores |= set(range(int(first), int(last or first) + 1))
    return cores


def threads(pid):
    """Name to the processors that the threads of this name may use, as one list for each."""
    seen = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/status", encoding="ascii") as file:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        seen.setdefault(fields["Name"], []).append(cores_of(fields["Cpus_allowed_list"]))
    return seen


def keeps_off(pid, urgent, bulk):
    """The core of faults, and whether all others keep off it. None: there is no such core now."""
    try:
        seen = threads(pid)
    except (FileNotFoundError, ProcessLookupError):  # a thread, or the process, has ended meanwhile
        return None
    taken = [cores for cores in seen.get(urgent, []) if len(cores) == 1]
    others = [cores for name, found in seen.items()
              if name.startswith(bulk) and name != urgent for cores in found]
    if not taken or not others:
        return None
    return taken[0], all(not cores & taken[0] for cores in others)


def ignored(looks):
    """How often a core was still not left at the second look: a change of core takes a moment."""
    pairs = zip(looks, looks[1:])
    return sum(first == second and not second[1] for first, second in pairs if second is not None)


@scenario()
def pushers_keep_off_the_core_of_faults(site):
    """At both ends, as soon as they have looked; a vCPU that changes its core is followed."""
    if len(os.sched_getaffinity(0)) < 2:
        raise Skip("takes two processors")
    move = Move(site, Machine(ram=((448, "tmpfs"),), append="pattern=random touch_mib=400"))
    move.ready()
    before = move.descriptors()
    # One to two seconds for 400 MiB, in which a checking guest of one vCPU faults all the time.
    transfer = move.transfer(migrate_args=["--max-bandwidth", "200MiB", "--streams", "2"])
    transfer.start()
    looks = {"destination": [], "source": []}
    end = time.monotonic() + 60
    while transfer.migrate.status is None and time.monotonic() < end:
        looks["destination"].append(keeps_off(transfer.receive.pid, "fl-fault-0", "fl-push-"))
        looks["source"].append(keeps_off(transfer.migrate.pid, "fl-serve-fault", "fl-serve"))
        time.sleep(LOOK_SECONDS)
    if transfer.wait() != (0, 0):
        raise Failure(transfer.logs())
    transfer.destination.wait_switch()
    move.summary = transfer.summary("migrate")
    for end_of_lane, found in looks.items():
        told = [look for look in found if look is not None]
        print(f"{end_of_lane}: {len(told)} looks of {len(found)}, not left in {ignored(found)}")
        require(len(told) >= 10, f"no core of faults at the {end_of_lane}")
        require(ignored(found) <= 0.2 * len(told),
                f"the {end_of_lane} works on the core of faults: {found}")
    move.verify(transfer, before)
