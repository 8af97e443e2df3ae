"""Steps over detections: tracks, counts, zones, lines, dwell, posts; restarts, hours, stills around events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np
import pytest
from pydantic import ValidationError

from forebay import infer
from forebay.blocks import Block, Column, Field, Lane, Schema, Type, concat
from forebay.config import detections as config
from forebay.errors import ConfigError, InputError
from forebay.infer import rules
from forebay.infer.track import Tracker
from forebay.stages import Step

SECOND = 1_000_000_000
WIDTH, HEIGHT = 1000, 500
MODEL = "street-objects@1.0.0#00000000"
Object = tuple[float, float]  # where its feet are, in pixels; 40 wide and 100 high
RIGHT_HALF = [(0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)]


def step(kind: str, /, key: str = "", **options: Any) -> Step:
    return infer.build_watch(kind, config.STEP_OPTIONS[kind].model_validate(options), key=key)  # type: ignore[arg-type]


def looked(
    number: int,
    objects: Sequence[Object] | None,
    *,
    every: float = 1.0,
    label: str = "Person",
    camera: str = "",
) -> list[Block]:
    """What `infer` hands on for one image: its detections, then the image. None: nobody looked."""
    time = np.array([round(number * every * SECOND)], dtype=np.int64)
    key = [Field("camera", Type.STR)] if camera else []
    who = [Column.of(Type.STR, [camera])] if camera else []
    picture = Column(
        np.zeros(0, np.uint8), np.zeros(2, np.int64), frames=[np.full((5, 5, 3), number, np.uint8)]
    )
    fields = (
        *key,
        Field("image", Type.BYTES, media="image"),
        Field("frame", Type.I64),
        Field("objects", Type.I64, model=MODEL),
    )
    count = Column.of(Type.I64, [None if objects is None else len(objects)])
    image = Block(
        Schema("cam", fields, "camera" if camera else ""),
        time,
        (*who, picture, Column(np.array([number])), count),
    )
    if not objects:
        return [image]
    edges = [(x - 20.0, y - 100.0, x + 20.0, y) for x, y in objects]
    table: list[tuple[Field, list[Any]]] = [
        (Field("frame", Type.I64), [number] * len(edges)),
        (Field("label", Type.STR, model=MODEL), [label] * len(edges)),
        (Field("score", Type.F64), [0.9] * len(edges)),
        *((Field(n, Type.F64), [e[i] for e in edges]) for i, n in enumerate(("x1", "y1", "x2", "y2"))),
        (Field("width", Type.I64), [WIDTH] * len(edges)),
        (Field("height", Type.I64), [HEIGHT] * len(edges)),
    ]
    columns = [Column.of(f.type, cells) for f, cells in table]
    schema = Schema("cam_detections", (*key, *(f for f, _ in table)), "camera" if camera else "")
    all_columns = ([Column.of(Type.STR, [camera] * len(edges))] if camera else []) + columns
    return [Block(schema, np.repeat(time, len(edges)), tuple(all_columns)), image]


def told(blocks: list[Block], stream: str = "cam_events") -> list[dict[str, Any]]:
    out = []
    for block in (b for b in blocks if b.stream == stream):
        cells = [c.to_list(f.type) for f, c in zip(block.schema.fields, block.columns, strict=True)]
        for time, row in zip(block.time.tolist(), zip(*cells, strict=True), strict=True):
            out.append({"time": time / SECOND, **dict(zip(block.schema.names(), row, strict=True))})
    return out


def feed(one: Step, way: Sequence[Sequence[Object] | None], **options: Any) -> list[Block]:
    return [
        b
        for n, objects in enumerate(way)
        for given in looked(n, objects, **options)
        for b in one.process(given)
    ]


def events(one: Step, way: Sequence[Sequence[Object] | None], **options: Any) -> list[tuple[float, str]]:
    return [(e["time"], e["event"]) for e in told(feed(one, way, **options))]


WALK = [[(100.0 + 100 * n, 400.0)] for n in range(9)]  # from left to right through the middle


def test_images_and_detections_pass_untouched() -> None:
    one = step("zone", polygon=RIGHT_HALF)
    given = looked(0, [(900, 400)])
    assert one.process(given[0]) == [given[0]]
    assert one.process(given[1]) == [given[1]]
    other = Block(Schema("pump", (Field("t", Type.F64),)), np.zeros(1, np.int64), (Column(np.ones(1)),))
    assert one.process(other) == [other]


def test_a_zone_tells_who_enters_and_leaves() -> None:
    way = [*WALK, *WALK[::-1]]
    got = told(feed(step("zone", polygon=RIGHT_HALF, name="yard"), way))
    assert [(e["time"], e["event"], e["count"]) for e in got] == [(5, "enter", 1), (15, "leave", 0)]
    assert {e["rule"] for e in got} == {"yard"}
    assert got[0]["label"] == "Person"
    assert got[0]["track"] == got[1]["track"]
    assert got[0]["x1"] == 580
    assert got[1]["seconds"] == 10


def test_who_is_lost_inside_has_left_when_it_was_last_seen() -> None:
    got = told(feed(step("zone", polygon=RIGHT_HALF, lost="3s"), [*WALK, *[[]] * 5]))
    assert [(e["time"], e["event"]) for e in got] == [(5, "enter"), (12, "leave")]
    assert (got[1]["label"], got[1]["x1"], got[1]["seconds"]) == ("Person", 880, 3), "as last seen"


def test_a_detection_missed_once_changes_nothing() -> None:
    way = [[] if n in (3, 7) else objects for n, objects in enumerate(WALK)]
    assert events(step("zone", polygon=RIGHT_HALF), way) == [(5, "enter")]


def test_images_in_which_nobody_looked_say_nothing() -> None:
    one = step("left_post", **{"for": "5s"})
    assert events(one, [[(500, 400)], None, None, None, None, None, None]) == []


def test_a_line_tells_the_direction_and_counts() -> None:
    line = {"start": [0.5, 1.0], "end": [0.5, 0.0]}  # upwards: left of it is the left half
    way = [*WALK, *WALK[::-1], *WALK]
    got = told(feed(step("line", **line), way))
    assert [(e["event"], e["count"]) for e in got] == [("in", 1), ("out", 1), ("in", 2)]
    assert events(step("line", start=line["end"], end=line["start"]), WALK) == [(6, "out")]
    assert events(step("line", **line, events=["out"]), way) == [(15, "out")]


def test_who_passes_beside_the_ends_of_a_line_does_not_cross_it() -> None:
    assert events(step("line", start=[0.5, 0.5], end=[0.5, 0.0]), WALK) == []  # the feet are at 0.8


def test_trembling_on_a_line_is_no_crossing() -> None:
    way = [[(500.0 + (-1) ** n * 3, 400.0)] for n in range(20)]
    assert events(step("line", start=[0.5, 1.0], end=[0.5, 0.0]), way) == []


def test_dwell_is_told_once_for_each_stay_and_ends_with_leave() -> None:
    way = [[(450, 400)], *[[(550.0, 400.0)]] * 12, [(450, 400)], [(450, 400)]]
    got = told(feed(step("dwell", polygon=RIGHT_HALF, confirm=1, lost="20s", **{"for": "5s"}), way))
    assert [(e["time"], e["event"], e["seconds"]) for e in got] == [(6, "dwell", 5), (13, "leave", 12)]
    short = [[(450, 400)], *[[(550.0, 400.0)]] * 3, [(450, 400)], [(450, 400)]]
    assert events(step("dwell", polygon=RIGHT_HALF, confirm=1, **{"for": "5s"}), short) == []


def test_a_left_post_is_told_once_and_its_end() -> None:
    way = [[(800, 400)], *[[]] * 8, [(300, 400)], [], [(800, 400)], [(800, 400)]]
    got = told(feed(step("left_post", polygon=RIGHT_HALF, **{"for": "5s"}), way))
    assert [(e["time"], e["event"], e["seconds"]) for e in got] == [(6, "left", 5), (11, "back", 10)]


def test_a_gap_in_the_images_is_no_left_post() -> None:
    one, out = step("left_post", **{"for": "5s"}), []
    for number in (0, 100, 102, 104):
        out += [b for given in looked(number, []) for b in one.process(given)]
    assert told(out) == []


def test_presence_holds_through_missed_detections() -> None:
    way = [[(1.0, 400.0)] if n % 3 else [] for n in range(12)] + [[]] * 4
    assert events(step("present", **{"for": "5s"}), way) == [(6, "present"), (14, "gone")]


def test_only_wanted_classes_count() -> None:
    assert events(step("zone", polygon=RIGHT_HALF, classes=["Person"]), WALK, label="Dog") == []
    assert events(step("left_post", classes=["Person"], **{"for": "3s"}), [[(5, 400)]] * 5, label="Dog") == [
        (3, "left")
    ]


def test_counts_are_told_for_each_time_and_at_the_end() -> None:
    one = step("count", every="4s", name="hall")
    way: list[list[Object]] = [[(100, 400)], [(100, 400), (800, 400)], [], [], [(1, 400)], None]  # type: ignore[list-item]
    out = told(feed(one, way) + one.flush(), "cam_counts")
    names = ("time", "count", "count_max", "count_mean", "frames", "rule")
    assert [tuple(r[n] for n in names) for r in out] == [
        (3, 0, 2, 0.75, 4, "hall"),
        (4, 1, 1, 1.0, 1, "hall"),
    ]
    assert one.flush() == []
    each = told(feed(step("count", every=0, polygon=RIGHT_HALF), way), "cam_counts")
    assert [r["count"] for r in each] == [0, 1, 0, 0, 0]


def test_counts_name_the_model_that_saw_what_is_counted() -> None:
    one = step("count", every="4s")
    blocks = feed(one, [[(100, 400)]] * 6)
    for counts in [b for b in blocks + one.flush() if b.stream == "cam_counts"]:
        models = {f.name: f.model for f in counts.schema.fields if f.name.startswith("count")}
        assert models == {"count": MODEL, "count_max": MODEL, "count_mean": MODEL}


def test_track_numbers_objects_and_the_steps_behind_use_them() -> None:
    track, zone = step("track"), step("zone", polygon=RIGHT_HALF)
    out, numbers = [], []
    for n in range(9):
        for given in looked(n, [WALK[n][0], (900.0 - 100 * n, 200.0)]):
            for block in track.process(given):
                if block.stream == "cam_detections":
                    numbers.append(block.column("track").to_list(Type.I64))
                out += zone.process(block)
    assert numbers == [[1, 2]] * 9
    assert sorted((e["event"], e["track"]) for e in told(out)) == [("enter", 1), ("enter", 2), ("leave", 2)]


STEPS: list[tuple[str, dict[str, Any]]] = [
    ("track", {}),
    ("count", {"every": "4s"}),
    ("zone", {"polygon": RIGHT_HALF}),
    ("line", {"start": [0.5, 1], "end": [0.5, 0]}),
    ("dwell", {"polygon": RIGHT_HALF, "for": "2s"}),
    ("left_post", {"polygon": RIGHT_HALF, "for": "2s"}),
    ("present", {"polygon": RIGHT_HALF, "for": "2s"}),
]


@pytest.mark.parametrize(("name", "options"), STEPS, ids=[n for n, _ in STEPS])
def test_a_restart_between_any_two_images_changes_nothing(name: str, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(5)
    way = [*WALK, [], *WALK[::-1], [], *([(float(rng.integers(0, 1000)), 400.0)] for _ in range(6)), [], []]

    def run(restart: bool) -> list[Any]:
        one, out = step(name, key="camera", **options), []
        for n, objects in enumerate(way):
            for camera in ("a", "b"):
                mine = objects if camera == "a" else [(WIDTH - x, y) for x, y in objects]
                for given in looked(n, mine, camera=camera):
                    out += one.process(given)
            if restart:
                state = one.state()
                assert state is not None
                one = step(name, key="camera", **options)
                one.restore(state)
        return [told(out, s) for s in ("cam_events", "cam_counts", "cam_detections")]

    assert run(restart=True) == run(restart=False)
    assert sum(map(len, run(restart=False))) > 3


def test_a_state_of_other_options_or_a_damaged_one_is_refused() -> None:
    one = step("zone", polygon=RIGHT_HALF)
    feed(one, WALK)
    state = one.state()
    assert state is not None
    with pytest.raises(ConfigError, match="another configuration"):
        step("zone", polygon=RIGHT_HALF, lost="9s").restore(state)
    body = msgpack.unpackb(state)
    for damaged in (b"", b"\x81", state[:-3], msgpack.packb({**body, "cameras": [[None, [1, 2]]]})):
        with pytest.raises((InputError, ConfigError)):
            step("zone", polygon=RIGHT_HALF).restore(damaged)


def test_cameras_have_states_of_their_own_up_to_a_limit() -> None:
    one, out = step("zone", key="camera", polygon=RIGHT_HALF, max_keys=2), []
    for n, objects in enumerate(WALK):
        for camera in ("a", "b", "c"):
            out += [b for g in looked(n, objects, camera=camera) for b in one.process(g)]
    assert sorted((e["camera"], e["track"]) for e in told(out)) == [("a", 1), ("b", 1)]
    assert one.counts["bypassed"] == 9  # type: ignore[attr-defined]


def test_pictures_around_an_event_go_out_once_each_and_unmasked_ones_are_not_saved() -> None:
    one = step("zone", polygon=RIGHT_HALF, still={"before": 2, "after": 1}, lane="urgent", output="alarms")
    out = feed(one, [*WALK, *WALK[::-1]])
    pictures = [b for b in out if b.stream == "alarms_stills"]
    assert [r["frame"] for r in told(out, "alarms_stills")] == [3, 4, 5, 6, 13, 14, 15, 16]
    assert [r["event"] for r in told(out, "alarms_stills")] == ["enter"] * 4 + ["leave"] * 4
    assert all(b.lane is Lane.URGENT and b.schema.fields[-1].media == "image" for b in pictures)
    shown = [f for b in pictures for f in b.column("image").frames or []]
    assert [int(f[0, 0, 0]) for f in shown if f is not None] == [3, 4, 5, 6, 13, 14, 15, 16]
    assert len(one.state() or b"") < 2000


def test_stills_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forebay.infer.stills.MAX_BYTES", 150)  # two pictures of 75 bytes
    one = step("zone", polygon=RIGHT_HALF, still={"before": 5})
    assert [r["frame"] for r in told(feed(one, WALK), "cam_events_stills")] == [3, 4, 5]


def test_stills_are_masked_before_anything_is_stored() -> None:
    pytest.importorskip("cv2")
    from pathlib import Path

    from forebay.mask import Guard, Masker, load_policy

    class Everything:
        def detect(self, frame: np.ndarray) -> np.ndarray:
            return np.array([[0, 0, 5, 5, 0.9]], np.float32)

    policy = load_policy("base", Path())
    masker = Masker(policy, detectors={"face": Everything(), "plate": Everything()})
    blocks = [
        b for b in feed(step("zone", polygon=RIGHT_HALF, still={}), WALK) if b.stream.endswith("_stills")
    ]
    masked = Guard(policy).check(masker.apply(concat(blocks)))
    frames = masked.column("image").frames
    assert frames is not None
    assert len(frames) == 1
    assert frames[0] is not None
    assert not frames[0].any()
    assert len(masked.column("image").values) > 0


@pytest.mark.parametrize(
    ("moment", "within"),
    [("2024-05-06T21:59", False), ("2024-05-06T22:00", True), ("2024-05-07T05:59", True), ("2024-05-07T06:00", False),
     ("2024-05-07T23:00", False)],
)  # fmt: skip
def test_hours_over_midnight_belong_to_the_day_on_which_they_begin(moment: str, within: bool) -> None:
    options = {"polygon": RIGHT_HALF, "between": "22:00-06:00", "days": ["mon"], "time_zone": "Asia/Shanghai"}
    hours = rules.Hours(config.ZoneOptions.model_validate(options))
    time = int(np.datetime64(moment, "ns").astype(np.int64)) - 8 * 3600 * SECOND
    assert hours.contain(time) is within


def test_outside_its_hours_a_rule_tells_nothing() -> None:
    always = {"polygon": RIGHT_HALF, "time_zone": "UTC"}
    assert events(step("zone", **always, between="00:00-01:00"), WALK) == [(5, "enter")]
    assert events(step("zone", **always, between="01:00-02:00"), WALK) == []


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("zone", {"polygon": [[0, 0], [1, 1]]}, "at least 3"),
        ("zone", {"polygon": [[0, 0], [1, 1], [0, 2]]}, "less than or equal to 1"),
        ("zone", {"polygon": RIGHT_HALF, "between": "22-6", "time_zone": "UTC"}, "two times of day"),
        ("zone", {"polygon": RIGHT_HALF, "between": "22:00-22:00", "time_zone": "UTC"}, "the same"),
        ("zone", {"polygon": RIGHT_HALF, "between": "22:00-06:00"}, "need `time_zone`"),
        ("zone", {"polygon": RIGHT_HALF, "days": ["mon"], "time_zone": "Mars"}, "time zone"),
        ("zone", {"polygon": RIGHT_HALF, "events": []}, "at least 1"),
        ("line", {"start": [0, 0], "end": [0, 0]}, "same point"),
        ("dwell", {"polygon": RIGHT_HALF}, "required"),
        ("dwell", {"polygon": RIGHT_HALF, "for": 0}, "greater than 0"),
        ("track", {"still": {}}, "Extra inputs"),
    ],
)
def test_options_that_mean_nothing_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config.STEP_OPTIONS[name].model_validate(options)


# -- the tracker


def boxes(*places: Object) -> np.ndarray:
    return np.array([(x - 20, y - 100, x + 20, y) for x, y in places], dtype=np.float64).reshape(-1, 4)


def test_two_who_pass_each_other_keep_their_numbers() -> None:
    tracker = Tracker(2 * SECOND)
    for n in range(40):
        places = [(100 + 20.0 * n, 300), (900 - 20.0 * n, 330)]
        assert tracker.update(n * SECOND // 10, boxes(*places), ["Person"] * 2) == [1, 2]


def test_motion_carries_a_number_over_missed_images() -> None:
    tracker = Tracker(2 * SECOND)
    for n in range(10):
        tracker.update(n * SECOND // 10, boxes((100 + 15.0 * n, 300)), ["Person"])
    for n in range(10, 18):
        tracker.update(n * SECOND // 10, boxes(), [])
    assert tracker.update(18 * SECOND // 10, boxes((370, 300)), ["Person"]) == [1]


def test_another_label_is_another_object_and_a_lost_one_is_not_found_again() -> None:
    tracker = Tracker(SECOND)
    assert tracker.update(0, boxes((100, 300)), ["Person"]) == [1]
    assert tracker.update(SECOND // 10, boxes((100, 300)), ["Dog"]) == [2]
    assert tracker.update(3 * SECOND, boxes((100, 300)), ["Dog"]) == [3]
    assert tracker.update(2 * SECOND, boxes((100, 300)), ["Dog"]) == [4], "time turned back"


def test_tracks_are_bounded() -> None:
    tracker = Tracker(SECOND)
    many = [(50.0 * i, 300.0) for i in range(300)]
    assert len(set(tracker.update(0, boxes(*many), ["Person"] * 300))) == 300
    assert len(tracker.dump()["ids"]) == 256


def test_a_place_is_in_a_polygon_that_is_not_convex() -> None:
    letter = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.6, 1.0), (0.6, 0.3), (0.4, 0.3), (0.4, 1.0), (0.0, 1.0)]
    assert rules.inside((0.2, 0.9), letter)
    assert rules.inside((0.8, 0.9), letter)
    assert not rules.inside((0.5, 0.9), letter)
    assert not rules.inside((1.2, 0.1), letter)
