"""The link breaks: at every message before the commit, and in every way after it."""

import signal
import time

from comparator.processes import wait_until

from lib.move import Broken, Move, require
from lib.node import Machine
from lib.proxy import Proxy
from lib.refusal import clean, one_line, source_runs_on
from lib.scenario import add, scenario

MACHINE = Machine(ram=((96, "tmpfs"),), append="pattern=random")
MESSAGES_MAX = 80
CUT_SECONDS = 25
EVERY = ("Preamble", "PreambleReply", "Hello", "Welcome", "Extents", "ExtentsDone", "FirstPages",
         "EarlyPages", "EarlyDone", "Prepared", "DeviceState", "Stopped", "Saved", "Unchanged", "Loaded")
# Slow enough that pages are missing for seconds after the commit.
SLOW = ["--max-bandwidth", "30MiB"]


def message_before_hello(proxy):
    return proxy.cuts[0].name in ("Preamble", "PreambleReply", "Hello") and proxy.cuts[0].lane == "control"


def loaded_comes_last(proxy):
    """Where devices load quickly, Saved and Unchanged would come after the commit: Loaded waits for them."""

    def hold(message, data):
        end = time.monotonic() + 5
        while message.name == "Loaded" and "Unchanged" not in proxy.names() and time.monotonic() < end:
            time.sleep(0.001)
        return data

    return hold


def without(name):
    """For a proxy's `mangle`: no message of that name passes."""
    return lambda message, data: b"" if message.name == name else data


def attempt(move, here):
    """One try whose connections are all closed instead of the first message for which here(message);
    later ones pass. Returns that message; None if the move committed before."""
    destination = move.boot_destination()
    before = move.descriptors()
    proxy = Proxy(move.site)
    proxy.mangle = loaded_comes_last(proxy)
    proxy.decide = lambda m: not proxy.cuts and "Go" not in proxy.names() and here(m)
    transfer = move.transfer(via=proxy.between)
    transfer.start()
    wait_until(lambda: proxy.cuts or "Go" in proxy.names() or transfer.migrate.status is not None, 60, "the cut")
    require(proxy.cuts or "Go" in proxy.names(), f"ended without a cut or a commit\n{transfer.logs()}")
    if not proxy.cuts:
        return None
    what = f"cut instead of {proxy.cuts[0]}"
    status = transfer.migrate.wait(CUT_SECONDS)
    if message_before_hello(proxy):
        # Nobody had said who they are: `receive` waits on, until it is told not to.
        require(transfer.receive.wait(1) is None, f"{what}: receive gave up:\n{transfer.logs()}")
        transfer.receive.send(signal.SIGINT)
    codes = status, transfer.receive.wait(CUT_SECONDS)
    if codes == (0, 0) and "Loaded" in proxy.names():
        return None  # the source had committed when it noticed
    if codes != (1, 1):
        raise Broken(f"{what}: migrate exited with {codes[0]}, receive with {codes[1]}\n{transfer.logs()}")
    one_line(transfer.migrate, f"migrate, {what}")
    one_line(transfer.receive, f"receive, {what}")
    source_runs_on(move, what)
    clean(move, before, what, "Prepared" not in proxy.names())
    require(not destination.console.lines, f"{what}: the guest ran there: {destination.console.lines}")
    destination.end()
    proxy.close()
    return proxy.cuts[0]


def cut_at(qemu, names, step):
    """At the first message of each name; then at every `step`th message until the move commits."""

    def body(site):
        move = Move(site, Machine(qemu=qemu, ram=MACHINE.ram, append=MACHINE.append))
        move.ready()
        move.destination.end()
        done = [attempt(move, lambda m, name=name: m.name == name) for name in names]
        require(None not in done, f"some message never came: {list(map(str, done))}")
        for number in range(2, MESSAGES_MAX if step else 0, step or 1):
            message = attempt(move, lambda m, number=number: m.number == number)
            if message is None:
                break
            done.append(message)
        print(f"{len(done)} cuts: {', '.join(map(str, done))}")

    return body


def the_same_destination_takes_the_next_source(kind):
    """A source that ends while room is made leaves the destination as it was: empty, and waiting."""

    def body(site):
        move = Move(site, Machine(ram=((96, kind),), append="pattern=random"))
        move.ready()
        proxy = Proxy(site)
        # So that the destination never is ready.
        proxy.mangle = without("ExtentsDone")
        transfer = move.transfer(via=proxy.between)
        transfer.start()
        wait_until(lambda: move.destination.ram_bytes() > 0, 30, "early pages", transfer.migrate)
        transfer.migrate.send(signal.SIGINT)
        codes = transfer.migrate.wait(CUT_SECONDS), transfer.receive.wait(CUT_SECONDS)
        require(codes == (1, 1) and "EarlyPages" in proxy.names(), f"{codes}\n{transfer.logs()}")
        held = move.destination.ram_bytes()
        require(held == 0, f"the destination's file still holds {held} bytes")
        move.go()

    return body


