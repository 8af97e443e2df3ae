"""A resolved policy: what happens to each field, and why."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from forebay import quality as q
from forebay import secrets
from forebay.blocks import Field, Type
from forebay.config.masking import (
    IMAGE_CLASSES,
    OPERATOR_STRICTNESS,
    TEXT_CLASSES,
    ClassRule,
    FieldRule,
    PolicyOptions,
)
from forebay.errors import ConfigError
from forebay.mask.loader import read_policy

_MIN_SECRET_BYTES = 16


class Action(Enum):
    """What masking does with a column."""

    PASS = "passes as it is"
    SCAN = "is searched, identifiers found in it are masked"
    DIGITS = "passes, but long whole numbers that are identifiers become null"
    CELL = "is masked whole"
    NULL = "becomes null"
    IMAGE = "is masked as an image and written anew"


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one field.

    `rule` and `label` belong to CELL: the operator and the class it counts under. `code` is the quality of
    NULL. `ner` asks for the neural tagger. `context` are the contexts that the field's name vouches for
    (forebay_core.text_tables.CONTEXTS).
    """

    action: Action
    why: str
    rule: ClassRule | FieldRule | None = None
    label: str = ""
    code: int = q.GUARDED
    unguarded: bool = False
    context: int = 0
    ner: bool = False


# What a field's name says about every value in it, as bits of text_tables.CONTEXTS.
_NAME_CONTEXTS: tuple[tuple[int, re.Pattern[str]], ...] = tuple(
    (1 << k, re.compile(pattern, re.IGNORECASE))
    for k, pattern in enumerate(
        (
            "imei|串号",
            "passport|permit|护照|通行证|证件",
            "card|acct|account|卡号|账号|帐号",
            "phone|(^|_)tel|fax|电话|传真|座机",
            "gps|(^|_)(lat|lng|lon)|coord|position|location|坐标|经纬|位置",
            "version|firmware|(^|_)(ver|fw)(_|$)|版本|固件",
            "姓名|联系人|户主|户名|收件人|申请人|经办人|患者|(^|_)xm$|linkman"
            "|(real|full|patient|customer|contact|owner|driver|person|staff|employee|receiver)_?name$",
            "地址|住址|(^|_)addr",
            "plate|车牌|号牌",
            "(^|_)vin(_|$)|车架",
            "(^|_)(order|serial|sn)(_|$)|流水|序列号|订单|单号",
        )
    )
)


