//! `muster cluster`: the verbs of `emqx ctl cluster`.

use std::fmt::Write as _;

use axum::http::Method;
use serde::Serialize;

use super::args::{ClusterCommand, ConnectArgs, DiscoveryCommand};
use super::client::{Client, encode};
use super::error::CliError;
use super::{connect, out};
use crate::api::{Cluster, DiscoveryRequest, InviteRequest, JoinRequest};

/// EMQX's JSON of `cluster status --json`.
#[derive(Debug, Serialize)]
struct EmqxStatus<'a> {
    running_nodes: &'a [String],
    stopped_nodes: &'a [String],
}

pub(super) async fn run(command: ClusterCommand, connect: &ConnectArgs) -> Result<(), CliError> {
    let client = connect::client(connect)?;
    let (done, cluster) = act(command, &client).await?;
    match (connect.json, done) {
        (true, None) => out::json(&EmqxStatus {
            running_nodes: &cluster.running_nodes,
            stopped_nodes: &cluster.stopped_nodes,
        }),
        (true, Some(_)) => out::json(&cluster),
        (false, None) => out::line(&status_line(&cluster)),
        (false, Some(done)) => out::text(&format!("{done}\n{}\n", status_line(&cluster))),
    }
}

/// What was done, if anything was, and the cluster behind it.
async fn act(
    command: ClusterCommand,
    client: &Client,
) -> Result<(Option<&'static str>, Cluster), CliError> {
    let failed = |what: &'static str| {
        move |error| match CliError::from(error) {
            CliError::Failed(reason) => CliError::Failed(format!("{what}: {reason}")),
            other => other,
        }
    };
    match command {
        ClusterCommand::Status => Ok((None, client.get("/api/v1/cluster").await?)),
        ClusterCommand::Join { node, force } => {
            let body = JoinRequest { node, force };
            let answer = client.send(Method::POST, "/api/v1/cluster/join", &body).await;
            let cluster = answer.map_err(failed("failed to join the cluster"))?;
            Ok((Some("Joined the cluster."), cluster))
        }
        ClusterCommand::Leave => {
            let answer = client.send(Method::POST, "/api/v1/cluster/leave", &()).await;
            let cluster = answer.map_err(failed("failed to leave the cluster"))?;
            Ok((Some("Left the cluster."), cluster))
        }
        ClusterCommand::ForceLeave { brought_by: Some(liar), .. } => {
            let path = format!("/api/v1/members?brought_by={}", encode(&liar));
            client.delete(&path).await.map_err(failed("failed to remove what it brought"))?;
            let done = "Removed the members that only this node had vouched for.";
            Ok((Some(done), client.get("/api/v1/cluster").await?))
        }
        ClusterCommand::ForceLeave { node, force, .. } => {
            let node = encode(&node.unwrap_or_default());
            let path = format!("/api/v1/members/{node}?force={force}");
            client.delete(&path).await.map_err(failed("failed to remove the node"))?;
            Ok((Some("Removed the node from the cluster."), client.get("/api/v1/cluster").await?))
        }
        ClusterCommand::Invite { node } => {
            let body = InviteRequest { node };
            let answer = client.send(Method::POST, "/api/v1/cluster/invite", &body).await;
            let cluster = answer.map_err(failed("failed to invite the node"))?;
            Ok((Some("The node joined the cluster."), cluster))
        }
        ClusterCommand::Discovery { command } => {
            let enabled = matches!(command, DiscoveryCommand::Enable);
            let body = DiscoveryRequest { enabled };
            let answer = client.send(Method::PUT, "/api/v1/cluster/discovery", &body).await;
            let cluster = answer.map_err(failed("failed to switch discovery"))?;
            let done = if enabled { "Discovery is enabled." } else { "Discovery is disabled." };
            Ok((Some(done), cluster))
        }
    }
}

/// EMQX's own line. Node names hold nothing that an Erlang atom would escape.
fn status_line(cluster: &Cluster) -> String {
    let list = |nodes: &[String]| {
        let mut text = String::from("[");
        for (i, node) in nodes.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            // Writing to a String cannot fail.
            let _infallible = write!(text, "{comma}'{node}'");
        }
        text + "]"
    };
    format!(
        "Cluster status: #{{running_nodes => {}, stopped_nodes => {}}}",
        list(&cluster.running_nodes),
        list(&cluster.stopped_nodes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_line_is_emqx_s() {
        let mut cluster: Cluster = serde_json::from_value(serde_json::json!({
            "name": "emqxcl", "description": "", "id": null, "self": "a@x", "strategy": "static",
            "proto_dist": "inet_tcp", "state": "joined", "running_nodes": ["a@x", "b@y"],
            "stopped_nodes": [], "view_hash": "0", "views_agree": true, "disagreeing": [],
            "majority": true, "discovery": {
                "enabled": true, "nodes": [], "last_success": null, "last_error": null
            }
        }))
        .unwrap();
        assert_eq!(
            status_line(&cluster),
            "Cluster status: #{running_nodes => ['a@x','b@y'], stopped_nodes => []}"
        );
        cluster.stopped_nodes.push("c@z".into());
        cluster.running_nodes.clear();
        assert_eq!(
            status_line(&cluster),
            "Cluster status: #{running_nodes => [], stopped_nodes => ['c@z']}"
        );
    }
}
