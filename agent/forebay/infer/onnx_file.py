"""What must be known of an ONNX file before a runtime reads it: opset, and that it points to no other file.

An initializer with external data names a path that the runtime would open (onnx/onnx issue 3991: also outside
the model's folder), so it would escape the hash. The file is walked as protobuf, without building objects.

Layout (onnx.proto3), field numbers of messages that can hold tensors::

    ModelProto      7 graph  8 opset_import  20 training_info  25 functions
    GraphProto      1 node  5 initializer  15 sparse_initializer
    NodeProto       5 attribute      FunctionProto  7 node  11 attribute_proto
    AttributeProto  5 t  6 g  10 tensors  11 graphs  22 sparse_tensor  23 sparse_tensors
    TensorProto     13 external_data  14 data_location (1: external)
    SparseTensorProto 1 values  2 indices       TrainingInfoProto 1 initialization  2 algorithm
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "function": {7: "node", 11: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "training": {1: "graph", 2: "graph"},
    "tensor": {},
}
_MAX_DEPTH = 64  # nested graphs (If, Loop); real models have under ten


@dataclass(frozen=True)
class OnnxFacts:
    """Opset of the default domain (0: none stated), whether other files are named, the domains used."""

    opset: int
    external: bool
    domains: tuple[str, ...]


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError(f"broken number at byte {at}")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, number or bytes)."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, at = _varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"unknown wire type {kind} at byte {at}")
        if length > len(data) - at:
            raise ValueError(f"a field of {length} bytes at byte {at} is cut off")
        yield tag >> 3, data[at : at + length]
        at += length


def _is_external(data: memoryview, kind: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError("graphs are nested too deeply")
    children = _CHILDREN[kind]
    for number, value in _fields(data):
        if kind == "tensor":
            if number == 13 or (number == 14 and value == 1):
                return True
        elif (
            number in children
            and isinstance(value, memoryview)
            and _is_external(value, children[number], depth + 1)
        ):
            return True
    return False


def examine(data: bytes) -> OnnxFacts:
    """Return the facts of an ONNX file. Raises ValueError if it is not well-formed protobuf."""
    view = memoryview(data)
    opsets: dict[str, int] = {}
    for number, value in _fields(view):
        if number == 8 and isinstance(value, memoryview):
            fields = dict(_fields(value))
            domain, version = fields.get(1, memoryview(b"")), fields.get(2, 0)
            if not isinstance(domain, memoryview) or not isinstance(version, int):
                raise ValueError("broken opset import")
            opsets[bytes(domain).decode("utf-8", "replace")] = version
    return OnnxFacts(
        opsets.get("", opsets.get("ai.onnx", 0)), _is_external(view, "model", 0), tuple(sorted(opsets))
    )
