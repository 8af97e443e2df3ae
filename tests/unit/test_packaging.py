"""What is installed on gateways: hardened units, scripts that shells accept, documents that name real tests."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "packaging").glob("*.service"))
SCRIPTS = [
    ROOT / "packaging/install.sh",
    *(ROOT / "packaging/deb" / n for n in ("preinst", "postinst", "prerm", "postrm", "config")),
]
THRESHOLD = "15"  # of 100: 1.5
VERSION = "1.2.3"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze here: Debian's package systemd"
)


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.name)
def test_units_are_hardened(unit):
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={THRESHOLD}", str(unit)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.name)
def test_units_are_understood_by_systemd(unit, tmp_path):
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/usr/bin/forebay", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert unit.name not in done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.name)
def test_units_are_watched_and_get_their_keys_from_systemd(unit):
    text = unit.read_text()
    assert "Type=notify" in text
    assert re.search(r"^WatchdogSec=\d+$", text, re.MULTILINE)
    assert "TimeoutStartSec=300\n" in text
    assert "LoadCredential=" in text


@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.name)
def test_units_are_held_to_memory_and_cpu_time_and_never_swap(unit):
    text = unit.read_text()
    for limit in (
        r"MemoryHigh=\d+M",
        r"MemoryMax=\d+[MG]",
        "MemorySwapMax=0",
        r"CPUWeight=\d\d",
        r"TasksMax=\d+",
    ):
        assert re.search(rf"^{limit}$", text, re.MULTILINE), limit


@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.name)
def test_units_allow_what_libzmq_aborts_without(unit):
    text = unit.read_text()
    assert re.search(r"^RestrictAddressFamilies=.*AF_NETLINK", text, re.MULTILINE)
    # Later lines win: the call is allowed after its group was taken away.
    assert text.index("SystemCallFilter=~@privileged @resources\n") < text.index(
        "SystemCallFilter=sched_setscheduler\n"
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_shell_scripts_parse(script):
    subprocess.run(["sh", "-n", str(script)], check=True, timeout=30)


# -- scripts and archives of the packages -------------------------------------------------------------------


@pytest.fixture
def building(monkeypatch):
    """Return a function that imports a module of packaging/, which is no package; it is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(ROOT / "packaging"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(ROOT / "packaging") in (getattr(sys.modules[name], "__file__", "") or ""):
            del sys.modules[name]


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="no dpkg here")
@pytest.mark.parametrize(
    ("arguments", "forced", "code"),
    [
        (["install"], "", 0),
        (["upgrade", "1.2.2"], "", 0),
        (["upgrade", VERSION], "", 0),
        (["upgrade", "1.10.0"], "", 1),
        (["install", "1.10.0"], "", 1),  # after a removal, which keeps the buffer
        (["upgrade", "1.10.0"], "1", 0),
        (["abort-upgrade", "1.10.0"], "", 0),
    ],
)
def test_only_a_downgrade_is_refused_before_anything_is_touched(tmp_path, arguments, forced, code):
    script = tmp_path / "preinst"
    script.write_text((ROOT / "packaging/deb/preinst").read_text().replace("@VERSION@", VERSION))
    done = subprocess.run(
        ["sh", str(script), *arguments], capture_output=True, text=True, check=False, timeout=30,
        env=os.environ | {"FOREBAY_DOWNGRADE": forced},
    )  # fmt: skip
    assert done.returncode == code
    assert ("downgrade refused" in done.stderr) == bool(code)


def test_a_bundle_s_bytes_depend_on_its_content_only(tmp_path, building):
    offline = building("offline")
    packed = []
    for number, umask in ((1, 0o022), (2, 0o077)):
        stage = tmp_path / str(number) / "bundle"
        before = os.umask(umask)
        try:
            (stage / "wheels").mkdir(parents=True)
            for name in ("install.sh", "wheels/b.whl", "wheels/a.whl")[:: 3 - 2 * number]:
                (stage / name).write_text(name)
                os.utime(stage / name, (number, number))
        finally:
            os.umask(before)
        offline._pack(stage, tmp_path / f"{number}.tar.gz")
        packed.append((tmp_path / f"{number}.tar.gz").read_bytes())
    assert packed[0] == packed[1]


