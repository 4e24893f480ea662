//! Certificates and keys out of PEM files.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::optfile::MAX_FILE;
use super::terms::TermError;
use crate::secret::Secret;

/// What keeps TLS from working, in the operator's files. Nothing is changed by it: a
/// context that runs goes on with what it has.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: cannot read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is longer than any of these files should be.
    #[error("{}: longer than {MAX_FILE} bytes: is it the file that was meant?", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The options file breaks its rules; one line each.
    #[error("{}", options_text(path, errors))]
    Options {
        /// The options file.
        path: PathBuf,
        /// Every error in it.
        errors: Vec<TermError>,
    },
    /// An option that the rest of the file makes necessary is missing.
    #[error("{}: {section} {message}", path.display())]
    Missing {
        /// The options file.
        path: PathBuf,
        /// `server` or `client`.
        section: &'static str,
        /// What is missing and what to do.
        message: &'static str,
    },
    /// A file is no PEM file of the kind it should be.
    #[error("{}: {message}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The key is encrypted in a way that is no longer read.
    #[error(
        "{0}: the key is encrypted in OpenSSL's legacy format; convert it with: \
         openssl pkcs8 -topk8 -v2 aes-256-cbc -in {0} -out {0}.new", path.display()
    )]
    LegacyKey {
        /// The key file.
        path: PathBuf,
    },
    /// The key is encrypted by a cipher that nobody should use any more.
    #[error(
        "{0}: the key is encrypted by an old scheme (PBES1) that is not read; convert it with: \
         openssl pkcs8 -in {0} -topk8 -v2 aes-256-cbc -out {0}.new", path.display()
    )]
    OldCipher {
        /// The key file.
        path: PathBuf,
    },
    /// The key is encrypted and the options give no password.
    #[error("{}: the key is encrypted; {section} needs {{password, \"...\"}}", path.display())]
    PasswordMissing {
        /// The key file.
        path: PathBuf,
        /// `server` or `client`.
        section: &'static str,
    },
    /// The password does not open the key.
    #[error("{}: the password of {section} does not open the key ({message})", path.display())]
    PasswordWrong {
        /// The key file.
        path: PathBuf,
        /// `server` or `client`.
        section: &'static str,
        /// What decryption says.
        message: String,
    },
    /// The key is not the certificate's.
    #[error(
        "{}: not the key of the certificate in {}: name the two that belong together",
        key.display(),
        cert.display()
    )]
    KeyMismatch {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        cert: PathBuf,
    },
    /// Changed files are in order by themselves, and with them peers would refuse us,
    /// which they do not with those in use.
    #[error("{0}")]
    Worse(String),
}

fn options_text(path: &Path, errors: &[TermError]) -> String {
    let line = |error: &TermError| {
        let pos = error.pos;
        format!("{}:{}:{}: {}", path.display(), pos.line, pos.column, error.message)
    };
    errors.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The whole of a file that should be short.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_FILE {
        return Err(TlsError::TooLong { path: path.to_owned() });
    }
    Ok(bytes)
}

fn pem_error(path: &Path, message: impl Into<String>) -> TlsError {
    TlsError::Pem { path: path.to_owned(), message: message.into() }
}

/// Every certificate of a PEM file, in order; at least one.
pub(crate) fn certificates(
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certs = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| pem_error(path, format!("not a whole PEM file: {error}")))?;
    if certs.is_empty() {
        return Err(pem_error(path, "holds no certificate (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(certs)
}

/// The CAs of a PEM file.
pub(crate) fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for (index, cert) in certificates(path, pem)?.into_iter().enumerate() {
        store.add(cert).map_err(|error| {
            pem_error(path, format!("certificate {} cannot be a CA: {error}", index + 1))
        })?;
    }
    Ok(store)
}

/// The first private key of a PEM file.
pub(crate) fn private_key(
    path: &Path,
    pem: &[u8],
    password: Option<&Secret>,
    section: &'static str,
) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = String::from_utf8_lossy(pem);
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(TlsError::LegacyKey { path: path.to_owned() });
    }
    if let Some(encrypted) = section_of(&text, "ENCRYPTED PRIVATE KEY") {
        let Some(password) = password else {
            return Err(TlsError::PasswordMissing { path: path.to_owned(), section });
        };
        return decrypt(path, encrypted, password, section);
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            pem_error(path, "holds no private key (-----BEGIN PRIVATE KEY-----)")
        }
        other => pem_error(path, format!("not a whole PEM file: {other}")),
    })
}

/// The first PEM section with that label, boundaries included.
fn section_of<'t>(text: &'t str, label: &str) -> Option<&'t str> {
    let start = text.find(&format!("-----BEGIN {label}-----"))?;
    let end_line = format!("-----END {label}-----");
    let end = text[start..].find(&end_line)?;
    Some(&text[start..start + end + end_line.len()])
}

fn decrypt(
    path: &Path,
    pem: &str,
    password: &Secret,
    section: &'static str,
) -> Result<PrivateKeyDer<'static>, TlsError> {
    let wrong = |error: &dyn std::fmt::Display| TlsError::PasswordWrong {
        path: path.to_owned(),
        section,
        message: error.to_string(),
    };
    let (_label, document) = SecretDocument::from_pem(pem)
        .map_err(|error| pem_error(path, format!("not a whole PEM file: {error}")))?;
    if is_pbes1(document.as_bytes()) {
        return Err(TlsError::OldCipher { path: path.to_owned() });
    }
    let info = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())
        .map_err(|error| pem_error(path, format!("no encrypted PKCS#8 key: {error}")))?;
    let key = info.decrypt(password.expose()).map_err(|error| wrong(&error))?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

/// Whether the algorithm of an encrypted PKCS#8 key is one of PKCS#5's first version or of
/// PKCS#12: `SEQUENCE { SEQUENCE { OID …`, with the identifiers of RFC 8018 and RFC 7292.
fn is_pbes1(der: &[u8]) -> bool {
    const PKCS5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05];
    const PKCS12: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01];
    // What PKCS#5 numbers 13 is its second version.
    const PBES2: u8 = 13;
    let Some(oid) = content(der).and_then(content).and_then(content) else { return false };
    match oid.strip_prefix(PKCS5) {
        Some(rest) => rest.first().is_some_and(|number| *number < PBES2 && *number != 12),
        None => oid.starts_with(PKCS12),
    }
}

/// What the first element of a DER text holds.
fn content(der: &[u8]) -> Option<&[u8]> {
    let (length, rest) = match *der.get(1)? {
        short @ 0..=0x7f => (usize::from(short), der.get(2..)?),
        0x81 => (usize::from(*der.get(2)?), der.get(3..)?),
        0x82 => (usize::from(*der.get(2)?) << 8 | usize::from(*der.get(3)?), der.get(4..)?),
        _ => return None,
    };
    rest.get(..length)
}

#[cfg(test)]
mod tests;
