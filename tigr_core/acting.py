# SPDX-License-Identifier: Apache-2.0
"""A model as it acts, without gradients: what is inferred after one more transition, and what to do then.

For one robot that is a dozen products of one row, with fifty small steps between them. A small step costs a microsecond
in NumPy and three to five in PyTorch, all of them together more than the products. So for stream encoders NumPy does
all of it, from the parameters as they are, but for GRU and layers of several rows: PyTorch's take longer to begin and
less a row, and leave Python to the other threads that collect. The fast mode's are C++ (`kernels/acting.hpp`), with
weights packed at the beginning of an episode. Other encoders act by their own modules.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from tigr_core import kernels
from tigr_core.actor_critic import LOG_STD_RANGE
from tigr_core.encoder import Encoder
from tigr_core.mixture import MixturePosterior
from tigr_core.model import TaskInferenceModel
from tigr_core.normaliser import CHANGE_GAIN, LARGEST_CHANGE, effort_input


class Step(NamedTuple):
    """A transition of N robots, float32."""

    obs: np.ndarray  # [N, D]
    action: np.ndarray  # [N, A]
    reward: np.ndarray  # [N]
    next_obs: np.ndarray  # [N, D]
    before: tuple[np.ndarray, np.ndarray] | None  # action and reward of the transition before


class Acting(Protocol):
    """A model for N robots at a time; what its encoder keeps of their contexts is a state."""

    def initial_state(self, num_robots: int) -> Any:
        """Begin an episode; return the state of empty contexts. The fast mode takes over the parameters as they are."""

    def advance(self, state: Any, step: Step) -> Any:
        """Return the state after one more transition."""

    def infer(self, state: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return mixture weights ``[N, K]`` and z ``[N, L]``."""

    def posterior(self, state: Any) -> MixturePosterior:
        """Return all that is inferred, ``[N]``."""

    def act(self, obs: np.ndarray, latent: np.ndarray, generator: torch.Generator | None) -> np.ndarray:
        """Return actions ``[N, A]`` for observations ``[N, D]``: drawn, or without a generator the most likely."""


def acting(model: TaskInferenceModel, *, fast: bool = False) -> Acting:
    """Return how a model on the CPU acts; the fast mode needs a C++ compiler and pays for many robots."""
    streams = isinstance(model.encoder, Encoder) and model.encoder.context == "stream"
    if not streams:
        return ModuleActing(model)
    return StreamActing(model, _PackedNetworks(model) if fast else _Networks(model))


class ModuleActing:
    """Acts by the modules themselves."""

    def __init__(self, model: TaskInferenceModel) -> None:
        self.model = model

    @torch.inference_mode()
    def initial_state(self, num_robots: int) -> Any:
        return self.model.encoder.initial_state(num_robots)

    @torch.inference_mode()
    def advance(self, state: Any, step: Step) -> Any:
        x = self.model.normaliser.transition(*(torch.from_numpy(part) for part in step[:4]))
        return self.model.encoder.advance(state, x)

    @torch.inference_mode()
    def posterior(self, state: Any) -> MixturePosterior:
        posterior: MixturePosterior = self.model.encoder.infer(state)
        return posterior

    @torch.inference_mode()
    def infer(self, state: Any) -> tuple[np.ndarray, np.ndarray]:
        posterior = self.posterior(state)
        return posterior.weights.numpy(), posterior.latent.numpy()

    @torch.inference_mode()
    def act(self, obs: np.ndarray, latent: np.ndarray, generator: torch.Generator | None) -> np.ndarray:
        noise = None if generator is None else torch.randn((len(obs), self.model.action_dim), generator=generator)
        return self.model.actor.act(
            self.model.policy_obs(torch.from_numpy(obs)), torch.from_numpy(latent), noise
        ).numpy()


class _State(NamedTuple):
    hidden: np.ndarray  # of the GRU, [N, H]
    weights: np.ndarray  # of the mixture that is inferred from it, [N, K]
    latent: np.ndarray  # z, [N, L]


