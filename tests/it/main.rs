//! The program against real processes and real servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and its output is for people"
)]

mod adversary;
mod api;
mod architecture;
mod command_line;
mod config;
mod conformance;
mod cookies;
mod deploy;
mod dev;
mod discovery;
mod dns;
mod dns_server;
mod docs;
mod embedded;
mod emqx;
mod erlang;
mod etcd;
mod fairness;
mod follow;
mod fuzz_corpus;
mod k8s;
mod lifecycle;
mod logs;
mod mcast;
mod mesh;
mod metrics;
mod openapi;
mod page;
mod partitions;
mod probes;
mod reach;
mod ready;
mod reference;
mod reload;
mod supervision;
mod support;
mod tls;
mod tls_cluster;
mod troubleshooting;
mod wire;
