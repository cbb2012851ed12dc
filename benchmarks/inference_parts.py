# SPDX-License-Identifier: Apache-2.0
"""What each part of the training of inference is worth: encoders learned from scratch without it, on stored episodes.

    python benchmarks/inference_parts.py output/HalfCheetahEight-v0/RUN

Reads the replay data of a finished run, so that all variants learn from the very same episodes, and policy and data
change nothing. On sequences of its validation episodes, whose task changes on the way, it measures the share of right
components so many transitions after a change, and the errors of the decoder; benchmarks/results/inference_parts.csv is
written anew, row by row as they are found.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tigr_core import analysis, evaluation
from tigr_core.checkpoint import load_checkpoint
from tigr_core.config import override_config
from tigr_core.errors import UserError
from tigr_core.inference_learner import InferenceLearner
from tigr_core.model import TaskInferenceModel
from tigr_core.random_shift import RandomShift
from tigr_core.stored_run import StoredRun
from tigr_core.trainer import CHECKPOINT

VARIANTS = {
    "all parts": [],
    "no KL term": ["inference.kl_weight=0.0"],
    "no separation": ["inference.separation_weight=0.0"],
    "no sparsity": ["inference.sparsity_weight=0.0"],
    "no supervision": ["inference.supervision_weight=0.0"],
    "no anchor": ["inference.anchor_weight=0.0"],
    "neither supervision nor anchor": ["inference.supervision_weight=0.0", "inference.anchor_weight=0.0"],
    "no change on the way": ["inference.segment_length=100000"],
    "no shifts": ["inference.shifted=false"],
    "no changes of reward and effort": ["model.reward_changes=false"],
    "twice the sequences, half the contexts of each": ["inference.targets_per_sequence=16"],
    "learning rates of 4e-3": ["inference.encoder_learning_rate=4e-3", "inference.decoder_learning_rate=4e-3"],
}
STEPS_AFTER = (1, 2, 5, 10, 20, 50)
SEQUENCES, SEQUENCE_STEPS, SEGMENT_STEPS = 400, 200, 100  # that are measured
COLUMNS = ("variant", "seed", "steps", *(f"accuracy/{n}" for n in STEPS_AFTER), "state", "reward")


class Experiment:
    """A variant of a run's inference, with weights that have not learned anything yet."""

    def __init__(self, run: StoredRun, normaliser: dict[str, torch.Tensor], overrides: list[str], seed: int) -> None:
        config = override_config(run.config, overrides)
        tasks = evaluation.tasks_of(config.env)
        robot, _ = run.quantities()
        torch.manual_seed(seed)
        self.model, self.replay = TaskInferenceModel(config.model, robot.obs_dim, robot.action_dim), run.replay
        self.model.normaliser.load_state_dict(normaliser)
        self.learner = InferenceLearner(
            self.model,
            config.inference,
            tasks,
            rng=np.random.default_rng(seed),
            generator=torch.Generator().manual_seed(seed),
            shift=RandomShift(self.model, config.sac, tasks) if config.inference.shifted else None,
            fast=config.training.fast,
        )
        self.num_tasks = len(tasks)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Return the columns after ``steps``."""
        weights, label, age = self._estimates(validation=True)
        known, known_label, _ = self._estimates(validation=False)
        components = known.shape[-1]
        names = analysis.heaviest_base_task(known.reshape(-1, components), known_label.ravel(), self.num_tasks)
        right = names[weights.argmax(axis=-1)] == label
        seen = {n: right[age == n] for n in STEPS_AFTER}  # none where episodes are shorter
        shares = {f"accuracy/{n}": float(among.mean()) if among.size else math.nan for n, among in seen.items()}
        errors = [self.learner.loss(self.replay, validation=True)[1] for _ in range(8)]
        return shares | {name: float(np.mean([error[name] for error in errors])) for name in ("state", "reward")}

    def _estimates(self, *, validation: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return mixture weights ``[B, T, K]``, true base task, and transitions since the change, ``[B, T]`` each."""
        rng = np.random.default_rng(0)
        places = self.replay.draw_sequences(SEQUENCES, SEQUENCE_STEPS, SEGMENT_STEPS, rng, validation=validation)
        context = self.replay.context(*places)
        x = self.model.normaliser.sequence(context.obs, context.action, context.reward, context.next_obs)
        weights = self.model.encoder.encode_episodes(x).weights[:, 1:]
        age = 1 + torch.arange(SEQUENCE_STEPS) - context.segment_start
        return weights.numpy(), context.base_task.numpy(), age.numpy()


def main(arguments: Sequence[str] | None = None) -> None:
    """Learn and measure every variant, and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "inference_parts.csv")
    options = parser.parse_args(arguments)
    try:
        run = StoredRun.read(options.run)
    except UserError as error:
        sys.exit(str(error))
    state = load_checkpoint(options.run / CHECKPOINT)["model"]
    prefix = "normaliser."
    normaliser = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    with options.output.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        print(*COLUMNS)
        for seed in options.seeds:
            for variant in options.variants:
                experiment = Experiment(run, normaliser, VARIANTS[variant], seed)
                for _ in range(options.steps):
                    experiment.learner.step(experiment.replay)
                cells = [variant, str(seed), str(options.steps)]
                cells += [f"{value:.4g}" for value in experiment.measure().values()]
                writer.writerow(cells)
                file.flush()
                print(*cells, flush=True)


if __name__ == "__main__":
    main()
