# SPDX-License-Identifier: Apache-2.0
"""Recordings of a policy at work: read from MCAP files (`tigr-record`, ``ros2 bag``) without ROS, inferred again, and
turned into episodes.

An *answer* is one control step of the policy: the state it answered, what that added to its context, and what it then
believed. Answers whose transitions join up make an episode.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import envs
from envs.spec import RobotSpec
from tigr_core.bundle import Bundle
from tigr_core.controller import Controller
from tigr_core.errors import UserError
from tigr_core.rollout import Episodes

NEEDED = ("spec", "joint_states", "transition", "latent", "task_probabilities")


class Heard(NamedTuple):
    """A message of a recording."""

    time_ns: int  # when the recorder took it in
    sent_ns: int  # when it was published, by the publisher's clock; the same where that was not recorded
    message: Any


@dataclass(frozen=True)
class Answer:
    """One control step of the policy. Sizes: J joints, A actuators, L latent, B base tasks, P task parameters."""

    time_ns: int  # wall clock of the recorder, when the estimate came
    stamp_ns: int  # of the state
    positions: np.ndarray  # [J]
    velocities: np.ndarray  # [J]
    context_length: int  # transitions in the context, with the one added now
    reward: float  # of the transition added; nan if none was
    action: np.ndarray  # [A] of it, as applied
    latent: np.ndarray  # [L]
    task_probabilities: np.ndarray  # [B]
    response_s: float  # from state to command, as the recorder heard them; nan without command
    truth: dict[str, float]  # info of the simulator about the transition that led here; empty on a robot


@dataclass(frozen=True)
class Recording:
    """What a policy did and believed."""

    path: Path
    spec: dict[str, Any]  # of the policy: `~/spec`
    answers: list[Answer]

    @property
    def robot(self) -> RobotSpec:
        """The robot that was recorded."""
        return RobotSpec.from_dict(self.spec["robot"])

    @property
    def duration_s(self) -> float:
        """From the first answer to the last."""
        return (self.answers[-1].time_ns - self.answers[0].time_ns) * 1e-9 if self.answers else 0.0


@dataclass(frozen=True)
class Comparison:
    """How estimates that were inferred again differ from those recorded."""

    compared: int
    skipped: int  # answers whose context began before the recording
    largest: dict[str, float]  # name of the estimate to its largest absolute difference
    first: int | None  # place of the first answer that differs


def read_recording(path: Path, policy: str = "policy_node") -> Recording:
    """Read an MCAP file, or the folder of a ``ros2 bag`` that holds one.

    Raises:
        UserError: no such file, a damaged one, or one without a policy's answers.
    """
    file = _file_of(path)
    heard: dict[str, list[Heard]] = {}
    for topic, message in _messages(file):
        heard.setdefault(_short(topic, policy), []).append(message)
    missing = [name for name in NEEDED if name not in heard]
    if missing:
        raise UserError(
            f"{file} has no messages on {', '.join(missing)}; it has {', '.join(sorted(heard)) or 'none'}",
            expected=f"a recording of the policy {policy}, its states and its estimates",
            fix="record with `tigr-record`, or name the policy with --policy",
        )
    spec = json.loads(heard["spec"][-1].message.data)
    return Recording(path, spec, list(_answers(heard, RobotSpec.from_dict(spec["robot"]))))


def infer_again(recording: Recording, bundle: Bundle) -> Comparison:
    """Run inference over a recording and hold it against what was recorded.

    Raises:
        UserError: the bundle is for another robot or has other base tasks or another latent.
    """
    _require_fit(recording, bundle)
    controller, robot = Controller(bundle.model), bundle.robot
    components, names = np.array(bundle.info.component_to_task), bundle.info.base_tasks
    length, largest = -1, dict.fromkeys(("latent", "task_probabilities"), 0.0)
    compared = skipped = 0
    first = None
    for place, answer in enumerate(recording.answers):
        obs = robot.observe(answer.positions, answer.velocities)[None]
        if answer.context_length == 0:
            controller.reset()
            length = 0
        elif length >= 0 and answer.context_length == length + 1:
            controller.observe(answer.action[None], np.array([answer.reward]), obs)
            length += 1
        elif answer.context_length != length:
            length = -1  # what came before was not recorded
        controller.act(obs)
        if length < 0:
            skipped += 1
            continue
        estimate = controller.estimate
        probabilities = np.bincount(components, estimate.mixture_weights[0], minlength=len(names))
        differences = {
            "latent": np.abs(estimate.latent[0] - answer.latent).max(),
            "task_probabilities": np.abs(probabilities - answer.task_probabilities).max(),
        }
        largest = {name: max(largest[name], float(value)) for name, value in differences.items()}
        if first is None and any(differences.values()):
            first = place
        compared += 1
    return Comparison(compared, skipped, largest, first)


def to_episodes(recording: Recording, *, episode_steps: int | None = None, shortest: int = 2) -> Episodes:
    """Return the chains of transitions as episodes, cut to `episode_steps` and dropped below `shortest`.

    Component weights are those of the base tasks: component k stands for base task k. Where the true task was not
    recorded its label is the inferred one.

    Raises:
        UserError: nothing is left.
    """
    chains = list(_chains(recording.answers, episode_steps))
    chains = [chain for chain in chains if len(chain) > shortest]
    if not chains:
        raise UserError(
            f"{recording.path} has no {shortest} transitions in a row", expected="a longer recording", fix="record more"
        )
    longest = episode_steps or max(len(chain) - 1 for chain in chains)
    robot = recording.robot
    with closing(envs.ENVIRONMENTS[recording.spec["env_id"]].make_robot(1)) as model:
        parts = [_episode(chain, robot, model, longest) for chain in chains]
    return Episodes(**{f.name: np.stack([part[f.name] for part in parts]) for f in fields(Episodes)})


def _file_of(path: Path) -> Path:
    found = sorted(path.glob("*.mcap")) if path.is_dir() else [path]
    if len(found) != 1 or not found[0].is_file():
        raise UserError(
            f"{'no recording' if not path.is_dir() else f'{len(found)} .mcap files'} at {path}",
            expected="an .mcap file, or a folder that holds one",
            fix="check the path",
        )
    return found[0]


def _messages(file: Path) -> Iterator[tuple[str, Heard]]:
    """Yield topics and messages, in the order of their times."""
    try:
        from mcap.exceptions import McapError
        from mcap.reader import make_reader
        from mcap_ros2.decoder import DecoderFactory
    except ImportError:
        raise UserError(
            "reading recordings needs the packages mcap and mcap-ros2-support, which are not installed",
            expected="the extra `record`",
            fix="pip install mcap mcap-ros2-support",
        ) from None
    with file.open("rb") as stream:
        try:
            reader = make_reader(stream, decoder_factories=[DecoderFactory()])
            for _, channel, message, decoded in reader.iter_decoded_messages():
                yield channel.topic, Heard(message.log_time, message.publish_time or message.log_time, decoded)
        except (McapError, ValueError, EOFError, OSError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(
                f"{file} is damaged or no recording: {reason}",
                expected="a complete MCAP file",
                fix="`mcap recover` may mend one that was cut short",
            ) from None


def _short(topic: str, policy: str) -> str:
    """Return a topic without namespace and policy: ``/ns/policy_node/latent`` is ``latent``."""
    parts = topic.strip("/").split("/")
    if len(parts) >= 2 and parts[-2] == policy:
        return {"task": "inferred_task"}.get(parts[-1], parts[-1])
    return parts[-1]


def read_label(message: Any) -> tuple[int | None, tuple[str, ...]]:
    """Return the stamp in ns and the labels of an array labelled ``name@stamp:first,second,...``."""
    name, _, labels = message.layout.dim[0].label.partition(":")
    stamp = name.partition("@")[2]
    return int(stamp) if stamp else None, tuple(labels.split(","))


def _by_stamp(messages: Sequence[Heard]) -> dict[int, list[Heard]]:
    """Sort messages by the stamp in their header or label [ns]; those without are left out."""
    found: dict[int, list[Heard]] = {}
    for heard in messages:
        if hasattr(heard.message, "header"):
            stamp = heard.message.header.stamp
            stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        else:
            stamp_ns, _ = read_label(heard.message)
        if stamp_ns is not None:
            found.setdefault(stamp_ns, []).append(heard)
    return found


def _partners(ours: Sequence[Heard], theirs: Sequence[Heard]) -> dict[int, Heard]:
    """Pair messages of one stamp by when they were sent: place among ours to theirs.

    Simulated time begins anew with each episode, so stamps come again; two belong together if neither has a nearer one.
    Where one was not recorded, the other thus has no partner, instead of one from another episode.
    """
    if not ours or not theirs:
        return {}
    distance = np.abs(np.subtract.outer([heard.sent_ns for heard in ours], [heard.sent_ns for heard in theirs]))
    nearest, back = distance.argmin(axis=1), distance.argmin(axis=0)
    return {place: theirs[other] for place, other in enumerate(nearest) if back[other] == place}


def _answers(heard: dict[str, list[Heard]], robot: RobotSpec) -> Iterator[Answer]:
    others = {name: _by_stamp(heard.get(name, [])) for name in ("joint_states", "latent", "task_probabilities")}
    others["task_info"] = _by_stamp(heard.get("task_info", []))
    others["command"] = _by_stamp([*heard.get("commands", []), *heard.get("shadow_commands", [])])
    found: list[tuple[int, Heard, dict[str, Heard | None]]] = []
    for stamp, transitions in _by_stamp(heard["transition"]).items():
        partners = {name: _partners(transitions, by_stamp.get(stamp, [])) for name, by_stamp in others.items()}
        for place, transition in enumerate(transitions):
            found.append((stamp, transition, {name: pairs.get(place) for name, pairs in partners.items()}))
    for stamp, transition, partner in sorted(found, key=lambda answer: answer[1].time_ns):
        state, latent, weights = partner["joint_states"], partner["latent"], partner["task_probabilities"]
        if state is None or latent is None or weights is None:
            continue  # at either end of the recording
        command, info, message = partner["command"], partner["task_info"], transition.message
        at = [list(state.message.name).index(joint) for joint in robot.joints]
        yield Answer(
            time_ns=transition.time_ns,
            stamp_ns=stamp,
            positions=np.array(state.message.position)[at],
            velocities=np.array(state.message.velocity)[at],
            context_length=round(message.data[0]),
            reward=float(message.data[1]),
            action=np.array(message.data[2:]),
            latent=np.array(latent.message.data),
            task_probabilities=np.array(weights.message.data),
            response_s=(command.time_ns - state.time_ns) * 1e-9 if command else np.nan,
            truth=dict(zip(read_label(info.message)[1], info.message.data, strict=True)) if info else {},
        )


def _chains(answers: Sequence[Answer], most: int | None) -> Iterator[list[Answer]]:
    """Yield runs of answers, each of which but the first added the transition from the one before."""
    chain: list[Answer] = []
    for answer in answers:
        goes_on = chain and answer.context_length == chain[-1].context_length + 1
        if chain and (not goes_on or len(chain) - 1 == most):
            yield chain
            chain = chain[-1:] if goes_on else []
        chain.append(answer)
    yield chain


def _episode(chain: list[Answer], robot: RobotSpec, model: Any, longest: int) -> dict[str, np.ndarray]:
    """Return the fields of one episode, padded to `longest` steps."""
    steps = chain[1:]
    positions = np.stack([answer.positions for answer in chain])
    velocities = np.stack([answer.velocities for answer in chain])
    states = model.state(positions, velocities)
    quantities = model.quantities(states[:-1], states[1:])
    flat = np.concatenate([quantities[name].reshape(len(steps), -1) for name in model.quantity_dims], axis=1)
    inferred = [int(answer.task_probabilities.argmax()) for answer in steps]
    truth = {
        name: np.array([answer.truth.get(name, 0.0) for answer in steps], dtype=np.float32)
        for name in ("tracked_value", "tracked_target", "tracking_error")
    }
    width = max(1, max(Counter(key.partition("/")[0] for key in answer.truth)["parameter"] for answer in steps))
    arrays = {
        "obs": robot.observe(positions, velocities).astype(np.float32),
        "action": np.stack([answer.action for answer in steps]).astype(np.float32),
        "reward": np.array([answer.reward for answer in steps], dtype=np.float32),
        "terminated": np.zeros(len(steps), dtype=bool),
        "base_task": np.array(
            [round(answer.truth.get("base_task", guess)) for answer, guess in zip(steps, inferred, strict=True)]
        ),
        "parameter": np.array(
            [[answer.truth.get(f"parameter/{i}", 0.0) for i in range(width)] for answer in steps], dtype=np.float32
        ),
        "quantities": flat.astype(np.float32),
        "mixture_weights": np.stack([answer.task_probabilities for answer in chain]).astype(np.float32),
        "latent": np.stack([answer.latent for answer in chain]).astype(np.float32),
        **truth,
    }
    missing = longest - len(steps)
    padded = {name: np.pad(a, [(0, missing), *[(0, 0)] * (a.ndim - 1)], mode="edge") for name, a in arrays.items()}
    return {**padded, "length": np.array(len(steps))}


def _require_fit(recording: Recording, bundle: Bundle) -> None:
    recorded, info = recording.spec, bundle.info
    wrong = [
        f"{name} {recorded.get(name)!r}, not {value!r}"
        for name, value in {
            "env_id": info.env_id,
            "base_tasks": info.base_tasks,
            "latent_dim": info.model.latent_dim,
        }.items()
        if recorded.get(name) != value
    ]
    if wrong:
        raise UserError(
            f"{recording.path} was recorded with {'; '.join(wrong)}",
            expected="a bundle for the robot and the base tasks of the recording",
            fix="name the bundle that was recorded, or one like it, with --bundle",
        )
