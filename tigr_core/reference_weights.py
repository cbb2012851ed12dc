# SPDX-License-Identifier: Apache-2.0
"""Imports weights of TIGR's reference implementation (arXiv 2108.03718) into a bundle.

    weights/encoder_itr_N.pth  shared_encoder.gru.*, mixture_model.{0,2}.*     ──► encoder.gru.*, encoder.head.*
    weights/decoder_itr_N.pth  net_state_decoder.*, net_reward_decoder.*       ──► decoder.next_obs.*, decoder.reward.*
    weights/policy_itr_N.pth   fc0 ..., last_fc, last_fc_log_std               ──► actor.net.*
    weights/stats_dict.json    mean and std of each part of a transition       ──► normaliser.*
    variant.json               the configuration                               ──► environment, tasks, context length

Two things are re-stated in float64 so that the same inputs give the same latents and actions to float32 rounding. The
reference's policy reads observations as they are and ours normalised ones: the first layer undoes that. Entries that
hardly vary are divided by their std + 1e-9 there and by no less than `STD_EPSILON` here: the layers that read or
predict them make up for it. Critics are not imported, for a bundle has none. Nothing in the files is executed.
"""

from __future__ import annotations

import csv
import json
import pickle
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from envs import make_vector
from envs.spec import RobotSpec
from tigr_core import evaluation
from tigr_core.bundle import Bundle, Source
from tigr_core.collector import LocalCollector
from tigr_core.config import ModelConfig
from tigr_core.errors import UserError
from tigr_core.model import TaskInferenceModel
from tigr_core.normaliser import STD_EPSILON
from tigr_core.reference_config import Reference, read_reference
from tigr_core.reference_output import VARIANT
from tigr_core.run_log import PROGRESS_FILE
from tigr_core.version import __version__

STATS = "stats_dict.json"
EPSILON = 1e-9  # that of acting; the reference trains with 1e-8
NETWORKS = ("encoder", "decoder", "policy")
UNUSED = ("shared_encoder.attn.", "gmm_combiner.", "logit_combiner.")  # a GRU encoder has them and never calls them
GRU_INPUT = "shared_encoder.gru.weight_ih_l0"
PARTS = ("observations", "actions", "rewards", "next_observations")  # of a transition, in our order

State = dict[str, Tensor]
Stats = dict[str, tuple[Tensor, Tensor]]  # mean and divisor of each of `PARTS`, float64


def weights_folder(folder: Path) -> Path:
    """Return the folder with the weights: that of a run, or the weights' own.

    Raises:
        UserError: no weights there.
    """
    for place in (folder / "weights", folder):
        if any(place.glob("encoder_itr_*.pth")):
            return place
    raise UserError(
        f"no weights in {folder}",
        expected="a run folder of the reference, with weights/encoder_itr_N.pth",
        fix="check the path",
    )


def newest_iteration(folder: Path) -> int:
    """Return the last iteration of which there are weights."""
    return _iterations(weights_folder(folder))[-1]


def import_bundle(folder: Path, iteration: int) -> Bundle:
    """Return a bundle with the weights of one iteration, evaluated here on its training and test tasks.

    Raises:
        UserError: see `read_variant` and `read_weights`.
    """
    variant = read_variant(folder)
    config = variant.config()
    names = evaluation.tasks_of(config.env).names
    with closing(make_vector(config.env.id, 1, base_tasks=config.env.base_tasks)) as env:
        robot = env.spec_robot
    model = read_weights(folder, iteration, variant, robot)
    config = config.model_copy(update={"model": model.config})
    with closing(LocalCollector(config.env, num_threads=torch.get_num_threads())) as collector:
        train, test = (
            evaluation.evaluate(collector, model, tasks, seed=config.seed) for tasks in evaluation.split_tasks(config)
        )
    labels = evaluation.component_labels(train, config, len(names))
    results = {"train_return": float(train.returns.mean()), **evaluation.summarise(test, names, labels, config.env.id)}
    env_steps, sac_steps = _counters(variant.path.parent / PROGRESS_FILE, iteration)
    source = Source(
        version=f"{__version__}, weights of the reference, iteration {iteration}",
        config=config.model_dump(mode="json"),
        env_steps=env_steps,
        sac_steps=sac_steps,
        evaluation={name: value for name, value in results.items() if np.isfinite(value)},
    )
    return Bundle(model, evaluation.bundle_info(config, robot, train, labels, source))


def _counters(progress: Path, iteration: int) -> tuple[int, int]:
    """Return environment and policy steps of an iteration as the reference's progress.csv says; 0 where it does not."""
    columns = ("n_env_steps_total", "policy_train_steps_total")
    try:
        with progress.open(newline="", encoding="utf-8") as file:
            row = next((row for row in csv.DictReader(file) if row.get("epoch") == str(iteration)), {})
    except (OSError, UnicodeDecodeError):
        row = {}
    env_steps, sac_steps = (int(row[name]) if (row.get(name) or "").isdecimal() else 0 for name in columns)
    return env_steps, sac_steps


