# SPDX-License-Identifier: Apache-2.0
"""The commands of this package. What they import takes seconds, and a signal has to end them quietly by then, too."""

from __future__ import annotations

import importlib
import os
import signal


def sim_node() -> None:
    """Run the simulator."""
    _start("sim_node")


def policy_node() -> None:
    """Run the policy."""
    _start("policy_node")


def train_node() -> None:
    """Run a training."""
    _start("train_node")


def demo() -> None:
    """Run the demonstration."""
    _start("demo")


def _start(module: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))  # nothing has begun: `process.run` takes over before
    importlib.import_module(f"tigr_ros.{module}").main()
