//! `lbctl stats`: counters per service and backend, and with `--watch` what they gain in a second.

use std::time::Duration;

use super::Outcome;
use super::print::{self, Align, Cell, Table, count};
use super::session::{Session, Style};
use crate::api::ApiError;
use crate::api::types::{Stats, Totals};
use crate::spec::Name;

/// From one look to the next.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn run(session: &Session, name: Option<Name>, watch: bool) -> Outcome {
    let first = session.client.stats(name.clone()).await?;
    if !watch {
        session.show(&first, |stats, style| tables(stats, None, style))?;
        return Ok(0);
    }
    print::end_with_reader();
    show(session, &first, None)?;
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut before = first;
    loop {
        ticks.tick().await;
        let stats = session.client.stats(name.clone()).await?;
        show(session, &stats, Some(&before))?;
        before = stats;
    }
}

fn show(session: &Session, stats: &Stats, before: Option<&Stats>) -> Result<(), ApiError> {
    if session.is_json() {
        return session.show_line(stats);
    }
    let style = session.style();
    let text = tables(stats, before, style);
    session.show_text(&if session.is_terminal() { redrawn(&text) } else { text + "\n" })
}

/// The text over what was on the screen, without the flicker of clearing it first.
fn redrawn(text: &str) -> String {
    let lines: String = text.lines().map(|line| format!("{line}\x1b[K\n")).collect();
    format!("\x1b[H{lines}\x1b[J")
}

/// Services, then backends; with rates if there is an earlier look.
fn tables(stats: &Stats, before: Option<&Stats>, style: Style) -> String {
    let seconds = before.map(|before| stats.time.since(before.time).as_secs_f64());
    let head = [("SERVICE", Align::Left)];
    let mut services = table(&columns(&head, ("DROPS", Align::Right), seconds));
    for service in &stats.services {
        let earlier = before.and_then(|before| before.services.iter().find(|row| row.name == service.name));
        let mut cells = vec![service.name.to_string().into()];
        cells.extend(totals(&service.totals));
        cells.push(count(service.drops).into());
        cells.extend(rates(&service.totals, earlier.map(|row| &row.totals), seconds));
        services.row(cells);
    }
    let heads = [("POOL", Align::Left), ("BACKEND", Align::Left)];
    let mut backends = table(&columns(&heads, ("FLOWS", Align::Right), seconds));
    for backend in &stats.backends {
        let same = |row: &&crate::api::types::BackendStats| {
            row.pool == backend.pool && row.address == backend.address
        };
        let earlier = before.and_then(|before| before.backends.iter().find(same));
        let mut cells = vec![backend.pool.to_string().into(), backend.address.to_string().into()];
        cells.extend(totals(&backend.totals));
        cells.push(count(backend.flows).into());
        cells.extend(rates(&backend.totals, earlier.map(|row| &row.totals), seconds));
        backends.row(cells);
    }
    format!("{}\n{}", services.render(style), backends.render(style))
}

/// Replies and bytes give way to what goes on.
fn table(columns: &[(&'static str, Align)]) -> Table {
    Table::new(columns).giving_way(&["REPLY-BYTES", "REPLIES", "BYTES", "NEW", "PACKETS"])
}

fn columns(
    heads: &[(&'static str, Align)],
    last: (&'static str, Align),
    seconds: Option<f64>,
) -> Vec<(&'static str, Align)> {
    let right = |name| (name, Align::Right);
    let counters = ["PACKETS", "BYTES", "NEW", "REPLIES", "REPLY-BYTES"].map(right);
    let rates = ["PACKETS/S", "BIT/S", "NEW/S"].map(right);
    let shown = if seconds.is_some() { &rates[..] } else { &[] };
    [heads, &counters, &[last], shown].concat()
}

fn totals(totals: &Totals) -> [Cell; 5] {
    let Totals { packets, bytes, new_flows, reply_packets, reply_bytes } = *totals;
    [packets, bytes, new_flows, reply_packets, reply_bytes].map(|counter| count(counter).into())
}

/// Packets, bits and new flows a second, of both directions; nothing for one that was not there before.
fn rates(now: &Totals, before: Option<&Totals>, seconds: Option<f64>) -> Vec<Cell> {
    let (Some(before), Some(seconds)) = (before, seconds) else { return Vec::new() };
    let gained = |of: fn(&Totals) -> u64| of(now).saturating_sub(of(before));
    let packets = gained(|totals| totals.packets + totals.reply_packets);
    let bytes = gained(|totals| totals.bytes + totals.reply_bytes);
    let new = gained(|totals| totals.new_flows);
    [packets, bytes.saturating_mul(8), new].map(|gain| count(per_second(gain, seconds)).into()).to_vec()
}

/// A gain as a rate; 0 if no time has passed.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rate is shown with three figures"
)]
fn per_second(gain: u64, seconds: f64) -> u64 {
    if seconds <= 0.0 { 0 } else { (gain as f64 / seconds).round() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{BackendStats, ServiceStats};
    use crate::moment::Millis;

    fn stats(time_ms: u64, packets: u64) -> Stats {
        let totals = Totals { packets, bytes: packets * 100, new_flows: packets / 10, ..Totals::default() };
        Stats {
            time: Millis(time_ms),
            services: vec![ServiceStats { name: "web".parse().unwrap(), totals, drops: 3 }],
            backends: vec![BackendStats {
                pool: "web".parse().unwrap(),
                address: "10.0.0.1".parse().unwrap(),
                totals,
                flows: 4,
            }],
            interfaces: Vec::new(),
        }
    }

    #[test]
    fn the_first_look_has_no_rates_and_the_second_has() {
        let first = tables(&stats(0, 1000), None, Style::default());
        assert!(first.contains("1.00k") && !first.contains("/S"), "{first}");
        let second = tables(&stats(2000, 3000), Some(&stats(0, 1000)), Style::default());
        // 2,000 packets in two seconds, 100 bytes each.
        let row: Vec<&str> = second.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["web", "3.00k", "300k", "300", "0", "0", "3", "1.00k", "800k", "100"]);
        let row: Vec<&str> = second.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(row[..2], ["web", "10.0.0.1"]);
        assert_eq!(row[8..], ["1.00k", "800k", "100"]);
    }

    #[test]
    fn a_backend_that_has_come_meanwhile_has_no_rate_yet() {
        let mut before = stats(0, 1000);
        before.backends.clear();
        let text = tables(&stats(1000, 1000), Some(&before), Style::default());
        assert_eq!(text.lines().last().unwrap().split_whitespace().count(), 8, "{text}");
    }

    #[test]
    fn no_time_is_no_rate() {
        assert_eq!(per_second(5, 0.0), 0);
        assert_eq!(per_second(5, 2.0), 3);
    }
}
