//! Membership news as server-sent events.
//!
//! Format: "Server-sent events" in the HTML standard, section 9.2.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::watch;

use super::body::Params;
use super::error::ApiError;
use super::places::Place;
use super::{App, EventBody};
use crate::events::Since;

/// Silence after which a comment is sent, so that proxies and readers see the
/// connection alive.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events in one write: bounds the memory of a reader that resumes from far behind.
const BATCH: usize = 128;

/// Past events that a newcomer may ask for.
const MAX_LAST: u16 = 1024;

/// `?last=`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsParams {
    last: Option<u16>,
}

/// Membership news as they happen.
///
/// Each event is named after its kind (`joined`, `changed`, `left`, `removed`) and
/// carries an `id` that grows by one. A reader that names the last id it saw gets
/// what came since, or one `reset` event if that is no longer known: it then reads
/// the members anew.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    operation_id = "events",
    tag = "members",
    params(
        ("Last-Event-ID" = Option<u64>, Header, description = "Resume behind this event; 0: from the oldest kept"),
        ("last" = Option<u16>, Query, description = "Without Last-Event-ID: begin with the newest of them, so many", minimum = 0, maximum = 1024),
    ),
    responses(
        (status = 200, description = "Endless; the schema is that of one event's data", body = EventBody, content_type = "text/event-stream"),
    )
)]
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Extension(place): Extension<Arc<Place>>,
    Params(params): Params<EventsParams>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if params.last.is_some_and(|last| last > MAX_LAST) {
        return Err(ApiError::bad_request(format!("last is at most {MAX_LAST}")));
    }
    place.reading();
    // Watched before anything is read: news in between wakes the reader.
    let news = app.state.events.watch();
    let last = app.state.events.last_id();
    let mut head = String::from("retry: 2000\n");
    let seen = match headers.get("last-event-id") {
        None if params.last.is_some() => {
            head.push('\n');
            app.state.events.before_newest(params.last.unwrap_or(0).into())
        }
        None => {
            // An id without data: it sets where a reconnect resumes.
            write_all(&mut head, format_args!("id: {last}\n\n"));
            last
        }
        Some(given) => match given.to_str().ok().and_then(|given| given.parse::<u64>().ok()) {
            Some(seen) => {
                head.push('\n');
                seen
            }
            None => {
                head.push('\n');
                write_reset(&mut head, last);
                last
            }
        },
    };
    let stopped = app.stopped.clone();
    let reader = Reader { app, news, stopped, seen, head: Some(head) };
    let body = Body::from_stream(futures_util::stream::unfold(reader, |mut reader| async {
        let chunk = reader.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(chunk)), reader))
    }));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (X_ACCEL_BUFFERING, "no")];
    Ok((headers, body).into_response())
}

/// Tells a reverse proxy to pass events on at once.
const X_ACCEL_BUFFERING: header::HeaderName = header::HeaderName::from_static("x-accel-buffering");

struct Reader {
    app: Arc<App>,
    news: watch::Receiver<u64>,
    stopped: watch::Receiver<bool>,
    seen: u64,
    head: Option<String>,
}

impl Reader {
    /// The next text to send; `None` at shutdown.
    async fn next(&mut self) -> Option<String> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        loop {
            self.news.borrow_and_update();
            match self.app.state.events.since(self.seen, BATCH) {
                Since::Events(events) => {
                    if let Some(last) = events.last() {
                        self.seen = last.id;
                        return Some(events.iter().map(|event| frame(&event.into())).collect());
                    }
                }
                Since::Reset(last) => {
                    self.seen = last;
                    let mut text = String::new();
                    write_reset(&mut text, last);
                    return Some(text);
                }
            }
            tokio::select! {
                changed = self.news.changed() => changed.ok()?,
                _ = self.stopped.wait_for(|stopped| *stopped) => return None,
                () = tokio::time::sleep(KEEP_ALIVE) => return Some(": still here\n\n".to_owned()),
            }
        }
    }
}

/// JSON has no line breaks in it, so that one `data` line holds it.
fn frame(event: &EventBody) -> String {
    let data = serde_json::to_string(event).unwrap_or_default();
    format!("id: {}\nevent: {}\ndata: {data}\n\n", event.id, event.kind)
}

fn write_reset(text: &mut String, last: u64) {
    write_all(text, format_args!("id: {last}\nevent: reset\ndata: {{\"id\":{last}}}\n\n"));
}

/// Writing to a String cannot fail.
fn write_all(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _infallible = text.write_fmt(arguments);
}