def read_variant(folder: Path) -> Reference:
    """Return the configuration beside the weights."""
    weights = weights_folder(folder)
    for place in (weights.parent, weights):
        if (place / VARIANT).is_file():
            return read_reference(place / VARIANT)
    raise UserError(
        f"no {VARIANT} in {weights.parent}",
        expected="the configuration that the weights were trained with",
        fix=f"copy {VARIANT} of that run there",
    )


def read_weights(folder: Path, iteration: int, variant: Reference, robot: RobotSpec) -> TaskInferenceModel:
    """Return the model of one iteration, which acts for the robot as the reference does with this configuration.

    Raises:
        UserError: files that are missing, hold more than tensors, or do not fit the configuration or each other.
    """
    weights, config = weights_folder(folder), variant.config()
    _require_importable(variant)
    if iteration not in _iterations(weights):
        raise UserError(
            f"no weights of iteration {iteration} in {weights}",
            expected=f"one of {', '.join(map(str, _iterations(weights)))}",
            fix="choose one with --iteration",
        )
    encoder, decoder, policy = (_load(weights / f"{name}_itr_{iteration}.pth") for name in NETWORKS)
    stats = _read_stats(weights, robot, variant.values["algo_params.use_data_normalization"])
    try:
        sizes = _model_config(config.model, encoder, decoder, policy)
        model = TaskInferenceModel(sizes, robot.obs_dim, robot.action_dim)
        state = _normaliser(stats) | _encoder(encoder, stats) | _decoder(decoder, stats) | _actor(policy, stats)
        model.load_state_dict(state, strict=True)
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(
            f"the weights in {weights} do not fit {config.env.id}: {' '.join(str(error).split())[:300]}",
            expected=f"networks for {robot.obs_dim} observations and {robot.action_dim} actions, as {VARIANT} says",
            fix="choose the run that belongs to the configuration",
        ) from None
    return model.eval().requires_grad_(False)


def _require_importable(variant: Reference) -> None:
    wanted = {"algo_params.encoder_type": "gru", "algo_params.permute_samples": False}
    for key, value in wanted.items():
        if variant.values[key] != value:
            raise UserError(
                f"{variant.path}: {key} is {json.dumps(variant.values[key])}",
                expected=f"{json.dumps(value)}: other encoders read the context in another way than ours",
                fix="import a run with that setting",
            )


def _iterations(weights: Path) -> list[int]:
    """Return the iterations of which there are weights, in order."""
    names = (re.fullmatch(r"encoder_itr_(-?\d+)\.pth", path.name) for path in weights.iterdir())
    return sorted(int(match[1]) for match in names if match)


def _load(path: Path) -> State:
    if not path.is_file():
        raise UserError(f"no file {path}", expected="weights of encoder, decoder and policy", fix="copy it there")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise _refusal(path, " ".join(str(error).split())) from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(
            f"{path} holds {type(state).__name__}", expected="a state dictionary", fix="choose another file"
        )
    broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise UserError(f"{path}: not finite: {', '.join(broken)}", expected="finite weights", fix="choose another")
    return {name: value.double() for name, value in state.items() if not name.startswith(UNUSED)}


def _refusal(path: Path, reason: str) -> UserError:
    code = re.search(r"unsupported (?:global: |global |class )+(\S+)", reason, re.IGNORECASE)
    if code:
        return UserError(
            f"{path} asks to run code ({code[1]}); refused, and nothing in it was executed",
            expected="a state dictionary: names and tensors alone",
            fix="save network.state_dict() again; take no weights from those you do not trust",
        )
    return UserError(f"{path} is damaged: {reason[-200:]}", expected="a file of torch.save", fix="copy it again")


def _read_stats(weights: Path, robot: RobotSpec, normalised: bool) -> Stats:
    path, sizes = weights / STATS, dict(zip(PARTS, (robot.obs_dim, robot.action_dim, 1, robot.obs_dim), strict=True))
    if not normalised:
        return {part: (torch.zeros(size).double(), torch.ones(size).double()) for part, size in sizes.items()}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        stats = {}
        for part, size in sizes.items():
            mean, std = (np.array(data[part][name], dtype=np.float64).reshape(size) for name in ("mean", "std"))
            if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std >= 0.0).all()):
                raise ValueError(f"{part}: not finite, or a negative std")
            stats[part] = torch.from_numpy(mean), torch.from_numpy(std) + EPSILON
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: {error!r}",
            expected=f"mean and std of {', '.join(f'{size} {part}' for part, size in sizes.items())}",
            fix=f"copy {STATS} of that run, which belongs to its weights",
        ) from None
    return stats


