"""nginx with a configuration of `examples/serve/`, on a free port in front of servers of tests."""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from server_fixture import wait_until

EXAMPLES = Path(__file__).parents[1] / "examples" / "serve"
NAME = "models.example.org"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
_MAIN = """
user root;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""
"""only what a package of nginx sets in its own nginx.conf"""


@contextmanager
def nginx(example: str, folder: Path, ports: Sequence[int]) -> Iterator[httpx2.Client]:
    """Run nginx. Yields a client of it, with the Host header of the example.

    Args:
        example: name of the configuration.
        folder: receives all files.
        ports: of the servers, instead of 8008, 8009, ...
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    certificate, key = write_certificate(folder)
    changes = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        f"/etc/ssl/certs/{NAME}.pem": str(certificate),
        f"/etc/ssl/private/{NAME}.key": str(key),
    }
    changes |= {f"127.0.0.1:{8008 + n}": f"127.0.0.1:{port}" for n, port in enumerate(ports)}
    text = (EXAMPLES / example).read_text()
    for before, after in changes.items():
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    (folder / "site.conf").write_text(text)
    (folder / "main.conf").write_text(_MAIN.format(folder=folder))
    command = [NGINX, "-c", str(folder / "main.conf"), "-p", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    context = ssl.create_default_context(cafile=str(certificate))
    client = httpx2.Client(
        base_url=f"https://127.0.0.1:{port}",
        verify=context,
        timeout=60.0,
        headers={"Host": f"{NAME}:{port}"},
    )
    try:
        wait_until(lambda: process.poll() is not None or _listens(port))
        assert process.poll() is None, process.stdout.read()
        yield client
    finally:
        client.close()
        process.terminate()
        process.communicate(timeout=60)


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for the name of the example and for 127.0.0.1, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.datetime.now(datetime.UTC)
    builder: Any = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.DNSName(NAME), address])
    builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "site.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "site.key").write_bytes(private)
    return folder / "site.pem", folder / "site.key"


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
