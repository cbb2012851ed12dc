# SPDX-License-Identifier: Apache-2.0
"""The commands of this package. What they import takes seconds, and a signal has to end them quietly by then, too."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def sim_node() -> None:
    """Run the simulator."""
    _start("sim_node")


def policy_node() -> None:
    """Run the policy."""
    _start("policy_node")


def train_node() -> None:
    """Run a training."""
    _start("train_node")


def view_node() -> None:
    """Show a robot in rviz."""
    _start("view_node")


def record_node() -> None:
    """Record robot, policy and simulator."""
    _start("record_node")


def record() -> None:
    """Record robot, policy and simulator into the file that is named, by hand."""
    sys.argv[1:] = record_arguments(sys.argv[1:])
    _start("record_node")


def record_arguments(given: list[str]) -> list[str]:
    """Return ROS arguments for ``tigr-record [FILE] [--policy NAME] [--ros-args ...]``."""
    plain, ros = (
        (given[: given.index("--ros-args")], given[given.index("--ros-args") + 1 :])
        if "--ros-args" in given
        else (given, [])
    )
    parser = argparse.ArgumentParser(
        prog="tigr-record", description="Record robot, policy and simulator into an MCAP file."
    )
    parser.add_argument("file", nargs="?", help="to write, .mcap; default: recording-<date>-<time>.mcap")
    parser.add_argument("--policy", default="policy_node", help="name of the policy node; default: %(default)s")
    options = parser.parse_args(plain)
    output = ["-p", f"output:={options.file}"] if options.file else []
    return ["--ros-args", *output, "-p", f"policy:={options.policy}", *ros]


def demo() -> None:
    """Run the demonstration."""
    _start("demo")


@contextmanager
def signals_wait() -> Iterator[None]:
    """Keep signals waiting, also for commands that are started meanwhile: until they know what to do about them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _start(module: str) -> None:
    for number in SIGNALS:
        signal.signal(number, lambda *_: os._exit(0))  # nothing has begun: `process.run` takes over before
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    # Nodes draw nothing; to see whether it could, MuJoCo would start another Python, which does not end quietly.
    os.environ.setdefault("MUJOCO_GL", "disable")
    importlib.import_module(f"tigr_ros.{module}").main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # all is closed; to take PyTorch and DDS apart costs a busy machine a second or more
