# SPDX-License-Identifier: Apache-2.0
"""A training on topics: the same run folder and the same numbers as `tigr train`.

| name             | type                                 | meaning                                                 |
|------------------|--------------------------------------|---------------------------------------------------------|
| `~/metrics`      | std_msgs/Float64MultiArray, labelled | each epoch's row of progress.csv, nan for an empty cell |
| `~/latent_space` | visualization_msgs/MarkerArray       | where z settled in the test tasks, at each evaluation   |
| `~/progress`     | std_msgs/Float64                     | finished epochs over all epochs                         |
| `~/status`       | std_msgs/String                      | epoch, phase and time left; paused, complete or stopped |
| `/diagnostics`   | diagnostic_msgs/DiagnosticArray      | 1 Hz                                                    |
| `~/pause`        | std_srvs/SetBool                     | save and wait after the present step; go on             |
| `~/save`         | std_srvs/Trigger                     | write the checkpoint; answers when it is on the disk    |
| `~/stop`         | std_srvs/Trigger                     | save and end, as SIGINT and SIGTERM do                  |

What is published of the training is kept for those who come late. A thread of its own trains and publishes what it
has reached; the executor takes requests and reports. Pausing and saving wait for the collecting or encoding that is
running; stopping gives it up, and it is done again when the run goes on. A node that is killed loses what came after
the last checkpoint; the run that goes on from there gives the same numbers.
"""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import MarkerArray

from tigr_core.bundle import Bundle
from tigr_core.rollout import Episodes
from tigr_core.run import DEVICES, Run, RunOptions, open_run
from tigr_core.run_report import REPORT
from tigr_core.trainer import BEST, CHECKPOINT
from tigr_ros import messages, qos
from tigr_ros.markers import latent_cloud
from tigr_ros.parameters import Parameter, declare
from tigr_ros.process import StopRequest, run
from tigr_ros.training import Answer, Requests, TrainingProgress

PARAMETERS = (
    Parameter("config", "quick", "shipped configuration or path of a YAML file", read_only=True),
    Parameter(
        "overrides", "", "changed settings, e.g. training.epochs=20; a list for several", or_list=True, read_only=True
    ),
    Parameter("seed", -1, "seed of the run; -1: the configuration's", low=-1, high=2**31 - 1, read_only=True),
    Parameter("output", "output", "where run folders are made: <output>/<env>/<run>", read_only=True),
    Parameter("resume", "", "folder of a run to go on with; empty: a new run", read_only=True),
    Parameter("device", "auto", "where to learn", choices=DEVICES, read_only=True),
    Parameter("workers", 0, "Ray processes that collect; 0: this process does", low=0, high=1024, read_only=True),
    Parameter("ray_address", "", "Ray cluster that they run on: auto or HOST:PORT; empty: here", read_only=True),
)

EPOCHS_KEPT = 1000  # for those who come late
STATUS_PERIOD_S = 0.2


