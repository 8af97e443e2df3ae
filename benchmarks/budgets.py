"""Every line of DESIGN.md section 8: words, the figures that answer it, what others do, and why one is not met."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One budget.

    `figures` are names of figures; `others` what DESIGN.md says that others do: measured earlier on the same kind of
    machine, not in this run. `why` is said where it is not met.
    """

    words: str
    figures: tuple[str, ...]
    others: str = ""
    why: str = ""


BUDGETS: tuple[Line, ...] = (
    Line(
        "NDJSON events of 5 readings, agent: <= 1.2 CPU-s/M events",
        ("road-cpu",),
        "Fluent Bit 3.3-4.4, ThingsBoard Gateway 860+",
        "The profile below names what costs most. Beyond the bare probe of 0.65-0.78 stand validation, two passes of "
        "masking and guard, and the ledger.",
    ),
    Line(
        "the same: >= 400 k events/s on one core",
        ("road-pace",),
        "",
        "It follows from the line above.",
    ),
    Line(
        "10 % of events with personal data masked: <= 2.0 CPU-s/M events",
        ("road-masked-cpu",),
        "Fluent Bit + Lua 15.8-17.5",
        "As above; the text column adds a scan at the entry and one at the guard.",
    ),
    Line(
        "from arrays (waveforms, polled registers), durable and acknowledged: >= 10 M readings/CPU-s",
        ("arrays-registers", "arrays-waveform"),
        "",
        "Of a waveform's noise nothing can be predicted, so that packing and zstd meet every bit.",
    ),
    Line(
        "bytes on the wire: <= 0.70 B/reading at 1,000 rows, <= 2.0 B at 50",
        ("bytes-1000", "bytes-50"),
        "Gorilla 3.9, Fluent Bit gzip 4.6, Sparkplug 21",
    ),
    Line(
        "accepted to durable: p50 < 1.5 ms, p99 < 5 ms over the disk's own fsync",
        ("spool-1-p50", "spool-1-p99"),
        "Fluent Bit 105-993 ms, ThingsBoard 266 / 424 ms",
    ),
    Line(
        "the same through the whole worker, urgent lane",
        ("urgent-durable-p50", "urgent-durable-p99"),
        "",
        "A row passes two threads before the disk; where other work holds the cores, each wakes late.",
    ),
    Line(
        "urgent, source to acknowledged: p50 < 3 ms, p99 < 10 ms over both disks",
        ("urgent-acked-p50", "urgent-acked-p99"),
        "ThingsBoard 266 / 424 ms",
        "A row passes four threads and two processes on two cores; where other work holds a core, each wakes late.",
    ),
    Line(
        "text masking: >= 1 M records of 108 B per CPU-s",
        ("text-mask",),
    ),
    Line("the same: >= 50 x a Python `re` union", ("text-peers",)),
    Line("window features, a call of 256: >= 150 M samples/s", ("window",), "bottleneck 15"),
    Line("Hampel k = 7: >= 80 M samples/s", ("hampel",), "a sorting network in Cython 122"),
    Line("deadband: >= 150 M samples/s", ("deadband",)),
    Line(
        "8 channels x 25.6 kHz through features, model, spool, wire: <= 5 % of a core",
        ("channels",),
        "",
        "The steps alone (beside the figure) are the smaller part: ten times a second threads wake, a block of 73 "
        "columns is masked, guarded, sealed and committed.",
    ),
    Line(
        "RSS idle with MQTT and Modbus: <= 58 MB",
        ("rss-idle",),
        "Fluent Bit 11, ThingsBoard 62, Telegraf about 70",
        "An interpreter that has only imported the libraries takes what stands beside the figure.",
    ),
    Line(
        "+ sensor model: <= 88 MB",
        ("rss-model",),
        "",
        "The line above and ONNX Runtime, whose library and session take about 30 MB.",
    ),
    Line(
        "+ vision: <= 120 MB",
        ("rss-vision-one", "rss-vision"),
        "",
        "After the first picture, at rest: with one detector (faces), and with three (objects, faces, plates).",
    ),
    Line(
        "start to first durable reading, no vision: <= 0.6 s",
        ("start",),
        "ThingsBoard 1.5-2 s",
        "Importing the libraries alone took what stands beside the figure.",
    ),
    Line("bytes written per stored byte, >= 16 KB a commit: <= 4", ("spool-wear",), "one row a commit: 65"),
    Line("1080p frame to model input: >= 500 frames/s", ("frame",)),
    Line("masking 8 regions of a 1080p frame: <= 0.5 ms filled, <= 1 ms pixelated", ("fill", "pixelate")),
    Line("receiver, SQLite sink: >= 1 M readings/CPU-s", ("receiver",)),
)