class Policy:
    """A policy with everything that it extends taken in.

    Attributes
    ----------
    options : the resolved options
    path : the file that it was read from
    hash : SHA-256 in hex over the canonical text of the resolved policy. Where the secret is kept is no part
        of it, so gateways that keep it elsewhere have the same policy.
    """

    def __init__(self, options: PolicyOptions, path: Path) -> None:
        self.options = options
        self.path = path
        self.hash = hashlib.sha256(_canonical(options)).hexdigest()

    @property
    def name(self) -> str:
        """Name of the policy."""
        return self.options.name

    @property
    def version(self) -> int:
        """Version of the policy."""
        return self.options.version

    @property
    def key_id(self) -> str:
        """Name of the key that tokens are made with, empty if there is none."""
        return self.options.keys.id if self.options.keys else ""

    @property
    def uses_tokens(self) -> bool:
        """Whether some rule makes tokens, so that the secret is needed."""
        rules: list[Any] = [*self.options.classes.values(), *self.options.fields.values()]
        return any(rule.operator == "token" for rule in rules)

    @property
    def uses_tagger(self) -> bool:
        """Whether some field asks for the neural tagger, so that the extra `ner` is needed."""
        return any(rule.operator == "scan" and rule.ner for rule in self.options.fields.values())

    def secret(self) -> bytes:
        """Read the secret of the token key. Raises ConfigError."""
        if self.options.keys is None:
            raise ConfigError("the policy has no `keys`", place=str(self.path))
        value = secrets.resolve(self.options.keys.secret, self.path.parent)
        if len(value) < _MIN_SECRET_BYTES:
            raise ConfigError(
                f"the secret has {len(value)} bytes, at least {_MIN_SECRET_BYTES} are needed",
                place=f"{self.path}: keys.secret",
                hint="openssl rand -hex 32 > token.key && chmod 600 token.key",
            )
        return value

    @cached_property
    def image_classes(self) -> dict[str, str]:
        """What is looked for in images, with its operator."""
        operators = {kind: str(getattr(self.options.images, kind)) for kind in IMAGE_CLASSES}
        return {kind: operator for kind, operator in operators.items() if operator != "pass"}

    @cached_property
    def scanned_classes(self) -> tuple[str, ...]:
        """Classes that the scan looks for: all but those that the policy lets pass."""
        rules: dict[str, ClassRule] = {str(name): rule for name, rule in self.options.classes.items()}
        return tuple(name for name in TEXT_CLASSES if name not in rules or rules[name].operator != "pass")

    def plan(self, field: Field, stream: str = "") -> Plan:
        """Return what happens to a field, decided by its name, grade, classes and type, in this order."""
        plan = self._plan(field, stream)
        context = sum(bit for bit, pattern in _NAME_CONTEXTS if pattern.search(field.name))
        return replace(plan, context=context)

    def explain(self, field: Field, stream: str = "") -> str:
        """Return one sentence on what will happen to a field and why, for `forebay check`."""
        plan = self.plan(field, stream)
        how = f" with `{plan.rule.operator}`" if plan.rule and plan.action is Action.CELL else ""
        if plan.action is Action.NULL:
            how = f", {q.reason(plan.code)}"
        tail = "; the guard does not search it" if plan.unguarded else ""
        return f"`{field.name}` {plan.action.value}{how}: {plan.why}{tail}"

    def _plan(self, field: Field, stream: str) -> Plan:
        named = self._named_rule(field.name, stream)
        if named is not None:
            return _by_name(field, *named)
        known: dict[str, ClassRule] = {str(name): rule for name, rule in self.options.classes.items()}
        classes = [c for c in field.classes if not (is_image(field) and c in IMAGE_CLASSES)]
        unknown = [c for c in classes if c not in known]
        if unknown:
            return Plan(Action.NULL, f"the policy has no rule for class `{unknown[0]}`")
        treatment: str = "scan"
        if field.grade is not None:
            if field.grade not in self.options.grades:
                return Plan(Action.NULL, f"the policy has no rule for grade `{field.grade}`")
            treatment = self.options.grades[field.grade]
            if treatment == "suppress":
                why = f"grades.{field.grade} says suppress"
                return Plan(Action.NULL, why, label=f"grade-{field.grade}", code=q.SUPPRESSED)
        if classes:
            strict = max(classes, key=lambda c: OPERATOR_STRICTNESS.index(known[c].operator))
            rule = known[strict]
            if rule.operator != "pass":
                return _whole(field, rule, strict, f"classes.{strict} says {rule.operator}")
        if field.grade is not None or field.classes:
            said = f"grades.{field.grade} says {treatment}" if field.grade else "it declares classes"
            return _searched(field, treatment, said)
        return self._undeclared(field)

    def _named_rule(self, name: str, stream: str) -> tuple[str, FieldRule] | None:
        folded, whole = name.casefold(), f"{stream}.{name}".casefold()
        patterns = self.options.fields
        exact = [p for p in patterns if p.casefold() == whole] or [
            p for p in patterns if p.casefold() == folded
        ]
        for pattern in (*exact, *patterns):
            lowered = pattern.casefold()
            if pattern in exact or any(fnmatch.fnmatchcase(n, lowered) for n in (whole, folded)):
                return pattern, patterns[pattern]
        return None

    def _undeclared(self, field: Field) -> Plan:
        options = self.options.undeclared
        treatment: str
        if is_image(field):
            if options.image == "mask":
                return Plan(Action.IMAGE, "undeclared.image says mask")
            treatment, why = options.image, f"undeclared.image says {options.image}"
        elif field.type in (Type.STR, Type.BYTES):
            treatment, why = options.text, f"undeclared.text says {options.text}"
            if treatment == "scan":
                return Plan(Action.SCAN, why)
        else:
            treatment, why = options.number, f"undeclared.number says {options.number}"
            wide = field.type in (Type.I64, Type.F64) and options.integer_digits > 0
            if treatment == "pass" and wide and not field.unit:
                return Plan(Action.DIGITS, f"{why}, undeclared.integer_digits {options.integer_digits}")
            if field.unit and treatment == "pass":
                why += ", and its unit says that it is a measurement"
        if treatment == "suppress":
            return Plan(Action.NULL, why, label="undeclared", code=q.SUPPRESSED)
        return Plan(Action.PASS, why)


def load_policy(name_or_path: str, base_dir: Path) -> Policy:
    """Read a policy: `base`, `strict`, or a file relative to `base_dir`. Raises ConfigError."""
    return Policy(*read_policy(name_or_path, base_dir))


def is_image(field: Field) -> bool:
    """Whether a field holds encoded pictures."""
    return field.media == "image"


def _by_name(field: Field, pattern: str, rule: FieldRule) -> Plan:
    why = f"fields.{pattern} says {rule.operator}"
    if rule.operator == "pass":
        return Plan(Action.PASS, why, rule, unguarded=rule.unguarded)
    if rule.operator == "scan":
        plan = _searched(field, "scan", why, digits_too=True)
        return replace(plan, ner=rule.ner and plan.action is Action.SCAN)
    label = next((c for c in field.classes), "field")
    return _whole(field, rule, label, why)


def _whole(field: Field, rule: ClassRule | FieldRule, label: str, why: str) -> Plan:
    if rule.operator != "suppress" and field.type is Type.STR:
        return Plan(Action.CELL, why, rule, label)
    if rule.operator != "suppress":
        why += f", which a {'picture' if is_image(field) else field.type} column cannot hold"
    return Plan(Action.NULL, why, label=label, code=q.SUPPRESSED)


def _searched(field: Field, treatment: str, why: str, digits_too: bool = False) -> Plan:
    if is_image(field):  # a grade that passes text does not pass faces: images have rules of their own
        return Plan(Action.IMAGE, f"{why}; images are masked by `images`")
    if field.type in (Type.STR, Type.BYTES) and treatment == "scan":
        return Plan(Action.SCAN, why)
    if digits_too and field.type in (Type.I64, Type.F64):
        return Plan(Action.DIGITS, why)
    return Plan(Action.PASS, why)


def _canonical(options: PolicyOptions) -> bytes:
    body = options.model_dump(mode="json", exclude={"extends": True, "keys": {"secret"}})
    body["fields"] = list(body["fields"].items())  # their order decides
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
