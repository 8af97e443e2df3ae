"""The one list of operations: used by `python -m benchmarks`, by pytest-benchmark and by the report."""

from __future__ import annotations

from functools import partial

from benchmarks import (
    arrays,
    compression,
    growth,
    kernels,
    memory,
    models,
    policies,
    road,
    rows,
    storage,
    text_peers,
    wire,
)
from benchmarks.model import Budget, Measured, Operation, Timed


def _least(limit: float) -> Budget:
    return Budget(limit, most=False)


OPERATIONS: tuple[Operation, ...] = (
    Timed(
        "ndjson",
        "NDJSON events of 8 keys to columns",
        "us/event",
        rows.ndjson,
        small=partial(rows.ndjson, 500),
    ),
    Timed(
        "csv", "CSV rows of 8 cells to columns", "us/event", rows.csv_rows, small=partial(rows.csv_rows, 500)
    ),
    Timed(
        "validate",
        "range, rate and stuck, one series",
        "M samples/s",
        kernels.validate,
        small=partial(kernels.validate, 8_192),
    ),
    Timed(
        "deadband",
        "deadband, one series",
        "M samples/s",
        kernels.deadband,
        _least(150),
        small=partial(kernels.deadband, 8_192),
    ),
    Timed(
        "hampel",
        "Hampel, k = 7",
        "M samples/s",
        kernels.hampel,
        _least(80),
        small=partial(kernels.hampel, 8_192),
    ),
    Timed(
        "window",
        "14 moments of a window of 256, a call each",
        "M samples/s",
        kernels.window,
        _least(150),
        small=partial(kernels.window, 8_192),
    ),
    Timed(
        "windows",
        "the same, 256 windows a call",
        "M samples/s",
        kernels.windows_at_once,
        small=partial(kernels.windows_at_once, 8_192),
    ),
    Timed(
        "text-mask",
        "scan and mask of text, 108 B a record",
        "M records/CPU-s",
        rows.text_mask,
        _least(1.0),
        small=partial(rows.text_mask, 500),
    ),
    Timed(
        "text-mask-chinese",
        "the same of Chinese text, with names",
        "M records/CPU-s",
        rows.text_mask_chinese,
        small=partial(rows.text_mask_chinese, 500),
    ),
    Timed(
        "mask-numbers",
        "masking, block of 1,000 rows without personal data",
        "us/block",
        rows.mask_numbers,
        small=rows.mask_numbers,
    ),
    Timed("guard", "guard, the same block", "us/block", rows.guard, small=rows.guard),
    Timed("guard-text", "guard over masked text, 108 B a record", "M records/CPU-s", policies.guard_text),
    Timed("mask-token", "masking with keyed tokens", "M records/CPU-s", policies.tokens),
    Timed("mask-fpe", "masking with FF1", "M records/CPU-s", policies.fpe),
    Timed("mask-encrypt", "masking with AES-GCM", "M records/CPU-s", policies.encrypt),
    Timed("audit", "audit log of a commit with hits in 5 fields", "us/commit", policies.audit_note),
    Timed("encode", "columns to payload, 1,000 rows", "us/block", wire.encode_block, small=wire.encode_block),
    Timed("decode", "payload to columns, 1,000 rows", "us/block", wire.decode_block, small=wire.decode_block),
    Timed("seal", "envelope and content tag of a batch", "us/block", wire.seal, small=wire.seal),
    Timed(
        "worker",
        "validate, mask, guard, seal, ledger: 1,000 rows",
        "us/block",
        rows.worker,
        small=partial(rows.worker, 1_000),
    ),
    Measured("bytes", "bytes a reading on the wire", wire.wire_bytes),
    Measured("spool", "commits, latency, wear", storage.spool_commits),
    Measured("receiver", "readings a CPU second at the receiver", storage.receiver),
    Timed("anomaly", "anomaly model, 1,000 rows, 2 inputs, 50 devices", "ms/block", models.anomaly),
    Timed("frame", "1080p frame to model input", "frames/s", models.frame_to_input, _least(500)),
    Timed("fill", "8 regions of a 1080p frame filled", "ms/frame", models.fill, Budget(0.5)),
    Timed("pixelate", "8 regions of a 1080p frame pixelated", "ms/frame", models.pixelate, Budget(1.0)),
    Timed("mask-frame", "the same filled, with the copy of the frame", "ms/frame", models.mask_frame),
    Measured("start", "start and rest of an agent", road.start_and_rest),
    Measured("road", "the whole road", road.road),
    Measured("arrays", "arrays on the whole road", arrays.arrays),
    Measured("channels", "eight channels of vibration in real time", arrays.channels),
    Measured("urgent", "urgent rows one by one", arrays.urgent),
    Measured("memory", "memory of idle agents", memory.idle_memory),
    Measured("compression", "bytes a reading of real series beside public codecs", compression.compression),
    Measured("text-peers", "masking of text beside public tools", text_peers.text_peers),
    Measured("grow-rows", "cost by rows a block", growth.rows_per_block),
    Measured("grow-streams", "cost by streams", growth.streams),
    Measured("grow-gateways", "the receiver by gateways", growth.gateways),
    Measured("grow-spool", "the spool by its size", growth.spool_size),
)
