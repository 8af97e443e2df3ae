"""Masking of text by public tools. Runs in the peers environment, without Forebay: `text.py FOLDER`.

FOLDER/records.txt holds a record a line, FOLDER/union.txt the patterns of a Python `re` union, a line each. Prints one
JSON object: records per CPU second by tool, and the records that each changed.
"""

import json
import re
import sys
import time
from pathlib import Path

SECONDS = 0.6
MARK = "***"


def rate(run, records):
    """Return records per CPU second, best of three."""
    best = float("inf")
    for _ in range(3):
        begin, turns = time.process_time(), 0
        while turns == 0 or time.process_time() - begin < SECONDS / 3:
            run()
            turns += 1
        best = min(best, (time.process_time() - begin) / turns)
    return len(records) / best


def replaced(text, spans):
    """Return the text with its spans masked, overlapping ones as one."""
    out, at = [], 0
    for start, end in sorted(spans):
        if start < at:
            continue
        out += [text[at:start], MARK]
        at = end
    return "".join([*out, text[at:]])


def with_re(records, patterns):
    union = re.compile("|".join(patterns))
    return lambda: [union.sub(MARK, text) for text in records]


def with_hyperscan(records, patterns):
    """Hyperscan knows no look-around: digits before and after a hit are looked at in Python."""
    import hyperscan

    plain = [re.sub(r"\(\?<?!(?:[^()]*)\)", "", p) for p in patterns]
    database = hyperscan.Database()
    flags = hyperscan.HS_FLAG_SOM_LEFTMOST | hyperscan.HS_FLAG_UTF8
    database.compile(
        expressions=[p.encode() for p in plain], ids=list(range(len(plain))), flags=[flags] * len(plain)
    )
    scratch = hyperscan.Scratch(database)
    data = [text.encode() for text in records]

    def one(text):
        longest = {}

        def hit(_id, start, end, _flags, _context):
            longest[start] = max(end, longest.get(start, 0))

        database.scan(text, match_event_handler=hit, scratch=scratch)
        if not longest:
            return text
        spans = [
            (s, e)
            for s, e in longest.items()
            if not text[s - 1 : s].isdigit() and not text[e : e + 1].isdigit()
        ]
        return replaced(text.decode(), spans).encode() if spans else text

    return lambda: [one(text).decode() for text in data]


def with_presidio(records, patterns):
    """The analyzer with pattern recognizers and a blank language model: no named entities, so the least it costs."""
    import spacy
    from presidio_analyzer import AnalyzerEngine, Pattern, PatternRecognizer, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine
    from presidio_analyzer.predefined_recognizers import CreditCardRecognizer, EmailRecognizer, IpRecognizer

    class Blank(SpacyNlpEngine):
        def load(self):
            self.nlp = {"en": spacy.blank("en")}

    engine = Blank()
    engine.load()
    own = {
        "CN_RESIDENT_ID": patterns[0],
        "CN_MOBILE": patterns[1],
        "CN_LANDLINE": patterns[2],
        "CN_PLATE": patterns[5],
    }
    recognizers = [
        PatternRecognizer(supported_entity=name, patterns=[Pattern(name, pattern, 0.8)], global_regex_flags=0)
        for name, pattern in own.items()
    ]
    recognizers += [CreditCardRecognizer(), EmailRecognizer(), IpRecognizer()]
    registry = RecognizerRegistry(recognizers=recognizers, supported_languages=["en"])
    analyzer = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])
    some = records[:300]
    return lambda: [
        replaced(text, [(r.start, r.end) for r in analyzer.analyze(text, "en") if r.score >= 0.5])
        for text in some
    ]


def main():
    folder = Path(sys.argv[1])
    records = folder.joinpath("records.txt").read_text().splitlines()
    patterns = folder.joinpath("union.txt").read_text().splitlines()
    out = {}
    for name, make in (
        ("Python re union", with_re),
        ("Hyperscan + Python", with_hyperscan),
        ("Presidio, blank language model", with_presidio),
    ):
        run = make(records, patterns)
        masked = run()
        changed = [i for i, (a, b) in enumerate(zip(records, masked, strict=False)) if a != b]
        out[name] = {"rate": rate(run, masked), "changed": changed, "records": len(masked)}
    print(json.dumps(out))


main()
