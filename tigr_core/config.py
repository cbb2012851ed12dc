# SPDX-License-Identifier: Apache-2.0
"""The configuration of a training: typed, frozen, range-checked, read from YAML.

Defaults are the settings of the paper (arXiv 2108.03718) for half-cheetah-eight; files in ``config/`` say what differs.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tigr_core.errors import UserError, nearest

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=0.0)]
PCGradGroups = Literal["true_task", "most_likely_task", "random_task"]


class Section(BaseModel):
    """A frozen group of settings: unknown keys, wrong types and impossible ranges are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class EnvConfig(Section):
    """Which tasks to train on."""

    id: str = "tigr/HalfCheetahEight-v0"
    base_tasks: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = (
        None  # None: all of the environment
    )
    split_with_all: bool = False  # tasks as if base_tasks were all there are; those of others are left out then
    num_train_tasks: Positive = 80
    num_test_tasks: Positive = 40
    episode_steps: Positive = 200


class ModelConfig(Section):
    """Sizes of encoder, decoder and policy. Sections 2 of the paper and its reference settings."""

    method: Literal["tigr", "pearl"] = "tigr"  # how the task is inferred; the other is for comparison (pearl.py)
    context: Literal["stream", "window"] = "stream"
    encoder: Literal["gru", "mlp", "conv", "transformer"] = "gru"  # all but gru need a `window` (window_encoder.py)
    timestep_combination: Literal["multiplication", "network", "none"] = "multiplication"  # of all but gru
    context_length: Positive = 64  # transitions a `window` sees; `stream` carries the GRU state without limit
    num_components: Positive = 8
    latent_dim: Positive = 8
    turning: Annotated[tuple[Count, ...], Field(strict=False)] = ()  # angles in the observation (model.py)
    reward_gain: Annotated[float, Field(gt=0)] = 1.0  # how much larger than normalised rewards are read (method.md)
    reward_floor: float | None = None  # rewards below it count as it, for inference and control (method.md)
    reward_changes: bool = False  # encoders also read control effort, and how reward and effort changed (method.md)
    own_next_obs_statistics: bool = False  # to normalise next observations; else those of observations (method.md)
    encoder_width: Annotated[float, Field(gt=0)] = 5.0  # hidden size of the GRU per input of a time step
    decoder_width: Annotated[float, Field(gt=0)] = 5.0  # hidden size of the decoders per input
    policy_hidden: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)] = (300, 300, 300)
    critic_layer_norm: bool = False


class InferenceConfig(Section):
    """Training of encoder and decoder."""

    steps_per_epoch: Count = 128
    first_epoch_steps: Count = 128  # on the exploration data, before the policy learns anything
    encoder_learning_rate: Rate = 3e-4
    decoder_learning_rate: Rate = 3e-4
    last_rate_share: Rate = 1.0  # both fall to so much of themselves by the last epoch, by the same factor each
    batch_size: Positive = 4096  # contexts a step
    sequence_length: Positive = 100  # stream: time steps of a spliced sequence
    targets_per_sequence: Positive = 32  # stream: contexts read off a sequence
    decoded_per_target: Positive = 1  # stream: transitions of the segment that the decoder reconstructs from one z
    segment_length: Positive = 100  # stream: mean time steps between two splices
    shifted: bool = False  # contexts as SAC's transitions, by `sac.shifted` (random_shift.py)
    kl_weight: Weight = 1e-3
    separation_weight: Weight = 5e-4
    sparsity_weight: Weight = 1e-3
    supervision_weight: Weight = 0.1  # 0: components find the base tasks by themselves
    anchor_weight: Weight = (
        0.0  # above 0: pulls z to a fixed place for each known task (not in the paper; see task_code.py)
    )
    rebalance_every: Positive = 50
    pcgrad: PCGradGroups | None = None  # groups of a batch whose gradients are kept from opposing each other
    early_stopping_steps: Count = 0  # above 0: ends an epoch so long after its lowest validation loss
    validation_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2


