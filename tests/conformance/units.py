"""Runs units of Redis's suite on either side, each in a copy of the suite with a node of its own.

What passes direct does not change, so whole direct runs are kept in the cache folder, by version,
build and options.
"""

import collections
import dataclasses
import json
import os
import pathlib
import re
import shutil
import threading

import caches
import tcl
import tclsource

# The full output of each unit, for whoever looks at it later.
KEPT = pathlib.Path(__file__).resolve().parent.parent / ".cache/conformance/redis"

# What --quick leaves out: each takes 5 s or more by comparing what the node computes with what the
# suite computes, or by waiting for the node, and does so with commands that other tests cover.
LONG = ["/^Fuzzing dense/sparse encoding", "/^XRANGE fuzzing", "/^XDEL fuzz test",
        "/^SCAN regression test for issue #4906", "/^ZDIFF fuzzing", "/^SDIFF fuzzing",
        "/^MIGRATE cached connections are released", "/^Stress tester for #3343-alike bugs",
        "/^GEOSEARCH fuzzy test", "/^PFCOUNT multiple-keys merge returns cardinality of union"]

# The slowest test takes some 50 s on a busy machine.
DIRECT_LIMITS = tcl.Limits(silent=180, whole=600)


@dataclasses.dataclass
class Compared:
    """A unit's outcomes on both sides."""
    unit: str
    direct: tcl.Outcome
    # Nothing where only the direct run was asked for, or nothing passes direct.
    proxied: tcl.Outcome | None

    def lost(self):
        """How often each name passed direct and not through the proxy."""
        if not self.proxied:
            return collections.Counter()
        return self.direct.passed - self.proxied.passed - self.proxied.skipped

    def aborted(self):
        """How many tests the proxied run did not get to."""
        failed = collections.Counter(name for name, _ in self.proxied.failed)
        return (self.lost() - failed).total()


class Run:
    """What all units of one command have in common."""

    def __init__(self, arguments, suite, folder):
        self.arguments = arguments
        self.suite = suite
        self.folder = folder
        self.printing = threading.Lock()

    def compare(self, unit):
        """Runs a unit on both sides."""
        direct = self.direct(unit)
        proxied = None
        if direct.passed and not self.arguments.direct_only:
            proxied = self.side(unit, True, proxied_limits(direct))
        return Compared(unit, direct, proxied)

    def direct(self, unit):
        """What passes direct: as kept, or now."""
        kept = None if self.arguments.direct_only else self.kept(unit)
        if kept:
            return kept
        outcome = self.side(unit, False, DIRECT_LIMITS)
        if outcome.failed or outcome.broken:
            # Somebody else's burden on the machine may upset a test that measures time.
            why = outcome.broken or ": ".join(outcome.failed[0])
            self.say(f"{unit} fails direct, and runs once more: {why[:200]}")
            outcome = self.side(unit, False, DIRECT_LIMITS)
        if not outcome.failed and not outcome.broken and not self.arguments.test:
            keep(self.file(unit, self.arguments.quick), outcome)
        return outcome

    def kept(self, unit):
        """The kept outcome of a unit's direct run; that of a whole run serves a quick one too."""
        for quick in (False, True)[:1 + self.arguments.quick]:
            file = self.file(unit, quick)
            if file.exists():
                stored = json.loads(file.read_text())
                return tcl.Outcome(passed=collections.Counter(stored.pop("passed")), **stored)
        return None

    def last_seconds(self, unit):
        """What a unit took direct the last time; nothing if that is not known."""
        kept = self.kept(unit)
        return kept.seconds if kept else 0

    def side(self, unit, proxied, limits):
        """Runs a unit on one side; a process that does not start or ends is what broke it."""
        name = f"{unit.replace('/', '.')}.{'proxied' if proxied else 'direct'}"
        copy = self.folder / name
        try:
            with caches.node(self.folder) as node:
                peer = caches.proxy(self.arguments, self.folder, node) if proxied else node
                with peer:
                    by_peer = proxied and self.arguments.peer
                    self.suite.copy(copy, node.port if by_peer else None)
                    self.announce(unit, node, peer)
                    outcome = tcl.run(copy, peer, unit, self.options(), limits,
                                      self.arguments.verbose)
                    outcome.ended = "\n".join(dict.fromkeys(
                        text for text in (node.ended(), peer.ended()) if text))
                    log = peer.output()
        except SystemExit as why:
            outcome, log = tcl.Outcome(ended=str(why)), ""
        shutil.rmtree(copy, ignore_errors=True)
        KEPT.mkdir(parents=True, exist_ok=True)
        (KEPT / f"{name}.txt").write_text(
            f"{outcome.text}\n== broken: {outcome.broken or 'no'}"
            f"\n== ended: {outcome.ended or 'no'}\n== log of whom the suite talked to\n{log}")
        return outcome

    def announce(self, unit, node, peer):
        """Says where everybody is, for whoever wants to look while a unit runs."""
        if self.arguments.verbose:
            self.say(f"== {unit}: the node's port is {node.port}, the suite talks to {peer.port}")

    def options(self):
        """Options of the suite, the same on both sides."""
        words = self.common_options()
        for name in LONG if self.arguments.quick else []:
            words += ["--skiptest", name]
        for name in self.arguments.test:
            words += ["--only", name]
        return words

    def common_options(self):
        """The options that decide what passes."""
        words = ["--tags", self.arguments.tags]
        words += ["--singledb"] * self.arguments.singledb
        return words + ["--force-resp3"] * self.arguments.resp3

    def file(self, unit, quick):
        """Where the outcome of a unit's direct run is kept."""
        options = re.sub(r"[^a-z0-9]+", "-", " ".join(self.common_options()).lower())
        name = f"redis-{self.suite.version}-{self.suite.build}{options}{'-quick' * quick}"
        return tclsource.CACHE / "redis-direct" / name / f"{unit.replace('/', '.')}.json"

    def say(self, text):
        """Prints from whichever thread."""
        with self.printing:
            print(text)


def proxied_limits(direct):
    """How long a unit may take through a proxy that answers: some times what it takes direct.

    More than that on a busy machine, where each of many thousand round trips waits for its turn on
    a core four times as often as direct, and what is slow would be taken for what hangs.
    """
    busy = max(1, 2 * os.getloadavg()[0] / os.cpu_count())
    return tcl.Limits(silent=int(busy * (30 + 4 * direct.slowest)),
                      whole=int(busy * (60 + 5 * direct.seconds)))


def keep(file, outcome):
    """Keeps the outcome of a whole direct run."""
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_suffix(f".{os.getpid()}")
    half.write_text(json.dumps({"passed": outcome.passed, "seconds": outcome.seconds,
                                "slowest": outcome.slowest}))
    # Renamed last, so that nobody reads half of it.
    half.rename(file)
