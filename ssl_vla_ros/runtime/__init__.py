# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Run an exported bundle on a robot: numpy, onnxruntime and cv2, nothing of the training side.

The nodes use what is here, and so may any program without ROS; importing it takes less than a
second and never loads torch.
"""
