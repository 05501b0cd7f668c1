"""Answers one request, and refuses all others for no reason of the texts'."""
import http.server, json, re, sys


class Server(http.server.BaseHTTPRequestHandler):
    asked = 0

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ids = re.findall(r"^\[(\d+),", body["messages"][-1]["content"], re.M)
        Server.asked += 1
        if Server.asked == 1:
            text = "\n".join(i + " a" for i in ids)
            self.say(200, {"choices": [{"message": {"content": text},
                                        "finish_reason": "stop"}]})
        else:
            self.say(400, {"error": {"message": "not on Sundays"}})

    def say(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Server)
with open("port.new", "w") as f:
    f.write(str(server.server_port))
server.serve_forever()
