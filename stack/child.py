"""Becomes another program that dies with its parent: `child.py SIGNAL PARENT_PID UID GID -- COMMAND...`.

Run as a script, between fork and the real program, because the alternative (a hook run in the forked child) is unsafe
in a process with threads. The death signal is set after the change of user, which would clear it. Standard library
only: it starts in milliseconds and knows nothing of the project.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SEPARATOR = 5  # index of "--" in argv


def main(argv: list[str]) -> None:
    """Change user (when UID is not -1), tie our life to the parent's, become the command."""
    signal_number, parent, uid, gid = (int(text) for text in argv[1:_SEPARATOR])
    command = argv[_SEPARATOR + 1 :]
    on_linux = sys.platform == "linux"
    library = ctypes.CDLL(None) if on_linux else None  # loaded before the change of user, who may not reach it
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if library and signal_number:
        library.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above: no signal will come
            raise SystemExit(1)
    os.execvp(command[0], command)  # noqa: S606 - becoming a given program is the purpose


if __name__ == "__main__":
    main(sys.argv)
