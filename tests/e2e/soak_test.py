"""A short soak: ten moves in a row of random guests. `soak.py --count 100` is the long one."""

import os

from lib.scenario import add
from soak import soak

add("soak.ten_moves_in_a_row", lambda: soak(10, int.from_bytes(os.urandom(3), "big"), 270),
    seconds=280, site=False)
