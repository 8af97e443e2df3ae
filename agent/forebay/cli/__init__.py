"""Command line of Forebay."""

import gc
import os
import sys

_GC_OBJECTS = 50_000  # the default of 700 makes the collector run some 200 times while classes are built


def main() -> None:
    """Entry point of the `forebay` command."""
    gc.set_threshold(_GC_OBJECTS, 20, 20)
    # No plugin of pydantic has a place here; looking for one reads the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Nothing here multiplies matrices; NumPy's library would start a thread a core for that.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from forebay.cli.app import run
    from forebay.harden import no_core_dumps

    no_core_dumps()  # not only the agent sees what is not masked yet: mask, infer and replay do
    sys.exit(run(sys.argv[1:]))
