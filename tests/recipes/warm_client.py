"""What a command of a recipe is under test: it hands over to warm.py and ends as that ends."""

import array
import json
import os
import socket
import sys

path, name, *arguments = sys.argv[1:]
asked = {
    "name": name,
    "arguments": arguments,
    "directory": os.getcwd(),
    "environment": dict(os.environ),
}
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.connect(path)
files = array.array("i", [0, 1, 2]).tobytes()
connection.sendmsg([json.dumps(asked).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
answer = connection.recv(1)
sys.exit(answer[0] if answer else 1)
