"""Trackers with a fault, for tests/tracking/test_apart.py: they are made again in another process."""

import logging
import os
import time

from vssl.tracking.metrics import Tracker


class Noting(Tracker):
    """Notes its calls in a file, and fails as it is told to by the names of stages."""

    def __init__(self, file):
        self.file, self.left = file, []

    def begin(self, launch):
        self.note("begin", launch.name)

    def claim(self, folder):
        self.note("claim", folder)

    def mirror(self, stage, status):
        self.note("mirror", stage.name, status)
        if stage.name == "hangs":
            time.sleep(600)
        if stage.name == "dies":
            os._exit(7)
        if stage.name == "says":
            logging.getLogger("vssl.tracking.odd").warning("tracking: down; training goes on")
        if stage.name == "raises":
            self.left.append(str(stage))
            raise KeyError("a driver's own error\nwith a second line")
        print("chatter of a library")

    def end(self, ok):
        self.note("end", ok)

    def missing(self):
        return self.left

    def note(self, *words):
        with open(self.file, "a") as file:
            print(*words, file=file)


class Unmakeable(Noting):
    """Cannot be made in the other process."""

    def __setstate__(self, state):
        raise ImportError("no driver")
