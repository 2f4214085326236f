"""Runs the suite's files, each by a pg_regress of its own, in the order of the suite's schedule.

One at a time, because the neighbours are the only ones who should disturb. A file has a time limit,
so that one that hangs is one that fails.
"""

import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import time

import nodes

# The slowest file takes some 15 s, and 80 s in the debug profile on a busy machine.
SECONDS_MAX = 240

# What the node's sessions do, and what they wait for, while a file hangs.
SESSIONS = """
    select pid, datname, application_name, state, wait_event_type, wait_event,
        now() - state_change as since, pg_blocking_pids(pid) as blocked_by, left(query, 120) as query
    from pg_stat_activity where backend_type = 'client backend' order by pid
"""


@dataclasses.dataclass
class Outcome:
    """How one file went."""
    passed: bool
    seconds: float
    differences: str


@dataclasses.dataclass
class Suite:
    """A folder of files and the database that they run in."""
    folder: pathlib.Path
    database: str
    files: list


def suites(node):
    """Core and PL/pgSQL."""
    core = node.folder / "core"
    schedule = (core / "parallel_schedule").read_text()
    lines = re.findall(r"^test:(.*)$", schedule, re.MULTILINE)
    plpgsql = node.folder / "plpgsql"
    makefile = (plpgsql / "Makefile").read_text().replace("\\\n", " ")
    files = re.search(r"^REGRESS = (.*)$", makefile, re.MULTILINE)[1].split()
    return [
        Suite(core, "regression", [name for line in lines for name in line.split()]),
        Suite(plpgsql, "pl_regression", files),
    ]


def run(node, port, neighbours, arguments):
    """Runs the files; their outcomes by name."""
    chosen = [name for name in arguments.only.split(",") if name]
    outcomes = {}
    for suite in suites(node):
        wanted = [name for name in suite.files if not chosen or name in chosen]
        if not wanted:
            continue
        last = suite.files.index(wanted[-1])
        beside = nodes.neighbours(port, suite.database, neighbours) if neighbours else nodes.Nothing()
        with beside:
            for name in suite.files[:last + 1]:
                if name not in wanted:
                    # What later files build on.
                    run_file(node, suite, name, node.port)
                    continue
                outcomes[name] = run_file(node, suite, name, port)
                report(name, outcomes[name], arguments.show)
    return outcomes


def run_file(node, suite, name, port):
    """Runs one file against a port."""
    results = suite.folder / "results"
    command = [
        *nodes.UNPRIVILEGED, node.folder / "core/pg_regress", "--use-existing",
        f"--bindir={node.bin}", f"--inputdir={suite.folder}", f"--outputdir={suite.folder}",
        f"--dlpath={node.folder}/core", "--max-concurrent-tests=1", "--host=127.0.0.1",
        f"--port={port}", "--user=postgres", f"--dbname={suite.database}", name,
    ]
    begin = time.monotonic()
    process = subprocess.Popen(command, cwd=suite.folder, stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                               env=environment(), process_group=0)
    try:
        output, _ = process.communicate(timeout=SECONDS_MAX)
        failed = process.returncode != 0
    except subprocess.TimeoutExpired:
        sessions = node.psql("postgres", SESSIONS)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        got = results / f"{name}.out"
        tail = got.read_text(errors="replace")[-1500:] if got.exists() else ""
        text = f"not done in {SECONDS_MAX} s; the node's sessions:\n{sessions}\nafter\n{tail}"
        return Outcome(False, time.monotonic() - begin, text)
    seconds = time.monotonic() - begin
    if not failed:
        return Outcome(True, seconds, "")
    differences = suite.folder / "regression.diffs"
    text = differences.read_text(errors="replace") if differences.exists() else output
    return Outcome(False, seconds, text)


def environment():
    """No variable of libpq's but those that pg_regress sets."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_MESSAGES": "C"}


def report(name, outcome, show):
    """A line for each file, so that somebody who waits sees something."""
    print(f"{name:<28}{'ok' if outcome.passed else 'FAILED':<8}{outcome.seconds:6.1f} s")
    if not outcome.passed:
        keep_differences(name, outcome)
        if show:
            print(outcome.differences[:6000])


def keep_differences(name, outcome):
    """Keeps the differences of a failing file for whoever looks at it later."""
    folder = pathlib.Path(__file__).resolve().parent.parent / ".cache/conformance"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.diffs").write_text(outcome.differences)
