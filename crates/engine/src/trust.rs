//! Trust: the certificate authorities that TLS to others is checked against.
use std::{env, fs, io};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Where distributions keep the certificates that they trust.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Those of a file, all of which must be usable; without one the host's, which `SSL_CERT_FILE` may name.
pub fn roots(path: Option<&str>) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = path {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(io::Error::other)?;
        }
        return Ok(roots);
    }
    let named = env::var("SSL_CERT_FILE").ok().filter(|path| !path.is_empty());
    let found = SYSTEM.iter().find(|path| fs::exists(path).unwrap_or(false));
    if let Some(system) = named.as_deref().or(found.copied()) {
        roots.add_parsable_certificates(certificates(system)?);
    }
    Ok(roots)
}

pub fn certificates(path: &str) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| io::Error::other(format!("cannot read the certificates {path}: {error}")))
}

/// A file, with its name in the error.
pub fn read(path: &str) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("cannot read {path}: {error}")))
}
