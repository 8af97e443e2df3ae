"""`forebay check`: what is wrong with a configuration, and what a right one will do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from forebay.cli import live, live_links, live_models, policies
from forebay.config.agent import AgentConfig
from forebay.config.base import format_duration, format_size
from forebay.config.findings import ConfigErrors, Finding, Severity
from forebay.config.loader import LoadedConfig, load, load_agent, load_receiver
from forebay.config.receiver import ReceiverConfig
from forebay.errors import ConfigError
from forebay.preflight import missing_extras, preflight

LiveCheck = Callable[[LoadedConfig[Any]], Iterable[Finding]]

LIVE_CHECKS: list[LiveCheck] = [
    live.check_files,
    live.check_keys,
    live.check_secrets,
    policies.check_secrets,
    live.check_spool,
    live_links.check_endpoints,
    live_links.check_sources,
    live_links.check_web,
    live_models.check_models,
    live_models.check_detectors,
]
"""What `--live` tries, in this order."""

_LOADERS: dict[str | None, Callable[[Path], LoadedConfig[Any]]] = {
    None: load,
    "agent": load_agent,
    "receiver": load_receiver,
}


@click.command(name="check")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--live", "try_live", is_flag=True, help="Also try disk, files, keys, connections and models.")
@click.option(
    "--kind", type=click.Choice(["agent", "receiver", "policy"]), help="Default: by the keys of the file."
)
def check_command(config: Path, as_json: bool, try_live: bool, kind: str | None) -> int:
    """Check a configuration file of the agent or the receiver, or a masking policy with its tests.

    Every error is reported at once as FILE:LINE:COL: path.to.key: message (hint).
    Of an agent's configuration it says for each field what masking will do to it, and which rule says so.
    Exit 0: good. 1: good, but --live found that something does not work. 2: bad.
    """
    if kind == "policy" or (kind is None and policies.is_policy(config)):
        return _check_policy(config, as_json)
    try:
        loaded = _LOADERS[kind](config)
    except ConfigErrors as error:
        _print_bad(error, as_json)
        return 2
    missing = preflight(loaded) if isinstance(loaded.config, AgentConfig) else missing_extras(loaded)
    if missing:
        _print_bad(ConfigErrors(missing, loaded.warnings), as_json)
        return 2
    findings = list(loaded.warnings)
    if try_live:
        with live.systemd_keys(loaded) as notes:
            findings += notes
            for live_check in LIVE_CHECKS:
                findings += live_check(loaded)
    failed = any(f.severity is Severity.ERROR for f in findings)
    if as_json:
        click.echo(json.dumps(_as_json(summarise(loaded), findings), ensure_ascii=False, indent=2))
    else:
        _print_good(loaded, findings, failed)
    return 1 if failed else 0


def _check_policy(path: Path, as_json: bool) -> int:
    try:
        policy, failed = policies.check_policy(path)
    except ConfigError as error:
        if as_json:
            click.echo(json.dumps({"ok": False, "errors": [str(error)]}, ensure_ascii=False, indent=2))
        else:
            click.echo(str(error))
        return 2
    summary = policies.summarise_policy(policy)
    if as_json:
        body = {"ok": not failed, "errors": failed, "summary": summary}
        click.echo(json.dumps(body, ensure_ascii=False, indent=2))
        return 2 if failed else 0
    for line in failed:
        click.echo(line)
    if failed:
        click.echo(f"{len(failed)} difference{'s' if len(failed) > 1 else ''}", err=True)
        return 2
    click.echo(f"{path}: OK")
    for name, value in policies.policy_lines(summary):
        click.echo(f"  {name:<9}{value}".rstrip())
    return 0


def _as_json(summary: dict[str, Any] | None, findings: Iterable[Finding]) -> dict[str, Any]:
    by = {s: [f.as_dict() for f in findings if f.severity is s] for s in Severity}
    errors = by[Severity.ERROR]
    out: dict[str, Any] = {"ok": summary is not None and not errors, "errors": errors}
    out |= {"warnings": by[Severity.WARNING], "infos": by[Severity.INFO]}
    return out | ({} if summary is None else {"summary": summary})


def _print_bad(error: ConfigErrors, as_json: bool) -> None:
    if as_json:
        findings = [*error.errors, *error.warnings]
        click.echo(json.dumps(_as_json(None, findings), ensure_ascii=False, indent=2))
        return
    for finding in error.errors:
        click.echo(str(finding))
    for finding in error.warnings:
        if finding.severity is Severity.WARNING:
            click.echo(f"{finding.severity}: {finding}")
    count = len(error.errors)
    click.echo(f"{count} error{'s' if count > 1 else ''}", err=True)


def _print_good(loaded: LoadedConfig[Any], findings: Iterable[Finding], failed: bool) -> None:
    click.echo(f"{loaded.path}: {'configuration OK, but it does not work here' if failed else 'OK'}")
    for name, value in _lines(summarise(loaded)):
        click.echo(f"  {name:<9}{value}")
    for finding in findings:
        if finding.severity is Severity.INFO:
            click.echo(f"  note     {finding.message}")
    for finding in findings:
        if finding.severity is not Severity.INFO:
            click.echo(f"{finding.severity}: {finding}")


def summarise(loaded: LoadedConfig[Any]) -> dict[str, Any]:
    """Return what a configuration will do, for people and for `--json`."""
    if isinstance(loaded.config, ReceiverConfig):
        return _summarise_receiver(loaded.config)
    config: AgentConfig = loaded.config
    streams = [
        {
            "pipeline": name,
            "stream": config.stream(name),
            "source": pipeline.source,
            "type": config.sources[pipeline.source].type,
            "steps": [step.name for step in pipeline.steps],
            "lane": str(pipeline.lane),
            "linger": format_duration(pipeline.linger_ns),
            "fields": len(pipeline.fields),
        }
        for name, pipeline in config.pipelines.items()
    ]
    policy = getattr(config.masking, "policy", None)
    return {
        "kind": "agent",
        "gateway": config.gateway.id,
        "streams": streams,
        "policy": str(policy) if policy else "base (shipped)",
        "fields": policies.explain_fields(loaded),
        "spool": {
            "dir": str(loaded.resolve(config.spool.dir)),
            "max_bytes": config.spool.max_bytes,
            "sync": str(config.spool.sync),
            "on_full": str(config.spool.on_full),
        },
        "forward": list(config.forward.endpoints) if config.forward else [],
    }


def _summarise_receiver(config: ReceiverConfig) -> dict[str, Any]:
    return {
        "kind": "receiver",
        "center": config.center.id,
        "listen": config.listen.endpoint,
        "require_policy": list(config.listen.require_policy),
        "sinks": [{"name": name, "type": sink.type} for name, sink in config.sinks.items()],
    }


def _lines(summary: dict[str, Any]) -> Iterable[tuple[str, str]]:
    if summary["kind"] == "receiver":
        yield "center", summary["center"]
        yield "listen", summary["listen"]
        named = (p if len(p) == 64 else f"{p} (any of this name)" for p in summary["require_policy"])
        yield "policies", ", ".join(named) or "any"
        for sink in summary["sinks"]:
            yield "sink", f"{sink['name']} ({sink['type']})"
        return
    yield "gateway", summary["gateway"]
    for stream in summary["streams"]:
        steps = ", ".join(stream["steps"]) or "no steps"
        yield (
            "stream",
            f"{stream['stream']}: {stream['source']} ({stream['type']}) -> {steps}; "
            f"lane {stream['lane']}, linger {stream['linger']}",
        )
    yield "policy", summary["policy"]
    for field in summary["fields"]:
        yield "field", f"{field['stream']}.{field['field']} ({field['type']}) {field['what']}"
    spool = summary["spool"]
    yield (
        "spool",
        f"{spool['dir']}, at most {format_size(spool['max_bytes'])}, "
        f"sync {spool['sync']}, when full {spool['on_full']}",
    )
    yield "forward", ", ".join(summary["forward"]) or "nowhere: buffered only"