class SACConfig(Section):
    """Soft actor-critic on (observation, latent)."""

    steps_per_epoch: Count = 2048
    beside_inference: Share = 0.0  # of these, taken while inference learns, on latents of before (learners.py)
    batch_size: Positive = 256
    draws_per_transition: Positive = 1  # in an epoch: more, and fewer episodes have to be encoded for it
    discount: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.99
    target_rate: Rate = 0.005
    actor_learning_rate: Rate = 3e-4
    critic_learning_rate: Rate = 3e-4
    actor_every: Positive = 1  # critic steps for one actor step
    critic_sees_task: bool = False  # critics are told the task, the actor is not (not in the paper; see sac_learner.py)
    told_share: Share = 0.0  # of transitions on which the actor, too, is told (not in the paper)
    shifted: Annotated[tuple[Count, ...], Field(strict=False)] = ()  # positions in observations (random_shift.py)
    shift: Weight = 0.0  # up to so far at random, in m
    unshifted_tasks: Annotated[tuple[str, ...], Field(strict=False)] = ()  # whose rewards depend on these
    teachers: Annotated[tuple[str, ...], Field(strict=False)] = ()  # bundles to imitate, or their folders (teachers.py)
    teacher_weight: Weight = 1.0  # of the squared difference to their actions, beside the values of the critics
    teacher_half_life: Count = 0  # SAC steps over which that weight falls by half; 0: it stays
    pcgrad: PCGradGroups | None = None  # as for inference (pcgrad.py)
    imagined_share: Share = 0.0  # of each batch that the decoder imagines (imagination.py)
    imagined_horizon: Positive = 5  # steps of its roll-outs
    imagined_start: Share = 0.2  # of the epochs, before it begins: the decoder has to learn first
    control_cost_warmup: Count = 0  # steps over which control comes to cost what it does (not in the paper)
    temperature: Annotated[float, Field(gt=0.0)] = 0.2
    learn_temperature: bool = False
    min_temperature: Weight = 0.0
    min_temperature_half_life: Count = 0  # SAC steps over which that floor falls by half; 0: it stays
    temperature_learning_rate: Rate = 3e-4
    target_entropy_factor: float = 1.0  # target entropy = -factor * action dimension


class TrainingConfig(Section):
    """The epoch loop."""

    epochs: Positive = 2001
    tasks_per_epoch: Positive = 80  # one episode each
    exploration_episodes: Count = 0  # per train task, uniformly random actions, before the first epoch
    replay_capacity: Positive = 10_000_000  # transitions
    replay_sampling: Literal["even", "linear"] = "even"  # linear: new episodes up to nine times as often as old ones
    told_share: Share = 0.0  # of episodes collected with the task told; 1: evaluated so, too, and nothing is inferred
    greedy_share: Share = 0.0  # of collected episodes, by the most likely action, as on the robot
    scripted_share: Share = 0.0  # of collected episodes, exploration too, by the environment's scripted policies
    change_share: Share = (
        0.0  # of collected episodes, but for told ones, whose task changes on the way (not in the paper)
    )
    hard_task_share: Share = 0.0  # of tasks drawn by what `hard_tasks` says, not evenly (task_sampling.py)
    hard_tasks: Literal["behind", "worst", "best"] = "behind"  # by returns of base tasks; by how those of tasks grow
    relabel_share: Share = 0.0  # of old episodes that pose as another task's
    relabel_episodes: Positive = 2000  # drawn anew each epoch
    relabel_candidates: Positive = 1  # parameters drawn for every other such episode, the best of which it is given
    relabel_best_task: bool = False  # such an episode is given the base task it is best at; else any
    relabel_same_share: Share = 0.0  # of such episodes that keep their base task and get any parameter
    relabel_change_share: Share = 0.0  # of such episodes whose new task begins on the way
    relabel_worst_reward: float = -4.0  # per step; tasks with worse ones are not given (relabelling.py)
    evaluate_every: Positive = 10
    checkpoint_every: Positive = 10
    average_epochs: Count = 0  # above 0: evaluated and shipped are means of weights over so long (weight_average.py)
    asynchronous: bool = False  # an epoch's episodes are collected during the one before, by older weights (ahead.py)
    fast: bool = False  # networks in C++, bfloat16 where it pays: other last digits (fast.py); needs a C++ compiler
    task_change_steps: Positive = 100  # in the non-stationary evaluation of the report
    reference_output: bool = False  # progress.csv and TensorBoard in the reference's names, too (reference_output.py)


