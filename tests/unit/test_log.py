"""Logging: one line a record, no values, and a limit that protects disks."""

import io
import json
import logging
import stat
from pathlib import Path

import pytest

from forebay import log
from forebay.config.agent import LogOptions
from forebay.errors import InputError


class Clock:
    def __init__(self):
        self.now = 0

    def monotonic_ns(self):
        return self.now

    def wall_ns(self):
        return self.now


@pytest.fixture
def sink():
    """A function that sets logging up and returns its stream and clock; what was before is restored."""
    root, own = logging.getLogger(), logging.getLogger("forebay")
    before = root.handlers[:], root.level, own.level, logging.raiseExceptions
    clock = Clock()

    def make(*arguments):
        stream = io.StringIO()
        log.set_up(*arguments, stream=stream, clock=clock)
        return stream, clock

    yield make
    logging.captureWarnings(False)
    root.handlers[:], root.level, own.level, logging.raiseExceptions = before


def test_text_is_level_component_message_and_facts(sink):
    stream, _ = sink()
    logging.getLogger("forebay.forward").warning(
        "ack timed out", extra={"endpoint": "tcp://h:1", "why": "a b"}
    )
    assert stream.getvalue() == 'WARNING forward: ack timed out endpoint=tcp://h:1 why="a b"\n'


def test_json_is_one_object_a_line(sink):
    stream, _ = sink("info", "json")
    logging.getLogger("forebay.spool").error("disk\nfull", extra={"free": 0, "path": object})
    line = json.loads(stream.getvalue())
    assert line["level"] == "error"
    assert line["component"] == "spool"
    assert line["message"] == "disk\nfull"
    assert line["free"] == 0
    assert line["time"].endswith("Z")
    assert stream.getvalue().count("\n") == 1


def test_no_text_can_forge_a_line(sink):
    stream, _ = sink()
    logging.getLogger("forebay.x").info("a\nERROR spool: lost\x1b[31m %s", "b\r\u2028c", extra={"k": "1\n2"})
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_of_a_foreign_exception_only_type_and_place_are_written(sink):
    stream, _ = sink()
    try:
        int("13800138000x")
    except ValueError:
        logging.getLogger("forebay.x").exception("failed")
    assert "13800138000x" not in stream.getvalue()
    assert 'error="ValueError at test_log.py:' in stream.getvalue()


def test_of_our_own_exception_the_message_is_written(sink):
    stream, _ = sink("info", "json")
    try:
        raise InputError("line too long", place="x.csv:7")
    except InputError:
        logging.getLogger("forebay.x").exception("failed")
    assert json.loads(stream.getvalue())["error"] == "x.csv:7: line too long"


def test_levels_hold_for_us_and_libraries_are_heard_from_warning_on(sink):
    stream, _ = sink("debug")
    logging.getLogger("forebay.x").debug("ours")
    logging.getLogger("paho").info("theirs")
    logging.getLogger("paho").warning("their warning")
    assert stream.getvalue() == "DEBUG x: ours\nWARNING paho: their warning\n"


def test_repetition_is_cut_and_counted(sink):
    stream, clock = sink()
    logger = logging.getLogger("forebay.x")
    for number in range(log.BURST + 25):
        logger.warning("same template %d", number)
        logger.warning("other") if number < 3 else None
    assert stream.getvalue().count("same template") == log.BURST
    assert stream.getvalue().count("other") == 3
    clock.now += log.PERIOD_NS
    logger.warning("same template %d", 99)
    assert stream.getvalue().splitlines()[-1] == "WARNING x: same template 99 suppressed=25"
    clock.now += log.PERIOD_NS
    logger.warning("same template %d", 100)
    assert "suppressed" not in stream.getvalue().splitlines()[-1]


def test_the_limit_itself_is_bounded():
    limit = log.RateLimit(Clock())
    for number in range(log.MAX_TEMPLATES + 100):
        limit.filter(logging.makeLogRecord({"name": "forebay.x", "msg": f"template {number}"}))
    assert len(limit._seen) == log.MAX_TEMPLATES


def test_setting_up_twice_writes_once(sink):
    sink()
    stream, _ = sink()
    logging.getLogger("forebay.x").info("hello")
    assert stream.getvalue() == "INFO x: hello\n"


# -- a file of its own --------------------------------------------------------------------------------------


def test_a_file_is_turned_over_and_the_oldest_goes(tmp_path, sink):
    sink()
    options = LogOptions(file=Path("agent.log"), max_bytes="16KiB", keep=2)
    log.set_up_as(options, tmp_path)
    logger = logging.getLogger("forebay.x")
    for number in range(120):
        logger.info(f"template {number} " + "x" * 1000)  # a template each: the limit is another test's
    sizes = {p.name: p.stat().st_size for p in tmp_path.iterdir()}
    assert set(sizes) == {"agent.log", "agent.log.1", "agent.log.2"}
    assert all(0 < size <= 16 * 1024 for size in sizes.values())
    kept = "".join((tmp_path / f"agent.log{end}").read_text() for end in (".2", ".1", ""))
    numbers = [int(line.split()[3]) for line in kept.splitlines()]
    assert numbers == list(range(120 - len(numbers), 120)), "no line is lost in turning over, but the oldest"
    assert stat.S_IMODE((tmp_path / "agent.log").stat().st_mode) == 0o600


def test_a_file_is_appended_to_and_let_go_when_logging_is_set_up_anew(tmp_path, sink):
    stream, _ = sink()
    (tmp_path / "agent.log").write_text("before\n")
    log.set_up_as(LogOptions(file=Path("agent.log")), tmp_path)
    logging.getLogger("forebay.x").info("in the file \u4e2d")
    sink()
    logging.getLogger("forebay.x").info("not in the file")
    assert (tmp_path / "agent.log").read_text() == "before\nINFO x: in the file \u4e2d\n"
    assert not stream.getvalue()


def test_a_file_that_cannot_be_opened_leaves_stderr(tmp_path, sink, capsys):
    sink()
    log.set_up_as(LogOptions(file=Path("nowhere/agent.log")), tmp_path)
    told = capsys.readouterr().err
    assert "the log file cannot be opened, stderr is used" in told
    assert "No such file" in told


def test_a_disk_that_takes_no_more_costs_lines_and_nothing_else(sink):
    sink()
    log.set_up_as(LogOptions(file=Path("/dev/full")), Path("/"))
    logging.getLogger("forebay.x").info("nobody reads this")
    logging.getLogger("forebay.x").info("nor this")


def test_turning_over_goes_with_a_file_only():
    with pytest.raises(ValueError, match="go with `file`"):
        LogOptions(keep=2)
