"""Run the tests that stand in a policy file: one record each, through masking and guard, and what came out.

They run under a secret that everybody knows, so tokens in `expect` are the same on every machine and the real
secret need not be there. A token holds the id of its key: what a test expects may be of any key that the policy
keeps, or each rotation would break the tests, and with them every agent that starts. A failure shows the test's own
literals and what became of them, nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.config.policy_cases import Changed, Matches, PolicyTest
from forebay.mask.guard import Guard
from forebay.mask.loader import Place
from forebay.mask.masker import Masker
from forebay.mask.policy import Policy


@dataclass(frozen=True, slots=True)
class Failure:
    """A test that failed: where it stands, which one, and what differs."""

    place: str
    test: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.test}: {self.message}"


def run_tests(policy: Policy) -> list[Failure]:
    """Run all tests of a policy and return what failed, those that are no tests among it."""
    failures: list[Failure] = []
    for number, raw in enumerate(policy.options.tests):
        at = ("tests", str(number))
        try:
            test = PolicyTest.model_validate(raw)
        except ValidationError as error:
            failures += _malformed(policy, at, error)
            continue
        name = f'tests[{number}] "{test.name}"' if test.name else f"tests[{number}]"
        for field, message in _run(policy, test):
            place = policy.where((*at, "expect", field) if field else at)
            failures.append(Failure(place, name, f"{field}: {message}" if field else message))
    return failures


def _malformed(policy: Policy, at: Place, error: ValidationError) -> Iterator[Failure]:
    told: set[tuple[Place, str]] = set()
    for item in error.errors(include_input=False, include_url=False):
        keys: Place = at
        for part in map(str, item["loc"]):  # it also names branches of unions: no keys of the file
            keys = (*keys, part) if (*keys, part) in policy.places or item["type"] == "missing" else keys
        message = str(item["msg"]).removeprefix("Value error, ")
        place = policy.where(keys)
        if (keys, message) not in told:
            told.add((keys, message))
            yield Failure(place, f"tests[{at[1]}]", ".".join(keys[2:]) + (": " if keys[2:] else "") + message)


def _run(policy: Policy, test: PolicyTest) -> list[tuple[str, str]]:
    """Return what differs, nothing if the test passes under the present key or under an older one alone."""
    found = _compare(policy, test)
    keys = policy.options.keys
    if not found or keys is None:
        return found
    for key in keys.previous:
        older = keys.model_copy(update={"id": key.id, "previous": ()})
        options = policy.options.model_copy(update={"keys": older})
        if not _compare(Policy(options, policy.path, policy.places), test):
            return []
    return found


def _compare(policy: Policy, test: PolicyTest) -> list[tuple[str, str]]:
    out = _mask(policy, test)
    if out is None:
        return [] if test.dropped else [("", "the record was dropped")]
    if test.dropped:
        return [("", "expected the record to be dropped, it was kept")]
    return [
        (field, message)
        for field, expected in test.expect.items()
        if (message := _difference(test.given[field], expected, out[field]))
    ]


def _mask(policy: Policy, test: PolicyTest) -> dict[str, Any] | None:
    fields, columns = [], []
    for name, value in test.given.items():
        said = test.fields.get(name)
        type_ = _type(value)
        declared = (said.grade, said.classes, said.unit) if said else (None, (), "")
        fields.append(Field(name, type_, grade=declared[0], classes=declared[1], unit=declared[2]))
        columns.append(Column.of(type_, [value]))
    block = Block(Schema(test.stream, tuple(fields)), np.zeros(1, dtype=np.int64), tuple(columns))
    out = Guard(policy).check(Masker(policy, trial=True).apply(block))
    if not out.rows:
        return None
    values = zip(out.schema.fields, out.columns, strict=True)
    made: dict[str, Any] = {f.name: c.to_list(f.type)[0] for f, c in values}
    return {name: made.get(name) for name in test.given}  # a name that was masked itself is gone


def _difference(given: Any, expected: Any, came: Any) -> str:
    if isinstance(expected, Changed):
        return "expected another value, it passed as given" if came == given else ""
    if isinstance(expected, Matches):
        if isinstance(came, str) and re.fullmatch(expected.matches, came):
            return ""
        return f"expected text like {_show(expected.matches)}, got {_show(came)}"
    same = came == expected and isinstance(came, bool) == isinstance(expected, bool)
    return "" if same else f"expected {_show(expected)}, got {_show(came)}"


def _show(value: Any) -> str:
    return "null" if value is None else f'"{value}"' if isinstance(value, str) else repr(value)


def _type(value: Any) -> Type:
    if isinstance(value, bool):
        return Type.BOOL
    return {str: Type.STR, int: Type.I64, float: Type.F64}[type(value)]
