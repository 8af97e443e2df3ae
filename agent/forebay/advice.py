"""What to do about what the log says, by how a message begins: for `status`, the page and docs/operations.md."""

from __future__ import annotations

from typing import NamedTuple


class Advice(NamedTuple):
    """How a message begins, what it means, what to do."""

    beginning: str
    means: str
    do: str


ADVICE = (
    Advice("link is down", "no receiver answers; data waits in the spool",
           "nothing if it comes back before the buffer is full; else look at network and receiver: "
           "forebay check --live"),
    Advice("link is held", "the receiver refuses for a reason that does not pass by itself",
           "mend what the reason names: enrol the key (forebay keys enroll), the right gateway.id, forward.store for "
           "a new store"),
    Advice("byte budget is used", "the link's quota of the day or month gets short",
           "wait for the next day or month, or raise forward.budget"),
    Advice("spool is full", "the quota is reached; on_full says what gives way",
           "restore the link, raise spool.max_bytes, or choose another on_full"),
    Advice("spool cannot write", "the disk does not take writes",
           "free or replace the disk; the agent goes on by itself"),
    Advice("the disk is nearly full", "others filled the disk; the spool stops growing",
           "free some room: forebay goes on by itself"),
    Advice("the disk is full", "the spool gave back its ballast to go on",
           "free some room; the ballast is laid down again by itself"),
    Advice("spool segment is damaged", "the card or the power failed",
           "nothing: intact batches are carried over, the rest are told as gaps. forebay spool verify; think of a "
           "new card"),
    Advice("a damaged segment could not be examined", "salvage failed; the segment is kept",
           "forebay spool repair with the agent stopped"),
    Advice("source waits for the center",
           "the spool is new or lost its books; the center is asked how far the file was read",
           "let the link come up; it goes on by itself"),
    Advice("source is held", "positions were lost on both sides",
           "look at the center's newest rows, then set start: beginning or start: end for the source"),
    Advice("source failed", "a device, broker or file does not answer",
           "look at cable, address and password; it is tried again by itself: forebay check --live"),
    Advice("input rejected", "a record could not be read; the rest goes on",
           "look at the named place of the input; counted under `rejected`"),
    Advice("a part is stuck", "a pipeline or the writer has not moved for a minute",
           "systemd restarts the agent, nothing is lost; report it with forebay support"),
    Advice("a pipeline failed", "a bug; the pipeline was built anew from what is durable",
           "report it with forebay support: it packs the crash report"),
    Advice("a pipeline cannot be built", "a model, key or policy is missing now",
           "bring back what the message names; it is tried again every 30 s"),
    Advice("a step failed", "a bug; rows go on without this step's work",
           "report it with forebay support"),
    Advice("an identifier got past masking", "the guard nulled it",
           "declare the field's class in the policy, or `unguarded` if it must leave readable"),
    Advice("masking failed", "values were kept back, none left unmasked", "report it with forebay support"),
    Advice("safe mode", "the configuration is bad: the one that ran last runs, or only spool, link and status",
           "mend the file (forebay check), then: forebay reload"),
    Advice("the configuration was not reloaded", "the new configuration is bad, the old one goes on",
           "mend the file (forebay check), then: forebay reload"),
    Advice("metrics are not taken", "the OpenTelemetry collector does not answer or refuses",
           "look at web.otlp.endpoint and the collector; nothing else is touched"),
    Advice("a candidate was rejected", "a model on trial did worse; the one in use stays",
           "forebay models shadow shows why"),
    Advice("a candidate was rolled back", "a model did worse once it served; the one before serves again",
           "forebay models shadow shows why"),
    Advice("the center has lost batches", "the center was restored from a backup; the hole is told as a gap",
           "nothing at the gateway"),
    Advice("a batch is larger than the receiver takes", "it went to the dead letters",
           "forebay spool stat; report it with forebay support"),
    Advice("batches wait on their gateway", "receiver: their policy is not in listen.require_policy",
           "bring the gateway's policy up to date, or list it"),
    Advice("a client with a key that is not enrolled", "receiver: somebody unknown knocked",
           "enrol it if it is yours: forebay keys enroll GATEWAY_ID PUBFILE --allow DIR"),
    Advice("allow-list", "receiver: nobody is let in",
           "look at listen.allow: forebay check --live"),
    Advice("nothing is acknowledged", "receiver: a sink does not commit; agents keep their data",
           "look at the sink's disk or database"),
)  # fmt: skip


def advice(message: str) -> str:
    """Return what to do about a message of the log, empty where there is nothing to say."""
    return next((entry.do for entry in ADVICE if message.startswith(entry.beginning)), "")
