"""What a machine lacks to be a node is said with what to install."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import pytest

from testbed import machine


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(machine.NoNode, match="needs root"):
        machine.check()


def test_missing_programs_are_named_by_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name: None if name in ("ctr", "containerd", "runc") else f"/bin/{name}")
    with pytest.raises(machine.NoNode, match=r"apt-get install containerd runc$"):
        machine.check()


def test_missing_cni_plugins_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(machine, "CNI_FOLDERS", (tmp_path,))
    with pytest.raises(machine.NoNode, match="apt-get install containernetworking-plugins"):
        machine.check()


def test_a_container_without_privileges_is_told_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(machine, "cni_folder", lambda: Path("/usr/lib/cni"))
    monkeypatch.setattr("subprocess.run", lambda command, **_: CompletedProcess(command, 1))
    with pytest.raises(machine.NoNode, match="--privileged"):
        machine.check()
