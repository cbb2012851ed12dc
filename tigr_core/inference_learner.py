# SPDX-License-Identifier: Apache-2.0
"""Training of task inference: encoder and decoder by a variational bound with four further terms (paper, section IV-C).

    loss = w_s MSE(next_obs) + w_r MSE(reward) + kl_weight sum_k KL(q(z|x,k) || N(0, I))
         + separation_weight separation + sparsity_weight |z|_1 + supervision_weight CE(logits, base task)
         + anchor_weight |z - z*|^2            (beyond the paper, off by default; z* is the task's `TaskCode`)

The decoder reconstructs transitions of the whole context from the one z, so that z describes the task and not the
moment. Terms are means over the batch. Gradients of the policy never arrive here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from envs.tasks import TaskSet
from tigr_core.adam import Adam
from tigr_core.checkpoint import restore_optimiser
from tigr_core.chunked import sum_chunks
from tigr_core.compiled_mixture import compiled_draw
from tigr_core.config import InferenceConfig
from tigr_core.early_stopping import EarlyStopping
from tigr_core.encoder import Encoder
from tigr_core.fast import fast_hidden_sequence, has_kernels, use_kernels, with_fast_products
from tigr_core.mixture import Draw, MixturePosterior
from tigr_core.model import TaskInferenceModel
from tigr_core.pcgrad import descend, groups_of, masks_of
from tigr_core.random_shift import RandomShift
from tigr_core.replay import Context, ReplayBuffer, sent
from tigr_core.task_code import TaskCode

INITIAL_RECONSTRUCTION_WEIGHT = 1.0 / 3.0
Learn = Callable[..., dict[str, Tensor]]
DECODED_AT_ONCE = 4096  # transitions on a CPU: what the decoder's layers pass on stays in the cache of a core


class Targets(NamedTuple):
    """B contexts as the encoder has read them, and what the decoder has to say of each."""

    hidden: Tensor  # [B, ...] what the encoder read, for its `posterior`
    decoded: Tensor  # [B, M, X] normalised transitions to reconstruct
    weight: Tensor  # [B, M] of each, sums to 1 over M
    base_task: Tensor  # [B] int64
    parameter: Tensor  # [B, P]


class InferenceLearner:
    """Owns the optimisers and the balance of the two reconstruction losses; takes data from the replay buffer."""

    def __init__(
        self,
        model: TaskInferenceModel,
        config: InferenceConfig,
        tasks: TaskSet,
        *,
        rng: np.random.Generator,
        generator: torch.Generator,
        shift: RandomShift | None = None,
        fast: bool = False,
    ) -> None:
        self.model, self.config, self.rng, self.generator, self.shift = model, config, rng, generator, shift
        self.task_code = None
        if config.anchor_weight > 0.0:
            self.task_code = TaskCode(tasks, model.config.latent_dim, model.normaliser.mean.device)
        self.balance = torch.full((2,), INITIAL_RECONSTRUCTION_WEIGHT, device=model.normaliser.mean.device)
        self.steps = 0
        self.early_stopping = EarlyStopping(config.early_stopping_steps)
        self._terms, self._draw_latent = self.terms, self._draw_of_posterior
        self.encode_episodes: Callable[[Tensor], MixturePosterior] = model.encoder.encode_episodes
        self._fast_hidden_sequence: Callable[..., Tensor] | None = None
        if fast:
            device = model.normaliser.mean.device
            if has_kernels(device):
                use_kernels(model.encoder, model.decoder)
                if isinstance(model.encoder, Encoder):
                    self._draw_latent = self._draw_of_output
            self._terms = with_fast_products(self.terms, device)
            if isinstance(model.encoder, Encoder) and model.encoder.context == "stream":
                self._fast_hidden_sequence = fast_hidden_sequence(model.encoder, device)
                self.encode_episodes = with_fast_products(self._encode_episodes, device)
        self._streams: Tensor | None = None  # GRU states at which endless training streams have arrived, [B // 2, H]
        self._parameters = [*model.encoder.parameters(), *model.decoder.parameters()]
        self.optimiser = Adam(
            [{"params": list(network.parameters())} for network in (model.encoder, model.decoder)],
            capturable=model.normaliser.mean.device.type == "cuda",
        )
        self.scale_rates(1.0)

    def scale_rates(self, share: float) -> None:
        """Learn at a share of the configured rates from now on."""
        rates = self.config.encoder_learning_rate, self.config.decoder_learning_rate
        for group, rate in zip(self.optimiser.param_groups, rates, strict=True):
            group["lr"] = share * rate

    def step(self, replay: ReplayBuffer, learn: Learn | None = None) -> dict[str, Tensor]:
        """Do one optimisation step; every `rebalance_every` steps measure validation losses and re-balance.

        `learn` is another way to call `self.learn` with this replay buffer (`launches.py`).
        """
        numbers = self._draw_numbers(replay, validation=False)
        metrics = self.learn(replay, *numbers) if learn is None else learn(*numbers)
        self.steps += 1
        if self.steps % self.config.rebalance_every == 0:
            metrics = metrics | self._rebalance(replay)
        return metrics

    def learn(self, replay: ReplayBuffer, *numbers: Tensor) -> dict[str, Tensor]:
        """Learn from what numbers of `_draw_numbers` pick. Without PCGrad the device is not asked for a number."""
        if self.config.pcgrad is None:
            loss, metrics = self._loss_of(*self._draw(replay, numbers, validation=False))
            self.optimiser.descend(torch.autograd.grad(loss, self._parameters, materialize_grads=True))
        else:
            metrics = self._descend_by_groups(replay, numbers)
        return metrics

    @torch.no_grad()
    def _rebalance(self, replay: ReplayBuffer) -> dict[str, Tensor]:
        """Weigh each reconstruction by 1 - its share of the validation loss: the larger must not drown the other.

        The sum of both, whose weights do not change, tells whether to stop early.
        """
        _, metrics = self.loss(replay, validation=True)
        state, reward = float(metrics["state"]), float(metrics["reward"])
        total = state + reward
        if total > 0.0:
            self.balance.copy_(torch.tensor([1.0 - state / total, 1.0 - reward / total]))
        self.early_stopping.update(self.steps, total)
        return {"validation_state": metrics["state"], "validation_reward": metrics["reward"]}

    def _encode_episodes(self, x: Tensor) -> MixturePosterior:
        assert self._fast_hidden_sequence is not None
        return self.model.encoder.posterior(self._fast_hidden_sequence(x, self._start_states(x, goes_on=False)))

    def loss(self, replay: ReplayBuffer, *, validation: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss on a fresh batch of contexts and its terms."""
        numbers = self._draw_numbers(replay, validation)
        return self._loss_of(*self._draw(replay, numbers, validation))

    def _draw_numbers(self, replay: ReplayBuffer, validation: bool) -> tuple[Tensor, ...]:
        """Draw on the processor which transitions to read: their places, and more as the context is read."""
        config, context_length = self.config, self.model.config.context_length
        if self.model.config.context == "window":
            return replay.draw_windows(config.batch_size, context_length, self.rng, validation=validation)
        sequences = max(1, config.batch_size // config.targets_per_sequence)
        places = replay.draw_sequences(
            sequences, config.sequence_length, config.segment_length, self.rng, validation=validation
        )
        return *places, *self._draw_targets(sequences)

    def _draw(self, replay: ReplayBuffer, numbers: Sequence[Tensor], validation: bool) -> tuple[Targets, Tensor]:
        """Return the contexts that numbers pick, and draw the noise ``[B, K, L]`` of their latents."""
        read = self._read_windows if self.model.config.context == "window" else self._read_sequences
        targets = read(replay, numbers, validation)
        components, latent_dim = self.model.config.num_components, self.model.config.latent_dim
        noise = torch.randn(
            (len(targets.hidden), components, latent_dim), generator=self.generator, device=targets.hidden.device
        )
        return targets, noise

    def _loss_of(self, targets: Targets, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        terms = self._terms(targets, noise)
        loss = sum((self._weights[name] * value for name, value in terms.items()), start=noise.new_zeros(()))
        return loss, {"loss": loss.detach(), **{name: value.detach() for name, value in terms.items()}}

    def _descend_by_groups(self, replay: ReplayBuffer, numbers: Sequence[Tensor]) -> dict[str, Tensor]:
        """Step along gradients of PCGrad; return the terms of the loss of the whole batch."""
        assert self.config.pcgrad is not None
        targets, noise = self._draw(replay, numbers, validation=False)
        posterior = self.model.encoder.posterior
        group = groups_of(
            self.config.pcgrad, targets.base_task, lambda: posterior(targets.hidden).weights.detach(), self.generator
        )
        losses: list[Tensor] = []
        metrics: dict[str, Tensor] = {}
        for mask in masks_of(group):
            share = mask.float().mean()
            loss, terms = self._loss_of(Targets(*(values[mask] for values in targets)), noise[mask])
            losses.append(share * loss)
            metrics = {name: metrics.get(name, 0.0) + share * value for name, value in terms.items()}
        descend(losses, self._parameters, self.generator)
        self.optimiser.step()
        return metrics

    @property
    def _weights(self) -> dict[str, float | Tensor]:
        """The weight of each term of the loss."""
        config = self.config
        return {
            "state": self.balance[0],
            "reward": self.balance[1],
            "kl": config.kl_weight,
            "separation": config.separation_weight,
            "sparsity": config.sparsity_weight,
            "supervision": config.supervision_weight,
            "anchor": config.anchor_weight,
        }

    def terms(self, targets: Targets, noise: Tensor) -> dict[str, Tensor]:
        """Return the terms of the loss, unweighted; `noise` ``[B, K, L]`` picks each z_k."""
        logits, latent, kl, separation = self._draw_latent(targets.hidden, noise)
        state, reward = self._reconstruction(latent, targets)
        supervision = anchor = latent.new_zeros(())
        if self.config.supervision_weight > 0.0:
            supervision = F.cross_entropy(logits, targets.base_task)
        if self.task_code is not None:
            code = self.task_code(targets.base_task, targets.parameter)
            anchor = (latent - code).square().sum(dim=-1).mean()
        return {
            "state": state,
            "reward": reward,
            "kl": kl.mean(),
            "separation": separation.mean(),
            "sparsity": latent.abs().sum(dim=-1).mean(),
            "supervision": supervision,
            "anchor": anchor,
        }

    def _draw_of_posterior(self, hidden: Tensor, noise: Tensor) -> Draw:
        return Draw.of(self.model.encoder.posterior(hidden), noise)

    def _draw_of_output(self, hidden: Tensor, noise: Tensor) -> Draw:
        return compiled_draw(self.model.encoder.head_output(hidden), noise)

    def _read_windows(self, replay: ReplayBuffer, numbers: Sequence[Tensor], validation: bool) -> Targets:
        model, (*places, mask) = self.model, numbers
        context = replay.context(*places)
        x = self._normalised(context) * mask.unsqueeze(-1)
        now = torch.arange(x.shape[1], device=x.device)
        same = (now >= context.segment_start[:, -1:]).to(x)  # z is of the task that the window ends in
        hidden, weight = model.encoder.hidden_windows(x), same / same.sum(dim=1, keepdim=True)
        return Targets(hidden, x, weight, context.base_task[:, -1], context.parameter[:, -1])

    def _read_sequences(self, replay: ReplayBuffer, numbers: Sequence[Tensor], validation: bool) -> Targets:
        *places, rows, seen = numbers
        context = replay.context(*places)
        x, sequences = self._normalised(context), len(context.obs)
        run = self._fast_hidden_sequence or self.model.encoder.hidden_sequence
        hidden = run(x, self._start_states(x, goes_on=not validation))
        if not validation:
            arrived = hidden[: sequences // 2, -1].detach()
            if self._streams is None or self._streams.shape != arrived.shape:
                self._streams = arrived.clone()
            else:
                self._streams.copy_(arrived)  # what is captured reads it there
            # A stream that goes on knows another task until it has seen a transition of its new segment.
            seen = torch.where(rows < sequences // 2, seen.clamp_min(1), seen)
        last = (seen - 1).clamp_min(0)  # the segment of a target is that of the last transition it has seen
        decoded = self._draw_decoded(context.segment_start[rows, last], context.segment_end[rows, last])
        weight = x.new_full(decoded.shape, 1.0 / decoded.shape[1])
        labels = context.base_task[rows, last], context.parameter[rows, last]
        return Targets(_rows_at(hidden, rows, seen), x[rows.unsqueeze(1), decoded], weight, *labels)

    def _start_states(self, x: Tensor, *, goes_on: bool) -> Tensor:
        """Return the GRU states to start from, ``[B, H]``: if it `goes_on`, half are where the last step's streams are.

        A robot's stream has no end; an encoder that has only seen short ones no longer forgets after long ones.
        """
        start = x.new_zeros(x.shape[0], self.model.encoder.hidden_dim)
        if goes_on and self._streams is not None:
            start[: len(self._streams)] = self._streams
        return start

    def _draw_targets(self, sequences: int) -> tuple[Tensor, Tensor]:
        """Draw (sequence, number of transitions seen) for each context of the batch, ``[B]`` each."""
        size = (sequences, self.config.targets_per_sequence)
        seen = self.rng.integers(0, self.config.sequence_length + 1, size=size)
        rows = np.broadcast_to(np.arange(sequences)[:, None], size)
        device = self.model.normaliser.mean.device
        return sent(rows.ravel(), device), sent(seen.ravel(), device)

    def _draw_decoded(self, start: Tensor, end: Tensor) -> Tensor:
        """Draw time steps ``[B, M]`` uniformly from the segments [start, end), before and after the target alike."""
        share = torch.rand(
            (start.shape[0], self.config.decoded_per_target), generator=self.generator, device=start.device
        )
        span = (end - start).unsqueeze(1)
        return start.unsqueeze(1) + (share * span).long().clamp_max(span - 1)

    def _normalised(self, context: Context) -> Tensor:
        obs, next_obs = context.obs, context.next_obs
        if self.shift is not None:
            obs, next_obs = self.shift.of_contexts(context, self.generator)
        return self.model.normaliser.sequence(obs, context.action, context.reward, next_obs)

    def _reconstruction(self, latent: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """Return the mean errors of next observation and reward, decoded from z ``[B, L]``."""
        batch, decoded = targets.decoded.shape[:2]
        chunk = max(1, DECODED_AT_ONCE // decoded) if latent.device.type == "cpu" else batch
        weight = targets.weight / batch
        state, reward = sum_chunks(
            self._errors, chunk, latent, (targets.decoded, weight), self.model.decoder.parameters()
        )
        return state, reward

    def _errors(self, latent: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted sums of the squared errors of next observation (mean of entries) and reward.

        z is ``[B, L]``, transitions x ``[B, M, X]``, their weights ``[B, M]``.
        """
        sizes = [self.model.obs_dim, self.model.action_dim, 1, self.model.obs_dim]
        obs, action, reward, next_obs, _ = x.split([*sizes, x.shape[-1] - sum(sizes)], dim=-1)
        predicted = self.model.decoder(obs, action, latent.unsqueeze(1).expand(*x.shape[:2], -1))
        state_error = (predicted[0] - next_obs).square().mean(dim=-1)
        # Rewards of standard deviation one, whatever the gain they are read with: larger ones are not learned in time.
        reward_error = (predicted[1] - reward.squeeze(-1) / self.model.normaliser.reward_gain).square()
        return (state_error * weight).sum(), (reward_error * weight).sum()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs beside the model."""
        return {
            "optimiser": self.optimiser.state_dict(),
            "weights": self.balance.tolist(),
            "steps": self.steps,
            "streams": None if self._streams is None else self._streams.clone(),
            "early_stopping": self.early_stopping.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore from a checkpoint."""
        restore_optimiser(self.optimiser, state["optimiser"])
        self.balance.copy_(torch.tensor(state["weights"]))
        self.steps = int(state["steps"])
        self.early_stopping.load_state_dict(state["early_stopping"])
        streams = state["streams"]
        self._streams = None if streams is None else streams.to(self.model.normaliser.mean.device, copy=True)


def _rows_at(states: Tensor, rows: Tensor, steps: Tensor) -> Tensor:
    """Return ``states[rows, steps]`` of states ``[B, T, H]`` in half the time, whichever of B and T comes first."""
    if states.is_contiguous():
        return states.flatten(0, 1).index_select(0, rows * states.shape[1] + steps)
    return states.transpose(0, 1).flatten(0, 1).index_select(0, steps * states.shape[0] + rows)
