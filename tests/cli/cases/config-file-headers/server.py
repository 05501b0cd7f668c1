"""Says the headers of a gateway back: as a refusal, or as the name of the model and the id of a request."""
import http.server, json, re


class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ids = re.findall(r"^\[(\d+),", body["messages"][-1]["content"], re.M)
        told = " ".join(self.headers[name] for name in ("x-gateway-api-key", "x-gateway", "x-team"))
        if body["model"] == "refused":
            self.say(403, {"error": {"message": "not for you: " + told}}, "")
        else:
            text = "\n".join(i + " a" for i in ids)
            self.say(200, {"model": told, "choices": [{"message": {"content": text}, "finish_reason": "stop"}]}, told)

    def say(self, status, value, request):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("x-request-id", request)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Server)
with open("port.new", "w") as f:
    f.write(str(server.server_port))
server.serve_forever()
