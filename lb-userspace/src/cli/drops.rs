//! `lbctl drops`: packets dropped, answered or passed, by reason.

use super::Outcome;
use super::print::{Align, Cell, Table, Tone};
use super::session::{Session, Style};
use crate::api::types::{Drops, ReasonCount};
use crate::spec::Name;

pub(super) async fn run(session: &Session, name: Option<Name>) -> Outcome {
    let drops = session.client.drops(name).await?;
    if drops.reasons.is_empty() {
        session.say("nothing was dropped, answered or passed for a reason");
    }
    session.show(
        &drops,
        |Drops { reasons }, style| {
            if reasons.is_empty() { String::new() } else { table(reasons, style) }
        },
    )?;
    Ok(0)
}

fn table(reasons: &[ReasonCount], style: Style) -> String {
    use Align::{Left, Right, Text};
    let mut columns = vec![("REASON", Left), ("KIND", Left), ("PACKETS", Right)];
    if style.wide {
        columns.push(("SERVICES", Left));
    }
    columns.push(("MEANING", Text));
    let mut table = Table::new(&columns).giving_way(&["KIND"]);
    for reason in reasons {
        let tone = if reason.kind == "drop" { Tone::Warn } else { Tone::Plain };
        let mut cells =
            vec![Cell::from(&reason.reason), Cell::toned(reason.kind.as_str(), tone), reason.packets.into()];
        if style.wide {
            let services = reason.services.iter().map(|(name, packets)| format!("{name}={packets}"));
            cells.push(services.collect::<Vec<_>>().join(",").into());
        }
        cells.push(Cell::toned(reason.sentence.as_str(), Tone::Faint));
        table.row(cells);
    }
    table.render(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_come_with_their_meaning_and_in_wide_with_their_services() {
        let reason = ReasonCount {
            reason: "no_backend".to_owned(),
            kind: "drop".to_owned(),
            packets: 1_234_567,
            sentence: "nobody can take it".to_owned(),
            services: [("web".to_owned(), 1_234_567)].into(),
        };
        let text = table(std::slice::from_ref(&reason), Style::default());
        assert_eq!(
            text,
            "REASON      KIND  PACKETS  MEANING\nno_backend  drop  1234567  nobody can take it\n"
        );
        assert!(table(&[reason], Style { wide: true, ..Style::default() }).contains("web=1234567"));
    }
}
