"""Package metadata. torch, torchvision and onedl-mmcv are not required here: their builds depend on
the machine, so users bring them (``make setup`` installs a pinned set); ``import rarts_mm`` reports
what is missing or does not fit."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def read_version() -> str:
    scope: dict[str, str] = {}
    exec((HERE / "rarts_mm" / "version.py").read_text(encoding="utf-8"), scope)
    return scope["__version__"]


def read_description() -> str:
    readme = HERE / "README.md"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


setup(
    name="rarts_mm",
    version=read_version(),
    description="RARTS search, pruning and fine-tuning for MMDetection and MMPretrain models",
    long_description=read_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["rarts_mm", "rarts_mm.*"]),
    entry_points={"console_scripts": ["rarts-mm=rarts_mm.console:main"]},
    python_requires=">=3.10,<3.13",
    install_requires=[
        "onedl-mmengine>=0.10.12,<0.11",
        "onedl-mmdetection>=3.5.1,<3.6",
        "onedl-mmpretrain>=1.3.6,<1.4",
        "timm>=1.0",
        "pycocotools>=2.0.7",
        "numpy",
        "packaging",
        "pillow",
        "pyyaml",
        "rich",
        "matplotlib",
        "scipy>=1.12",
        "shapely>=2",
        "yapf>=0.40.2",
    ],
    extras_require={
        "digits": ["scikit-learn"],
        "nats": ["nats_bench"],
        "slurm": ["submitit"],
        "dev": [
            "hypothesis",
            "pytest>=8",
            "pytest-timeout",
            "pytest-xdist",
            "ruff>=0.12",
            "scikit-learn",
            "submitit",
        ],
    },
    classifiers=[
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Operating System :: POSIX",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
