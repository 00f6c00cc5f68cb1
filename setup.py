"""Packaging of simfrcnn. Tool settings (ruff, mypy, pytest, coverage) live in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION: dict[str, str] = {}
exec((HERE / "simfrcnn" / "version.py").read_text(), VERSION)

# What Detectron2 itself imports. Detectron2 is not on the package index: put its checkout on
# PYTHONPATH.
DETECTRON2_NEEDS = [
    "cloudpickle",
    "hydra-core>=1.1",
    "iopath>=0.1.7,<0.1.10",
    "omegaconf>=2.1,<2.4",
    "packaging",
    "tabulate",
    "termcolor>=1.1",
    "black",
]
# The documentation as a site.
DOCUMENTATION_NEEDS = [
    "mkdocs>=1.6",
    "mkdocs-material>=9.5",
    "mkdocstrings[python]>=0.26",
]
DEVELOPMENT_NEEDS = [
    *DOCUMENTATION_NEEDS,
    "build",  # the test of the packages
    "timm>=1.0.20",  # its tiny test models
    "httpx2",  # the client of Starlette's tests
    "hypothesis",
    "jsonschema>=4",  # report.json against its schema
    "ipykernel",  # it, nbclient and nbformat run a notebook
    "markdown-it-py",  # what a code host makes of a page
    "mypy>=1.10",
    "nbclient>=0.10",
    "nbformat>=5.10",
    "openpyxl>=3.1",
    "playwright>=1.49",  # drives a Chromium that is there; its own browsers are not needed
    "pylibjpeg-libjpeg",  # all compressions of the DICOM test files
    "pytest>=8",
    "pytest-cov",
    "pytest-timeout",
    "pytest-xdist",
    "ruff>=0.6",
    "twine>=5",  # what an index would say of the packages
    "types-PyYAML",
]

setup(
    name="simfrcnn",
    version=VERSION["__version__"],
    description="Breast cancer detection in mammograms that learns from unannotated normal images: "
    "simFaster R-CNN for Detectron2 and torchvision",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    platforms=["Linux", "macOS"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12, 13)),
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["simfrcnn", "simfrcnn.*"]),
    package_data={
        # configs is a link to the folder at the top.
        "simfrcnn": [
            *(
                "py.typed",
                "evaluation/reporting/page_files/*",
                "evaluation/*.json",
                "configs/**/*.yaml",
            ),
            *("zoo/*.safetensors", "zoo/SHA256SUMS", "zoo/trained.json"),
            *("viewer/*.js", "viewer/*.css", "service/web_files/*"),
        ],
    },
    python_requires=">=3.10",
    install_requires=[
        "fvcore>=0.1.5,<0.1.6",
        "Jinja2>=3.0",
        "MarkupSafe>=2.0",
        "matplotlib>=3.7",
        "numpy>=1.24",
        "opencv-python>=4.8",
        "Pillow>=9.1",
        "psutil",
        "pycocotools>=2.0.7",
        "pydicom>=3.0",
        "PyYAML>=5.1",
        "safetensors>=0.4",
        "scikit-learn>=1.3",
        "scipy>=1.8",
        "tensorboard",
        "timm>=1.0.9",  # the backbone of the models in simfrcnn/zoo
        # 2.13.0 as a CPU-only build exists without a torchvision that fits it.
        "torch>=2.6,!=2.13.0",
        "torchvision>=0.21",
        "tqdm>=4.29",
        "yacs>=0.1.8",
    ],
    extras_require={
        "detectron2": DETECTRON2_NEEDS,
        # DICOM decoders: JPEG 2000; lossless JPEG, JPEG-LS; these and 12-bit JPEG, under the GPL.
        "jpeg": ["pylibjpeg>=2.0", "pylibjpeg-openjpeg>=2.0"],
        "gdcm": ["python-gdcm>=3.0.10"],
        "libjpeg": ["pylibjpeg>=2.0", "pylibjpeg-libjpeg>=2.1"],
        # Results as DICOM: structured reports and presentation states.
        "dicom-out": ["highdicom>=0.26"],
        # Long work as jobs of a Slurm cluster.
        "slurm": ["submitit>=1.5"],
        # A DICOM node, and results to a PACS: DICOM associations, DICOMweb.
        "node": ["pynetdicom>=3.0", "dicomweb-client>=0.60"],
        # `simfrcnn serve`: the web page and REST.
        "serve": ["fastapi>=0.110", "python-multipart>=0.0.9", "uvicorn>=0.29"],
        # A challenge's metrics, which ours are tested against; brings pandas and SimpleITK.
        "picai": ["picai_eval>=1.4"],
        # Tables of labels as Excel workbooks.
        "xlsx": ["openpyxl>=3.1"],
        "docs": DOCUMENTATION_NEEDS,
        "dev": DEVELOPMENT_NEEDS,
    },
    entry_points={"console_scripts": ["simfrcnn=simfrcnn.cli.main:main"]},
)
