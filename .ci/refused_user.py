"""What a user is told whom polkit does not let in, and whether the cure works; by .ci/polkit, as root, beside polkitd and pcscd.

`refused_user.py FOLDER`: FOLDER has `python` and `scardface`.
"""

from __future__ import annotations

import pwd
import subprocess
import sys
import time
from pathlib import Path

folder = Path(sys.argv[1])
ASK = "import scardface.sync as s\ntry: print(s.readers())\nexcept s.ServiceUnavailableError as error: print(error)"
nobody = pwd.getpwnam("nobody")


def as_nobody(*command: str) -> str:
    """What a command says, run by a user whom no rule lets in."""
    ids = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/run/tmp",
        "USER": "nobody",
        "LOGNAME": "nobody",
        "COLUMNS": "400",
    }
    done = subprocess.run(
        [*ids, *command], env=environment, cwd="/", text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120
    )
    return done.stdout


def until(words: str, what: str, *command: str) -> str:
    """Ask until an answer has some words: polkitd and pcscd begin, and rules are read again, when they do."""
    for _ in range(60):
        said = as_nobody(*command)
        if words in said:
            return said
        time.sleep(0.5)
    sys.exit(f"{what}: {said}\n{Path('/run/polkitd.log').read_text()}\n{Path('/run/pcscd.log').read_text()}")


ask = str(folder / "python"), "-c", ASK
print(until("have polkit's rules (org.debian.pcsc-lite) let this user in", "the library should name polkit", *ask))
told = until("polkit", "doctor should name polkit", str(folder / "scardface"), "doctor")
print(told)
[cure] = [line.strip() for line in told.splitlines() if line.strip().startswith("echo 'polkit.addRule")]
subprocess.run(cure.replace("| sudo tee", "| tee"), shell=True, check=True, stdout=subprocess.DEVNULL)
print(until("Virtual PCD", "the rule should let the user in", *ask))
