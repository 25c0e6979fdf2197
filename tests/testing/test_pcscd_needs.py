"""scardface.testing._pcscd_needs: what is missing is named."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scardface.testing import PcscdUnavailable
from scardface.testing import _pcscd_needs as needs

Install = Callable[..., Path]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a private pcscd is Linux'")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts programs where they are looked for; nothing else is there."""
    monkeypatch.setattr(needs, "search_path", lambda: str(tmp_path))
    monkeypatch.setattr(needs, "_DRIVERS", [tmp_path / "nowhere" / "driver.so", tmp_path / "driver.so"])

    def install(*names: str, text: str = "#!/bin/sh\n") -> Path:
        for name in names:
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(stat.S_IRWXU)
        return tmp_path / names[-1]

    return install


def test_all_there(install: Install) -> None:
    pcscd = install("unshare", "setpriv", "mount", "driver.so", "pcscd")
    assert needs.find_needs() == (str(pcscd.with_name("unshare")), str(pcscd), pcscd.with_name("driver.so"))


@pytest.mark.parametrize(
    ("missing", "package"),
    [
        ("unshare", "util-linux"),
        ("setpriv", "util-linux"),
        ("mount", "mount"),
        ("pcscd", "pcscd"),
        ("driver.so", "vsmartcard-vpcd"),
    ],
)
def test_the_package_is_named(install: Install, missing: str, package: str) -> None:
    install(*({"unshare", "setpriv", "mount", "pcscd", "driver.so"} - {missing}))
    with pytest.raises(PcscdUnavailable, match=rf"\bpackage {package}$"):
        needs.find_needs()


def test_only_linux_has_namespaces(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(PcscdUnavailable, match="needs Linux"):
        needs.find_needs()


@pytest.mark.parametrize("how", ["frozen", "zipped"])
def test_a_frozen_program_has_no_python_to_run(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "frozen":
        monkeypatch.setattr("sys.frozen", True, raising=False)
    else:
        monkeypatch.setattr(needs, "KEEPER", Path("app.pyz/scardface/testing/_pcscd_namespace.py"))
    with pytest.raises(PcscdUnavailable, match="frozen or zipped"):
        needs.find_needs()


def test_the_search_path_has_the_folders_of_system_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/somewhere")
    assert needs.search_path().split(os.pathsep) == ["/somewhere", "/usr/sbin", "/sbin"]
    monkeypatch.delenv("PATH")
    assert needs.search_path().split(os.pathsep)[-2:] == ["/usr/sbin", "/sbin"]


def test_polkit_is_disabled_where_that_is_known(install: Install) -> None:
    assert needs.daemon_options(str(install("old", text="#!/bin/sh\necho Usage: --foreground\n"))) == ()
    assert needs.daemon_options(str(install("new", text="#!/bin/sh\necho Usage: --disable-polkit\n"))) == ("--disable-polkit",)


@pytest.fixture
def sysctls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc/sys without any of the settings that matter."""
    monkeypatch.setattr(needs, "_SYSCTLS", tmp_path)
    (tmp_path / "user").mkdir()
    (tmp_path / "kernel").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("user/max_user_namespaces", "0", "15000"),
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ],
)
def test_the_setting_is_named(sysctls: Path, monkeypatch: pytest.MonkeyPatch, name: str, bad: str, good: str) -> None:
    log = "unshare: write failed /proc/self/uid_map: Operation not permitted\n"
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    (sysctls / name).write_text(f"{bad}\n")
    assert f"set the sysctl {name.replace('/', '.')} " in str(needs.explain_end(log))
    (sysctls / name).write_text(f"{good}\n")
    words = str(needs.explain_end(log))
    assert "sysctl" not in words
    assert "in a container" in words
    assert "user namespaces" in words
    assert "Operation not permitted" in words


@pytest.mark.parametrize("log", ["unshare: no", "mount: no", "namespace: no"])
def test_root_is_told_of_containers_only(sysctls: Path, monkeypatch: pytest.MonkeyPatch, log: str) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    (sysctls / "user/max_user_namespaces").write_text("0\n")
    words = str(needs.explain_end(log))
    assert words.startswith("root may not make namespaces here: in a container")
    assert "sysctl" not in words


def test_a_daemon_that_ended_is_quoted() -> None:
    assert str(needs.explain_end("first\n" + "x" * 5000 + "last words\n")).endswith("last words")
    assert len(str(needs.explain_end("x" * 5000))) < 2500
    assert str(needs.explain_end("")).endswith("wrote: (nothing)")
