"""The harness of the end-to-end tests. Processes, console and QMP are perf/comparator's."""

import os
import sys

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "perf"))
