"""Stand-in of the Forja lab for ComfyUI @VERSION@: its command line and what its real front end asks, but no pictures."""

import argparse
import http.server
import json
import mimetypes
import pathlib
import platform

import comfyui_frontend_package
import torch

STATIC = pathlib.Path(comfyui_frontend_package.__file__).resolve().parent / "static"
EMPTY: dict[str, object] = {
    "/object_info": {}, "/users": {"storage": "server", "migrated": True}, "/settings": {}, "/extensions": [], "/embeddings": [],
    "/features": {}, "/i18n": {}, "/workflow_templates": {}, "/experiment/models": [], "/models": [],
    "/queue": {"queue_running": [], "queue_pending": []},
    "/history": {}, "/prompt": {"exec_info": {"queue_remaining": 0}}, "/userdata": [], "/global_subgraphs": {}, "/node_replacements": {},
}
parser = argparse.ArgumentParser()
parser.add_argument("--listen", default="127.0.0.1")
parser.add_argument("--port", type=int, default=8188)
parser.add_argument("--base-directory", type=pathlib.Path, required=True)
parser.add_argument("--reserve-vram", type=float, default=0)
for switch in ("--disable-auto-launch", "--cpu", "--disable-api-nodes"):
    parser.add_argument(switch, action="store_true")
options = parser.parse_args()
(options.base_directory / "user").mkdir(exist_ok=True)
(options.base_directory / "output").mkdir(exist_ok=True)


class Handler(http.server.BaseHTTPRequestHandler):
    """GET alone."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix("/api")
        file = (STATIC / (path.lstrip("/") or "index.html")).resolve()
        if path == "/system_stats":
            device = "cpu" if options.cpu else "cuda"
            body = {"system": {"os": "posix", "comfyui_version": "@VERSION@-standin", "python_version": platform.python_version(),
                               "pytorch_version": torch.__version__}, "devices": [{"name": device, "type": device, "index": 0}]}
            self.answer(200, json.dumps(body).encode(), "application/json")
        elif path in EMPTY:
            self.answer(200, json.dumps(EMPTY[path]).encode(), "application/json")
        elif file.is_relative_to(STATIC) and file.is_file():
            self.answer(200, file.read_bytes(), mimetypes.guess_type(file.name)[0] or "application/octet-stream")
        else:
            self.answer(404, b"", "text/plain")

    def answer(self, code: int, body: bytes, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer((options.listen, options.port), Handler).serve_forever()
