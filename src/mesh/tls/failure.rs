//! What a TLS handshake failed on, in words for the log and a word for the metric.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use super::capped::TooMuch;
use super::identity::IdentityError;

/// Who or what made a handshake fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The peer's certificate has ended.
    Expired,
    /// The peer's certificate is not valid yet, or our clock is slow.
    NotYetValid,
    /// The peer's certificate comes from a CA we do not trust.
    UnknownCa,
    /// The peer's certificate is another node's.
    WrongName,
    /// The peer showed no certificate.
    NoCertificate,
    /// The peer's certificate is bad in another way.
    BadCertificate,
    /// The peer refused us with an alert.
    PeerRefused,
    /// No version, cipher suite or signature in common.
    Incompatible,
    /// What came was no TLS.
    NotTls,
    /// More came than a handshake may hold.
    TooMuch,
    /// The connection ended.
    Closed,
    /// A handshake between the two in the other direction goes on instead.
    Crossed,
}

impl FailureKind {
    /// The label value in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Expired => "tls_expired",
            Self::NotYetValid => "tls_not_yet_valid",
            Self::UnknownCa => "tls_unknown_ca",
            Self::WrongName => "tls_wrong_name",
            Self::NoCertificate => "tls_no_certificate",
            Self::BadCertificate => "tls_bad_certificate",
            Self::PeerRefused => "tls_peer_refused",
            Self::Incompatible => "tls_incompatible",
            Self::NotTls => "tls_garbage",
            Self::TooMuch => "tls_too_much",
            Self::Closed => "tls_closed",
            Self::Crossed => "simultaneous",
        }
    }
}

/// A handshake that failed. Nothing of ours is harmed by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFailure {
    /// For metrics and tests.
    pub kind: FailureKind,
    /// For the log; holds no character that could forge a line of it.
    pub text: String,
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for TlsFailure {}

impl From<IdentityError> for TlsFailure {
    fn from(error: IdentityError) -> Self {
        identity(&error)
    }
}

impl TlsFailure {
    /// Reads an error of a TLS stream. With TLS 1.3 a dialler learns only from its first
    /// read that the other side did not like its certificate, so this serves there, too.
    #[must_use]
    pub fn from_io(error: &io::Error) -> Self {
        if let Some(too_much) = error.get_ref().and_then(|inner| inner.downcast_ref::<TooMuch>()) {
            return Self::new(FailureKind::TooMuch, too_much.to_string());
        }
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error) => Self::from_tls(error),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::new(
                FailureKind::Closed,
                "the peer closed the connection during the TLS handshake",
            ),
            None => Self::new(FailureKind::Closed, error.to_string()),
        }
    }

    pub(super) fn crossed() -> Self {
        Self::new(
            FailureKind::Crossed,
            "the two nodes connect to each other at the same time; the other attempt goes on",
        )
    }

    fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    pub(super) fn from_tls(error: &Error) -> Self {
        use FailureKind as K;
        match error {
            Error::InvalidCertificate(error) => certificate(error),
            Error::NoCertificatesPresented => identity(&IdentityError::Missing),
            Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Self::crossed(),
            Error::AlertReceived(alert) => Self::new(K::PeerRefused, refusal(*alert)),
            Error::PeerIncompatible(
                PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon
                | PeerIncompatible::NoSignatureSchemesInCommon,
            ) => {
                Self::new(K::Incompatible, "the peer's key and signature kinds do not go with ours")
            }
            Error::PeerIncompatible(what) => {
                Self::new(K::Incompatible, format!("nothing in common with the peer: {what:?}"))
            }
            Error::InvalidMessage(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::PeerMisbehaved(_)
            | Error::DecryptError
            | Error::PeerSentOversizedRecord => {
                Self::new(K::NotTls, format!("what the peer sent is not TLS: {error}"))
            }
            other => Self::new(K::BadCertificate, other.to_string()),
        }
    }
}

fn identity(error: &IdentityError) -> TlsFailure {
    let kind = match error {
        IdentityError::OtherNode { .. } | IdentityError::Nameless { .. } => FailureKind::WrongName,
        IdentityError::Missing => FailureKind::NoCertificate,
        IdentityError::Unreadable(_) => FailureKind::BadCertificate,
    };
    TlsFailure::new(kind, error.to_string())
}

fn certificate(error: &CertificateError) -> TlsFailure {
    use FailureKind as K;
    match error {
        CertificateError::ExpiredContext { not_after, .. } => TlsFailure::new(
            K::Expired,
            format!("the peer's certificate expired at {}", utc(*not_after)),
        ),
        CertificateError::NotValidYetContext { not_before, time } => TlsFailure::new(
            K::NotYetValid,
            format!(
                "the peer's certificate is not valid before {}; it is {} by this host's clock",
                utc(*not_before),
                utc(*time)
            ),
        ),
        CertificateError::UnknownIssuer => TlsFailure::new(
            K::UnknownCa,
            "the peer's certificate was issued by a CA that is not in cacertfile",
        ),
        CertificateError::BadSignature => TlsFailure::new(
            K::UnknownCa,
            "the signature on the peer's certificate is not that of the CA in cacertfile",
        ),
        CertificateError::InvalidPurpose => TlsFailure::new(
            K::BadCertificate,
            "the extended key usage of the peer's certificate lacks this role \
             (serverAuth and clientAuth are both needed in a mesh)",
        ),
        CertificateError::Other(error) => match error.0.downcast_ref::<IdentityError>() {
            Some(error) => identity(error),
            None => TlsFailure::new(
                K::BadCertificate,
                format!("the peer's certificate is not accepted: {error}"),
            ),
        },
        other => TlsFailure::new(
            K::BadCertificate,
            format!("the peer's certificate is not accepted: {other}"),
        ),
    }
}

fn refusal(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let why = match alert {
        A::CertificateExpired => "our certificate has expired, or is not valid yet, by its clock",
        A::UnknownCA => "it does not trust the CA of our certificate",
        A::CertificateRequired => "it demands a certificate and we have none (client certfile)",
        A::BadCertificate | A::CertificateUnknown | A::AccessDenied => {
            "it does not accept our certificate (its log says why: often the node name)"
        }
        A::UnsupportedCertificate => "our certificate lacks the extended key usage for this role",
        A::HandshakeFailure => {
            "no cipher suite in common, or it does not accept our certificate (its log says why)"
        }
        A::ProtocolVersion => "no TLS version in common (versions)",
        A::UnrecognisedName => "it has no certificate for the name we asked for",
        other => return format!("the peer refused the TLS handshake: {other:?}"),
    };
    format!("the peer refused the TLS handshake: {why}")
}

fn utc(time: UnixTime) -> String {
    utc_text(UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}

/// `2026-01-31T12:00:00Z`, seconds cut.
pub(super) fn utc_text(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let whole = Duration::from_secs(since.as_secs());
    x509_cert::der::DateTime::from_unix_duration(whole)
        .map_or_else(|_| "after the year 9999".to_owned(), |date| date.to_string())
}
