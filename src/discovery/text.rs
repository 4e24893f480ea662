//! What backends and libraries say, made fit for one line and for an operator.
//!
//! A library's words are for who programs with it: they name its types, its manual, its
//! timers. What an operator can act on is said in words of ours; the rest is passed on
//! without links and types.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// No answer in time, from whichever timer.
const LATE: &str = "no answer in time";

/// What went wrong on the way to a backend.
pub(super) fn words(error: &(dyn Error + 'static)) -> String {
    let mut at = Some(error);
    let mut last = error;
    while let Some(error) = at {
        if let Some(text) = known(error) {
            return text;
        }
        last = error;
        // An I/O error hides the one that it was made from behind that one's source.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        at = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    plain(&last.to_string())
}

fn known(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(tls(error));
    }
    if error.is::<tokio::time::error::Elapsed>() {
        return Some(LATE.to_owned());
    }
    #[cfg(feature = "etcd")]
    if let Some(status) = error.downcast_ref::<tonic::Status>()
        && status.source().is_none()
    {
        return Some(plain(status.message()));
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return if error.is_timeout() {
            Some(LATE.to_owned())
        } else if error.is_parse() {
            Some(
                "what answers there does not speak HTTP as it should: is it another port, or \
                  https:// where http:// is written?"
                    .to_owned(),
            )
        } else if error.is_incomplete_message() || error.is_closed() {
            Some("the connection ended before the answer did".to_owned())
        } else {
            None
        };
    }
    let error = error.downcast_ref::<io::Error>()?;
    if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        return None;
    }
    match error.kind() {
        io::ErrorKind::TimedOut => Some(LATE.to_owned()),
        io::ErrorKind::UnexpectedEof => {
            Some("the connection ended before the answer did".to_owned())
        }
        _ => error
            .to_string()
            .strip_prefix("failed to lookup address information")
            .map(|why| format!("the host name does not resolve{why}")),
    }
}

/// A TLS failure on our way to a server.
fn tls(error: &rustls::Error) -> String {
    use rustls::Error as E;
    match error {
        E::InvalidCertificate(error) => certificate(error),
        E::AlertReceived(alert) => alerted(*alert).to_owned(),
        E::InvalidMessage(_)
        | E::InappropriateMessage { .. }
        | E::InappropriateHandshakeMessage { .. } => {
            "what answers there is not TLS: is it http:// where https:// is written?".to_owned()
        }
        other => format!("TLS: {}", plain(&other.to_string())),
    }
}

fn certificate(error: &CertificateError) -> String {
    use CertificateError as C;
    match error {
        C::UnknownIssuer | C::BadSignature => {
            "the server's certificate was issued by a CA that is not trusted here".to_owned()
        }
        C::NotValidForName => "the server's certificate is for another host name".to_owned(),
        C::NotValidForNameContext { expected, presented } => format!(
            "the server's certificate is for {}, not for {}",
            if presented.is_empty() { "no host at all".to_owned() } else { presented.join(", ") },
            expected.to_str()
        ),
        C::Expired | C::ExpiredContext { .. } => {
            "the server's certificate has expired by this host's clock".to_owned()
        }
        C::NotValidYet | C::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet by this host's clock".to_owned()
        }
        C::Other(other)
            if matches!(
                other.0.downcast_ref::<webpki::Error>(),
                Some(webpki::Error::CaUsedAsEndEntity)
            ) =>
        {
            "the server's certificate is a CA's own, and not itself among the trusted".to_owned()
        }
        C::Other(other) => {
            format!("the server's certificate cannot be used: {}", plain(&other.0.to_string()))
        }
        other => format!("the server's certificate cannot be used: {}", plain(&other.to_string())),
    }
}

fn alerted(alert: AlertDescription) -> &'static str {
    use AlertDescription as A;
    match alert {
        A::CertificateRequired => "the server demands a client certificate (certfile, keyfile)",
        A::UnknownCA => "the server does not trust the CA of our client certificate",
        A::CertificateExpired => "our client certificate has expired by the server's clock",
        A::BadCertificate
        | A::CertificateUnknown
        | A::UnsupportedCertificate
        | A::AccessDenied
        | A::DecryptError => "the server does not accept our client certificate",
        A::ProtocolVersion => "the server speaks no TLS version that we do (1.2 or 1.3)",
        A::UnrecognisedName => "the server has no certificate for the host name asked for",
        _ => "the server broke off the TLS handshake",
    }
}

/// A text that nobody has better words for: its first sentence, without links.
fn plain(text: &str) -> String {
    let text = text.split("https://docs.rs").next().unwrap_or_default();
    if let Some((_, alert)) = text.rsplit_once("received fatal alert: ") {
        // gRPC passes on the text alone.
        use AlertDescription as A;
        let known = [
            A::CertificateRequired,
            A::UnknownCA,
            A::CertificateExpired,
            A::BadCertificate,
            A::CertificateUnknown,
            A::UnsupportedCertificate,
            A::ProtocolVersion,
            A::UnrecognisedName,
        ];
        let known = known.into_iter().find(|one| format!("{one:?}") == alert);
        return alerted(known.unwrap_or(A::HandshakeFailure)).to_owned();
    }
    match text.trim_end_matches([':', ' ', '(']) {
        "deadline has elapsed" | "Timeout expired" | "operation timed out" => LATE.to_owned(),
        text if text.contains("close_notify") => {
            "the connection ended before the answer did".to_owned()
        }
        text => text.to_owned(),
    }
}

/// Foreign text fit for a log line: quoted, escaped, cut.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 200;
    if text.chars().nth(LONGEST).is_some() {
        format!("{:?}…", text.chars().take(LONGEST).collect::<String>())
    } else {
        format!("{text:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_escaped_and_cut() {
        assert_eq!(shown("a\nb"), r#""a\nb""#);
        assert_eq!(shown(&"x".repeat(1000)).chars().count(), 203);
    }

    #[test]
    fn causes_are_told_in_an_operators_words() {
        #[derive(Debug, thiserror::Error)]
        #[error("client error (SendRequest)")]
        struct Outer(#[source] io::Error);
        let say = |error: io::Error| words(&Outer(error));
        let custom = |kind, text: &str| io::Error::new(kind, text.to_owned());
        for (error, expected) in [
            (io::Error::other("inner"), "inner"),
            (
                custom(
                    io::ErrorKind::UnexpectedEof,
                    "peer closed connection without sending TLS close_notify: https://docs.rs/x",
                ),
                "the connection ended before the answer did",
            ),
            (custom(io::ErrorKind::TimedOut, "deadline has elapsed"), "no answer in time"),
            (
                io::Error::other(rustls::Error::InvalidCertificate(CertificateError::Other(
                    rustls::OtherError(std::sync::Arc::new(webpki::Error::CaUsedAsEndEntity)),
                ))),
                "the server's certificate is a CA's own, and not itself among the trusted",
            ),
            (
                io::Error::other(rustls::Error::InvalidCertificate(
                    CertificateError::UnknownIssuer,
                )),
                "the server's certificate was issued by a CA that is not trusted here",
            ),
            (
                io::Error::other("failed to lookup address information: Name or service not known"),
                "the host name does not resolve: Name or service not known",
            ),
            (io::Error::other("see https://docs.rs/rustls"), "see"),
            (
                io::Error::other("received fatal alert: BadCertificate"),
                "the server does not accept our client certificate",
            ),
        ] {
            assert_eq!(say(error), expected);
        }
    }
}
