#!/usr/bin/env python3
"""TLS under the name torture.test in front of a server on this machine.

    tls.py FOLDER PORT

Makes FOLDER/tls.crt, which is also whom to trust, listens, writes its own port
into FOLDER/tls-port, and hands on what comes to PORT.
SPDX-License-Identifier: MIT
"""
import os, select, socket, ssl, subprocess, sys, threading

folder, behind = sys.argv[1], int(sys.argv[2])


def hand_on(raw):
    try:
        with context.wrap_socket(raw, server_side=True) as outer, \
             socket.create_connection(("127.0.0.1", behind)) as inner:
            while True:
                for s in select.select([outer, inner], [], [])[0]:
                    other = inner if s is outer else outer
                    data = s.recv(65536)
                    if not data:
                        return
                    other.sendall(data)
                    while s is outer and s.pending():
                        other.sendall(s.recv(65536))
    except OSError: # who is being tortured hangs up at any time
        pass


subprocess.run(
    ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
     "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj",
     "/CN=torture.test", "-addext", "subjectAltName=DNS:torture.test", "-keyout",
     folder + "/tls.key", "-out", folder + "/tls.crt"],
    check=True, capture_output=True)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder + "/tls.crt", folder + "/tls.key")
server = socket.create_server(("127.0.0.1", 0), backlog=64)
with open(folder + "/tls-new", "w") as f:
    f.write(f"{server.getsockname()[1]}\n")
os.rename(folder + "/tls-new", folder + "/tls-port")
while True:
    threading.Thread(target=hand_on, args=[server.accept()[0]],
                     daemon=True).start()