def test_metadata_says_neither_where_nor_when_it_was_built(tmp_path, building):
    info = tmp_path / "forebay-1.dist-info"
    info.mkdir()
    for name in ("METADATA", "direct_url.json"):
        (info / name).write_text(name)
    lines = [f"{info.name}/METADATA,sha256=a,8\n", f"{info.name}/direct_url.json,sha256=b,15\n"]
    lines.append("bin/forebay,sha256=c,300\n")  # begins with the path of the interpreter that built it
    (info / "RECORD").write_text("".join(lines))
    building("packages").without(info, "direct_url.json", "uv_cache.json")
    assert sorted(p.name for p in info.iterdir()) == ["METADATA", "RECORD"]
    assert (info / "RECORD").read_text() == lines[0]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
def test_a_release_is_signed_as_the_security_page_tells_to_verify_it(tmp_path, building):
    text = (ROOT / "docs/security.md").read_text("utf-8")
    new, public, verify = re.findall(r"^ +(openssl .+|sha256sum .+)$", text, re.MULTILINE)[:3]
    for command in (new, public):
        subprocess.run(command, shell=True, cwd=tmp_path, check=True, timeout=30, capture_output=True)
    key = tmp_path / "forebay-release.key"
    targets = building("targets")
    package = tmp_path / "forebay.deb"
    package.write_bytes(b"package")
    sums = targets.write_sums([package], tmp_path)
    assert targets.sign(sums, key) == tmp_path / "SHA256SUMS.sig"

    def verified():
        done = subprocess.run(
            verify, shell=True, cwd=tmp_path, check=False, timeout=30, capture_output=True, text=True
        )
        return done.returncode == 0, done.stdout + done.stderr

    assert verified() == (True, "Signature Verified Successfully\nforebay.deb: OK\n")
    package.write_bytes(b"packaqe")
    assert not verified()[0], "another package"
    targets.write_sums([package], tmp_path)
    assert not verified()[0], "another package with a sum of its own"


def test_only_a_key_that_nobody_else_reads_signs(tmp_path, building):
    key = tmp_path / "release.key"
    key.write_text("no key")
    for mode, said in ((0o644, "can be read by others"), (0o600, "no Ed25519 key")):
        key.chmod(mode)
        with pytest.raises(SystemExit, match=said):
            building("targets").sign(key, key)
    assert list(tmp_path.iterdir()) == [key]


@pytest.mark.parametrize(
    ("file", "name", "version"),
    [
        ("libzmq-2f02442c.so.5.2.5", "libzmq", "5.2.5"),
        ("libcrypto-5409cd36.so.1.1.1k", "libcrypto", "1.1.1k"),
        ("libgfortran-040039e1-0352e75f.so.5.0.0", "libgfortran", "5.0.0"),
        ("libscipy_openblas64_-32a4b2a6.so", "libscipy_openblas64", ""),
        ("libopenblasp-r0-59ffcd50.3.15.so", "libopenblasp", "0.3.15"),
    ],
)
def test_the_bill_takes_a_library_s_name_and_version_from_its_file(building, file, name, version):
    assert building("sbom").interface_of(file) == (name, version)


def test_the_service_s_configuration_has_its_keys_from_systemd_and_its_data_in_var(building):
    service_configuration = building("debian").service_configuration
    agent, receiver = (service_configuration(ROOT, f"{name}.yaml") for name in ("agent", "receiver"))
    assert 'own: "credential:gateway.key"' in agent
    assert "path: /var/lib/forebay/pump.csv" in agent
    assert 'key: "credential:center.key"' in receiver
    assert "path: /var/lib/forebay-receiver/center.db" in receiver


def test_the_tests_that_the_security_page_names_exist():
    text = (ROOT / "docs/security.md").read_text("utf-8")
    named = set(re.findall(r"tests/[\w/.]+", text))
    assert len(named) > 10
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
