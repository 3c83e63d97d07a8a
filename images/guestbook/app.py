#!/usr/bin/env python3
"""A guestbook that keeps its entries in PostgreSQL: what a small app of a Co-op Cloud server looks like.

Version 1.1 adds a column to the table of 1.0, so that an upgrade has something to migrate.
"""

import html
import http.server
import json
import os
import sys
import time
import urllib.parse

import psycopg2

VERSION = tuple(int(part) for part in os.environ["GUESTBOOK_VERSION"].split("."))

# Every version's changes of the schema, in order; each is made once.
MIGRATIONS = [
    ((1, 0, 0), "CREATE TABLE entries (id serial PRIMARY KEY, name text NOT NULL, message text NOT NULL)"),
    ((1, 1, 0), "ALTER TABLE entries ADD COLUMN mood text NOT NULL DEFAULT 'content'"),
]


def connect():
    with open(os.environ["DB_PASSWORD_FILE"]) as file:
        password = file.read().strip()
    return psycopg2.connect(
        host=os.environ["DB_HOST"],
        dbname=os.environ["DB_NAME"],
        user=os.environ["DB_USER"],
        password=password,
        connect_timeout=3,
    )


def migrate():
    """Brings the schema to this version. Only one of two containers at a time, as when an update starts a new one."""
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(1)")
        cursor.execute("CREATE TABLE IF NOT EXISTS migrations (done integer NOT NULL)")
        cursor.execute("SELECT count(*) FROM migrations")
        done = cursor.fetchone()[0]
        wanted = [change for version, change in MIGRATIONS if version <= VERSION]
        for number, change in enumerate(wanted[done:], start=done):
            print(f"migration {number + 1}: {change}", flush=True)
            cursor.execute(change)
            cursor.execute("INSERT INTO migrations VALUES (%s)", (number + 1,))


def query(statement, arguments=()):
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(statement, arguments)
        if cursor.description is None:
            return []
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row)) for row in cursor.fetchall()]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = urllib.parse.urlsplit(self.path).path
        try:
            if path == "/health":
                query("SELECT 1")
                self.answer(200, "text/plain", "ok\n")
            elif path == "/entries":
                self.answer(200, "application/json", json.dumps(query("SELECT * FROM entries ORDER BY id")))
            elif path == "/":
                self.answer(200, "text/html; charset=utf-8", self.page())
            else:
                self.answer(404, "text/plain", "there is no such page\n")
        except psycopg2.Error as error:
            self.answer(503, "text/plain", f"the database does not answer: {type(error).__name__}\n")

    def do_POST(self):
        form = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        fields = dict(urllib.parse.parse_qsl(form))
        if self.path != "/entries" or not fields.get("name") or not fields.get("message"):
            self.answer(400, "text/plain", "post name and message to /entries\n")
            return
        try:
            query("INSERT INTO entries (name, message) VALUES (%s, %s)", (fields["name"], fields["message"]))
            self.answer(201, "text/plain", "thank you\n")
        except psycopg2.Error as error:
            self.answer(503, "text/plain", f"the database does not answer: {type(error).__name__}\n")

    def page(self):
        entries = query("SELECT * FROM entries ORDER BY id")
        lines = [f"<li>{html.escape(it['name'])}: {html.escape(it['message'])}</li>" for it in entries]
        version = ".".join(map(str, VERSION))
        return f"<!DOCTYPE html><html><title>Guestbook {version}</title><ul>{''.join(lines)}</ul></html>\n"

    def answer(self, status, kind, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, form, *arguments):
        print(form % arguments, flush=True)


def main():
    # Swarm ignores `depends_on`: the database may come up later than this.
    deadline = time.monotonic() + 120
    while True:
        try:
            migrate()
            break
        except psycopg2.OperationalError as error:
            if time.monotonic() > deadline:
                sys.exit(f"the database has not answered for 120 s: {type(error).__name__}")
            time.sleep(0.2)
    server = http.server.ThreadingHTTPServer(("", 8000), Handler)
    print(f"guestbook {'.'.join(map(str, VERSION))} listens on port 8000", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    # Process 1 of a container has no default way to end.
    import signal

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    main()
