//! Routes that are answered from the newest snapshot.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::body::{NodePath, Params};
use super::error::{ApiError, ErrorBody};
use super::openapi::TagFilter;
use super::{App, Cluster, Member, MemberDetail, Members};
use crate::attributes::{BrokerStatus, Tags};
use crate::node::NodeName;
use crate::reach::Matrix;
use crate::view::{self, MemberStatus};

/// The cluster as this node sees it.
#[utoipa::path(
    get,
    path = "/api/v1/cluster",
    operation_id = "cluster",
    tag = "cluster",
    responses((status = 200, description = "From the newest snapshot", body = Cluster))
)]
pub(super) async fn cluster(State(app): State<Arc<App>>) -> Response {
    json(app.bodies().cluster)
}

/// Which members are asked for.
#[derive(Debug, Default)]
struct Wanted {
    status: Option<MemberStatus>,
    broker: Option<BrokerStatus>,
    tags: Vec<(String, String)>,
}

impl Wanted {
    /// From the query's fields, `tag` as often as one likes.
    fn parse(fields: Vec<(String, String)>) -> Result<Self, ApiError> {
        let mut wanted = Self::default();
        for (field, value) in fields {
            let unknown = |known: &str| {
                ApiError::bad_request(format!("'{value}' is no {field}: it is one of {known}"))
            };
            match field.as_str() {
                "status" => {
                    wanted.status = Some(match value.as_str() {
                        "up" => MemberStatus::Up,
                        "suspect" => MemberStatus::Suspect,
                        "down" => MemberStatus::Down,
                        _ => return Err(unknown("up, suspect, down")),
                    })
                }
                "broker" => {
                    wanted.broker = Some(match value.as_str() {
                        "up" => BrokerStatus::Up,
                        "down" => BrokerStatus::Down,
                        "unknown" => BrokerStatus::Unknown,
                        _ => return Err(unknown("up, down, unknown")),
                    })
                }
                "tag" => {
                    let (name, value) = value
                        .split_once('=')
                        .filter(|(name, _)| Tags::default().insert(name, "").is_ok())
                        .ok_or_else(|| {
                            let text = format!("'{value}' is no tag: tag=name=value asks for one");
                            ApiError::bad_request(text)
                        })?;
                    wanted.tags.push((name.to_owned(), value.to_owned()));
                }
                _ => {
                    let text = format!("there is no '{field}': status, broker and tag filter");
                    return Err(ApiError::bad_request(text));
                }
            }
        }
        Ok(wanted)
    }

    fn admits(&self, member: &view::Member) -> bool {
        let broker = member.broker.as_ref().map(|broker| broker.status);
        self.status.is_none_or(|status| member.status == status)
            && self.broker.is_none_or(|status| broker == Some(status))
            && self.tags.iter().all(|(name, value)| member.tags.get(name) == Some(value))
    }
}

/// All members, or those that a filter admits.
#[utoipa::path(
    get,
    path = "/api/v1/members",
    operation_id = "members",
    tag = "members",
    params(
        ("status" = Option<MemberStatus>, Query, description = "Only members of this status"),
        ("broker" = Option<BrokerStatus>, Query, description = "Only members whose broker has this status"),
        ("tag" = Option<Vec<TagFilter>>, Query, explode = true, style = Form,
            description = "`name=value`: only members with this tag; several: with all of them"),
    ),
    responses((status = 200, description = "Sorted by name", body = Members))
)]
pub(super) async fn members(
    State(app): State<Arc<App>>,
    Params(fields): Params<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    if fields.is_empty() {
        return Ok(json(app.bodies().members));
    }
    let wanted = Wanted::parse(fields)?;
    let snapshot = app.snapshot();
    let members = snapshot.members.iter().filter(|member| wanted.admits(member));
    Ok(Json(Members { members: members.map(Member::from).collect() }).into_response())
}

/// One member, with the last change of its status.
#[utoipa::path(
    get,
    path = "/api/v1/members/{node}",
    operation_id = "member",
    tag = "members",
    params(("node" = NodeName, Path, description = "Its name, percent-encoded if need be")),
    responses(
        (status = 200, description = "That member", body = MemberDetail),
        (status = 404, description = "No such member: NOT_FOUND", body = ErrorBody),
    )
)]
pub(super) async fn member(
    State(app): State<Arc<App>>,
    NodePath(node): NodePath,
) -> Result<Json<MemberDetail>, ApiError> {
    let snapshot = app.snapshot();
    let member = snapshot.members.iter().find(|member| member.node.as_str() == node);
    member.map(|member| Json(member.into())).ok_or_else(|| not_a_member(&node))
}

/// Who reaches whom.
///
/// This node's line is what it sees; the others' are what these members said over their
/// links when they were last asked, at most 10 s ago. Whoever reads has them asked again,
/// and does not wait for it: lines whose `silent` is `waiting` are there a moment later.
#[utoipa::path(
    get,
    path = "/api/v1/reach",
    operation_id = "reach",
    tag = "members",
    responses((status = 200, description = "Of at most 64 nodes: this one, those that miss a link, and the first by name", body = Matrix))
)]
pub(super) async fn reach(State(app): State<Arc<App>>) -> Json<Matrix> {
    let said = app.state.reach.look(tokio::time::Instant::now());
    Json(Matrix::seen(&app.snapshot(), said))
}

pub(super) fn not_a_member(node: &str) -> ApiError {
    ApiError::not_found(format!("'{node}' is not a member of this cluster"))
}

fn json(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
