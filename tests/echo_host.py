"""A host process for the tests of the supervisor; what it does is the kind of the call."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

from kms.framing import Refusal, pack, serve


class EchoHost:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.calls = 0

    def handle(self, kind: str, arguments: list) -> object:
        self.calls += 1
        return getattr(self, kind)(*arguments)

    def open(self, *arguments):
        if not arguments:
            return {"pid": os.getpid(), "environment": dict(os.environ), "argv": sys.orig_argv}
        kind, *rest = arguments
        return getattr(self, kind)(*rest)

    def echo(self, value):
        return value

    def count(self):
        return self.calls

    def refuse(self, code):
        raise Refusal(code, "as asked")

    def leave(self):
        raise Refusal("gone", "as asked", leaving=True)

    def refuse_while(self, path, code):
        if Path(path).exists():
            raise Refusal(code, "as asked", leaving=True)

    def mistake(self, secret):
        raise ValueError(secret)

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def exit(self, status):
        os._exit(status)

    def wait_for(self, path):
        Path(f"{path}.waiting").touch()
        while not Path(path).exists():
            time.sleep(0.002)
        return "seen"

    def nap(self, seconds):
        time.sleep(seconds)

    def raw(self, data):
        self.sock.sendall(data)

    def answer_another(self):
        self.sock.sendall(pack([2**40, 0, None]))

    def close_socket(self, path):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.wait_for(path)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[-1])) as sock:
        serve(sock, EchoHost(sock).handle)


if __name__ == "__main__":
    main()
