"""The language of alarm conditions: `abs(flow) > 3 and state == "run" for 5s`. Parsing only, no data.

Grammar
-------
    rule       = or [ "for" DURATION ]
    or         = and { "or" and }
    and        = not { "and" not }
    not        = "not" not | comparison
    comparison = sum { ( "<" | "<=" | ">" | ">=" | "==" | "!=" ) sum }     a < b < c is a < b and b < c
    sum        = product { ( "+" | "-" ) product }
    product    = unary { ( "*" | "/" ) unary }
    unary      = "-" unary | atom
    atom       = NUMBER | STRING | "true" | "false" | NAME | FUNCTION "(" or { "," or } ")" | "(" or ")"

A NAME is a letter or underscore (any script) followed by letters, digits, underscores and dots; any other
field name is written in backticks. Strings are compared with fields by == and != only. Functions: abs, min,
max; null(x), bad(x), uncertain(x) ask for the quality of a field.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from forebay.config.base import parse_duration
from forebay.config.slips import full_width
from forebay.nearest import nearest

MAX_LENGTH = 2_000
_MAX_TOKENS = 400  # a chain of 200 operators: trees are walked by recursion
_MAX_DEPTH = 50  # of nesting, far below what the interpreter's stack bears

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<string>"[^"]*"|'[^']*')
    | (?P<quoted>`[^`]+`)
    | (?P<name>[^\W\d][\w.]*)
    | (?P<op><=|>=|==|!=|&&|\|\||[-+*/<>(),=!&|])
    )""",
    re.VERBOSE,
)
_DURATION = re.compile(r"\s*[0-9]+(?:\.[0-9]+)?\s*[A-Za-zµ]*\s*$")
_MEANT = {"&&": "and", "&": "and", "||": "or", "|": "or", "!": "not", "=": "=="}
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
FUNCTIONS = {"abs": (1, 1), "min": (2, 8), "max": (2, 8), "null": (1, 1), "bad": (1, 1), "uncertain": (1, 1)}
QUALITY_FUNCTIONS = ("null", "bad", "uncertain")


@dataclass(frozen=True, slots=True)
class Number:
    """A constant; true and false are 1 and 0."""

    value: float


@dataclass(frozen=True, slots=True)
class Text:
    """A string constant."""

    value: str


@dataclass(frozen=True, slots=True)
class Name:
    """A field's value."""

    field: str


@dataclass(frozen=True, slots=True)
class Call:
    """An operator or function: - + * / < <= > >= == != and or not neg abs min max null bad uncertain."""

    op: str
    args: tuple[Node, ...]


Node = Number | Text | Name | Call


@dataclass(frozen=True, slots=True)
class Rule:
    """A parsed condition: what must hold, for how long, and the fields that it names in their order."""

    text: str
    node: Node
    hold_ns: int
    fields: tuple[str, ...]


def parse(text: str) -> Rule:
    """Parse a condition. Raises ValueError with the column (from 1) and a hint."""
    if len(text) > MAX_LENGTH:
        raise ValueError(f"a condition of at most {MAX_LENGTH} characters is expected, found {len(text)}")
    return _Parser(text).rule()


@dataclass(slots=True)
class _Token:
    kind: str
    text: str
    column: int


def _fail(column: int, message: str, hint: str = "") -> NoReturn:
    raise ValueError(f"column {column}: {message}" + (f" ({hint})" if hint else ""))


def _tokens(text: str) -> list[_Token]:
    out, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            place = at + len(text[at:]) - len(text[at:].lstrip())
            hint = "close the quote" if text[place] in "\"'`" else "put unusual field names in backticks"
            hint = full_width(text[place]) or hint
            _fail(place + 1, f"unexpected character `{text[place]}`", hint)
        kind = str(match.lastgroup)
        out.append(_Token(kind, match[kind], match.start(kind) + 1))
        at = match.end()
        if kind == "name" and match[kind].lower() == "for":
            break  # what follows is a duration
    out.append(_Token("end", "", len(text.rstrip()) + 1))
    return out


