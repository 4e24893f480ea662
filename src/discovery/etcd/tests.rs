use etcd_client::Error;
use tonic::Status;

use super::connect::{Failure, Target, failure};

#[test]
fn endpoints_are_read_as_people_write_them() {
    let target = |host: &str, port, tls| Ok(Target { host: host.into(), port, tls });
    for (text, ssl_options, expected) in [
        ("http://127.0.0.1:2379", false, target("127.0.0.1", 2379, false)),
        ("http://etcd", false, target("etcd", 2379, false)),
        ("etcd:1234", false, target("etcd", 1234, false)),
        ("https://etcd:1234/", false, target("etcd", 1234, true)),
        ("http://[::1]:2379", false, target("::1", 2379, false)),
        // Never clear text where TLS was asked for.
        ("http://etcd:2379", true, target("etcd", 2379, true)),
        ("etcd:2379", true, target("etcd", 2379, true)),
        ("ftp://etcd", false, Err("the URL must begin with http:// or https://".to_owned())),
    ] {
        assert_eq!(Target::parse(text, ssl_options), expected, "{text}");
    }
    assert!(Target::parse("http://", false).is_err());
}

#[test]
fn errors_say_who_must_act() {
    let sorted = |status: Status| failure("S", "read", &Error::GRpcStatus(status));
    let say = |text: &str| format!("etcd at S: cannot read: {text}");
    for (status, expected) in [
        (Status::permission_denied("no"), Failure::Denied(say("no"))),
        (Status::unauthenticated("token"), Failure::Denied(say("token"))),
        (
            Status::invalid_argument(
                "etcdserver: authentication failed, invalid user ID or password",
            ),
            Failure::Denied(say("wrong username or password")),
        ),
        (Status::not_found("etcdserver: requested lease not found"), Failure::NoLease),
        (Status::resource_exhausted("no space"), Failure::Refused(say("no space"))),
    ] {
        assert_eq!(sorted(status.clone()), expected, "{status:?}");
    }
    for status in [Status::unavailable("no leader"), Status::unknown("?"), Status::internal("x")] {
        assert!(matches!(sorted(status), Failure::Endpoint(_)), "another endpoint may do better");
    }
}