class StreamActing:
    """Acts with a GRU that is carried along."""

    def __init__(self, model: TaskInferenceModel, networks: _Networks | _PackedNetworks) -> None:
        self.encoder, self._networks = model.encoder, networks
        normaliser = model.normaliser
        _, self._scale = (values.numpy() for values in normaliser.shift_and_scale)
        self._reward = model.obs_dim + model.action_dim  # in x_t
        self._floor, self._gain = normaliser.reward_floor, normaliser.reward_gain
        self._has_changes, self._turning = normaliser.reward_changes, list(model.config.turning)

    def initial_state(self, num_robots: int) -> _State:
        self._networks.begin()
        return self._networks.infer(np.zeros((num_robots, self.encoder.hidden_dim), dtype=np.float32), [])

    def advance(self, state: _State, step: Step) -> _State:
        parts = [step.obs, step.action, self._floored(step.reward)[:, None], step.next_obs]
        return self._networks.infer(state.hidden, [*parts, self._changes(step)] if self._has_changes else parts)

    def infer(self, state: _State) -> tuple[np.ndarray, np.ndarray]:
        return state.weights, state.latent

    @torch.inference_mode()
    def posterior(self, state: _State) -> MixturePosterior:
        posterior: MixturePosterior = self.encoder.posterior(torch.from_numpy(state.hidden))
        return posterior

    def act(self, obs: np.ndarray, latent: np.ndarray, generator: torch.Generator | None) -> np.ndarray:
        return self._networks.act([*self._policy_obs(obs), latent], generator)

    def _floored(self, reward: np.ndarray) -> np.ndarray:
        return reward if self._floor is None else np.maximum(reward, np.float32(self._floor))

    def _changes(self, step: Step) -> np.ndarray:
        felt = self._felt(step.action, step.reward)
        change = felt - (felt if step.before is None else self._felt(*step.before))
        change = LARGEST_CHANGE * np.tanh(CHANGE_GAIN / LARGEST_CHANGE * change)
        return np.concatenate((effort_input(felt[:, 1:]), change), axis=1)

    def _felt(self, action: np.ndarray, reward: np.ndarray) -> np.ndarray:
        scaled = self._floored(reward) * (self._scale[self._reward] / self._gain)
        return np.stack((scaled, np.square(action).mean(axis=1)), axis=1)

    def _policy_obs(self, obs: np.ndarray) -> tuple[np.ndarray, ...]:
        further: tuple[np.ndarray, ...] = ()
        if self._turning:
            angle, obs = obs[:, self._turning], obs.copy()
            obs[:, self._turning] = angle.clip(-np.pi, np.pi)
            further = np.sin(angle), np.cos(angle)
        return (obs, *further)


class _Networks:
    """What a model computes, with parameters where they are: `Normaliser`, `Encoder`, `MixturePosterior`, `Actor`."""

    def __init__(self, model: TaskInferenceModel) -> None:
        gru = model.encoder.gru
        self._gru = [p.detach() for p in (gru.weight_ih_l0, gru.weight_hh_l0, gru.bias_ih_l0, gru.bias_hh_l0)]
        self._of_input = _Layer(gru.weight_ih_l0, gru.bias_ih_l0)
        self._of_state = _Layer(gru.weight_hh_l0, gru.bias_hh_l0)
        self._head, self._policy = ([_Layer(*pair) for pair in _layers(net)] for net in _nets(model))
        self._components, self._latent_dim = model.config.num_components, model.config.latent_dim
        self._scaling, self._obs_scaling = (tuple(part.numpy() for part in scaling) for scaling in _scalings(model))

    def begin(self) -> None:
        """Nothing is kept from one episode to the next."""

    def infer(self, hidden: np.ndarray, parts: list[np.ndarray]) -> _State:
        """Return the state after what parts ``[N, ...]`` of x tell, if any, from that of the GRU before."""
        if parts:
            hidden = self._gru_cell(_joined(parts, *self._scaling), hidden)
        output = _run(self._head, np.maximum(hidden, 0.0))
        parts_of = output.reshape(len(hidden), self._components, 2 * self._latent_dim + 1)
        logits = parts_of[:, :, -1]
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        return _State(hidden, weights, np.matmul(weights[:, None, :], parts_of[:, :, : self._latent_dim])[:, 0])

    def _gru_cell(self, x: np.ndarray, state: np.ndarray) -> np.ndarray:
        """h' = (1 - update) new + update h, with new = tanh(W x + b + reset (U h + c))."""
        if len(x) > 1:
            return torch.gru_cell(torch.from_numpy(x), torch.from_numpy(state), *self._gru).numpy()
        of_input, of_state = self._of_input.row(x), self._of_state.row(state)
        hidden = state.shape[1]
        gates, new = of_state[:, : 2 * hidden], of_state[:, 2 * hidden :]
        gates += of_input[:, : 2 * hidden]
        _sigmoid_(gates)
        new *= gates[:, :hidden]
        new += of_input[:, 2 * hidden :]
        np.tanh(new, out=new)
        change = state - new
        change *= gates[:, hidden:]
        change += new
        return change

    def act(self, parts: list[np.ndarray], generator: torch.Generator | None) -> np.ndarray:
        """Return actions ``[N, A]`` for parts ``[N, ...]`` of what the policy reads."""
        output = _run(self._policy, _joined(parts, *self._obs_scaling))
        action_dim = output.shape[1] // 2
        raw = output[:, :action_dim]
        if generator is not None:
            noise = torch.randn((len(output), action_dim), generator=generator).numpy()
            raw = raw + np.exp(output[:, action_dim:].clip(*LOG_STD_RANGE)) * noise
        return np.tanh(raw)


