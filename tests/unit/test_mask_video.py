"""Whole videos: every frame looked at, missed faces held, formats kept, and nothing written unless all was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from forebay.cli import mask as mask_module
from forebay.cli.mask import mask_command

cv2 = pytest.importorskip("cv2")

SIZE = (160, 120)
SECRET_LEVEL = 255  # the white square is what must not be seen


def square(number: int) -> tuple[int, int, int, int]:
    return (20 + 2 * number, 40, 50 + 2 * number, 80)


def video(path: Path, frames: int = 30, code: str = "MJPG", size: tuple[int, int] = SIZE) -> Path:
    # only OpenCV's own writer keeps odd sizes
    backend = cv2.CAP_OPENCV_MJPEG if size[0] % 2 else cv2.CAP_FFMPEG
    writer = cv2.VideoWriter(str(path), backend, cv2.VideoWriter.fourcc(*code), 25, size)
    assert writer.isOpened()
    for n in range(frames):
        frame = np.full((size[1], size[0], 3), 60, np.uint8)
        x1, y1, x2, y2 = square(n)
        frame[y1:y2, x1:x2] = SECRET_LEVEL
        writer.write(frame)
    writer.release()
    return path


class Finder:
    """Finds the bright square, except in the frames that it is told to miss."""

    def __init__(self, *missed: int, fails_at: int = -1) -> None:
        self.missed, self.fails_at, self.number = missed, fails_at, -1

    def detect(self, frame: np.ndarray) -> np.ndarray:
        self.number += 1
        if self.number == self.fails_at:
            raise RuntimeError
        y, x = np.nonzero(frame[:, :, 0] > 180)
        if self.number in self.missed or not len(x):
            return np.zeros((0, 5), np.float32)
        return np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1, 0.9]], np.float32)


class Nothing:
    def detect(self, frame: np.ndarray) -> np.ndarray:
        return np.zeros((0, 5), np.float32)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    def call(finder, *arguments):
        found = {"face": finder, "plate": Nothing()}
        monkeypatch.setattr(mask_module, "load_detectors", lambda _tiles: found)
        return CliRunner().invoke(mask_command, [str(a) for a in arguments])

    return call


def frames(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    out = []
    while True:
        good, frame = capture.read()
        if not good:
            return out
        out.append(frame)


@pytest.mark.parametrize(
    ("suffix", "code"),
    [(".avi", "MJPG"), (".mp4", "mp4v"), (".mkv", "mp4v"), (".webm", "VP80"), (".ts", "mpg2")],
)
def test_every_frame_of_a_video_is_masked_in_its_own_format(
    run, tmp_path: Path, suffix: str, code: str
) -> None:
    source = video(tmp_path / f"in{suffix}", code=code)
    result = run(Finder(), "-i", source, "-o", tmp_path / f"out{suffix}", "--json")
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    assert (body["videos"], body["frames"], body["frames_with"]) == (1, 30, {"face": 30, "plate": 0})
    assert body["hits"]["face:fill"] == 30
    masked = frames(tmp_path / f"out{suffix}")
    assert len(masked) == 30
    assert max(int(f.max()) for f in masked) < 150
    assert masked[0].shape == (120, 160, 3)


def test_frames_in_which_the_detector_missed_stay_covered_before_and_behind(run, tmp_path: Path) -> None:
    source = video(tmp_path / "in.avi")
    result = run(Finder(0, 1, 2, 12, 13, 14, 28, 29), "-i", source, "-o", tmp_path / "out.avi", "--json")
    assert json.loads(result.stdout)["hits"]["face:held"] >= 8
    assert max(int(f.max()) for f in frames(tmp_path / "out.avi")) < 150


def test_without_hold_a_missed_face_flashes(run, tmp_path: Path) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text("name: p\nversion: 1\nextends: base\nimages: {hold: 0}\n")
    source = video(tmp_path / "in.avi")
    assert run(Finder(12), policy, "-i", source, "-o", tmp_path / "out.avi").exit_code == 0
    bright = [n for n, f in enumerate(frames(tmp_path / "out.avi")) if f.max() > 150]
    assert bright == [12]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize(("suffix", "code"), [(".avi", "MJPG"), (".mp4", "mp4v")])
def test_a_video_that_ends_mid_frame_is_a_named_error_and_nothing_is_written(
    run, tmp_path: Path, suffix: str, code: str, share: float
) -> None:
    source = video(tmp_path / f"in{suffix}", code=code)
    data = source.read_bytes()
    source.write_bytes(data[: int(len(data) * share)])
    result = run(Finder(), "-i", source, "-o", tmp_path / f"out{suffix}")
    assert result.exit_code == 1
    assert str(source) in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == [source.name]


@pytest.mark.parametrize("fails_at", [0, 17])
def test_a_detector_that_fails_leaves_no_video(run, tmp_path: Path, fails_at: int) -> None:
    source = video(tmp_path / "in.avi")
    result = run(Finder(fails_at=fails_at), "-i", source, "-o", tmp_path / "out.avi")
    assert result.exit_code == 1
    assert "a detector failed" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["in.avi"]


def test_odd_sizes_lose_no_row(run, tmp_path: Path) -> None:
    source = video(tmp_path / "in.avi", size=(161, 121))
    target = tmp_path / "out.mkv"
    assert run(Finder(), "-i", source, "-o", target).exit_code == 0
    first = frames(target)[0]
    assert first.shape[0] >= 121
    assert first.shape[1] >= 161


def test_sound_is_left_out_and_said(run, tmp_path: Path) -> None:
    source = video(tmp_path / "in.avi")
    data = source.read_bytes()
    source.write_bytes(data + b"JUNK\x08\0\0\0auds\0\0\0\0")
    result = run(Finder(), "-i", source, "-o", tmp_path / "out.avi", "--progress")
    assert result.exit_code == 0, result.output
    assert "sound left out: in.avi" in result.stderr
    assert b"auds" not in (tmp_path / "out.avi").read_bytes()


def test_a_folder_may_hold_videos_and_pictures_and_a_broken_one_fails_alone(run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    video(folder / "a.avi")
    (folder / "b.mp4").write_bytes(b"no video")
    cv2.imwrite(str(folder / "c.png"), np.full((50, 60, 3), 90, np.uint8))
    result = run(Finder(), "-i", folder, "-o", tmp_path / "out", "--json")
    assert result.exit_code == 1
    body = json.loads(result.stdout)
    assert (body["videos"], body["images"], len(body["failed"])) == (1, 1, 1)
    assert body["failed"][0].startswith("b.mp4: ")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.avi", "c.png"]


@pytest.mark.parametrize("arguments", [("-o", "x.mp4"), ("-i", "in.avi")])
def test_a_video_needs_a_file_to_come_from_and_to_go_to(
    run, tmp_path: Path, arguments: tuple[str, str]
) -> None:
    video(tmp_path / "in.avi")
    paths = [str(tmp_path / a) if "." in a else a for a in arguments]
    assert run(Finder(), "--format", "video", *paths).exit_code == 2


def test_a_target_that_cannot_be_a_video_is_refused_at_once(run, tmp_path: Path) -> None:
    source = video(tmp_path / "in.avi")
    result = run(Finder(fails_at=0), "-i", source, "-o", tmp_path / "out.gif")
    assert result.exit_code == 1
    assert "cannot write a video as `.gif`" in result.stderr


def test_explain_tells_each_region_with_its_frame_and_what_was_held(run, tmp_path: Path) -> None:
    source = video(tmp_path / "in.avi", frames=6)
    result = run(Finder(3), "-i", source, "-o", tmp_path / "out.avi", "--explain")
    assert result.exit_code == 0
    assert "frame 0: detector: pixels 17,36-53,84: face: fill, score 0.90, images.face (" in result.stderr
    assert "frame 3: hold: pixels " in result.stderr
    assert "frame 3: detector: " not in result.stderr
