"""The machine, the threads and the versions behind a result."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from llvmlite import binding

# what makes the numerical libraries use one thread, whichever of them a notebook loads
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
PACKAGES = (
    "eventbook",
    "numpy",
    "scipy",
    "torch",
    "numba",
    "llvmlite",
    "scikit-learn",
    "pandas",
    "matplotlib",
    "papermill",
    "jupytext",
    "jupyter-book",
    "snakemake",
)


def common_instructions() -> dict[str, str]:
    """Variables with which libraries round alike on every x86 processor of the last ten years.

    Each of them otherwise takes the newest instructions there are, and another order of a sum with them. On
    other processors they do not know the words, and without AVX2 nothing newer is to be avoided.
    """
    variables = {
        "MKL_CBWR": "COMPATIBLE",  # the only branch that is the same on processors of all makers
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    }
    if binding.get_host_cpu_features().get("avx2"):
        variables["ATEN_CPU_CAPABILITY"] = "avx2"  # taken at its word, so only where it is true
    return variables


def describe_machine() -> dict[str, str | int | float]:
    """Processor, cores, memory (GiB), system."""
    info: dict[str, str | int | float] = {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        info["memory_gib"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    return info


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe_versions() -> dict[str, str]:
    """Python and the packages that results depend on; absent ones are left out."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