class _PackedNetworks:
    """As `_Networks` in C++, with parameters as they were when the episode began.

    What follows on a product is in the same call: between two calls another thread might take Python's lock.
    """

    def __init__(self, model: TaskInferenceModel) -> None:
        self._model, self._functions = model, kernels.load()
        self._components = model.config.num_components
        self.begin()

    @torch.no_grad()
    def begin(self) -> None:
        """Take over the parameters as they are now."""
        self._scaling, self._obs_scaling = (
            tuple(part.clone() for part in scaling) for scaling in _scalings(self._model)
        )
        gru = self._model.encoder.gru
        self._gru = self._packed([(gru.weight_ih_l0, gru.bias_ih_l0), (gru.weight_hh_l0, gru.bias_hh_l0)])
        self._head, self._policy = (self._packed(_layers(net)) for net in _nets(self._model))

    def _packed(self, layers: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
        return [self._functions.packed(weight) for weight, _ in layers], [bias.detach().clone() for _, bias in layers]

    def infer(self, hidden: np.ndarray, parts: list[np.ndarray]) -> _State:
        read, state = [torch.from_numpy(part) for part in parts], torch.from_numpy(hidden)
        inferred = self._functions.infer(read, *self._scaling, state, *self._gru, *self._head, self._components)
        return _State(*(part.numpy() for part in inferred))

    def act(self, parts: list[np.ndarray], generator: torch.Generator | None) -> np.ndarray:
        read = [torch.from_numpy(part) for part in parts]
        actions: Tensor = self._functions.act(read, *self._obs_scaling, generator, *self._policy, *LOG_STD_RANGE)
        return actions.numpy()


def _scalings(model: TaskInferenceModel) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return shift and scale of the first columns of x, and those of an observation."""
    shift, scale = model.normaliser.shift_and_scale
    return (shift, scale), (shift[: model.obs_dim], scale[: model.obs_dim])


def _joined(parts: list[np.ndarray], shift: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return parts ``[N, ...]`` side by side, the first columns with shift and scale applied."""
    x = np.concatenate(parts, axis=1)
    scaled = x[:, : len(shift)]
    scaled -= shift
    scaled *= scale
    return x


def _nets(model: TaskInferenceModel) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the head and the policy."""
    return model.encoder.head, model.actor.net


def _layers(net: nn.Sequential) -> list[tuple[Tensor, Tensor]]:
    """Return weights ``[outputs, inputs]`` and biases."""
    return [(layer.weight.detach(), layer.bias.detach()) for layer in net if isinstance(layer, nn.Linear)]


class _Layer:
    """A linear layer that reads the parameters of a module where they are."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight.detach().t(), bias.detach()
        self._row_bias, self._row_weight = self.bias.numpy(), self.weight.numpy()  # the same memory

    def rows(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)

    def row(self, x: np.ndarray) -> np.ndarray:
        """As `rows` of one, in two thirds of the time."""
        row: np.ndarray = x @ self._row_weight
        row += self._row_bias
        return row


def _run(layers: list[_Layer], x: np.ndarray) -> np.ndarray:
    """Return the output of linear layers with ReLU between them."""
    *hidden, last = layers
    if len(x) > 1:
        rows = torch.from_numpy(x)
        for layer in hidden:
            rows = layer.rows(rows).relu_()
        return last.rows(rows).numpy()
    for layer in hidden:
        x = layer.row(x)
        np.maximum(x, 0.0, out=x)
    return last.row(x)


def _sigmoid_(x: np.ndarray) -> None:
    np.negative(x, out=x)
    np.minimum(x, 80.0, out=x)  # no further, for exp does not overflow there
    np.exp(x, out=x)
    x += 1.0
    np.reciprocal(x, out=x)
