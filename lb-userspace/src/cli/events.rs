//! `lbctl events`: what happened lately, and with `--follow` what happens from now on.

use std::time::Duration;

use super::session::Session;
use super::{Outcome, print};
use crate::api::ApiError;
use crate::api::types::{Event, EventList, Level};

/// How long one request waits for the next event before it is made again.
const LOOK: Duration = Duration::from_secs(30);

pub(super) async fn run(session: &Session, follow: bool) -> Outcome {
    let mut list = session.client.events(0, None).await?;
    if !follow {
        lost(session, &list);
        session.show(&list, |EventList { events, .. }, style| {
            events.iter().map(|event| line(event, style.colour)).collect()
        })?;
        return Ok(0);
    }
    print::end_with_reader();
    loop {
        lost(session, &list);
        show(session, &list.events)?;
        list = session.client.events(list.next, Some(LOOK)).await?;
    }
}

fn show(session: &Session, events: &[Event]) -> Result<(), ApiError> {
    if session.is_json() {
        return events.iter().try_for_each(|event| session.show_line(event));
    }
    let colour = session.style().colour;
    events.iter().try_for_each(|event| session.show_text(&line(event, colour)))
}

fn lost(session: &Session, list: &EventList) {
    if list.lost > 0 {
        session.say(&format!("{} earlier events are no longer kept", list.lost));
    }
}

fn line(event: &Event, colour: bool) -> String {
    let mark = match (event.event.level, colour) {
        (Level::Info, _) => "",
        (Level::Warning, true) => "\x1b[33mwarning:\x1b[0m ",
        (Level::Warning, false) => "warning: ",
    };
    format!("{}  {mark}{}\n", event.time, event.event.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{DomainEvent, EventKind};
    use crate::moment::Millis;

    #[test]
    fn an_event_is_a_line_with_its_time() {
        let event = DomainEvent {
            kind: EventKind::PoolDown,
            level: Level::Warning,
            service: None,
            pool: None,
            backend: None,
            message: "pool web has no usable backend".to_owned(),
        };
        let text = line(&Event { seq: 1, time: Millis(0), event }, false);
        assert_eq!(text, "1970-01-01T00:00:00.000Z  warning: pool web has no usable backend\n");
    }
}
