"""stub - what the servers of some cases share: they say what no `trommel fake` says.

SPDX-License-Identifier: MIT
"""
import http.server, json, os, re


class Stub(http.server.BaseHTTPRequestHandler):
    """answer(body), of a case, says one thing to the request."""

    def do_POST(self):
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def say(self, status, value, request=None):
        data = json.dumps(value).encode()
        self.send_response(status)
        if request is not None:
            self.send_header("x-request-id", request)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def say_label(self, body, label, request=None, **more):
        """One label for every text of the request."""
        ids = re.findall(r"^\[(\d+),", body["messages"][-1]["content"], re.M)
        text = "\n".join(f"{i} {label}" for i in ids)
        self.say(200, {"choices": [{"message": {"content": text}, "finish_reason": "stop"}],
                       **more}, request)

    def log_message(self, *args):
        pass


def serve(handler):
    """For ever; its port stands in the file port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with open("port.new", "w") as f:
        f.write(str(server.server_port))
    os.rename("port.new", "port")
    server.serve_forever()
