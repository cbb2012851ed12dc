# SPDX-License-Identifier: Apache-2.0
"""What replay and the encoding of its episodes need of memory: a table and a picture.

    python benchmarks/memory.py --output benchmarks/results

Replay: bytes allocated by a `ReplayBuffer` filled with episodes of each environment, with and without what relabelling
needs. View: bytes of a `TransitionView`, and the largest array that its encoder works on at a time. Neither depends on
the number of tasks: an episode carries its own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import envs
from tigr_core.config import ModelConfig
from tigr_core.encoder import windows_of
from tigr_core.model import TaskInferenceModel
from tigr_core.replay import ReplayBuffer
from tigr_core.rollout import Episodes
from tigr_core.sac_learner import EPISODES_ENCODED_AT_ONCE, TransitionView

HALF_CHEETAH = "tigr/HalfCheetahEight-v0"
LIMIT = 2.5e9  # bytes, for 10 million transitions
GROWTH = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
CONTEXTS = (16, 32, 64, 128, 200)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.float32)


def blank_episodes(env_id: str, count: int) -> Episodes:
    """Return episodes of zeros with an environment's sizes; its arrays take no memory before they are written."""
    env = envs.make_vector(env_id)
    steps, spec, model = env.episode_steps, env.spec_robot, ModelConfig()
    scalar = zeros(count, steps)
    widths = {
        "obs": (steps + 1, spec.obs_dim),
        "action": (steps, spec.action_dim),
        "parameter": (steps, env.task_set.parameter_dim),
        "quantities": (steps, sum(env.quantity_dims.values())),
        "mixture_weights": (steps + 1, model.num_components),
        "latent": (steps + 1, model.latent_dim),
    }
    return Episodes(
        length=np.full(count, steps),
        terminated=np.zeros((count, steps), dtype=bool),
        base_task=np.zeros((count, steps), dtype=np.int64),
        reward=scalar,
        tracked_value=scalar,
        tracked_target=scalar,
        tracking_error=scalar,
        **{name: zeros(count, *shape) for name, shape in widths.items()},
    )


def filled(env_id: str, transitions: int, *, relabelled: bool) -> ReplayBuffer:
    """Return a buffer of a capacity, full."""
    steps = envs.make_vector(env_id).episode_steps
    replay = ReplayBuffer(transitions, steps, relabelled=relabelled)
    replay.add(blank_episodes(env_id, transitions // steps), np.random.default_rng(0))
    return replay


def encoded_bytes(context: str, length: int) -> int:
    """Return bytes of the contexts of half-cheetah episodes that the encoder reads at a time."""
    env = envs.make_vector(HALF_CHEETAH)
    transition_dim = 2 * env.spec_robot.obs_dim + env.spec_robot.action_dim + 1
    x = torch.zeros(EPISODES_ENCODED_AT_ONCE[context], env.episode_steps, transition_dim)
    read = x if context == "stream" else windows_of(x, length)
    return 4 * read.numel()


def view_bytes() -> float:
    """Return bytes a transition of the view that SAC reads."""
    replay = filled(HALF_CHEETAH, 4000, relabelled=False)
    model = TaskInferenceModel(ModelConfig(), replay.obs.shape[2], replay.action.shape[2])
    view = TransitionView(model, replay, torch.arange(replay.num_episodes))
    return sum(t.numel() * t.element_size() for t in (view.rows, view.valid)) / replay.num_transitions


def picture(replays: dict[str, list[float]], windows: list[int], stream: int, path: Path) -> None:
    """Draw the growth of replay and of what the encoder works on."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, sizes in replays.items():
        left.plot(GROWTH, np.array(sizes) / 1e9, marker="o", markersize=3, label=name)
    left.axhline(LIMIT / 1e9, color="0.5", linestyle=":", label="limit for 10 million transitions")
    left.set(xscale="log", yscale="log", xlabel="transitions stored", ylabel="replay, GB")
    right.plot(CONTEXTS, np.array(windows) / 1e6, marker="o", label="window: 8 episodes at a time")
    right.axhline(stream / 1e6, color="C1", label="stream: 128 episodes at a time, any length of context")
    right.set(xlabel="context length, transitions", ylabel="read by the encoder at a time, MB", ylim=(0, None))
    for axes in (left, right):
        axes.legend(fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print the table and write it and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    output = parser.parse_args().output
    table = Table("environment", "relabelling", "bytes a transition", "10 million transitions, GB")
    lines = ["environment,relabelling,bytes_a_transition,gigabytes_for_10_million"]
    replays: dict[str, list[float]] = {}
    for env_id in (env_id for env_id, definition in envs.ENVIRONMENTS.items() if not definition.extra):
        for relabelled in (False, True):
            replay = filled(env_id, 100_000, relabelled=relabelled)
            each = replay.num_bytes / replay.num_transitions
            cells = [env_id, "yes" if relabelled else "no", f"{each:.1f}", f"{each / 100:.2f}"]
            table.add_row(*cells)
            lines.append(",".join(cells))
    for relabelled in (False, True):
        name = "half-cheetah, eight base tasks" + (", relabelled" if relabelled else "")
        replays[name] = [float(filled(HALF_CHEETAH, size, relabelled=relabelled).num_bytes) for size in GROWTH]
    console = Console()
    console.print(table)
    console.print(f"view: {view_bytes():.1f} bytes a transition")
    (output / "memory.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    windows = [encoded_bytes("window", length) for length in CONTEXTS]
    picture(replays, windows, encoded_bytes("stream", 1), output / "memory.png")


if __name__ == "__main__":
    main()
