"""A server that plays scripts: whatever can be said on a socket, right or wrong.

Every script has a listener of its own. A script is the steps of each
connection in turn, "/" between them; the last ones repeat. faults.txt says
what the steps are. What arrives is counted: connections, requests, their
bytes, and the keys in them.
SPDX-License-Identifier: MIT
"""
import os, re, socket, ssl, struct, subprocess, threading, time

PATIENCE = 20  # s, after which a step that waits for the client gives up


class Gone(Exception):
    """The client has closed."""


# ---- scripts ---------------------------------------------------------------

TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
ESCAPES = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\",
           '"': b'"'}


def unquote(text, words):
    """Bytes of a quoted string; %X is words[X]."""
    out, i = b"", 0
    while i < len(text):
        c = text[i]
        if c == "\\" and text[i + 1] == "x":
            out += bytes([int(text[i + 2:i + 4], 16)])
            i += 4
        elif c == "\\":
            out += ESCAPES[text[i + 1]]
            i += 2
        elif c == "%" and text[i + 1] != "%":
            out += words[text[i + 1]]
            i += 2
        else:
            out += c.encode()
            i += 2 if c == "%" else 1
    return out


class Script:
    def __init__(self, line, words):
        head, steps = line.split(" : ", 1)
        self.name, self.expect, *rest = head.split()
        self.steps, self.line = steps, line
        self.options = dict(o.partition("=")[::2] for o in
                            (rest[0].split(",") if rest else []) if o != "-")
        self.connections = [[]]
        for quoted, word in TOKEN.findall(steps):
            if word == "/":
                self.connections.append([])
            else:
                self.connections[-1].append(
                    word if word else unquote(quoted, words))

    def number(self, name, default=0):
        return int(self.options.get(name) or default)


def read_table(path, words):
    scripts = []
    for line in open(path):
        line = line.rstrip("\n")
        if line.startswith("body "):
            words["b"] = line[5:].strip().encode()
            words["n"] = str(len(words["b"])).encode()
        elif line.strip() and not line.startswith("#"):
            scripts.append(Script(line, words))
    return scripts


# ---- certificates ----------------------------------------------------------

def make_certificates(folder):
    """ca.pem, and NAME.pem with key and certificate; made anew each time,
    since one that is kept would expire."""
    run = lambda *a: subprocess.run(a, cwd=folder, check=True,
                                    capture_output=True)
    open(f"{folder}/cnf", "w").write(
        "[ca]\ndefault_ca=c\n[c]\ndatabase=index\nnew_certs_dir=.\n"
        "serial=serial\ndefault_md=sha256\npolicy=p\nunique_subject=no\n"
        "copy_extensions=copy\n[p]\ncommonName=supplied\n"
        "[req]\ndistinguished_name=d\n[d]\n"
        "[root]\nbasicConstraints=critical,CA:TRUE\n"
        "[client]\nextendedKeyUsage=clientAuth\n")
    open(f"{folder}/index", "w").close()
    open(f"{folder}/serial", "w").write("01\n")
    for ca in ("ca", "stranger"):
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes",
            "-days", "3650", "-subj", f"/CN={ca}", "-keyout", f"{ca}.key",
            "-out", f"{ca}.pem", "-config", "cnf", "-extensions", "root")
    here = "IP:127.0.0.1," + ",".join(
        f"DNS:{name}.test" for name in ("here", "flip", "six", "four", "moved",
                               "partly"))
    now, far = "20200101000000Z", time.strftime(
        "%Y%m%d%H%M%SZ", time.gmtime(time.time() + 10**9))
    curve = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    # name, CA, names, begin, end, kind of key, more of the CA's command
    for name, ca, names, begin, end, key, *more in (
            ("good", "ca", here, now, far, curve),
            ("wronghost", "ca", "DNS:other.test", now, far, curve),
            ("expired", "ca", here, now, "20210101000000Z", curve),
            ("tooearly", "ca", here, "20500101000000Z", "20990101000000Z",
             curve),
            ("stranger", "stranger", here, now, far, curve),
            ("client", "ca", here, now, far, curve, "-extensions", "client"),
            ("nameless", "ca", None, now, far, curve),
            ("othername", "ca", "DNS:other.test", now, far, curve),
            ("rsa1024", "ca", here, now, far, ("rsa:1024",)),
            ("md5", "ca", here, now, far, curve, "-md", "md5"),
            ("sha1", "ca", here, now, far, curve, "-md", "sha1")):
        leaf = "leaf-" + name
        subject = "/CN=" + ("127.0.0.1" if name.endswith("name") or
                            name == "nameless" else name)
        run("openssl", "req", "-new", "-newkey", *key, "-nodes", "-subj",
            subject, *(("-addext", f"subjectAltName={names}") if names else ()),
            "-keyout", leaf + ".key", "-out", leaf + ".csr", "-config", "cnf")
        run("openssl", "ca", "-batch", "-config", "cnf", "-cert", ca + ".pem",
            "-keyfile", ca + ".key", "-startdate", begin, "-enddate", end,
            "-notext", "-in", leaf + ".csr", "-out", leaf + ".crt", *more)
    run("openssl", "req", "-x509", "-newkey", *curve, "-nodes", "-days", "3650",
        "-subj", "/CN=127.0.0.1", "-addext", f"subjectAltName={here}",
        "-keyout", "leaf-selfsigned.key", "-out", "leaf-selfsigned.crt",
        "-config", "cnf")


