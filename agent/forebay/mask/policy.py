"""A resolved policy: what happens to each field, and why."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from forebay import quality as q
from forebay.blocks import Field, Type
from forebay.config.masking import (
    DECLARED_CLASSES,
    IMAGE_CLASSES,
    SENSITIVE_CLASSES,
    TEXT_CLASSES,
    Levels,
    PolicyOptions,
    StreamRules,
)
from forebay.config.operators import KEYED, OPERATOR_STRICTNESS, ClassRule, FieldRule, type_conflict
from forebay.mask.loader import Place, read_policy
from forebay_core import text_tables as tables


class Action(Enum):
    """What masking does with a column."""

    PASS = "passes as it is"
    SCAN = "is searched, identifiers found in it are masked"
    DIGITS = "passes, but long whole numbers that are identifiers become null"
    CELL = "is masked whole"
    NUMBER = "is made less exact"
    NULL = "becomes null"
    IMAGE = "is masked as an image and written anew"


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one field.

    `rule` and `label` belong to CELL: the operator and the class it counts under. `code` is the quality of
    NULL. `ner` asks for the neural tagger. `context` are the contexts that the field's name vouches for
    (forebay_core.text_tables.CONTEXTS). `at` is the key of the policy that decided, e.g. `("grades", "core")`.
    """

    action: Action
    why: str
    rule: ClassRule | FieldRule | None = None
    label: str = ""
    code: int = q.GUARDED
    unguarded: bool = False
    context: int = 0
    at: Place = ()
    ner: bool = False


