"""What both Python suites share: running cases, waiting with a deadline, and the records of the codec exchange."""

import os
import sys
import time
import traceback

BOOTSTRAP, RUN, ROUND = sys.argv[1], sys.argv[2], int(sys.argv[3])
ONLY = sys.argv[4] if len(sys.argv) > 4 else ""

FIRST, LATER, EVERY = (0,), (1, 2), (0, 1, 2)

_cases = []


def case(rounds=FIRST):
    """Marks a function as a case of these rounds; its name, with dashes, is the case's name."""

    def register(function):
        _cases.append((function.__name__.replace("_", "-"), rounds, function))
        return function

    return register


def perform_all():
    """Runs the cases of this round, one line each, and ends the process with the status."""
    failed = False
    for name, rounds, function in _cases:
        if ROUND not in rounds or ONLY not in name:
            continue
        begun = time.monotonic()
        try:
            function()
            print(f"ok {name} ({time.monotonic() - begun:.1f} s)", flush=True)
        except Exception as reason:
            failed = True
            text = " ".join(f"{type(reason).__name__}: {reason}".split())
            print(f"FAIL {name}: {text[:400]}", flush=True)
            traceback.print_exc(file=sys.stdout)
    # Clients leave threads behind; none of them has anything left to say.
    sys.stdout.flush()
    os._exit(1 if failed else 0)


def expect(true, message):
    if not true:
        raise AssertionError(message)


def equal(found, wanted, what):
    if found != wanted:
        raise AssertionError(f"{what}: {str(found)[:150]}, expected {str(wanted)[:150]}")


def eventually(question, seconds=30):
    """Asks until the answer is None; fails with the last answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer is None:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain: {answer}")
        time.sleep(0.02)


def codec_key(i):
    return b"k%d" % i


def codec_value(writer, codec, i):
    return (f"{writer}/{codec}/{i}/" + "all work and no play " * i).encode()
