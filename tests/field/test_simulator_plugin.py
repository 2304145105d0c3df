"""The pytest plugin, as somebody finds it who has Portico installed and writes tests of his own elsewhere."""

import subprocess
import sys
import time
from pathlib import Path

THEIRS = """
import socket, struct

def test_their_client_sees_a_silent_meter(portico_premises):
    home = portico_premises("household")
    at = home.devices["main-meter"]
    assert at.url == home.url("main-meter") == f"modbus+tcp://127.0.0.1:{at.port}"
    home.fault("main-meter", "silent")
    with socket.create_connection((at.host, at.port), 5) as client:
        client.settimeout(0.3)
        client.sendall(struct.pack(">HHHBBHH", 1, 0, 6, at.unit_id, 4, 0, 2))
        try:
            client.recv(100)
        except TimeoutError:
            pass
    assert home.stop()["silent"] == 1

def test_two_premises_at_a_time_do_not_meet(portico_premises):
    one, other = portico_premises("household"), portico_premises("household")
    assert one.url("main-meter") != other.url("main-meter")
    print("pids", one.pid, other.pid)

def test_what_is_wrong_is_told(portico_premises):
    try:
        portico_premises("no-such-street")
    except Exception as error:
        assert "there is no scenario no-such-street" in str(error)
    else:
        raise AssertionError("it should not be there")
"""


def test_tests_elsewhere_have_the_fixture_and_leave_no_process_behind(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(THEIRS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("pids"))
    assert not [pid for pid in line.split()[1:] if Path(f"/proc/{pid}").exists()]


HANGING = """
import time

def test_that_hangs(portico_premises):
    home = portico_premises("household")
    print("pid", home.pid, flush=True)
    time.sleep(600)
"""


def test_a_plant_ends_when_the_tests_are_killed(tmp_path: Path) -> None:
    (tmp_path / "test_hanging.py").write_text(HANGING)
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as tests:
        assert tests.stdout is not None
        pid = next(line.split()[1] for line in tests.stdout if line.startswith("pid"))
        tests.kill()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}/cwd").exists():
        assert time.monotonic() < deadline, "the plant outlives the tests"
        time.sleep(0.02)
