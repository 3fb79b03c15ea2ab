#!/usr/bin/env python3
"""The laboratory itself: what goes wrong inside is never taken for success, and nothing stays behind."""

import glob
import os
import signal
import subprocess
import sys
import time
import unittest

HERE = os.path.dirname(os.path.realpath(__file__))


def run(*arguments):
    return subprocess.run([os.path.join(HERE, "run"), *arguments], capture_output=True, text=True, timeout=120,
                          check=False)


# A READ goes through between two machines; then one of them fails.
DESTINATION = """
ib_read_lat -d $LAB_DEVICE -s 4096 -n 100 -F >/dev/null &
until ss -ltn | grep -q :18515; do sleep 0.1; done
tests/lab/meet say listening && wait $! && exit 7
"""
SOURCE = """
tests/lab/meet hear listening && ib_read_lat -d $LAB_DEVICE -s 4096 -n 100 -F $LAB_PEER && sleep 60
"""


class Laboratory(unittest.TestCase):
    def test_has_an_active_rdma_device_and_gives_back_output_and_status(self):
        done = run("--", "sh", "-c", "ibv_devinfo -d $LAB_DEVICE; exit 43")
        self.assertEqual(done.returncode, 43, done.stderr)
        self.assertIn("PORT_ACTIVE", done.stdout)

    def test_leaves_the_host_as_it_was(self):
        mark = os.path.join(HERE, f"written-inside-{os.getpid()}")
        done = run("--", "sh", "-c", f"echo inside >{mark} && cat {mark}")
        self.assertEqual((done.returncode, done.stdout), (0, "inside\n"), done.stderr)
        self.assertFalse(os.path.exists(mark))

    def test_a_crash_of_the_machine_is_a_failure_with_the_consoles_words(self):
        done = run("--", "sh", "-c", "echo begun; echo c >/proc/sysrq-trigger; sleep 60")
        self.assertEqual((done.returncode, done.stdout), (125, "begun\n"))
        self.assertIn("Kernel panic", done.stderr)

    def test_a_result_that_the_machine_did_not_confirm_is_a_failure(self):
        done = run("--", "sh", "-c", "echo 0 >/run/lab/status; echo o >/proc/sysrq-trigger; sleep 60")
        self.assertEqual(done.returncode, 125)
        self.assertIn("no result that fits", done.stderr)

    def test_a_command_that_hangs_is_ended_in_time(self):
        started = time.monotonic()
        done = run("--seconds", "8", "--", "sleep", "100")
        self.assertEqual(done.returncode, 125)
        self.assertIn("not done in 8 s", done.stderr)
        self.assertLess(time.monotonic() - started, 20)

    def test_two_machines_read_from_each_other_and_the_first_failure_counts(self):
        done = subprocess.run([os.path.join(HERE, "pair"), SOURCE, DESTINATION], capture_output=True, text=True,
                              timeout=240, check=False, cwd=os.path.dirname(os.path.dirname(HERE)))
        self.assertEqual(done.returncode, 7, done.stdout + done.stderr)
        self.assertRegex(done.stdout, "source:  4096 +100 ")

    def test_a_test_program_that_reports_nothing_has_failed(self):
        done = subprocess.run([os.path.join(HERE, "gtests"), "/bin/true"], capture_output=True, text=True,
                              timeout=120, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("true left no report", done.stdout)

    def test_a_killed_run_leaves_no_machine(self):
        runner = subprocess.Popen([os.path.join(HERE, "run"), "--", "sleep", "100"], stdout=subprocess.DEVNULL)
        machine = self.wait_for_machine(runner)
        os.kill(runner.pid, signal.SIGKILL)
        runner.wait()
        end = time.monotonic() + 10
        while os.path.exists(f"/proc/{machine}") and time.monotonic() < end:
            time.sleep(0.05)
        self.assertFalse(os.path.exists(f"/proc/{machine}"))
        run("--", "true")  # the next one sweeps up
        self.assertEqual(glob.glob(f"/tmp/faultline-lab-{runner.pid}"), [])

    def wait_for_machine(self, runner):
        """The pid of its QEMU."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with open(f"/proc/{runner.pid}/task/{runner.pid}/children", encoding="ascii") as children:
                for pid in children.read().split():
                    with open(f"/proc/{pid}/comm", encoding="ascii") as comm:
                        if comm.read().startswith("qemu"):
                            return int(pid)
            time.sleep(0.05)
        self.fail("no machine started")
        return None


if __name__ == "__main__":
    sys.exit(unittest.main())