class Config(Section):
    """A whole training run."""

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = "custom"
    description: str = ""
    seed: Count = 0
    env: EnvConfig = EnvConfig()
    model: ModelConfig = ModelConfig()
    inference: InferenceConfig = InferenceConfig()
    sac: SACConfig = SACConfig()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        wrong = []
        if self.training.replay_capacity < self.env.episode_steps:
            wrong.append(
                f"training.replay_capacity is {self.training.replay_capacity}, less than one episode "
                f"(env.episode_steps is {self.env.episode_steps})"
            )
        if self.sac.min_temperature > self.sac.temperature:
            wrong.append(
                f"sac.min_temperature {self.sac.min_temperature} is above sac.temperature {self.sac.temperature}"
            )
        if self.model.encoder != "gru" and self.model.context != "window":
            wrong.append(f"model.encoder {self.model.encoder} needs model.context window")
        if self.model.timestep_combination == "none" and self.model.encoder != "mlp":
            wrong.append(f"model.timestep_combination none needs model.encoder mlp, found {self.model.encoder}")
        if self.model.reward_changes and self.model.context != "stream":
            wrong.append("model.reward_changes needs model.context stream")
        if self.training.fast and (self.inference.pcgrad or self.sac.pcgrad):
            wrong.append("training.fast is true; inference.pcgrad and sac.pcgrad need false")
        if self.sac.imagined_share > 0.0 and self.sac.teachers:
            wrong.append("sac.teachers have not seen what is imagined: sac.imagined_share needs 0")
        if self.sac.beside_inference > 0.0 and (self.sac.imagined_share > 0.0 or self.model.method == "pearl"):
            wrong.append(
                "sac.beside_inference needs 0 where SAC reads what inference changes meanwhile: what a decoder "
                "imagines (sac.imagined_share above 0), or PEARL's encoder"
            )
        if self.sac.imagined_share > 0.0 and self.model.method == "tigr":
            wrong += self._unfit_for_imagination()
        if self.model.method == "pearl":
            wrong += self._unfit_for_pearl()
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _unfit_for_imagination(self) -> list[str]:
        """Tell where a decoder would say what it never learned: anything, or what codes of tasks mean."""
        inference, sac, wrong = self.inference, self.sac, []
        if inference.steps_per_epoch + inference.first_epoch_steps == 0:
            wrong.append(f"sac.imagined_share {sac.imagined_share} needs inference.steps_per_epoch above 0")
        if (sac.critic_sees_task or sac.told_share > 0.0) and inference.anchor_weight == 0.0:
            wrong.append(
                f"sac.imagined_share {sac.imagined_share} with sac.critic_sees_task or sac.told_share needs "
                "inference.anchor_weight above 0"
            )
        return wrong

    def _unfit_for_pearl(self) -> list[str]:
        wanted = {
            "model.num_components": (self.model.num_components, 1),
            "model.encoder": (self.model.encoder, "gru"),
            "model.reward_changes": (self.model.reward_changes, False),
            "inference.steps_per_epoch": (self.inference.steps_per_epoch, 0),
            "inference.first_epoch_steps": (self.inference.first_epoch_steps, 0),
            "sac.pcgrad": (self.sac.pcgrad, None),
            "sac.critic_sees_task": (self.sac.critic_sees_task, False),
            "sac.told_share": (self.sac.told_share, 0.0),
            "sac.imagined_share": (self.sac.imagined_share, 0.0),
            "training.told_share": (self.training.told_share, 0.0),
            "training.replay_sampling": (self.training.replay_sampling, "even"),
            "training.change_share": (self.training.change_share, 0.0),
            "training.relabel_change_share": (self.training.relabel_change_share, 0.0),
        }
        return [
            f"{key} is {found}; model.method pearl needs {right}"
            for key, (found, right) in wanted.items()
            if found != right
        ]

    def to_yaml(self) -> str:
        """Return the full configuration as YAML, every key stated."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, width=100)


class _Loader(yaml.SafeLoader):
    """Safe YAML with two traps closed: ``3e-4`` is a number (as in YAML 1.2) and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is no plain word", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$|^[-+]?\d[\d_]*\.\d*$|^[-+]?\.\d+([eE][-+]?\d+)?$"),
    list("-+0123456789."),
)


