//! `muster events`.

use super::args::EventsArgs;
use super::error::CliError;
use super::{connect, out};
use crate::api::EventBody;

pub(super) async fn run(args: &EventsArgs) -> Result<(), CliError> {
    let client = connect::client(&args.connect)?;
    let mut events = client.events(args.after).await?;
    let mut last = args.after;
    loop {
        let event = tokio::select! {
            interrupted = tokio::signal::ctrl_c() => return interrupted.map_err(CliError::Output),
            event = events.next() => event,
        };
        let Some(event) = event else {
            // The agent lets its oldest reader go for a new one; whoever comes back goes on
            // behind what it saw.
            if let Some(seen) = last.take()
                && let Ok(more) = client.events(Some(seen)).await
            {
                events = more;
                continue;
            }
            let message = format!("the agent at {} ended the stream", client.target());
            return Err(CliError::Unreachable(message));
        };
        let data: serde_json::Value = serde_json::from_str(&event.data).unwrap_or_default();
        last = data["id"].as_u64().or(last);
        if args.connect.json {
            out::json_line(&serde_json::json!({ "event": event.name, "data": data }))?;
        } else if let Ok(body) = serde_json::from_str::<EventBody>(&event.data) {
            out::line(&describe(&body))?;
        } else {
            out::line(&format!("({}: older events are no longer known)", event.name))?;
        }
    }
}

fn describe(event: &EventBody) -> String {
    let change = match (event.from, event.to) {
        (Some(from), Some(to)) => format!("{} -> {}", from.name(), to.name()),
        (_, Some(to)) => format!("{} ({})", event.kind, to.name()),
        (_, None) => event.kind.clone(),
    };
    format!("{}  {}  {change}: {} (by {})", event.at, event.node, event.text, event.by)
}
