"""Makes the certificates of a test broker and of two clients, signed by an authority nobody else trusts.

Decides names and file formats only: a broker for 127.0.0.1, the clients headrace and stranger (their common names are
their principals). Refuses to be used for more than a test: the keys are not protected.
Usage: python make_certificates.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

if TYPE_CHECKING:
    from trustme import LeafCert


def main(folder: Path) -> None:
    """Write ca.pem, broker.pem, and for each client a chain (.pem) and a key (.key)."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = trustme.CA()
    broker = authority.issue_cert("127.0.0.1", "localhost", common_name="broker")
    (folder / "broker.pem").write_bytes(pkcs8_key(broker) + chain(broker))
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for file_name, principal in (("stranger", "stranger"), ("client", "headrace")):
        client = authority.issue_cert(f"{principal}.test", common_name=principal)
        (folder / f"{file_name}.key").write_bytes(pkcs8_key(client))
        (folder / f"{file_name}.pem").write_bytes(chain(client))


def pkcs8_key(certificate: LeafCert) -> bytes:
    """Kafka reads PKCS 8 only; trustme writes the older form."""
    key = load_pem_private_key(certificate.private_key_pem.bytes(), password=None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def chain(certificate: LeafCert) -> bytes:
    """The certificate and all that sign it, leaf first."""
    return b"".join(blob.bytes() for blob in certificate.cert_chain_pems)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
