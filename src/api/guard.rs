//! Who may ask what: against DNS rebinding, cross-site requests and strangers.

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use subtle::ConstantTimeEq;

use super::error::ApiError;
use super::listen::Peer;
use crate::secret::Secret;

/// Passes or refuses a request by its head alone.
///
/// # Errors
/// 400 without a usable `Host` or with several origins, 401 without the token where one is needed, 403
/// for a foreign `Host` or `Origin`.
pub(super) fn check<B>(
    token: Option<&Secret>,
    peer: Peer,
    request: &Request<B>,
) -> Result<(), ApiError> {
    let headers = request.headers();
    let host = host(request)?;
    let trusted = match token {
        Some(token) => carries(headers, token),
        None => false,
    };
    // The status page holds nothing but the field to type the token into, for browsers
    // that have no other way to give one.
    let page = token.is_some() && is_page(request);
    if token.is_some() && !trusted && !page && needs_token(request.method(), peer) {
        let message = "this needs 'Authorization: Bearer <agent.api.token>'";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, message));
    }
    // A page in a browser can make this agent's address answer to the page's own
    // name, but it cannot know the token.
    if !trusted && !page && !is_own_host(&host, peer) {
        let message = format!("the agent does not answer to the name '{}'", host.host());
        return Err(ApiError::new(StatusCode::FORBIDDEN, message));
    }
    check_origin(headers, &host)
}

/// Changes are always guarded; reads only from other machines.
pub(super) fn needs_token(method: &Method, peer: Peer) -> bool {
    let read = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    !read || !is_local(peer)
}

fn is_page<B>(request: &Request<B>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD) && request.uri().path() == "/"
}

fn is_local(peer: Peer) -> bool {
    match peer {
        Peer::Tcp { remote, .. } => remote.ip().to_canonical().is_loopback(),
        Peer::Unix => true,
    }
}

/// In constant time with respect to the token's text; its length may show.
fn carries(headers: &HeaderMap, token: &Secret) -> bool {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(given), None) = (values.next(), values.next()) else { return false };
    let Some((scheme, given)) = given.as_bytes().split_at_checked("Bearer ".len()) else {
        return false;
    };
    scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(given.ct_eq(token.expose().as_bytes()))
}

/// The one authority that the request names.
fn host<B>(request: &Request<B>) -> Result<Authority, ApiError> {
    let mut values = request.headers().get_all(header::HOST).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(ApiError::bad_request("exactly one Host header is required"));
    };
    let host = Authority::try_from(value.as_bytes())
        .map_err(|_| ApiError::bad_request("the Host header is malformed"))?;
    match request.uri().authority() {
        Some(target) if !target.as_str().eq_ignore_ascii_case(host.as_str()) => {
            Err(ApiError::bad_request("the request target and the Host header differ"))
        }
        _ => Ok(host),
    }
}

/// The port does not matter: a forwarded one is another at the client's end.
fn is_own_host(host: &Authority, peer: Peer) -> bool {
    let Peer::Tcp { local, .. } = peer else { return true };
    let name = host.host();
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    match literal.parse::<std::net::IpAddr>() {
        Ok(ip) => {
            let ip = ip.to_canonical();
            ip.is_loopback() || ip == local.ip().to_canonical()
        }
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

/// Browsers add `Origin` to whatever a page of another site makes them send.
fn check_origin(headers: &HeaderMap, host: &Authority) -> Result<(), ApiError> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    if origins.next().is_some() {
        // Whoever checks another of them than we do is not to be led astray.
        return Err(ApiError::bad_request("at most one Origin header is taken"));
    }
    let own = origin.to_str().ok().and_then(|origin| {
        let (scheme, authority) = origin.split_once("://")?;
        let default = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let origin = Authority::try_from(authority).ok()?;
        let port = |authority: &Authority| authority.port_u16().unwrap_or(default);
        Some(origin.host().eq_ignore_ascii_case(host.host()) && port(&origin) == port(host))
    });
    match own {
        Some(true) => Ok(()),
        _ => Err(ApiError::new(StatusCode::FORBIDDEN, "requests of other sites are refused")),
    }
}

#[cfg(test)]
mod tests;
