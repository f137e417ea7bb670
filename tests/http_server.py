"""A server on this machine that sends files, and misbehaves as it is told to."""

import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site:
    """What a server sends. `files`: content by path; `misdeeds`: what happens to the next requests of a path,
    each a function of the request that may do something else and return True."""

    def __init__(self):
        self.files, self.misdeeds, self.asked, self.ranges, self.etags = {}, {}, Counter(), [], True
        self.tags = {}

    def misbehave(self, path, *misdeeds):
        self.misdeeds.setdefault(path, []).extend(misdeeds)


class Handler(BaseHTTPRequestHandler):
    """Sends files with ranges, validators and honest lengths, unless told otherwise."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        site = self.server.site
        site.asked[self.path] += 1
        site.ranges.append((self.path, self.headers.get("Range")))
        queue = site.misdeeds.get(self.path, [])
        misdeed = (queue[0] if getattr(queue[0], "always", False) else queue.pop(0)) if queue else None
        if not (misdeed and misdeed(self)):
            self.send(site.files.get(self.path))

    def send(self, content, knows_ranges=True, length=None, stop_after=None):
        if content is None:
            self.send_error(404)
            return
        tag = self.server.site.tags.get(self.path, '"one"')
        asked, begin = self.headers.get("Range"), 0
        if asked and knows_ranges and self.headers.get("If-Range") in (None, tag):
            begin = int(asked.removeprefix("bytes=").removesuffix("-"))
            if begin >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        body = content[begin:]
        self.send_header("Content-Length", str(length or len(body)))
        if self.server.site.etags:
            self.send_header("ETag", tag)
        self.end_headers()
        self.wfile.write(body[:stop_after])
        if stop_after is not None or length is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()

    def log_message(self, *_):
        """Say nothing."""


def breaks_off(after):
    """The connection ends after so many bytes."""

    def do(request):
        request.send(request.server.site.files[request.path], stop_after=after)
        return True

    return do


def answers(status, **headers):
    """Another answer than the file."""

    def do(request):
        request.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        return True

    return do


def always(misdeed):
    """Not only once."""
    misdeed.always = True
    return misdeed


class Quiet(ThreadingHTTPServer):
    """Clients that go away are no news."""

    daemon_threads = True

    def handle_error(self, *_):
        """Say nothing."""


@contextmanager
def serving():
    """Give the site and its address."""
    server = Quiet(("127.0.0.1", 0), Handler)
    server.site = Site()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.site, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
