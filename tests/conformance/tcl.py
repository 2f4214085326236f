"""Runs one unit of Redis's suite against a port and reads from its output how each test went.

A unit is a `runtest` of its own with two limits: how long the suite may be silent, which the suite
itself watches and then names the test that hangs, and how long it may take, for the case that the
suite hangs too. What a unit did not get to is not in its outcome.
"""

import collections
import dataclasses
import os
import re
import signal
import subprocess
import threading
import time

import nodes

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# The lines that begin something; all others continue an error.
BEGINNING = re.compile(
    r"^(?:\[(?P<kind>ok|err|ignore|skip|exception|ready|TIMEOUT|\d+/\d+ done)\]: ?(?P<text>.*)"
    r"|(?P<end> +The End)|(?P<testing>Testing .*)|\S+ => \((?P<state>[A-Z ]+)\) (?P<task>.*))$")
MILLISECONDS = re.compile(r" \((\d+) ms\)$")
IN_FILE = re.compile(r"^(.*) in tests/\S+\.tcl$")


@dataclasses.dataclass
class Outcome:
    """How one unit went."""
    # How often each name passed: some names stand in a unit more than once.
    passed: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    # The name of each test that failed, with what was said.
    failed: list = dataclasses.field(default_factory=list)
    # Names that were not to be run.
    skipped: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    # Why the unit did not come to its end; empty if it did.
    broken: str = ""
    # What is to be said if the node or the proxy did not live until the unit's end.
    ended: str = ""
    seconds: float = 0.0
    # What the slowest test took.
    slowest: float = 0.0
    # What the suite printed.
    text: str = ""


@dataclasses.dataclass
class Limits:
    """How long a unit may be silent, and how long it may take."""
    silent: int
    whole: int


def run(folder, process, unit, options, limits, echo):
    """Runs one unit in a copy of the suite against a process; its outcome."""
    # Without the suite's --verbose, which writes half lines between those that are read here.
    command = [
        "./runtest", "--host", process.host, "--port", str(process.port), "--single", unit,
        "--durable", "--timeout", str(limits.silent),
        "--baseport", str(nodes.free_port()), *options,
    ]
    begin = time.monotonic()
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             stdin=subprocess.DEVNULL, process_group=0)
    overdue = threading.Event()
    watch = threading.Timer(limits.whole, lambda: (overdue.set(), end(child)))
    watch.start()
    lines = []
    for line in child.stdout:
        text = COLOUR.sub("", line.decode(errors="replace").rstrip("\r\n"))
        lines.append(text)
        if echo:
            print(text)
    child.wait()
    watch.cancel()
    # Whatever the unit itself started.
    end(child)
    outcome = read(lines)
    if overdue.is_set():
        outcome.broken = f"not done in {limits.whole} s"
    outcome.seconds = time.monotonic() - begin
    outcome.text = "\n".join(lines)
    return outcome


def end(child):
    """Ends a unit and all that it started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def read(lines):
    """The outcome that the suite's output tells."""
    outcome = Outcome(broken="the suite ended early")
    hung = False
    text = None
    for line in lines:
        found = BEGINNING.match(line)
        if not found:
            if text is not None:
                text.append(line)
            continue
        text = None
        kind = found["kind"] or ""
        if kind == "ok":
            spent = MILLISECONDS.search(found["text"])
            outcome.passed[MILLISECONDS.sub("", found["text"])] += 1
            outcome.slowest = max(outcome.slowest, int(spent[1]) / 1000 if spent else 0)
        elif kind == "err":
            text = [found["text"]]
            outcome.failed.append(text)
        elif kind == "skip":
            outcome.skipped[found["text"]] += 1
        elif kind == "exception":
            text = [found["text"]]
            outcome.broken = text
        elif kind.endswith("done"):
            outcome.broken = ""
        elif kind == "TIMEOUT":
            hung = True
        elif hung and found["task"] is not None:
            outcome.broken = f"hangs in: {found['task']}"
        elif found["end"]:
            break
    if isinstance(outcome.broken, list):
        outcome.broken = "\n".join(outcome.broken)
    outcome.failed = [name_and_error(block) for block in outcome.failed]
    return outcome


def name_and_error(block):
    """The name of a failed test and what was said, from the lines of its error."""
    found = IN_FILE.match(block[0])
    if found:
        text = block[1:]
        # Of an error that is no assertion the suite cuts off a beginning that was not there, and
        # then says it again in full.
        if len(text) > 1 and text[1].endswith(text[0]):
            text = text[1:]
        return found[1], "\n".join(text).strip()
    # An error between two tests has no name.
    return "", "\n".join(block).strip()