class _Parser:
    """Recursive descent; each method reads one line of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        if len(self._tokens) > _MAX_TOKENS:
            _fail(self._tokens[_MAX_TOKENS].column, f"longer than {_MAX_TOKENS} words and signs")
        self._at = 0
        self._depth = 0
        self._fields: dict[str, None] = {}

    def rule(self) -> Rule:
        if self._peek().kind == "end":
            _fail(1, "a condition is expected", "e.g. `anomaly > 0.9 for 5s`")
        start = self._peek()
        node = self._or()
        self._truth(node, start.column)
        hold = 0
        token = self._peek()
        if self._word("for"):
            hold = self._duration(token.column + 3)
        elif token.kind != "end":
            self._unexpected(token)
        if not self._fields:
            _fail(start.column, "the condition names no field, so it never changes")
        return Rule(self._text.strip(), node, hold, tuple(self._fields))

    def _duration(self, column: int) -> int:
        rest = self._text[column - 1 :]
        if not _DURATION.match(rest):
            _fail(column + 1, "a duration is expected after `for`, at the end", "e.g. `for 5s`")
        try:
            return parse_duration(rest.strip())
        except ValueError as error:
            _fail(column + 1, str(error))

    # -- reading

    def _peek(self) -> _Token:
        return self._tokens[self._at]

    def _word(self, word: str) -> bool:
        """Take a keyword if it is next."""
        token = self._peek()
        if token.kind == "name" and token.text.lower() == word:
            self._at += 1
            return True
        return False

    def _op(self, *ops: str) -> _Token | None:
        """Take one of the operators if it is next."""
        token = self._peek()
        if token.kind == "op" and token.text in ops:
            self._at += 1
            return token
        return None

    def _unexpected(self, token: _Token) -> NoReturn:
        if token.kind == "end":
            _fail(token.column, "the condition ends too early")
        if token.text in _MEANT:
            _fail(token.column, f"`{token.text}` is no operator here", f"write `{_MEANT[token.text]}`")
        _fail(token.column, f"`{token.text}` is not expected here", "combine conditions with `and` or `or`")

    def _nested(self, column: int) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            _fail(column, f"nested deeper than {_MAX_DEPTH} levels")

    # -- grammar

    def _or(self) -> Node:
        return self._logical("or", self._and)

    def _and(self) -> Node:
        return self._logical("and", self._not)

    def _logical(self, word: str, operand: Callable[[], Node]) -> Node:
        column = self._peek().column
        node = operand()
        while self._word(word):
            self._truth(node, column)
            column = self._peek().column
            right = operand()
            self._truth(right, column)
            node = Call(word, (node, right))
        return node

    def _not(self) -> Node:
        column = self._peek().column
        if not self._word("not"):
            return self._comparison()
        self._nested(column)
        at = self._peek().column
        inner = self._not()
        self._truth(inner, at)
        self._depth -= 1
        return Call("not", (inner,))

    def _comparison(self) -> Node:
        left = self._sum()
        node: Node | None = None
        while token := self._op(*COMPARISONS):
            right = self._sum()
            self._comparable(left, right, token)
            link = Call(token.text, (left, right))
            node = link if node is None else Call("and", (node, link))
            left = right
        return left if node is None else node

    def _sum(self) -> Node:
        return self._arithmetic(("+", "-"), self._product)

    def _product(self) -> Node:
        return self._arithmetic(("*", "/"), self._unary)

    def _arithmetic(self, ops: tuple[str, ...], operand: Callable[[], Node]) -> Node:
        node = operand()
        while token := self._op(*ops):
            right = operand()
            for side in (node, right):
                if isinstance(side, Text):
                    _fail(token.column, "text cannot be calculated with")
            node = Call(token.text, (node, right))
        return node

    def _unary(self) -> Node:
        token = self._op("-")
        if token is None:
            return self._atom()
        self._nested(token.column)
        inner = self._unary()
        self._depth -= 1
        if isinstance(inner, Text):
            _fail(token.column, "text cannot be calculated with")
        return Number(-inner.value) if isinstance(inner, Number) else Call("neg", (inner,))

    def _atom(self) -> Node:
        token = self._peek()
        self._at += token.kind != "end"
        if token.kind == "number":
            return self._number(token)
        if token.kind == "string":
            return Text(token.text[1:-1])
        if token.kind == "quoted":
            return self._field(token.text[1:-1])
        if token.kind == "op" and token.text == "(":
            self._nested(token.column)
            node = self._or()
            self._depth -= 1
            if not self._op(")"):
                _fail(self._peek().column, "a closing `)` is expected")
            return node
        if token.kind == "name":
            return self._named(token)
        self._unexpected(token)

    def _number(self, token: _Token) -> Node:
        if self._peek().kind == "name" and self._peek().column == token.column + len(token.text):
            _fail(self._peek().column, "a number has no unit here", "compare in the field's own unit")
        value = float(token.text)
        if value in (float("inf"), float("-inf")):
            _fail(token.column, "the number is too large")
        return Number(value)

    def _field(self, name: str) -> Name:
        self._fields.setdefault(name)
        return Name(name)

    def _named(self, token: _Token) -> Node:
        word = token.text.lower()
        if word in ("and", "or", "not", "for"):
            self._unexpected(token)
        if word in ("true", "false"):
            return Number(float(word == "true"))
        if self._peek().kind == "op" and self._peek().text == "(":
            return self._call(token)
        return self._field(token.text)

    def _call(self, token: _Token) -> Node:
        name = token.text.lower()
        if name not in FUNCTIONS:
            near = nearest(name, FUNCTIONS)
            _fail(
                token.column,
                f"no function `{token.text}`",
                f"did you mean `{near}`?" if near else f"there are {', '.join(FUNCTIONS)}",
            )
        self._nested(token.column)
        self._at += 1
        args = [self._or()]
        while self._op(","):
            args.append(self._or())
        if not self._op(")"):
            _fail(self._peek().column, "a closing `)` is expected")
        self._depth -= 1
        least, most = FUNCTIONS[name]
        if not least <= len(args) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            _fail(token.column, f"`{name}` takes {wanted} values, found {len(args)}")
        if name in QUALITY_FUNCTIONS and not isinstance(args[0], Name):
            _fail(token.column, f"`{name}` asks for the quality of one field", f"e.g. `{name}(temperature)`")
        if any(isinstance(arg, Text) for arg in args):
            _fail(token.column, f"`{name}` takes numbers, not text")
        return Call(name, tuple(args))

    # -- what fits together

    @staticmethod
    def _truth(node: Node, column: int) -> None:
        """A condition must be true or false: a bare number is a slip, a bare field may be a bool."""
        arithmetic = isinstance(node, Call) and node.op in ("+", "-", "*", "/", "neg", "abs", "min", "max")
        if arithmetic or isinstance(node, Number | Text):
            _fail(column, "a condition is expected here, found a value", "compare it, e.g. `x > 3`")

    @staticmethod
    def _comparable(left: Node, right: Node, token: _Token) -> None:
        texts = [isinstance(side, Text) for side in (left, right)]
        if not any(texts):
            return
        names = [isinstance(side, Name) for side in (left, right)]
        if token.text not in ("==", "!=") or not any(names):
            _fail(token.column, "text is compared with a field, by == or !=", 'e.g. `state == "run"`')
