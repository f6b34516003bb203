"""A process that has torch and stk loaded and forks for every command that run.sh calls.

Most of what a small run.sh costs is loading torch some thirty times. Here the commands of a recipe
are stand-ins that hand their arguments, directory, environment and open files to this process; a
child of it runs the very same code, and the child's exit code becomes the stand-in's.

    python warm.py SOCKET                          the process
    python warm_client.py SOCKET NAME ARGUMENTS    what a stand-in calls
"""

from __future__ import annotations

import array
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import traceback
from pathlib import Path
from types import FrameType

MODULES = ("train", "average", "decode", "score", "data")
LOADED = ("stk.training.assemble", "stk.data.statistics", "matplotlib.pyplot", "sacrebleu")


def call(name: str, arguments: list[str]) -> int:
    """Run ``stk-NAME``, or the script that is the first argument of ``python``."""
    if name != "python":
        status = importlib.import_module(f"stk.cli.{name}").main(arguments)
        return int(status or 0)
    sys.argv = arguments
    sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def child(connection: socket.socket) -> int:
    """Become the command that a stand-in asks for."""
    files = array.array("i")
    size = files.itemsize
    text, ancillary, _, _ = connection.recvmsg(1 << 20, socket.CMSG_SPACE(3 * size))
    for _, _, data in ancillary:
        files.frombytes(data[: len(data) - len(data) % size])
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    asked = json.loads(text)
    os.chdir(asked["directory"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.path[:0] = [p for p in os.environ.get("PYTHONPATH", "").split(":") if p]
    try:
        return call(asked["name"], asked["arguments"])
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def bury() -> None:
    """Take note of children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return


def serve(path: str) -> None:
    """Fork for every connection, until terminated."""
    for module in (*(f"stk.cli.{name}" for name in MODULES), *LOADED):
        importlib.import_module(module)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(8)

    def ended(_: int, __: FrameType | None) -> None:
        os._exit(0)

    signal.signal(signal.SIGTERM, ended)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            status = child(connection)
            connection.sendall(bytes([status % 256]))
            os._exit(0)
        connection.close()
        bury()


if __name__ == "__main__":
    serve(sys.argv[1])
