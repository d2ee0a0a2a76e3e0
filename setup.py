"""The one thing pyproject.toml cannot say: how the CPU kernels are compiled, and that they may fail to be."""

from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

CSRC = Path("src/spellbound/jamba/ops/csrc")

# No -march=native: the kernels ask the CPU at run time. No -ffast-math: exp(0) must stay exactly 1.
COMPILE_ARGS = [
    "-std=c++17",
    "-O3",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fvisibility=hidden",
    "-pthread",
]


class BuildKernels(build_ext):
    """Builds a plain C library, loaded with ctypes, where setuptools expects a Python module."""

    def run(self) -> None:
        """Build; where that fails, a library of an older source must not be left for newer Python code."""
        if self.inplace:
            for ext in self.extensions:
                Path("src", self.get_ext_filename(ext.name)).unlink(missing_ok=True)
        super().run()

    def build_extension(self, ext: Extension) -> None:
        """Build with gcc or clang, whose vector types the kernels are written in; MSVC has none like them."""
        if self.compiler.compiler_type == "msvc":
            raise CompileError("the CPU kernels need gcc or clang")
        super().build_extension(ext)

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """Without this, Windows' linker looks for the PyInit function that a ctypes library does not have."""
        return list(ext.export_symbols)


kernels = Extension(
    "spellbound.jamba.ops._kernels",
    sources=[(CSRC / "kernels.cpp").as_posix()],
    depends=sorted(path.as_posix() for path in CSRC.glob("*.h")),
    language="c++",
    extra_compile_args=COMPILE_ARGS,
    extra_link_args=["-pthread"],
    optional=True,  # no compiler: the install still succeeds, and `spellbound doctor` says what is missing
)

setup(ext_modules=[kernels], cmdclass={"build_ext": BuildKernels})
