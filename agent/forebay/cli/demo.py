"""`forebay demo`: the whole road on recorded data, on this machine."""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import click

from forebay.demo import facts as demo_facts
from forebay.demo.folder import Folder, prepare
from forebay.demo.report import Progress, render
from forebay.demo.road import play
from forebay.demo.search import Originals, fragments


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-output"),
    show_default=True,
    help="Working folder; an earlier demo in it is replaced.",
)
@click.option(
    "--policy",
    default="base",
    show_default=True,
    help="Masking policy: base, strict or a file. With one that lets data pass, the last check fails.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def demo_command(folder: Path, policy: str, as_json: bool) -> int:
    """Show the whole road on this machine: agent, encrypted link and receiver on real recorded data.

    A wind farm's recording, photographs and generated visitor records go through validation, a model,
    masking and the durable buffer to a database. The exit code is 0 only when every check holds.
    """
    # Ended by `kill` or `timeout`, the demo takes its processes with it just as on Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    start = time.monotonic()
    vision = importlib.util.find_spec("cv2") is not None
    progress = Progress(sys.stderr)
    progress("preparing", 0.0, "keys, configurations, input")
    work = prepare(folder, policy=policy, with_photos=vision)
    originals = Originals(_originals(work))
    try:
        run = play(work, originals, progress)
        progress("checking", 0.0, "sink, ledger, search")
        facts = demo_facts.collect(work, run, originals)
        facts["pictures"] = _pictures(work, facts) if vision else []
    finally:
        progress.close()
    facts["seconds"] = run.seconds | {"total": round(time.monotonic() - start, 2)}
    facts["folder"] = str(folder)
    if not vision:
        facts["skipped"] = "photographs and pictures: opencv is not installed (pip install 'forebay[vision]')"
    text = render(facts)
    (work.path / "summary.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1), encoding="utf-8")
    (work.path / "summary.txt").write_text(text + "\n", encoding="utf-8")
    click.echo(json.dumps(facts, ensure_ascii=False) if as_json else text)
    return 0 if facts["ok"] else 1


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _originals(work: Folder) -> list[bytes]:
    texts = [text.encode() for text in work.records.identifiers]
    return texts + [piece for photo in work.photos() for piece in fragments(photo.read_bytes())]


def _pictures(work: Folder, facts: demo_facts.Facts) -> list[str]:
    from forebay.demo.picture import draw_anomalies, save_masked

    turbines = facts["anomalies"]["by_turbine"]
    if turbines:
        draw_anomalies(work.database, max(turbines, key=turbines.__getitem__), work.path / "anomalies.png")
    save_masked(work.database, work.path / "masked.jpg")
    return [name for name in ("anomalies.png", "masked.jpg") if (work.path / name).exists()]