def parse_yaml(text: str, origin: str) -> Any:
    """Parse YAML; a syntax error becomes a `UserError` with file, line and column."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{origin}, line {mark.line + 1}, column {mark.column + 1}" if mark else origin
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{place}: {problem}", expected="well-formed YAML", fix="mend the file at that place") from None


def config_folder() -> Path:
    """Return the folder of the shipped configurations: source tree, pip's ``share`` or a ROS workspace's."""
    share = Path("share/tigr_ros/config")
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    folders = [Path(__file__).parent.parent / "config", *(p / share for p in [Path(sys.prefix), *prefixes])]
    found = next((f for f in folders if (f / "quick.yaml").is_file()), None)
    if found is None:
        raise UserError(
            "the shipped configurations are nowhere to be found",
            expected=f"one of {', '.join(map(str, folders))}",
            fix="install the package again, or pass the path of a YAML file",
        )
    return found


def shipped_configs() -> dict[str, Path]:
    """Return name -> file of the training configurations that come with the package."""
    files = sorted(config_folder().glob("*.yaml"))
    return {f.stem: f for f in files if "\nname:" in f.read_text(encoding="utf-8")}  # others are ROS parameters


def find_config(name: str) -> Path:
    """Return the file for a shipped configuration's name or a path."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_configs()
    if name in shipped:
        return shipped[name]
    raise UserError(
        f"no configuration '{name}'{nearest(name, shipped)}",
        expected=f"a YAML file, a JSON file of the reference, or one of {', '.join(shipped)}",
        fix="run `tigr configs` to see them all",
    )


def load_config(name: str, overrides: list[str] | None = None) -> Config:
    """Read a configuration by name or path and apply ``key=value`` overrides (dotted keys, YAML values)."""
    path = find_config(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}", expected="a readable UTF-8 YAML file", fix="check the path") from None
    data = parse_yaml(text, str(path))
    if not isinstance(data, dict):
        raise UserError(
            f"{path} holds {type(data).__name__}",
            expected="a mapping of sections",
            fix="see config/quick.yaml",
        )
    if not overrides:
        return make_config(data, str(path))
    origin = "--set" if _is_valid(data) else f"{path} with --set"
    for override in overrides:
        _apply_override(data, override)
    return make_config(data, origin)


def override_config(config: Config, overrides: list[str]) -> Config:
    """Return a configuration with ``key=value`` overrides applied."""
    data = config.model_dump(mode="json")
    for override in overrides:
        _apply_override(data, override)
    return make_config(data, "--set")


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {override}", expected="key=value", fix="write for example --set training.epochs=20")
    *sections, last = key.strip().split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise UserError(
                f"--set {override}: '{section}' is no section",
                expected="section.key=value",
                fix="see `tigr configs`",
            )
    data[last] = parse_yaml(value, f"--set {override}")


def make_config(data: dict[str, Any], origin: str, names: Mapping[str, str] | None = None) -> Config:
    """Check a nested mapping and return the `Config`; all mistakes are listed in one `UserError`.

    `names` says what keys are called in the message, where their names are not the user's.
    """
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        problems = [_explain(dict(e), names or {}) for e in error.errors()]
    lines = "\n  ".join(problems)
    raise UserError(
        f"{origin} has {len(problems)} mistake(s):\n  {lines}",
        expected="keys and ranges as said above",
        fix="mend these keys",
    )


def _is_valid(data: dict[str, Any]) -> bool:
    try:
        Config.model_validate(data)
    except ValidationError:
        return False
    return True


def _explain(error: dict[str, Any], names: Mapping[str, str]) -> str:
    path = [str(p) for p in error["loc"]]
    key = names.get(".".join(path[:2]), ".".join(path) or "configuration")
    if error["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        return f"{key}: unknown key{nearest(path[-1], known)}; known here: {', '.join(known)}"
    message = error["msg"].removeprefix("Value error, ").replace("Input should", "should")
    return f"{key}: {message}, found {error['input']!r}" if error["type"] != "value_error" else message


def _known_keys(path: list[str]) -> list[str]:
    section: type[BaseModel] = Config
    for name in path:
        section = section.model_fields[name].annotation  # type: ignore[assignment]
    return list(section.model_fields)
