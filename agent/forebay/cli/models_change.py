"""`forebay models seal|sign|install|rollback|bench`: what changes bundles, and how fast one is here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from forebay.cli.status import ANSWER_S, DEFAULT_CONFIG
from forebay.errors import ConfigError

if TYPE_CHECKING:
    from forebay.infer.bundle import Bundle
    from forebay.infer.signing import Trust

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_dir = click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), help="Folder of installed bundles."
)
_config = click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The agent's configuration: its `models.dir`, `trust` and `require_signature` hold.",
)


@click.command("seal")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--golden",
    is_flag=True,
    help="Also write the golden file: what the model answers now becomes the expected answer.",
)
def seal_command(bundle: Path, golden: bool) -> None:
    """Write the sha256 of every file of BUNDLE into its manifest, then verify it. A signature has to be made anew."""
    from forebay.infer.seal import seal

    found, difference = seal(bundle, golden=golden)
    click.echo(f"{found.model}: {len(found.files)} files sealed, golden within {difference:g}")


@click.command("sign")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--key", type=click.Path(path_type=Path), required=True, help="Secret key file, NAME.key.")
def sign_command(bundle: Path, key: Path) -> None:
    """Verify BUNDLE, its golden output too, then sign its manifest (Ed25519), which holds the sha256 of every file."""
    from forebay.infer.bundle import SIGNATURE, read_files, try_apart, verified
    from forebay.infer.signing import Trust, sign
    from forebay.keys import read_secret

    secret, files = read_secret(key), read_files(bundle)
    files.pop(SIGNATURE, None)  # of what it was before
    found = verified(files, str(bundle), Trust())
    try_apart(found)
    (bundle / SIGNATURE).write_bytes(sign(found.text, secret))
    click.echo(f"{found.model}: signed by {secret.name}")


def _place(folder: Path | None, config: Path | None, trust: tuple[Path, ...]) -> tuple[Path, Trust]:
    """Return the folder to install into and whose signatures count there. Raises ConfigError."""
    from forebay.config.loader import load_agent
    from forebay.infer import trust_of
    from forebay.infer.signing import Trust

    if config is None:
        if folder is None:
            raise ConfigError("expected `--dir DIR` or `--config AGENT.YAML`, found neither")
        return folder, Trust.read(list(trust), required=bool(trust))
    loaded = load_agent(config)
    options = loaded.config.models
    target = folder or (loaded.resolve(options.dir) if options.dir else None)
    if target is None:
        raise ConfigError("has no `models.dir` to install into", place=str(config), hint="or give `--dir`")
    believed = trust_of(options, loaded.base)
    own = Trust.read(list(trust), required=bool(trust))
    return target, Trust(believed.keys + own.keys, believed.required or own.required)


@click.command("install")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@_dir
@_config
@click.option(
    "--trust",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Public key file of a signer; an unsigned bundle is then refused.",
)
@click.option("--candidate", is_flag=True, help="Install beside the version in use, for a shadow run.")
@_json
def install_command(
    bundle: Path,
    folder: Path | None,
    config: Path | None,
    trust: tuple[Path, ...],
    candidate: bool,
    as_json: bool,
) -> None:
    """Verify BUNDLE (a folder or a .tar.gz of one), then install it beside its other versions and use it.

    Signature, hashes, graph and golden output are checked first; the bytes that were verified are those that are
    written. A running agent takes it over at `forebay reload`.
    """
    from forebay.infer import store
    from forebay.infer.bundle import MANIFEST, SIGNATURE

    target, believed = _place(folder, config, trust)
    found = _read(bundle, believed)
    files = {MANIFEST: found.text, **found.files}
    if found.signature is not None:
        files[SIGNATURE] = found.signature
    place = store.install(target, found.manifest, found.sha256, files, make_current=not candidate)
    facts = {
        "model": found.model,
        "path": str(place),
        "signed_by": found.signed_by,
        "current": store.current(target, found.manifest.name),
    }
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    use = "stands beside it as a candidate" if candidate else "is in use from the next `forebay reload` on"
    signer = f"signed by {found.signed_by}" if found.signed_by else "signed by nobody who is trusted"
    click.echo(f"{found.model}, {signer}: {use}")


def _read(path: Path, trust: Trust) -> Bundle:
    """Return a bundle that gives its golden output on this machine. Raises ModelError."""
    from forebay.infer.bundle import load, try_apart, verified
    from forebay.infer.store import unpack

    found = load(path, trust) if path.is_dir() else verified(unpack(path), str(path), trust)
    try_apart(found)
    return found


@click.command("rollback")
@click.argument("name")
@_dir
@_config
def rollback_command(name: str, folder: Path | None, config: Path | None) -> None:
    """Use the version of NAME before the one in use; a running agent takes it over at `forebay reload`."""
    from forebay.infer import store
    from forebay.infer.bundle import load

    target, believed = _place(folder, config, ())
    back = store.previous(target, name)
    load(target / name / back, believed)  # it may have been damaged while it stood by
    store.rollback(target, name)
    click.echo(f"{name} {back} is in use from the next `forebay reload` on")


@click.command("bench")
@click.argument("name")
@click.option("--dir", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--runs", type=click.IntRange(10, 1_000_000), default=200, show_default=True)
@click.option(
    "--rows", type=click.IntRange(1, 65_536), help="Rows of one run. Default: those of the golden input."
)
@click.option("--size", metavar="WxH", help="Of the picture. Default: that of the golden input.")
@_json
def bench_command(
    name: str, folder: Path | None, runs: int, rows: int | None, size: str | None, as_json: bool
) -> None:
    """Latency of one run of NAME on its golden input, and the memory of this process with it, on this machine."""
    from forebay.infer.bench import measure
    from forebay.infer.bundle import find, load, try_apart

    pixels, bundle = _pixels(size), load(find(name, bundles_dir=folder))
    try_apart(bundle)
    facts = measure(bundle, runs, rows or 0, pixels)
    if as_json:
        click.echo(json.dumps(facts))
        return
    shapes = ", ".join(f"{k} {'x'.join(map(str, shape))}" for k, shape in facts["inputs"].items())
    click.echo(
        f"{facts['model']}: p50 {facts['p50_ms']:g} ms, p99 {facts['p99_ms']:g} ms, CPU {facts['cpu_ms']:g} ms over"
        f" {runs} runs on {shapes}; {facts['rss_mib']:g} MiB, of which the model {facts['model_mib']:g}"
    )


def _pixels(size: str | None) -> tuple[int, int] | None:
    """Return width and height. Raises click.UsageError."""
    if size is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,3})x([1-9][0-9]{0,3})", size)
    if found is None:
        raise click.UsageError("--size: expected WIDTHxHEIGHT in pixels, such as 320x192")
    return int(found[1]), int(found[2])


@click.command("shadow")
@click.argument("config", type=click.Path(path_type=Path), default=DEFAULT_CONFIG)
@_json
def shadow_command(config: Path, as_json: bool) -> None:
    """How the candidates of the running agent of CONFIG differ from the models in use."""
    from forebay.config.loader import load_agent
    from forebay.control.client import ask_once

    loaded = load_agent(config)
    facts = ask_once(loaded.resolve(loaded.config.spool.dir), "status", timeout=ANSWER_S)
    found = [
        {"pipeline": name, "step": step, **report}
        for name, pipeline in facts["pipelines"].items()
        for step, report in pipeline["reports"].items()
        if "candidate" in report
    ]
    if as_json:
        click.echo(json.dumps(found))
        return
    for report in found:
        click.echo(shadow_text(report))
    if not found:
        click.echo("no step has a `shadow`")


def shadow_text(report: dict[str, Any]) -> str:
    """Return one report for people."""
    why = f" ({report['reason']})" if report["reason"] else ""
    if "agreement" in report:
        seen = (
            f"{report['rows']} pictures in {report['elapsed_s']:g} s, {report['matched']} boxes of both,"
            f" {report['only_incumbent']} of the model in use alone, {report['only_candidate']} of the candidate"
            f" alone, labels agree in {report['label_agreement']:.2%}"
        )
    else:
        seen = (
            f"{report['compared']} of {report['rows']} rows compared in {report['elapsed_s']:g} s,"
            f" mean difference {report['mean_abs_difference']:g}"
        )
    lately = report["lately"]
    return (
        f"{report['pipeline']}.{report['step']}: {report['candidate']} beside {report['incumbent']}:"
        f" {report['phase'].replace('_', ' ')}{why}\n"
        f"  {seen}, {_bounded(report)}\n"
        f"  lately: {lately['rows']} in {lately['elapsed_s']:g} s, {_bounded(lately)}"
    )


def _bounded(facts: dict[str, Any]) -> str:
    """Return the numbers that have bounds."""
    return (
        f"PSI {facts['psi']:g}, KS {facts['ks']:g}, errors {facts['error_rate']:.2%},"
        f" time x{facts['latency_ratio']:g}"
    )


COMMANDS = (seal_command, sign_command, install_command, rollback_command, bench_command, shadow_command)
