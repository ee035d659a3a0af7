//! TLS on TCP doors: our certificate, and whose clients come in.
//!
//! The files are read again on every reload, so a certificate can be renewed without a new start.
use std::{
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

use crate::config::tls::TlsFiles;

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("could not load X509 key pair: {path}: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("could not load X509 key pair (cert: {cert}, key: {key})")]
    Pair {
        cert: PathBuf,
        key: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("could not use CA certificate {path}: {reason}")]
    Authority { path: PathBuf, reason: String },
}

/// What a TCP door shows and asks for. Connections keep what they began with.
#[derive(Debug)]
pub struct Tls {
    current: RwLock<Arc<ServerConfig>>,
    verifies_clients: bool,
}

impl Tls {
    pub fn load(files: &TlsFiles) -> Result<Tls, TlsError> {
        Ok(Tls {
            current: RwLock::new(read(files)?),
            verifies_clients: files.client_authority.is_some(),
        })
    }

    /// Reads the files again; when they are no good, the old ones stay in force.
    pub fn reload(&self, files: &TlsFiles) -> Result<(), TlsError> {
        let new = read(files)?;
        *self.current.write().expect("no panic while locked") = new;
        Ok(())
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.read().expect("no panic while locked")))
    }

    pub fn verifies_clients(&self) -> bool {
        self.verifies_clients
    }
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let certificates = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| TlsError::File {
        path: files.key.clone(),
        reason: error.to_string(),
    })?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has what TLS 1.2 and 1.3 need");
    let builder = match &files.client_authority {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let refused = |reason: String| TlsError::Authority {
                path: path.clone(),
                reason,
            };
            let mut roots = RootCertStore::empty();
            for certificate in self::certificates(path)? {
                roots.add(certificate).map_err(|error| refused(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| refused(error.to_string()))?)
        }
    };
    let pair = builder.with_single_cert(certificates, key);
    pair.map(Arc::new).map_err(|source| TlsError::Pair {
        cert: files.certificate.clone(),
        key: files.key.clone(),
        source,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |reason: String| TlsError::File {
        path: path.to_owned(),
        reason,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| failed(error.to_string()))?
        .collect();
    match found.map_err(|error| failed(error.to_string()))? {
        none if none.is_empty() => Err(failed("there is no certificate in it".to_owned())),
        found => Ok(found),
    }
}
