"""Notes over HTTP: POST adds a line to them, PUT and DELETE set and remove one file of them, GET shows it."""

import http.server
import pathlib

NOTES = pathlib.Path("/srv/notes")


class Notes(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        file = self.file()
        self.answer(200, file.read_text()) if file.exists() else self.answer(404, "no such note")

    def do_POST(self):
        with self.file().open("a") as file:
            file.write(self.body() + "\n")
        self.answer(201, "")

    def do_PUT(self):
        if self.headers["X-Token"] != "open":
            return self.answer(403, "who are you?")
        self.file().write_text(self.body())
        self.answer(204, "")

    def do_DELETE(self):
        if self.path.startswith("/kept"):
            return self.answer(200, "as if")
        self.file().unlink()
        self.answer(204, "")

    def file(self):
        return NOTES / self.path.strip("/").replace("/", "_")

    def body(self):
        return self.rfile.read(int(self.headers["Content-Length"])).decode()

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


(NOTES / "index").touch()
http.server.ThreadingHTTPServer(("", 80), Notes).serve_forever()
