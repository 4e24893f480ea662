use serde_json::json;

use super::objects::{Endpoints, Naming, SliceList};
use super::watch::{News, parse};
use crate::config::{AddressType, K8sConfig};
use crate::discovery::Answer;

fn naming(address_type: AddressType, suffix: &str) -> Naming {
    Naming {
        config: K8sConfig {
            apiserver: "http://x".into(),
            service_name: "emqx".into(),
            address_type,
            namespace: "ns".into(),
            suffix: suffix.into(),
            app_name: "app".into(),
        },
        include_not_ready: true,
        ipv6: false,
    }
}

fn slices(naming: &Naming, items: serde_json::Value) -> Answer {
    let list: SliceList =
        serde_json::from_value(json!({"metadata": {"resourceVersion": "1"}, "items": items}))
            .unwrap();
    naming.slices(&list)
}

fn names(answer: &Answer) -> Vec<&str> {
    answer.nodes.iter().map(|node| node.as_str()).collect()
}

#[test]
fn addresses_become_names_as_emqx_makes_them() {
    use AddressType::{Dns, Hostname, Ip};
    let items = json!([{"addressType": "IPv4", "endpoints": [
        {"addresses": ["10.1.2.3"], "conditions": {}, "hostname": "emqx-0"},
    ]}]);
    for (address_type, suffix, expected) in [
        (Ip, "pod.local", "app@10.1.2.3"),
        (Ip, "", "app@10.1.2.3"),
        (Dns, "pod.local", "app@10-1-2-3.ns.pod.local"),
        (Dns, "", "app@10-1-2-3"),
        (Hostname, "svc.cluster.local", "app@emqx-0.emqx.ns.svc.cluster.local"),
        (Hostname, "", "app@emqx-0"),
    ] {
        let answer = slices(&naming(address_type, suffix), items.clone());
        assert_eq!(names(&answer), [expected], "{address_type:?} {suffix:?}");
    }
}

#[test]
fn the_carriers_family_decides() {
    let items = json!([
        {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]},
        {"addressType": "IPv6", "endpoints": [{"addresses": ["2001:db8::1"]}]},
        {"addressType": "FQDN", "endpoints": [{"addresses": ["a.example"]}]},
    ]);
    let mut naming = naming(AddressType::Ip, "");
    assert_eq!(names(&slices(&naming, items.clone())), ["app@10.0.0.1"]);
    naming.ipv6 = true;
    assert_eq!(names(&slices(&naming, items.clone())), ["app@2001:db8::1"]);
    naming.config.address_type = AddressType::Dns;
    naming.config.suffix = "pod.local".into();
    assert_eq!(names(&slices(&naming, items)), ["app@2001-db8--1.ns.pod.local"]);
}

#[test]
fn conditions_decide_who_is_in() {
    let endpoint = |last: u8, conditions| json!({"addresses": [format!("10.0.0.{last}"), "10.9.9.9"], "conditions": conditions});
    let items = json!([
        {"addressType": "IPv4", "endpoints": null},
        {"addressType": "IPv4"},
        {"addressType": "IPv4", "endpoints": [
            endpoint(1, json!({"ready": true, "serving": true, "terminating": false})),
            endpoint(2, json!({"ready": false})),
            endpoint(3, json!({})),
            endpoint(4, json!(null)),
            endpoint(5, json!({"ready": true, "terminating": true})),
            endpoint(6, json!({"ready": null})),
            {"addresses": null},
            {"addresses": []},
        ]},
        {"addressType": "IPv4", "endpoints": [endpoint(7, json!({"ready": true}))]},
    ]);
    let mut naming = naming(AddressType::Ip, "");
    let with = [
        "app@10.0.0.1",
        "app@10.0.0.2",
        "app@10.0.0.3",
        "app@10.0.0.4",
        "app@10.0.0.6",
        "app@10.0.0.7",
    ];
    assert_eq!(names(&slices(&naming, items.clone())), with);
    naming.include_not_ready = false;
    let without: Vec<_> = with.into_iter().filter(|name| *name != "app@10.0.0.2").collect();
    assert_eq!(names(&slices(&naming, items)), without);
}

#[test]
fn endpoints_that_can_be_no_node_are_named() {
    let items = json!([{"addressType": "IPv4", "endpoints": [
        {"addresses": ["10.0.0.1"]},
        {"addresses": ["10.0.0.2"], "hostname": "-x-"},
        {"addresses": ["10.0.0.3"], "hostname": "emqx-0"},
    ]}]);
    let answer = slices(&naming(AddressType::Hostname, "svc"), items);
    assert_eq!(names(&answer), ["app@emqx-0.emqx.ns.svc"]);
    assert!(answer.rejected[0].starts_with("\"10.0.0.1\": the endpoint has no hostname"));
    assert!(answer.rejected[1].starts_with("\"app@-x-.emqx.ns.svc\": the part behind '@'"));
}

#[test]
fn endpoints_objects_are_read_too() {
    let endpoints: Endpoints = serde_json::from_value(json!({
        "metadata": {"resourceVersion": "5"},
        "subsets": [
            {"addresses": [{"ip": "10.0.0.1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}]},
            {"addresses": null, "notReadyAddresses": [{"ip": "10.0.0.1"}, {"ip": "2001:db8::1"}]},
        ],
    }))
    .unwrap();
    let mut naming = naming(AddressType::Ip, "");
    assert_eq!(names(&naming.endpoints(&endpoints)), ["app@10.0.0.1", "app@10.0.0.2"]);
    naming.include_not_ready = false;
    assert_eq!(names(&naming.endpoints(&endpoints)), ["app@10.0.0.1"]);
    let none: Endpoints = serde_json::from_value(json!({"subsets": null})).unwrap();
    assert_eq!(naming.endpoints(&none), Answer::default());
}

#[test]
fn watch_lines_are_read() {
    let version = |text: &str| Some(text.to_owned());
    for (line, expected) in [
        (
            r#"{"type":"ADDED","object":{"metadata":{"resourceVersion":"7"}}}"#,
            News::Object(version("7")),
        ),
        (
            r#"{"type":"DELETED","object":{"metadata":{"resourceVersion":"8"}}}"#,
            News::Object(version("8")),
        ),
        (
            r#"{"type":"BOOKMARK","object":{"kind":"EndpointSlice","metadata":{"resourceVersion":"9"}}}"#,
            News::Bookmark(version("9")),
        ),
        // As kube-apiserver 1.36 sends it, where nothing of the service changed.
        (
            r#"{"type":"BOOKMARK","object":{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{"resourceVersion":"214"},"addressType":"","endpoints":null,"ports":null}}"#,
            News::Bookmark(version("214")),
        ),
        (
            r#"{"type":"ERROR","object":{"kind":"Status","metadata":{},"code":410,"message":"too old"}}"#,
            News::Gone,
        ),
        (
            r#"{"type":"ERROR","object":{"kind":"Status","code":500,"message":"oops"}}"#,
            News::Broken("oops".into()),
        ),
    ] {
        assert_eq!(parse(line), expected, "{line}");
    }
    for line in ["{}", "garbage", r#"{"type":"NEW","object":{}}"#] {
        assert!(matches!(parse(line), News::Broken(_)), "{line}");
    }
}
