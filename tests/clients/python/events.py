"""The lines of a history (crates/checker/src/event.rs), as the Python programs write them."""

import json
import os
import sys
import threading
import time


class Events:
    def __init__(self, client):
        self.client = client
        self.lock = threading.Lock()

    def write(self, op, **fields):
        line = json.dumps({"t": now(), "client": self.client, "op": op, **fields}, separators=(",", ":"))
        with self.lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def now():
    """CLOCK_MONOTONIC, which all processes of a machine share."""
    return time.monotonic_ns()


def finish():
    """An event that is set when standard input ends: the harness has asked the program to finish."""
    asked = threading.Event()

    def wait():
        while os.read(0, 4096):
            continue
        asked.set()

    threading.Thread(target=wait, daemon=True).start()
    return asked


def pairs(partitions):
    return [[partition.topic, partition.partition] for partition in partitions]


def triples(partitions):
    return [[partition.topic, partition.partition, partition.offset] for partition in partitions]
