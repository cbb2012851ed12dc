# SPDX-License-Identifier: Apache-2.0
"""Packaging for pip and for colcon (ament_python).

All metadata is here and none in a ``[project]`` table of pyproject.toml: colcon reads setup.py only. For a
symlinked install it runs this file beside the packages and the data files and nothing else. The exact
versions of the dependencies are in requirements.lock.
"""

import runpy
from glob import glob

from setuptools import find_packages, setup

NAME = "tigr_ros"
NODES = ("sim_node", "policy_node", "train_node", "view_node", "record_node")
PACKAGES = ("envs", "tigr_core", "tigr_ros")

setup(
    name=NAME,
    version=runpy.run_path("tigr_core/version.py")["__version__"],
    description="Task-inference meta-reinforcement learning (TIGR) for robots, from training to ROS 2",
    author="The tigr_ros authors",
    maintainer="The tigr_ros maintainers",
    maintainer_email="maintainers@tigr-ros.example",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[pattern for name in PACKAGES for pattern in (name, f"{name}.*")]),
    package_data={"tigr_core": ["kernels/*.[ch]pp", "templates/*.j2", "bundles/*.tigr"], "tigr_ros": ["loopback.xml"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", sorted(glob("launch/*.launch.py"))),
        (f"share/{NAME}/config", sorted(glob("config/*"))),
    ],
    # The nodes twice: under the names of `ros2 run tigr_ros ...`, and under names of their own for pip's bin folder.
    entry_points={
        "console_scripts": [
            "tigr = tigr_core.cli:main",
            "tigr-demo = tigr_ros.start:demo",
            "tigr-record = tigr_ros.start:record",
            *(f"{node} = tigr_ros.start:{node}" for node in NODES),
            *(f"tigr-{node.replace('_', '-')} = tigr_ros.start:{node}" for node in NODES),
        ]
    },
    zip_safe=True,
    install_requires=[
        "gymnasium>=1.1",
        "jinja2",
        "matplotlib",
        "mujoco>=3.3",
        "numpy",
        "pydantic>=2",
        "PyYAML",
        "rich",
        "safetensors",
        "tensorboard",
        "torch>=2.4",
        "typer",
    ],
    extras_require={
        "ray": ["ray"],
        # In an environment of its own: it asks for an older MuJoCo than requirements.lock has.
        "metaworld": ["metaworld>=3"],
        "record": ["mcap", "mcap-ros2-support"],
        "video": ["imageio-ffmpeg"],
        # Only where no ROS 2 installation provides them. The distribution is chosen by the lock file.
        "ros": [
            "ros-rclpy[fastrtps]",
            "ros-builtin-interfaces",
            "ros-diagnostic-msgs",
            "ros-geometry-msgs",
            "ros-lifecycle-msgs",
            "ros-nav-msgs",
            "ros-rcl-interfaces",
            "ros-rosgraph-msgs",
            "ros-sensor-msgs",
            "ros-std-msgs",
            "ros-std-srvs",
            "ros-visualization-msgs",
        ],
        "test": ["colcon-common-extensions", "mypy", "pytest", "pytest-timeout", "rosbags", "ruff", "types-PyYAML"],
    },
)
