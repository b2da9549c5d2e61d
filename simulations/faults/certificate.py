"""A certificate that no client may accept: signed by itself, and for another host.

Its key is public, here, and so protects nothing; it expires in a hundred years.
"""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBljCCAT2gAwIBAgIULLzkr7xy45Pu/6IfCHu8SUd9nVUwCgYIKoZIzj0EAwIw
IDEeMBwGA1UEAwwVbm90LXRoaXMtaG9zdC5pbnZhbGlkMCAXDTI2MTEyNTAwNTI0
MVoYDzIxMjYxMTAxMDA1MjQxWjAgMR4wHAYDVQQDDBVub3QtdGhpcy1ob3N0Lmlu
dmFsaWQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASJp8a/n8g2CesrV2/Vu/99
ScvkTOKB1HhZgIUFGJJZx8yYKRzSQHsEhoUFfRd5FFddUMmL+qIBApTXuZ7VZC0D
o1MwUTAdBgNVHQ4EFgQUFYvV5bGX732RY38XmQk/cm9V1PUwHwYDVR0jBBgwFoAU
FYvV5bGX732RY38XmQk/cm9V1PUwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQD
AgNHADBEAiB4UDIcrWsg99D9Co3LnKPL44cxaujWdmbcsqor6zW8ZQIgRPyzeifW
ndGvg/ZKLWRNQKlD3qrJLTaBVBQGYJ+eJBs=
-----END CERTIFICATE-----
"""
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgZ8Cn3WWX3msAMeam
IKvy5D5LkdPP7jaUeUVDvom/JvehRANCAASJp8a/n8g2CesrV2/Vu/99ScvkTOKB
1HhZgIUFGJJZx8yYKRzSQHsEhoUFfRd5FFddUMmL+qIBApTXuZ7VZC0D
-----END PRIVATE KEY-----
"""


def distrusted() -> ssl.SSLContext:
    """A server's context with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # The standard library reads certificates from files only.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "both.pem"
        path.write_text(KEY + CERTIFICATE, encoding="ascii")
        context.load_cert_chain(path)
    return context