class TrainNode(Node):
    """Owns the training's thread."""

    def __init__(self, stop: StopRequest) -> None:
        super().__init__("train_node")
        self._settings = declare(self, PARAMETERS)
        self._stop_request = stop
        self._requests = Requests()
        self._progress = TrainingProgress(self.get_logger().info, self._publish_epoch, self._publish_latent_space)
        self._run: Run | None = None
        self._end = ""  # what became of the training
        self._told: tuple[str, float] | None = None
        self._create_topics()
        self._create_services()
        self._thread = threading.Thread(target=self._train, name="training")
        self._thread.start()

    def stop(self) -> None:
        """Save and end the training, and say so."""
        self._requests.stop()
        self._thread.join()
        self._publish_status()
        qos.flush(self._status)
        self._publish_diagnostics()

    def _create_topics(self) -> None:
        def publisher(kind: type, topic: str, profile: QoSProfile) -> Publisher[Any]:
            return qos.create_publisher(self, kind, topic, profile)

        every_epoch = QoSProfile(depth=EPOCHS_KEPT, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self._metrics = publisher(Float64MultiArray, "~/metrics", every_epoch)
        self._latent_space = publisher(MarkerArray, "~/latent_space", qos.LATCHED)
        self._share_done = publisher(Float64, "~/progress", qos.LATCHED)
        self._status = publisher(String, "~/status", qos.LATCHED)
        self._diagnostics = publisher(DiagnosticArray, "/diagnostics", qos.STATE)

    def _create_services(self) -> None:
        self.create_service(SetBool, "~/pause", self._on_pause)
        # In a group of its own: the others are taken while it waits.
        self.create_service(Trigger, "~/save", self._on_save, callback_group=MutuallyExclusiveCallbackGroup())
        self.create_service(Trigger, "~/stop", self._on_stop)
        clock = Clock(clock_type=ClockType.STEADY_TIME)  # not the node's, which may stand still
        self.create_timer(STATUS_PERIOD_S, self._publish_status, clock=clock)
        self.create_timer(1.0, self._publish_diagnostics, clock=clock)

    def _options(self) -> RunOptions:
        settings = self._settings
        overrides = [settings["overrides"]] if isinstance(settings["overrides"], str) else settings["overrides"]
        return RunOptions(
            config=settings["config"],
            overrides=tuple(override for override in overrides if override),
            seed=settings["seed"] if settings["seed"] >= 0 else None,
            resume=Path(settings["resume"]).expanduser() if settings["resume"] else None,
            output=Path(settings["output"]).expanduser(),
            device=settings["device"],
            workers=settings["workers"],
            ray_address=settings["ray_address"] or None,
        )

    # ---- the training's thread ----

    def _train(self) -> None:
        last = Answer(False, "the training failed")
        try:
            with open_run(self._options(), progress=self._progress, stop=self._requests) as self._run:
                last = self._train_in(self._run)
            self.get_logger().info(last.message)
            self._stop_request.set()
        except Exception as error:
            last = Answer(False, str(error))
            self._stop_request.fail(error)
        finally:
            self._end = last.message
            self._requests.close(last)

    def _train_in(self, run: Run) -> Answer:
        saved = Answer(True, f"saved in {run.folder / CHECKPOINT}")
        complete = run.trainer.run()
        while not complete and self._requests.serve(saved):
            complete = run.trainer.run()
        if complete and run.report() is not None:
            return Answer(True, f"complete: report in {run.folder / REPORT}, bundle in {run.folder / BEST}")
        return Answer(True, f"stopped and saved; go on with the parameter resume:={run.folder}")

    def _publish_epoch(self, row: dict[str, float]) -> None:
        assert self._run is not None
        columns = self._run.trainer.columns
        values = np.array([row.get(name, math.nan) for name in columns])
        self._metrics.publish(messages.labelled_array(values, tuple(columns), "metrics"))

    def _publish_latent_space(self, bundle: Bundle, test: Episodes) -> None:
        self._latent_space.publish(latent_cloud(bundle.info, test, self.get_clock().now().to_msg()))

    # ---- the executor's callbacks ----

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._requests.pause(request.data)
        response.success, response.message = True, "pauses after the present step" if request.data else "goes on"
        return response

    async def _on_save(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        answer: Answer = await self._requests.save()  # type: ignore[assignment]
        response.success, response.message = answer.success, answer.message
        return response

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._requests.stop()
        response.success, response.message = True, "saves and ends"
        return response

    def _publish_status(self) -> None:
        news = (self._state(), self._progress.share_done)
        if news != self._told:
            self._told = news
            self._status.publish(String(data=news[0]))
            self._share_done.publish(Float64(data=news[1]))

    def _state(self) -> str:
        return self._end or f"{'paused in ' if self._requests.waiting else ''}{self._progress}"

    def _publish_diagnostics(self) -> None:
        mismatches = qos.mismatches(self)
        level, text = (DiagnosticStatus.ERROR, mismatches) if mismatches else (DiagnosticStatus.OK, self._state())
        robot = self._run.trainer.robot.name if self._run else ""
        name = self.get_fully_qualified_name()
        message = DiagnosticArray(status=[messages.diagnostic(name, "training", robot, level, text, self._values())])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _values(self) -> dict[str, object]:
        if self._run is None:
            return {}
        row, trainer = self._progress.last_row, self._run.trainer
        return {
            "run": self._run.folder,
            "device": trainer.device,
            "environment steps": trainer.env_steps,
            "inference steps": trainer.learners.inference.steps,
            "SAC steps": trainer.learners.sac.steps,
            "training return": row.get("train_return", math.nan),
            "test return": row.get("test_return", math.nan),
            "time left [s]": self._progress.time_left_s,
            "checkpoint age [s]": _age_s(self._run.folder / CHECKPOINT),
        }


def _age_s(file: Path) -> float:
    try:
        return max(time.time() - file.stat().st_mtime, 0.0)
    except FileNotFoundError:
        return math.nan


def main() -> None:
    """Run the node."""
    run(TrainNode)