for kind in ("tmpfs", "hugetmpfs"):
    add(f"cut.before_the_destination_is_ready_and_again_on_{kind}", the_same_destination_takes_the_next_source(kind))
add("cut.at_every_kind_of_message_before_the_commit_on_qemu_7.2", cut_at("7.2", EVERY, 0), seconds=200)
add("cut.at_every_kind_of_message_before_the_commit_on_qemu_10.0", cut_at("10.0", EVERY, 0), seconds=200)
add("cut.at_every_second_message_before_the_commit", cut_at("7.2", (), 2), seconds=280)


class Survivor:
    """A move over a proxy that loses connections after the commit; it completes anyway."""

    def __init__(self, site, decide, only=None, pages=False, migrate_args=SLOW, qemu="7.2"):
        self.move = Move(site, Machine(qemu=qemu, ram=MACHINE.ram, append=MACHINE.append))
        self.proxy = Proxy(site, decide, only, pages)
        self.options = {"via": self.proxy.between, "migrate_args": migrate_args}

    def completes(self, retries_min=1):
        summary = self.move.go(**self.options)
        require(self.proxy.cuts, "nothing was cut")
        require(summary["retries"] >= retries_min, f"{summary['retries']} retries after {self.proxy.cuts}")
        print(f"cut: {', '.join(map(str, self.proxy.cuts))}; {summary['retries']:.0f} retries, "
              f"blackout {summary['blackout_ms']:.0f} ms, total {summary['total_ms']:.0f} ms")


def once(name, occurrence=1):
    """Cuts in place of the n-th message of that name."""
    left = [occurrence]

    def decide(message):
        left[0] -= message.name == name
        return message.name == name and left[0] == 0

    return decide


def survives(name, occurrence=1, **options):
    return lambda site: Survivor(site, once(name, occurrence), **options).completes()


add("cut.all_lanes_instead_of_go", survives("Go"))
add("cut.all_lanes_instead_of_started", survives("Started"))
add("cut.all_lanes_amid_the_pages", survives("MiB10", pages=True))
add("cut.all_lanes_amid_the_pages_on_qemu_10.0", survives("MiB10", pages=True, qemu="10.0"))
add("cut.the_bulk_lane_amid_the_pages", survives("MiB10", pages=True, only="bulk"))
add("cut.the_control_lane_amid_the_pages", survives("MiB10", pages=True, only="control"))
add("cut.the_urgent_lane_amid_the_pages", survives("MiB5", pages=True, only="urgent"))
add("cut.all_lanes_instead_of_the_hole_map", survives("Holes"))
add("cut.all_lanes_instead_of_the_end_of_the_hole_map", survives("HolesDone"))
add("cut.all_lanes_instead_of_released", survives("Released"))


@scenario()
def without_saved_the_bulk_lanes_open_all_the_same(site):
    """At the latest when the guest runs: nothing asks for most of its pages."""
    move, proxy = Move(site, MACHINE), Proxy(site)
    proxy.mangle = without("Saved")
    move.go(via=proxy.between)
    came = proxy.names().count("Saved")
    require(came == 1, f"Saved came {came} times")


@scenario()
def a_lost_farewell_costs_numbers_only(site):
    """`migrate` has ended: nobody dials again, and `receive` ends by itself."""
    survivor = Survivor(site, once("Farewell"), migrate_args=[])
    survivor.move.ready()
    transfer = survivor.move.transfer(**survivor.options)
    transfer.start()
    codes = transfer.wait(60)
    require(codes == (0, 0), f"exit codes {codes}\n{transfer.logs()}")
    require(survivor.proxy.cuts, "nothing was cut")
    require(not survivor.move.destination.check_guest(), "the guest found corruption")


@scenario()
def a_link_that_breaks_again_and_again(site):
    """After the commit, every 2 MiB on any page lane, all connections."""

    def two_mib_after_go(message):
        return (message.name.startswith("MiB") and int(message.name[3:]) >= 2
                and "Go" in survivor.proxy.names())

    survivor = Survivor(site, two_mib_after_go, pages=True, migrate_args=[])
    survivor.completes(retries_min=5)


@scenario()
def no_link_for_five_seconds_after_the_commit(site):
    survivor = Survivor(site, once("MiB5"), pages=True)
    move, proxy = survivor.move, survivor.proxy
    decide = proxy.decide

    def cut_and_refuse(message):
        proxy.refusing = proxy.refusing or decide(message)
        return proxy.refusing and not proxy.cuts

    proxy.decide = cut_and_refuse
    move.ready()
    before = move.descriptors()
    transfer = move.transfer(**survivor.options)
    transfer.start()
    wait_until(lambda: proxy.cuts, 60, "the cut")
    proxy.cut()
    time.sleep(5)
    require((transfer.migrate.status, transfer.receive.status) == (None, None),
            f"a lost link ended an engine\n{transfer.logs()}")
    proxy.refusing = False
    require(transfer.wait(60) == (0, 0), transfer.logs())
    move.summary = transfer.summary("migrate")
    move.verify(transfer, before)
    require(move.summary["total_ms"] > 5000, f"the link was not away: {move.summary}")