def tls_context(folder, kind, h2):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0") # the client is to refuse, not we
    cert = kind if os.path.exists(f"{folder}/leaf-{kind}.crt") else "good"
    context.load_cert_chain(f"{folder}/leaf-{cert}.crt",
                            f"{folder}/leaf-{cert}.key")
    if kind in ("tls10", "tls11"):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = (ssl.TLSVersion.TLSv1 if kind == "tls10"
                                   else ssl.TLSVersion.TLSv1_1)
    elif kind == "tls12":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"] if h2 else ["http/1.1"])
    return context


# ---- one connection --------------------------------------------------------

class Connection:
    def __init__(self, server, sock, steps):
        self.server, self.sock, self.steps = server, sock, steps
        self.raw = sock.fileno()
        self.buffer = b""
        self.idle = False      # waits for the client, or has ended
        self.keys = set()
        self.h2 = False
        self.streams, self.stream = [], 0
        self.greeted = False

    def run(self):
        try:
            if "tls" in self.server.script.options:
                context = tls_context(self.server.world.folder,
                                      self.server.script.options["tls"],
                                      "h2" in self.server.script.options)
                self.sock = context.wrap_socket(self.sock, server_side=True,
                                                suppress_ragged_eofs=False)
                self.server.handshakes += 1
                self.h2 = self.sock.selected_alpn_protocol() == "h2"
            steps = list(self.steps)
            while steps:
                name = steps.pop(0)
                step = getattr(self, "do_" + name)
                step(*[steps.pop(0) for _ in
                       range(step.__code__.co_argcount - 1)])
        except (OSError, Gone, ValueError) as e:
            self.end = repr(e)
        finally:
            try:
                self.sock.close()
            except OSError:
                pass
            self.idle = True

    # what the client says
    def more(self):
        self.idle = True
        self.sock.settimeout(PATIENCE)
        got = self.sock.recv(65536)
        self.idle = False
        if not got:
            raise Gone()
        self.server.bytes += len(got)
        self.buffer += got

    def until(self, mark):
        while mark not in self.buffer:
            self.more()
        return self.buffer.index(mark) + len(mark)

    def take(self, n):
        while len(self.buffer) < n:
            self.more()
        got, self.buffer = self.buffer[:n], self.buffer[n:]
        return got

    def note(self, head):
        self.server.heads.append(head)
        for value in re.findall(rb"(?i)^(?:authorization: bearer|x-api-key:"
                                rb"|api-key:) *(\S+)", head, re.M):
            self.keys.add(value)
            self.server.keys.add(value)

    def do_line(self):
        self.until(b"\r\n")

    def do_upto(self, n):
        while len(self.buffer) < int(n):
            self.more()

    def do_read(self):
        if self.h2:
            return self.read_h2()
        head = self.take(self.until(b"\r\n\r\n"))
        self.note(head)
        n = re.search(rb"(?i)^content-length: *(\d+)", head, re.M)
        body = self.take(int(n.group(1)) if n else 0)
        self.server.bodies.append(body)
        self.server.requests += 1

    # what it hears
    def do_send(self, data):
        self.sock.sendall(data)

    def do_answer(self):
        reply = self.reply()
        self.do_send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                     b"Content-Length: %d\r\n\r\n%b" % (len(reply), reply))

    def reply(self):
        """The right answer; with the ids of the request where it has some."""
        words = self.server.world.words
        if self.server.world.echo and self.server.bodies:
            ids = re.findall(rb'\[(\d{3}),\\"', self.server.bodies[-1])
            if ids:
                return words["b"].replace(
                    rb"101 a\n", b"".join(i + rb" a\n" for i in ids))
        return words["b"]

    def do_chunk(self, data):
        self.do_send(b"%x\r\n%b\r\n" % (len(data), data))

    def do_times(self, n, data):
        n, many = int(n), 65536 // len(data) + 1
        for _ in range(n // many):
            self.sock.sendall(data * many)
        self.sock.sendall(data * (n % many))

    def do_forever(self, data):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self.do_times(1000, data)

    def do_drip(self, ms, data):
        self.idle = True # it only lets time pass
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self.sock.sendall(data)
            time.sleep(int(ms) / 1000)

    def do_wait(self, ms):
        time.sleep(int(ms) / 1000)

    # how it ends
    def do_hang(self):
        self.idle = True
        self.sock.settimeout(PATIENCE)
        while self.sock.recv(65536):
            pass
        raise Gone()

    def do_fin(self):
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.settimeout(0)
            try:
                self.sock.unwrap() # says close_notify
            except ssl.SSLError:
                pass # and need not wait for the client's, or for words that
                     # crossed it: to close with those unread were a reset
            self.sock.shutdown(socket.SHUT_WR) # it is a plain socket again
            self.do_hang()
        self.do_cut()

    def do_cut(self):
        """FIN; under TLS without the word that this is the end."""
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.shutdown(socket.SHUT_RDWR)
            raise Gone()
        self.sock.shutdown(socket.SHUT_WR)
        self.do_hang()

    def do_rst(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                             struct.pack("ii", 1, 0))
        self.sock.close()
        raise Gone()

    def do_full(self):
        raise ValueError("is no step of a connection")

    do_closed = do_full

    # HTTP/2, frame by frame
    def greet(self):
        if not self.greeted:
            self.greeted = True
            self.take(24)
            self.put(4, 0, 0, b"")

    def put(self, kind, flags, stream, payload):
        self.sock.sendall(len(payload).to_bytes(3, "big") +
                          bytes([kind, flags]) + stream.to_bytes(4, "big") +
                          payload)

    def read_h2(self):
        self.greet()
        while True:
            head = self.take(9)
            n, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            stream = int.from_bytes(head[5:], "big") & 0x7fffffff
            payload = self.take(n)
            if kind == 4 and not flags & 1:
                self.put(4, 1, 0, b"")
            elif kind == 6 and not flags & 1:
                self.put(6, 1, 0, payload)
            elif kind == 0 and n:
                self.put(8, 0, 0, n.to_bytes(4, "big"))
                if not flags & 1:
                    self.put(8, 0, stream, n.to_bytes(4, "big"))
            if kind in (0, 1) and flags & 1:
                self.server.requests += 1
                self.streams.append(stream)
                self.streams.sort() # bodies may end in another order
                self.stream = self.streams[-1]
                return

    def do_greet(self):
        self.greet()

    def do_on(self, i):
        self.stream = self.streams[int(i) - 1]

    def do_headers(self, status):
        block = (b"\x88" if status == "200" else
                 b"\x08\x03" + status.encode())
        self.put(1, 4, self.stream, block + b"\x0f\x10\x10application/json")

    def do_data(self, data):
        self.put(0, 0, self.stream, data)

    def do_end(self, data):
        self.put(0, 1, self.stream, data)

    def do_answer2(self):
        self.do_headers("200")
        self.do_end(self.reply())

    def do_reset(self, code):
        self.put(3, 0, self.stream, int(code).to_bytes(4, "big"))

    def do_refuse(self, code):
        """Whatever comes in frames; answers HTTP/1.1."""
        self.do_reset(code) if self.h2 else self.do_answer()

    def do_goaway(self, last, code):
        """last: the how-manieth stream was the last one; 0: none."""
        last = self.streams[int(last) - 1] if int(last) else 0
        self.put(7, 0, 0, last.to_bytes(4, "big") +
                 int(code).to_bytes(4, "big"))

    def do_frame(self, kind, flags, stream, payload):
        self.put(int(kind), int(flags),
                 self.stream if stream == "@" else int(stream), payload)

    def do_frames(self, n, kind, flags, stream, payload):
        stream = self.stream if stream == "@" else int(stream)
        one = (len(payload).to_bytes(3, "big") + bytes([int(kind), int(flags)])
               + stream.to_bytes(4, "big") + payload)
        for _ in range(int(n) // 100):
            self.sock.sendall(one * 100)


# ---- one listener ----------------------------------------------------------

def family(ip):
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


def has_address(ip):
    try:
        with socket.socket(family(ip)) as s:
            s.bind((ip, 0))
        return True
    except OSError:
        return False


class Server:
    """The listener of a script, and what it has seen."""

    def __init__(self, world, script):
        self.world, self.script = world, script
        self.requests = self.bytes = self.handshakes = 0
        self.heads, self.bodies, self.keys = [], [], set()
        self.connections, self.fillers = [], []
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        if "first" in script.options:
            ip, how = script.options["first"].split("/")
            other = socket.socket(family(ip))
            other.bind((ip, self.port))
            self.fillers.append(other)
            self.deaf(other, how)
        first = script.connections[0][0]
        if first in ("closed", "full"):
            return self.deaf(self.sock, first)
        self.sock.listen(128)
        threading.Thread(target=self.accept, daemon=True).start()

    def deaf(self, sock, how):
        """Bound, so that nobody else gets the port; or full."""
        if how == "closed":
            return
        sock.listen(0)
        for _ in range(4):
            s = socket.socket(sock.family)
            s.setblocking(False)
            s.connect_ex(sock.getsockname()[:2])
            self.fillers.append(s)

    def accept(self):
        while True:
            try:
                client, _ = self.sock.accept()
            except OSError:
                return
            if "moves" in self.script.options and not self.connections:
                self.sock.close()
                self.sock = socket.socket()
                self.sock.bind((self.script.options["moves"], self.port))
                self.sock.listen(128)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            nth = min(len(self.connections),
                      len(self.script.connections) - 1)
            c = Connection(self, client, self.script.connections[nth])
            self.connections.append(c) # first of all: settle() looks at them
            threading.Thread(target=c.run, daemon=True).start()

    def settle(self):
        """Waits until every connection waits for the client or has ended."""
        end = time.monotonic() + PATIENCE
        while (not all(c.idle for c in self.connections) and
               time.monotonic() < end):
            time.sleep(0.002)

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        for c in self.connections:
            try:
                c.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for s in self.fillers:
            s.close()


class World:
    """What all scripts share: words, certificates, and another origin, where
    nothing may ever arrive."""

    def __init__(self, folder, table):
        self.folder, self.words, self.echo = folder, {"o": b"0"}, False
        self.words.update(bombs())
        self.elsewhere = Server(self, Script(
            'elsewhere - - : read send "HTTP/1.1 200 OK\\r\\n'
            'Content-Length: 2\\r\\n\\r\\n{}" fin', self.words))
        self.words["o"] = str(self.elsewhere.port).encode()
        self.scripts = read_table(table, self.words)
        self.has_tls = True
        try:
            make_certificates(folder)
        except FileNotFoundError:
            self.has_tls = False


# ---- bombs -----------------------------------------------------------------

def bombs():
    """Few bytes that become 64 MiB of blanks, in three codings."""
    import gzip
    n = 64 << 20
    # One frame of RLE blocks of 128 KiB (RFC 8878): 4 bytes each.
    blocks = n >> 17
    block = lambda last: struct.pack(
        "<I", (1 << 17) << 3 | 1 << 1 | last)[:3] + b" "
    zstd = (b"\x28\xb5\x2f\xfd\x00\x58" + block(0) * (blocks - 1) + block(1))
    return {"g": gzip.compress(b" " * n, 9), "z": zstd,
            "r": bytes.fromhex(BROTLI)}


# What Brotli's own encoder makes of the same blanks (quality 9, window 24).
BROTLI = ("cfffff7f002440e2b14072effff9ffff0f8004401c1680eefd3f"
          "ffffff01900088c302d0bdffcfffff7f001200715800baf7ff")
