//! docs/reasons.md lists every reason with its number, name and kind.

use lb_common::{Reason, ReasonKind};

#[test]
fn every_reason_has_its_row() {
    let page = include_str!("../../docs/reasons.md");
    for reason in Reason::ALL {
        let kind = match reason.kind() {
            ReasonKind::Drop => "drop",
            ReasonKind::Answer => "answer",
            ReasonKind::Pass => "pass",
            ReasonKind::Note => "note",
        };
        let row = format!("| {} | `{}` | {kind} |", *reason as u8, reason.name());
        assert!(page.contains(&row), "docs/reasons.md lacks the row {row}");
    }
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.contains('`')).count();
    assert_eq!(rows, Reason::ALL.len(), "docs/reasons.md lists a reason that does not exist");
}
