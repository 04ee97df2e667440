"""Packaging of micro-musicgen.

`config/` and `assets/` stay at the root for people and travel in the wheel as `audiocraft/_config` and
`audiocraft/_assets`; `audiocraft.environment.resource_dir` finds them either way.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "audiocraft/__init__.py").read_text()).group(1)  # type: ignore[union-attr]


def data_files(folder: str) -> list[str]:
    """All files below `folder`, relative to it."""
    return sorted(str(path.relative_to(HERE / folder)) for path in (HERE / folder).rglob("*") if path.is_file())


setup(
    name="micro-musicgen",
    version=VERSION,
    description="Train a very small MusicGen from scratch on one GPU, from a small folder of audio, and play with it",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[*find_packages(include=["audiocraft", "audiocraft.*"]), "audiocraft._config", "audiocraft._assets"],
    package_dir={"audiocraft._config": "config", "audiocraft._assets": "assets"},
    package_data={
        "audiocraft._config": data_files("config"),
        "audiocraft._assets": data_files("assets"),
        "audiocraft.onnx_player": ["player/*.py"],  # no package: it is copied beside the models it plays
    },
    install_requires=[
        "torch>=2.6",
        "numpy>=1.26",
        "dora-search>=0.1.12",
        "flashy>=0.0.2",
        "hydra-core>=1.3",
        "omegaconf>=2.3",
        "julius>=0.2.7",
        "soundfile>=0.12",
        "av>=12",
        "pyloudnorm>=0.1.1",
        "scipy>=1.11",
        "huggingface_hub>=0.34",  # the first one with the command hf
        "safetensors>=0.4",
        "matplotlib>=3.8",
        "typer>=0.12",
        "tqdm>=4.66",
    ],
    extras_require={
        "text": ["transformers>=4.44", "sentencepiece>=0.2"],
        "app": ["gradio>=5"],
        "onnx": ["onnx>=1.16", "onnxruntime>=1.20"],
        "dev": [
            "ruff",
            "import-linter",
            "mypy",
            "pytest>=8",
            "pytest-xdist",
            "tensorboard",
            "transformers>=4.44",
            "sentencepiece>=0.2",
            "onnx>=1.16",
            "onnxruntime>=1.20",
            "types-PyYAML",
            "types-tqdm",
        ],
    },
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Sound/Audio",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
