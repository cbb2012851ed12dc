# SPDX-License-Identifier: Apache-2.0
"""The networks of TIGR's reference implementation, stated again with its names, and a run folder as it leaves one.

Independent of ours, so that imported weights can be compared: plain modules, NumPy for the normalisation of acting.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Stats = dict[str, dict[str, list[float]]]


class Perceptron(nn.Module):
    """Layers fc0, fc1, ... with ReLU, then last_fc; or fcs.0, fcs.1, ... as later versions name them."""

    def __init__(self, inputs: int, hidden: list[int], outputs: int, *, numbered: bool = False) -> None:
        super().__init__()
        sizes = [inputs, *hidden]
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        if numbered:
            self.fcs = nn.ModuleList(layers)
        else:
            for index, layer in enumerate(layers):
                setattr(self, f"fc{index}", layer)
        self._hidden = tuple(layers)  # a tuple: these are registered by their names alone
        self.last_fc = nn.Linear(sizes[-1], outputs)

    def features(self, x: Tensor) -> Tensor:
        for layer in self._hidden:
            x = torch.relu(layer(x))
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.last_fc(self.features(x))


class Policy(Perceptron):
    def __init__(self, inputs: int, hidden: list[int], outputs: int, *, numbered: bool = False) -> None:
        super().__init__(inputs, hidden, outputs, numbered=numbered)
        self.last_fc_log_std = nn.Linear(hidden[-1], outputs)


class Encoder(nn.Module):
    def __init__(self, inputs: int, width: int, classes: int, latent: int) -> None:
        super().__init__()
        self.shared_encoder = nn.ModuleDict(
            {"gru": nn.GRU(inputs, width, batch_first=True), "attn": nn.Linear(width, width)}
        )
        self.mixture_model = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes * (2 * latent + 1))
        )
        self.sizes = (classes, 2 * latent + 1)

    def forward(self, context: Tensor) -> Tensor:
        """Return z [N, L] for contexts [N, T, X]."""
        _, last = self.shared_encoder["gru"](context)
        output = self.mixture_model(torch.relu(last[0])).view(-1, *self.sizes)
        latent = (self.sizes[1] - 1) // 2
        gamma = torch.softmax(output[..., -1], dim=-1)
        return (gamma[..., None] * output[..., :latent]).sum(dim=1)


class Decoder(nn.Module):
    def __init__(self, inputs: int, width: int, obs: int) -> None:
        super().__init__()
        self.net_state_decoder = Perceptron(inputs, [width, width], obs)
        self.net_reward_decoder = Perceptron(inputs, [width, width, width // 2], 1)


class ReferenceRun:
    """Random networks and statistics for D observations and A actions, and how the reference acts with them."""

    TIME_STEPS, CLASSES, LATENT, LAYER, COMPLEXITY = 5, 2, 3, 12, 0.5

    def __init__(self, obs: int, action: int, *, numbered: bool = False, clip: int | None = None) -> None:
        torch.manual_seed(1)
        inputs, coded = 2 * obs + action + 1, obs + action + self.LATENT
        self.encoder = Encoder(inputs, int(inputs * self.COMPLEXITY), self.CLASSES, self.LATENT)
        self.decoder = Decoder(coded, int(coded * self.COMPLEXITY), clip or obs)
        self.policy = Policy(obs + self.LATENT, [self.LAYER] * 3, action, numbered=numbered)
        rng = np.random.default_rng(2)
        sizes = {"observations": obs, "next_observations": obs, "actions": action, "rewards": 1}
        self.stats: Stats = {
            part: {
                "mean": rng.normal(0.0, 2.0, size).tolist(),
                "std": rng.uniform(0.1, 3.0, size).tolist(),
                "min": [0.0] * size,
                "max": [0.0] * size,
            }
            for part, size in sizes.items()
        }
        self.context = torch.zeros(1, self.TIME_STEPS, inputs)

    def normalised(self, part: str, value: np.ndarray) -> Tensor:
        """As in acting: float64 statistics, 1e-9, then float32."""
        mean, std = (np.array(self.stats[part][name]) for name in ("mean", "std"))
        return torch.tensor((value - mean) / (std + 1e-9), dtype=torch.float32)

    @torch.no_grad()
    def act(self, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return z [1, L] and the most likely action [1, A] for an observation [1, D]: the policy reads it as it is."""
        latent = self.encoder(self.context)
        state = torch.cat([torch.tensor(obs, dtype=torch.float32), latent], dim=1)
        return latent.numpy(), torch.tanh(self.policy(state)).numpy()

    def observe(self, obs: np.ndarray, action: np.ndarray, reward: np.ndarray, next_obs: np.ndarray) -> None:
        parts = {"observations": obs, "actions": action, "rewards": reward[:, None], "next_observations": next_obs}
        x = torch.cat([self.normalised(part, value) for part, value in parts.items()], dim=1)
        self.context = torch.cat([self.context[:, 1:], x[:, None]], dim=1)

    def save(self, folder: Path, variant: dict[str, Any], iteration: int = 20) -> None:
        """Write weights, stats_dict.json and variant.json as the reference does."""
        weights = folder / "weights"
        weights.mkdir(parents=True)
        for name in ("encoder", "decoder", "policy"):
            torch.save(getattr(self, name).state_dict(), weights / f"{name}_itr_{iteration}.pth")
        (weights / "stats_dict.json").write_text(json.dumps(self.stats))
        (folder / "variant.json").write_text(json.dumps(variant))
