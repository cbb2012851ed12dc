# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 side: thin nodes around `tigr_core`.

May import ``envs`` and ``tigr_core``; the only package that imports ``rclpy`` and message packages. Nothing
mathematical lives here.
"""