# What a field's name says about every value in it, as bits of text_tables.CONTEXTS.
_NAME_CONTEXTS: tuple[tuple[int, re.Pattern[str]], ...] = tuple(
    (1 << context, re.compile(pattern, re.IGNORECASE))
    for context, pattern in (
        (tables.CONTEXT_IMEI, "imei|串号"),
        (tables.CONTEXT_PERMIT, "passport|permit|护照|通行证|证件"),
        (tables.CONTEXT_CARD, "card|acct|account|卡号|账号|帐号"),
        (tables.CONTEXT_PHONE, "phone|mobile|(^|[_.])tel|fax|电话|手机|传真|座机"),
        (tables.CONTEXT_GPS, "gps|(^|[_.])(lat|lng|lon)|coord|position|location|坐标|经纬|位置"),
        (tables.CONTEXT_VERSION, "version|firmware|(^|[_.])(ver|fw)([_.]|$)|版本|固件"),
        (
            tables.CONTEXT_NAME,
            "姓名|联系人|户主|户名|收件人|申请人|经办人|患者|(^|[_.])xm$|linkman"
            "|(real|full|patient|customer|contact|owner|driver|person|staff|employee|receiver)_?name$",
        ),
        (tables.CONTEXT_ADDRESS, "地址|住址|(^|[_.])addr"),
        (tables.CONTEXT_PLATE, "plate|车牌|号牌"),
        (tables.CONTEXT_VIN, "(^|[_.])vin([_.]|$)|车架"),
        (tables.CONTEXT_OTHER, "(^|[_.])(order|serial|sn)([_.]|$)|流水|序列号|订单|单号"),
        (tables.CONTEXT_RESIDENT, "身份证|证件号|(^|[_.])id_?(card|no)([_.]|$)|(^|[_.])sfz"),
        (tables.CONTEXT_BANK, "银行卡|卡号|(bank|credit)_?card|card_?no"),
        (tables.CONTEXT_USCC, "uscc|信用代码|税号"),
        (
            tables.CONTEXT_PERSON,
            "(^|[_.])(name|contact|owner|patient|driver|operator|person|receiver|recipient|customer|holder"
            "|worker|staff|user|client|author|guest|reporter|inspector|applicant)$|负责人|经手人|责任人",
        ),
        (tables.CONTEXT_MAC, "(^|[_.])mac([_.]|$)|macaddr"),
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

    def __init__(
        self, options: PolicyOptions, path: Path, places: Mapping[Place, str] | None = None, stream: str = ""
    ) -> None:
        self.hash = hashlib.sha256(_canonical(options)).hexdigest()
        self.options = _with_levels(options)
        self._by_level = frozenset(map(str, self.options.classes)) - frozenset(map(str, options.classes))
        self.path = path
        self.places = places or {}
        self.stream_pattern = stream
        self._views: dict[str, Policy] = {}

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

    @cached_property
    def needs_key(self) -> bool:
        """Whether some rule makes tokens or encrypts, so that the secret is needed."""
        return any(rule.operator in KEYED for rule in self._all_rules())

    @property
    def tagged_field(self) -> str:
        """Pattern of a field that asks for the neural tagger, so that the extra `ner` is needed; or empty."""
        return next((p for p, r in self.options.fields.items() if r.operator == "scan" and r.ner), "")

    @property
    def reads_pictures(self) -> bool:
        """Whether text in pictures is read, so that the extra `ocr` is needed."""
        return "identifier" in self.image_classes

    @property
    def covers_pictures(self) -> bool:
        """Whether anything is looked for or covered in pictures; else they pass."""
        return bool(self.image_classes or self.options.images.zones)

    @cached_property
    def adds_noise(self) -> str:
        """Pattern of a field that gets noise, so that a budget must be kept; empty if none does."""
        return next((p for p, rule in self.options.fields.items() if rule.operator == "noise"), "")

    def _all_rules(self) -> Iterable[ClassRule | FieldRule]:
        yield from self.options.classes.values()
        yield from self.options.fields.values()
        for stream in self.options.streams.values():
            yield from stream.classes.values()

    def level(self, class_name: str) -> str:
        """Return `sensitive` or `personal` (GB/T 35273), empty for what is no personal-data class."""
        if class_name in self.options.sensitive:
            return "sensitive"
        return "personal" if class_name in (*DECLARED_CLASSES, *IMAGE_CLASSES) else ""

    def where(self, at: Place) -> str:
        """Return `FILE:LINE:COL` of a key of the policy or of its nearest parent, empty if there is none."""
        while at and at not in self.places:
            at = at[:-1]
        return self.places.get(at, "")

    # -- streams --------------------------------------------------------------------------------------------

    def for_stream(self, stream: str) -> Policy:
        """Return the policy as it holds in a stream. It has the hash of the whole."""
        pattern = _first_fit(stream, self.options.streams)
        if not pattern or self.stream_pattern:
            return self
        if pattern not in self._views:
            rules = self.options.streams[pattern]
            options = self.options.model_copy(
                update={
                    "classes": {**self.options.classes, **rules.classes},
                    "grades": {**self.options.grades, **rules.grades},
                    "undeclared": rules.undeclared or self.options.undeclared,
                }
            )
            view = Policy(options, self.path, self.places, pattern)
            view.hash, view._by_level = self.hash, self._by_level
            self._views[pattern] = view
        return self._views[pattern]

    @property
    def stream_rules(self) -> StreamRules | None:
        """What is different in the stream that this is the view of."""
        return self.options.streams[self.stream_pattern] if self.stream_pattern else None

    @property
    def drops(self) -> frozenset[str]:
        """Classes for which a whole row is dropped."""
        return frozenset(self.stream_rules.drop_when) if self.stream_rules else frozenset()

    # -- what happens to a field ----------------------------------------------------------------------------

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
        view = self.for_stream(stream)
        plan = view._plan(field, stream)
        context = sum(bit for bit, pattern in _NAME_CONTEXTS if pattern.search(field.name))
        return replace(plan, context=context)

    def explain(self, field: Field, stream: str = "") -> str:
        """Return one sentence on what will happen to a field and why, for `forebay check`."""
        plan = self.plan(field, stream)
        with_rule = plan.rule and plan.action in (Action.CELL, Action.NUMBER)
        how = f" with `{plan.rule.operator}`" if plan.rule and with_rule else ""
        if plan.action is Action.NULL:
            how = f", {q.reason(plan.code)}"
        tail = "; the guard does not search it" if plan.unguarded else ""
        place = self.where(plan.at)
        return f"`{field.name}` {plan.action.value}{how}: {plan.why}{f' ({place})' if place else ''}{tail}"

    def conflict(self, field: Field, stream: str = "") -> tuple[str, str]:
        """Return why the rule that names a field does not fit its type, and where; empty if it fits."""
        named = self.for_stream(stream)._named_rule(field.name, stream)
        if named is None or is_image(field):
            return "", ""
        pattern, rule = named
        return type_conflict(rule, field.type), self.where(("fields", pattern))

    def _plan(self, field: Field, stream: str) -> Plan:
        kept = self.stream_rules.keep_only if self.stream_rules else ()
        if kept and not _first_fit(field.name, dict.fromkeys(kept)):
            why = f"streams.{self.stream_pattern}.keep_only does not list it"
            place: Place = ("streams", self.stream_pattern, "keep_only")
            return Plan(Action.NULL, why, label="keep_only", code=q.SUPPRESSED, at=place)
        named = self._named_rule(field.name, stream)
        if named is not None:
            return _by_name(field, *named)
        known: dict[str, ClassRule] = {str(name): rule for name, rule in self.options.classes.items()}
        classes = [c for c in field.classes if not (is_image(field) and c in IMAGE_CLASSES)]
        unknown = [c for c in classes if c not in known]
        if unknown:
            return Plan(Action.NULL, f"the policy has no rule for class `{unknown[0]}`", at=("classes",))
        treatment: str = "scan"
        at: Place = ("classes",)
        if field.grade is not None:
            at = self._at("grades", str(field.grade))
            if field.grade not in self.options.grades:
                return Plan(Action.NULL, f"the policy has no rule for grade `{field.grade}`", at=("grades",))
            treatment = self.options.grades[field.grade]
            if treatment == "suppress":
                why = f"grades.{field.grade} says suppress"
                return Plan(Action.NULL, why, label=f"grade-{field.grade}", code=q.SUPPRESSED, at=at)
        if classes:
            strict = max(classes, key=lambda c: OPERATOR_STRICTNESS.index(known[c].operator))
            rule = known[strict]
            if rule.operator != "pass":
                said = self._at("classes", strict)
                return replace(_whole(field, rule, strict, f"{'.'.join(said)} says {rule.operator}"), at=said)
        if field.grade is not None or field.classes:
            why = f"{'.'.join(at)} says {treatment}" if field.grade else "it declares classes"
            return replace(_searched(field, treatment, why), at=at)
        return self._undeclared(field)

    def class_rule(self, name: str) -> Place:
        """Return the key that holds a class's rule in this view, `("classes",)` where there is none."""
        return self._at("classes", name) if name in self.options.classes else ("classes",)

    def _at(self, section: str, name: str) -> Place:
        """Return the key that holds the rule of a grade or class, in this view."""
        own = getattr(self.stream_rules, section, {})
        if name in own:
            return "streams", self.stream_pattern, section, name
        if section == "classes" and name in self._by_level:
            return "levels", self.level(name)
        return section, name

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
        own = bool(self.stream_rules and self.stream_rules.undeclared)
        section: Place = ("streams", self.stream_pattern, "undeclared") if own else ("undeclared",)
        options = self.options.undeclared
        kind = "image" if is_image(field) else "text" if field.type in (Type.STR, Type.BYTES) else "number"
        treatment: str = getattr(options, kind)
        at = (*section, kind)
        why = f"{'.'.join(at)} says {treatment}"
        if treatment == "mask":
            return Plan(Action.IMAGE, why, at=at)
        if treatment == "scan":
            return Plan(Action.SCAN, why, at=at)
        if treatment == "suppress":
            return Plan(Action.NULL, why, label="undeclared", code=q.SUPPRESSED, at=at)
        if kind == "number" and field.unit:
            why += ", and its unit says that it is a measurement"
        elif kind == "number" and field.type is not Type.BOOL and options.integer_digits > 0:
            why += f", {'.'.join(section)}.integer_digits {options.integer_digits}"
            return Plan(Action.DIGITS, why, at=at)
        return Plan(Action.PASS, why, at=at)


def load_policy(name_or_path: str, base_dir: Path) -> Policy:
    """Read a policy: `base`, `strict`, or a file relative to `base_dir`. Raises ConfigError."""
    return Policy(*read_policy(name_or_path, base_dir))


def is_image(field: Field) -> bool:
    """Whether a field holds encoded pictures."""
    return field.media == "image"


def _first_fit(name: str, patterns: Mapping[str, Any]) -> str:
    """Return the pattern that holds for a name: its own, else the first that fits, else an empty text."""
    folded = name.casefold()
    exact = next((p for p in patterns if p.casefold() == folded), "")
    return exact or next((p for p in patterns if fnmatch.fnmatchcase(folded, p.casefold())), "")


def _by_name(field: Field, pattern: str, rule: FieldRule) -> Plan:
    why, at = f"fields.{pattern} says {rule.operator}", ("fields", pattern)
    if rule.operator == "pass":
        return Plan(Action.PASS, why, rule, unguarded=rule.unguarded, at=at)
    if rule.operator == "scan":
        plan = _searched(field, "scan", why)
        return replace(plan, at=at, ner=rule.ner and plan.action is Action.SCAN)
    label = next((c for c in field.classes), "field")
    return replace(_whole(field, rule, label, why), at=at)


def _whole(field: Field, rule: ClassRule | FieldRule, label: str, why: str) -> Plan:
    if rule.operator != "suppress" and not is_image(field) and not type_conflict(rule, field.type):
        return Plan(Action.CELL if field.type is Type.STR else Action.NUMBER, why, rule, label)
    if rule.operator != "suppress":
        why += f", which a {'picture' if is_image(field) else field.type} column cannot hold"
    return Plan(Action.NULL, why, label=label, code=q.SUPPRESSED)


def _searched(field: Field, treatment: str, why: str) -> Plan:
    if is_image(field):  # a grade that passes text does not pass faces: images have rules of their own
        return Plan(Action.IMAGE, f"{why}; images are masked by `images`")
    if treatment == "scan":
        if field.type in (Type.STR, Type.BYTES):
            return Plan(Action.SCAN, why)
        if field.type in (Type.I64, Type.F64) and not field.unit:
            return Plan(Action.DIGITS, why)
        if field.type in (Type.I64, Type.F64):
            why += ", and its unit says that it is a measurement"
    return Plan(Action.PASS, why)


def _with_levels(options: PolicyOptions) -> PolicyOptions:
    """Return the options with a rule for each class that only its level has one for."""
    levels = options.levels
    if levels.personal is None and levels.sensitive is None:
        return options
    classes: dict[str, ClassRule] = {str(name): rule for name, rule in options.classes.items()}
    for name in DECLARED_CLASSES:
        rule = levels.sensitive if name in options.sensitive else levels.personal
        if rule is not None:
            classes.setdefault(name, rule)
    return options.model_copy(update={"classes": classes})


def _canonical(options: PolicyOptions) -> bytes:
    secret: Any = {"secret": True, "previous": {"__all__": {"secret"}}}
    body = options.model_dump(mode="json", exclude={"extends": True, "tests": True, "keys": secret})
    body["fields"] = list(body["fields"].items())  # their order decides
    body["streams"] = list(body["streams"].items())
    if body["sensitive"] == list(SENSITIVE_CLASSES):
        del body["sensitive"]
    if body["keys"] and not body["keys"]["previous"]:
        del body["keys"]["previous"]
    # what a later release adds and a policy does not use leaves its hash alone: receivers list hashes
    if body["images"]["identifier"] == "pass":
        del body["images"]["identifier"]
    for section in ("streams", "levels"):
        if not body[section] or body[section] == Levels().model_dump(mode="json"):
            del body[section]
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
