"""Build of Forebay: the compiled core and the files shipped beside the code.

Environment variables
---------------------
FOREBAY_PURE=1   no extension is built; the reference twins in NumPy and Python run instead
FOREBAY_DEBUG=1  bounds, wraparound, overflow and None checks on, assertions kept
FOREBAY_TRACE=1  line tracing for coverage of .pyx files (implies slow code)
"""

import os
import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
CORE = Path("core_ext/forebay_core")
SHIPPED = ("models", "config")  # source folders copied into forebay/_shipped/ of a wheel


def flag(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


def extensions() -> list[Extension]:
    if flag("FOREBAY_PURE"):
        return []
    import numpy
    from Cython.Build import cythonize

    debug, trace = flag("FOREBAY_DEBUG"), flag("FOREBAY_TRACE")
    macros = [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")]
    if trace:
        macros.append(("CYTHON_TRACE_NOGIL", "1"))
    modules = [
        Extension(
            f"forebay_core.{path.stem}",
            [str(path)],
            include_dirs=[numpy.get_include()],
            define_macros=macros,
            # -g0 -s: 31 KB a kernel instead of 151, which counts on a gateway's flash.
            extra_compile_args=["-O1", "-g"] if debug else ["-O3", "-g0"],
            extra_link_args=[] if debug else ["-s"],
        )
        for path in sorted(CORE.glob("*.pyx"))
    ]
    return cythonize(
        modules,
        compiler_directives={
            "language_level": "3",
            "boundscheck": debug,
            "wraparound": False,
            "initializedcheck": debug,
            "nonecheck": debug,
            "overflowcheck": False,
            "cdivision": True,
            "embedsignature": True,
            "linetrace": trace,
            "freethreading_compatible": False,
        },
        force=debug or trace or flag("FOREBAY_FORCE"),
        show_all_warnings=False,
    )


class BuildPyWithShippedFiles(build_py):
    """Copy models/, config/ and the demo's data into the package, except when editable."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for kind in SHIPPED:
            target = Path(self.build_lib) / "forebay" / "_shipped" / kind
            if target.exists():
                shutil.rmtree(target)
            shutil.copytree(ROOT / kind, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))


setup(
    package_dir={"": "agent", "forebay_core": "core_ext/forebay_core"},
    packages=[
        "forebay_core",
        "forebay_core.reference",
        *(
            ".".join(p.parent.relative_to("agent").parts)
            for p in sorted(Path("agent").glob("forebay/**/__init__.py"))
        ),
    ],
    package_data={"forebay_core": ["*.pyi", "*.pxd", "py.typed"], "forebay": ["py.typed"]},
    ext_modules=extensions(),
    cmdclass={"build_py": BuildPyWithShippedFiles},
)