def _model_config(config: ModelConfig, encoder: State, decoder: State, policy: State) -> ModelConfig:
    """Return the configuration with the sizes that the weights have."""
    hidden, inputs = encoder[GRU_INPUT].shape[0] // 3, encoder[GRU_INPUT].shape[1]
    first, *_ = _layers(decoder, "net_state_decoder.")
    return config.model_copy(
        update={
            "encoder_width": hidden / inputs,
            "decoder_width": first[0].shape[0] / first[0].shape[1],
            "policy_hidden": tuple(weight.shape[0] for weight, _ in _layers(policy, "")[:-1]),
        }
    )


def _layers(state: State, prefix: str) -> list[tuple[Tensor, Tensor]]:
    """Return weight and bias of each layer of an MLP: fc0, fc1, ... or fcs.0, fcs.1, ..., then last_fc."""
    style = "fcs." if f"{prefix}fcs.0.weight" in state else "fc"
    names: list[str] = []
    while f"{prefix}{style}{len(names)}.weight" in state:
        names.append(f"{prefix}{style}{len(names)}")
    return [(state[f"{name}.weight"], state[f"{name}.bias"]) for name in [*names, f"{prefix}last_fc"]]


def _sequential(prefix: str, layers: Sequence[tuple[Tensor, Tensor]]) -> State:
    """Name layers as in our MLPs, with a ReLU between any two."""
    weights = {f"{prefix}.{2 * index}.weight": weight for index, (weight, _) in enumerate(layers)}
    return weights | {f"{prefix}.{2 * index}.bias": bias for index, (_, bias) in enumerate(layers)}


def _normaliser(stats: Stats) -> State:
    """Give our normaliser the reference's statistics; the divisor is the std."""
    return {
        "normaliser.count": torch.ones((), dtype=torch.float64),
        "normaliser.mean": torch.cat([stats[part][0] for part in PARTS]),
        "normaliser.var": torch.cat([stats[part][1] for part in PARTS]).square(),
    }


def _ratio(divisor: Tensor) -> Tensor:
    """Return what our normalised values have to be multiplied by: 1 but for entries that hardly vary."""
    return divisor.clamp_min(STD_EPSILON) / divisor


def _encoder(encoder: State, stats: Stats) -> State:
    names = {"shared_encoder.gru.": "encoder.gru.", "mixture_model.": "encoder.head."}
    state = {}
    for theirs, value in encoder.items():
        prefix = next((p for p in names if theirs.startswith(p)), None)
        if prefix is None:
            raise KeyError(f"{theirs} belongs to another encoder than the GRU")
        state[names[prefix] + theirs.removeprefix(prefix)] = value
    ratio = torch.cat([_ratio(stats[part][1]) for part in PARTS])
    state["encoder.gru.weight_ih_l0"] = encoder[GRU_INPUT] * ratio
    return state


def _decoder(decoder: State, stats: Stats) -> State:
    """Read observation and action as the encoder does; predict what our normaliser makes of the next observation."""
    state: State = {}
    ratio = torch.cat([_ratio(stats[part][1]) for part in ("observations", "actions")])
    for theirs, ours in {"net_state_decoder.": "decoder.next_obs", "net_reward_decoder.": "decoder.reward"}.items():
        (weight, bias), *hidden, (last_weight, last_bias) = _layers(decoder, theirs)
        weight = torch.cat([weight[:, : len(ratio)] * ratio, weight[:, len(ratio) :]], dim=1)
        part = "next_observations" if ours == "decoder.next_obs" else "rewards"
        scale = 1.0 / _ratio(stats[part][1])
        if len(last_bias) < len(scale):  # state_reconstruction_clip: the rest is predicted to be at its mean
            missing = len(scale) - len(last_bias)
            last_weight = torch.cat([last_weight, last_weight.new_zeros(missing, last_weight.shape[1])])
            last_bias = torch.cat([last_bias, last_bias.new_zeros(missing)])
        last = (last_weight * scale.unsqueeze(1), last_bias * scale)
        state |= _sequential(ours, [(weight, bias), *hidden, last])
    return state


def _actor(policy: State, stats: Stats) -> State:
    """Undo our normalisation in the first layer; join mean and log-std in the last."""
    (weight, bias), *hidden, (mean_weight, mean_bias) = _layers(policy, "")
    mean, divisor = stats["observations"]
    of_obs, of_latent = weight[:, : len(mean)], weight[:, len(mean) :]
    first = (torch.cat([of_obs * divisor.clamp_min(STD_EPSILON), of_latent], dim=1), bias + of_obs @ mean)
    log_std = policy["last_fc_log_std.weight"], policy["last_fc_log_std.bias"]
    last = (torch.cat([mean_weight, log_std[0]]), torch.cat([mean_bias, log_std[1]]))
    return _sequential("actor.net", [first, *hidden, last])
