"""The audit log: one transaction with the batches, a chain that shows what was done to it, reports."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing

import pytest

from forebay.audit import START, Auditor, Entry, Head, chained, summarise, verify
from forebay.blocks import Lane
from forebay.cli import app
from forebay.spool import Claims, Spool
from forebay.spool import audit as table
from forebay.spool.audit import AuditReader
from forebay.spool.store import Answers, Store
from forebay.stages import AuditNote, Commit, Sealed
from forebay.wire.envelope import content_tag

MINUTE = 60_000_000_000
FACTS = {
    "gateway": "g1",
    "agent": "0.1",
    "boot": "b1",
    "policy": "base",
    "policy_hash": "ab" * 32,
    "key_id": "k1",
}
HIT = ("desk", "note", "mobile:token")


def note(minutes=0.0, hits=None, **facts):
    now = int(minutes * MINUTE)
    return AuditNote(FACTS | facts, Counter(hits or {}), 1_700_000_000_000_000_000 + now, now)


def commit(audit, batches=1, owner="file/desk"):
    data = [bytes([n]) * 20 for n in range(batches)]
    sealed = [Sealed("desk", Lane.NORMAL, d, content_tag(d), 1, 1, 0, 0, (b"s" * 8, b"c" * 8)) for d in data]
    return Commit(owner, sealed, {b"s" * 8: b"s", b"c" * 8: b"c"}, audit_note=audit)


@pytest.fixture
def store(tmp_path):
    made = Store(
        tmp_path / "segment-000001.db", claims=Claims(), sync="full", max_bytes=64 << 20, on_full="block"
    )
    yield made
    made.close()


@pytest.fixture
def log(store):
    return AuditReader(store.path)


def apply(store, *commits):
    store.apply(list(commits), Answers())


def bodies(log):
    return [json.loads(entry.text) for entry in log.entries()]


def all_hits(log):
    return summarise([*(e.text for e in log.entries()), *log.open_texts()]).hits


def test_an_entry_covers_a_minute_and_says_who_what_how_often_and_which_batches(store, log):
    apply(store, commit(note(0, {HIT: 2})))
    apply(store, commit(note(0.5, {HIT: 3, ("desk", "note", "email:tag"): 1}), batches=2))
    assert bodies(log) == [], "still open"
    apply(store, commit(note(1.0, {HIT: 1})))
    (body,) = bodies(log)
    assert {name: body[name] for name in FACTS} == FACTS
    assert body["owner"] == "file/desk"
    assert body["hits"] == [["desk", "note", "email:tag", 1], ["desk", "note", "mobile:token", 5]]
    assert body["batches"]["count"] == 3
    assert list(body["batches"]["epochs"].values()) == [[1, 3]]
    assert (body["since"][1], body["until"][1]) == (0, MINUTE // 2)
    assert all_hits(log)[HIT] == 6
    assert verify(log.entries()).problems == []


def test_a_commit_that_fails_leaves_no_count(store, log):
    apply(store, commit(note(0, {HIT: 1})))
    bad = commit(note(0.1, {HIT: 100}))
    bad.state["x"] = object()  # no value that the spool takes
    with pytest.raises(TypeError):
        apply(store, bad)
    apply(store, commit(note(2, {HIT: 1})))
    assert all_hits(log) == {HIT: 2}
    assert verify(log.entries()).problems == []


def test_pipelines_and_policies_have_entries_of_their_own(store, log):
    apply(store, commit(note(0, {HIT: 1})), commit(note(0, {HIT: 5}), owner="file/door"))
    apply(store, commit(note(0.2, {HIT: 7}, policy_hash="cd" * 32)))
    apply(store, commit(note(3, {HIT: 1})), commit(note(3, {HIT: 1}), owner="file/door"))
    seen = Counter((b["owner"], b["policy_hash"][:2]) for b in bodies(log))
    assert seen == {("file/desk", "ab"): 1, ("file/desk", "cd"): 1, ("file/door", "ab"): 1}


def test_an_idle_pipeline_writes_nothing_but_a_new_policy_is_always_told(store, log):
    apply(store, commit(note(0)))
    for minute in range(1, 10):
        apply(store, commit(note(minute)))
    assert len(bodies(log)) == 1, "the first commit says under which policy it was made"
    apply(store, commit(note(20, policy_hash="cd" * 32)))
    apply(store, commit(note(30, {HIT: 1}, policy_hash="cd" * 32)))
    assert bodies(log)[-1]["policy_hash"] == "cd" * 32


def test_what_an_earlier_boot_left_open_is_closed_by_the_first_commit(store, log):
    apply(store, commit(note(5000, {HIT: 4})))
    apply(store, commit(note(0, {HIT: 1}, boot="b2")))
    (body,) = bodies(log)
    assert (body["boot"], body["hits"][0][3]) == ("b1", 4)
    assert all_hits(log) == {HIT: 5}


def open_spool(store):
    store.close()
    return Spool.open(store.folder, sync="full", max_bytes=64 << 20, on_stored=lambda: None)


def test_a_clean_end_closes_what_is_open_in_the_chain(store, log):
    apply(store, commit(note(0, {HIT: 4})), commit(note(0, {HIT: 5}), owner="file/door"))
    spool = open_spool(store)
    spool.writer.start()
    spool.writer.submit(commit(note(0.1, {HIT: 1})))
    assert spool.close()
    assert list(log.open_texts()) == []
    assert verify(log.entries()).problems == []
    assert [b["hits"][0][3] for b in bodies(log)] == [4, 5, 1]


def test_what_a_crash_left_open_is_in_the_chain_before_anything_else_is_written(store, log):
    apply(store, commit(note(0, {HIT: 4})))
    spool = open_spool(store)
    try:
        (body,) = bodies(log)
        assert body["hits"] == [[*HIT, 4]]
        assert list(log.open_texts()) == []
        spool.store.apply([commit(note(0.1, {HIT: 1}))], Answers())
        assert all_hits(log) == {HIT: 5}, "counted once"
    finally:
        spool.close()


def test_a_disk_that_cannot_take_the_last_entry_keeps_it_open_for_the_next_start(store, log):
    apply(store, commit(note(0, {HIT: 4})))
    store.db.execute("PRAGMA query_only = 1")
    store.close_audit()
    assert bodies(log) == []
    assert all_hits(log) == {HIT: 4}
    open_spool(store).close()
    assert [b["hits"][0][3] for b in bodies(log)] == [4]


@pytest.mark.parametrize(
    "spoil", ["substr(body, 2)", "'{}'", 'replace(body, \'"since":[\', \'"since":["x",\')']
)
def test_damaged_counts_are_left_for_the_commit_that_tells_of_them(store, log, spoil):
    apply(store, commit(note(0, {HIT: 4})), commit(note(0, {HIT: 5}), owner="file/door"))
    with closing(sqlite3.connect(store.path)) as db, db:
        db.execute(f"UPDATE audit_open SET body = {spoil} WHERE context LIKE '%desk%'")
    store.audit.forget()  # as after a restart
    store.close_audit()
    assert [b["hits"][0][3] for b in bodies(log)] == [5]
    apply(store, commit(note(0.1, {HIT: 1})))
    store.close_audit()
    assert all_hits(log) == {HIT: 6, ("", "", "audit:damaged"): 1}


def test_open_counts_that_are_damaged_on_disk_do_not_stop_the_spool_and_are_told(store, log):
    apply(store, commit(note(0, {HIT: 4})))
    with closing(sqlite3.connect(store.path)) as db, db:
        db.execute("UPDATE audit_open SET body = substr(body, 2)")
    store.reopen()
    apply(store, commit(note(0.1, {HIT: 1})))
    assert all_hits(log) == {HIT: 1, ("", "", "audit:damaged"): 1}


def test_the_log_is_bounded_and_keeps_the_heads_of_what_it_deleted(store, log, monkeypatch):
    monkeypatch.setattr(table, "MAX_ENTRIES", 20)
    monkeypatch.setattr(table, "PRUNE_AT_ONCE", 5)
    for minute in range(60):
        apply(store, commit(note(2 * minute, {HIT: 1})))
        apply(store, commit(note(2 * minute + 1, {HIT: 1})))
    entries = list(log.entries())
    assert 15 <= len(entries) <= 21
    verdict = verify(entries, log.pruned())
    assert verdict.problems == []
    assert verdict.first == log.pruned()[-1].n + 1
    old = log.pruned()[0]
    assert verify(entries, log.pruned(), old).anchor == f"holds at entry {old.n}"
    assert "rotation" in verify(entries, log.pruned(), Head(old.n - 1, START)).anchor


def test_a_new_segment_goes_on_with_the_chain(store, log, tmp_path):
    for minute in range(4):
        apply(store, commit(note(2 * minute, {HIT: 1})))
    path = tmp_path / "segment-000002.db"
    fresh = Store(path, claims=Claims(), sync="full", max_bytes=64 << 20, on_full="block")
    try:
        with closing(sqlite3.connect(store.path)) as old, closing(sqlite3.connect(path)) as new, new:
            table.carry(old, new)
        fresh.audit.forget()
        fresh.apply([commit(note(10, {HIT: 1}))], Answers())
        reader = AuditReader(path)
        assert verify(reader.entries(), (), log.head()).anchor == "holds at entry 3"
        assert all_hits(reader) == {HIT: 5}
    finally:
        fresh.close()


def chain(count):
    out, before = [], START
    for n in range(1, count + 1):
        text = json.dumps({"n": n})
        before = chained(before, n, text)
        out.append(Entry(n, text, before))
    return out


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda c: [*c[:2], c[2]._replace(text='{"n": 9}'), *c[3:]], "entry 3"),
        (lambda c: c[:2] + c[3:], "entry 3 is missing"),
        (lambda c: c[2:], "entries 1 to 2 are missing"),
        (lambda c: [*c[:1], c[1]._replace(hash=bytes(32)), *c[2:]], "entry 2"),
        (lambda c: [*c[:1], c[2]._replace(n=2), c[1]._replace(n=3), *c[3:]], "entry 2"),
    ],
)
def test_a_change_a_removal_and_a_swap_show(spoil, said):
    entries = chain(6)
    assert verify(entries).problems == []
    problems = verify(spoil(entries)).problems
    assert said in problems[0]


def test_a_cut_end_and_a_chain_written_anew_show_against_an_anchor():
    entries = chain(6)
    anchor = Head.parse(str(Head(entries[4].n, entries[4].hash)))
    assert verify(entries, (), anchor).problems == []
    assert verify(entries[:3]).problems == [], "without an anchor a cut end cannot be seen"
    assert "newest entries are gone" in verify(entries[:3], (), anchor).problems[0]
    forged, before = [], START
    for entry in entries:
        text = entry.text.replace("{", "{ ")
        before = chained(before, entry.n, text)
        forged.append(Entry(entry.n, text, before))
    assert verify(forged).problems == []
    assert "written anew" in verify(forged, (), anchor).problems[0]


@pytest.mark.parametrize("text", ["", "5", "x:00", "5:00", "5:" + "g" * 64])
def test_an_anchor_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"expected|hexadecimal"):
        Head.parse(text)


def test_an_auditor_hands_over_what_was_counted_once():
    class Clock:
        def wall_ns(self):
            return 7

        def monotonic_ns(self):
            return 5

    counts = [Counter({HIT: 2}), Counter({HIT: 1})]
    auditor = Auditor(FACTS, [lambda: counts.pop() if counts else Counter()] * 2, Clock())
    assert auditor.note() == AuditNote(FACTS, Counter({HIT: 3}), 7, 5)
    assert auditor.note().hits == {}


# --- the command


@pytest.fixture
def filled(store):
    for minute in range(4):
        hits = {HIT: 10, ("desk", "note", "leak:email"): 1, ("desk", "<b>", "resident_id:keep"): 2}
        apply(store, commit(note(2 * minute, hits)))
    store.close()
    return store.path.parent


def run(capsys, *arguments):
    code = app.run(["audit", *map(str, arguments)])
    return code, capsys.readouterr().out


def test_verify_says_ok_and_finds_what_was_done_to_the_file(capsys, filled):
    code, out = run(capsys, "verify", filled)
    assert code == 0
    assert "OK, 3 entries" in out
    head = json.loads(run(capsys, "head", filled, "--json")[1])["anchor"]
    assert run(capsys, "verify", filled / "segment-000001.db", "--anchor", head)[0] == 0
    with closing(sqlite3.connect(filled / "segment-000001.db")) as db:
        db.execute("UPDATE audit_entry SET body = replace(body, ',10]', ',11]') WHERE n = 2")
        db.commit()
    code, out = run(capsys, "verify", filled)
    assert code == 1
    assert "entry 2 or the hash before it was changed" in out
    with closing(sqlite3.connect(filled / "segment-000001.db")) as db:
        db.execute("DELETE FROM audit_entry WHERE n > 1")
        db.commit()
    assert run(capsys, "verify", filled)[0] == 0
    code, out = run(capsys, "verify", filled, "--anchor", head, "--json")
    assert code == 1
    assert "newest entries are gone" in json.loads(out)["problems"][0]


def test_a_report_adds_up_by_class_and_field_and_is_a_page_too(capsys, filled, tmp_path):
    code, out = run(capsys, "report", filled, "--json", "--html", tmp_path / "r.html")
    facts = json.loads(out)
    assert code == 0
    assert facts["chain"] == "holds"
    assert facts["batches"] == 4
    assert facts["policies"] == [{"name": "base", "hash": "ab" * 32, "key_id": "k1", "entries": 4}]
    rows = {
        (r["stream"], r["field"], r["class"], r["operator"]): (r["level"], r["count"]) for r in facts["hits"]
    }
    assert rows["desk", "note", "mobile", "token"] == ("personal", 40)
    assert rows["desk", "note", "email", "stopped by the guard"] == ("personal", 4)
    assert rows["desk", "<b>", "resident_id", "keep"] == ("sensitive", 8)
    page = (tmp_path / "r.html").read_text()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "<script" not in page


def test_a_report_of_a_time_range_takes_the_entries_that_touch_it(capsys, filled):
    # the notes begin at 2023-11-14T22:13:20Z and are two minutes apart
    def batches(*options):
        return json.loads(run(capsys, "report", filled, "--json", *options)[1])["batches"]

    assert batches("--from", "2023-11-15T00:00:00+00:00") == 0
    assert batches("--to", "2023-11-14T22:14:00+00:00") == 1
    assert batches("--from", "2023-11-14", "--to", "2023-11-15") == 4
    assert app.run(["audit", "report", str(filled), "--from", "yesterday"]) == 2


def test_a_folder_without_a_spool_is_an_error(capsys, tmp_path):
    assert app.run(["audit", "verify", str(tmp_path)]) == 1
    assert "no spool here" in capsys.readouterr().err


def spoil(folder, statement):
    with closing(sqlite3.connect(folder / "segment-000001.db")) as db:
        db.execute(statement)
        db.commit()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entry SET body = 'no JSON' WHERE n = 2",
        "UPDATE audit_entry SET body = '[]' WHERE n = 2",
        "UPDATE audit_entry SET body = replace(body, '\"hits\"', '\"other\"') WHERE n = 2",
        "UPDATE audit_entry SET body = replace(body, ',10]', ',\"ten\"]') WHERE n = 2",
        "UPDATE audit_entry SET body = x'ff00' WHERE n = 2",
        "UPDATE audit_entry SET body = 7 WHERE n = 2",
    ],
)
def test_an_entry_that_was_made_unreadable_is_told_and_the_others_are_counted(
    capsys, filled, tmp_path, statement
):
    spoil(filled, statement)
    code, out = run(capsys, "verify", filled)
    assert code == 1
    assert "entry 2" in out
    page = tmp_path / "r.html"
    code, out = run(capsys, "report", filled, "--json", "--html", page)
    facts = json.loads(out)
    assert (code, facts["chain"], facts["batches"], facts["unreadable"]) == (1, "broken", 3, 1)
    assert "1 entries cannot be read" in page.read_text()
    assert "1 entries cannot be read" in run(capsys, "report", filled)[1]


@pytest.mark.parametrize("value", ["5", "NULL", "'text'", "x''"])
def test_a_hash_that_is_none_is_told_of_wherever_it_stands(capsys, filled, value):
    newest = int(json.loads(run(capsys, "head", filled, "--json")[1])["n"])
    with closing(sqlite3.connect(filled / "segment-000001.db")) as db:
        db.execute("CREATE TABLE other AS SELECT * FROM audit_entry")  # without NOT NULL
        db.execute("DROP TABLE audit_entry")
        db.execute("ALTER TABLE other RENAME TO audit_entry")
        db.execute(f"UPDATE audit_entry SET hash = {value} WHERE n = {newest}")
        db.commit()
    assert run(capsys, "verify", filled)[0] == 1
    assert run(capsys, "report", filled)[0] == 1
    assert app.run(["audit", "head", str(filled)]) == (0 if value == "x''" else 1)


@pytest.mark.parametrize("statement", ["DELETE FROM audit_entry", "DROP TABLE audit_entry"])
def test_a_log_that_was_emptied_is_no_good_log(capsys, filled, statement):
    spoil(filled, "DELETE FROM audit_open")
    spoil(filled, statement)
    for command in ("verify", "report"):
        code, out = run(capsys, command, filled)
        assert code == 1
        assert "there are no entries, though the spool was masked for" in out


def test_a_range_that_ends_before_it_begins_is_refused_and_an_empty_one_is_said(capsys, filled):
    assert app.run(["audit", "report", str(filled), "--from", "2026-03-02", "--to", "2026-03-01"]) == 2
    assert app.run(["audit", "report", str(filled), "--from", "2026-03-01", "--to", "2026-03-01"]) == 0
    assert "0 entries, 0 batches in this range" in capsys.readouterr().out


def test_verify_says_what_it_cannot_see_without_an_anchor(capsys, filled):
    assert "only with --anchor" in run(capsys, "verify", filled)[1]
    anchor = json.loads(run(capsys, "head", filled, "--json")[1])["anchor"]
    assert "only with --anchor" not in run(capsys, "verify", filled, "--anchor", anchor)[1]
