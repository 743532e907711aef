//! Discovery sources in `status` and `service show`.

use super::print::{Align, Cell, Table, Tone, span};
use super::session::Style;
use crate::api::types::{Source, SourceStateWord};

/// A line for each source, and below it why it fails; nothing where there is none.
pub(super) fn table(sources: &[Source], style: Style) -> String {
    use Align::{Left, Right};
    if sources.is_empty() {
        return String::new();
    }
    let columns = [
        ("POOL", Left),
        ("SOURCE", Left),
        ("STATE", Left),
        ("AGE", Right),
        ("BACKENDS", Right),
        ("LEFT OUT", Right),
    ];
    let mut table = Table::new(&columns).giving_way(&["LEFT OUT", "AGE"]);
    for source in sources {
        let tone = match source.state {
            SourceStateWord::Ok => Tone::Good,
            SourceStateWord::Waiting | SourceStateWord::Kept => Tone::Warn,
            SourceStateWord::Failing => Tone::Bad,
        };
        table.row(vec![
            source.pool.to_string().into(),
            source.source.clone().into(),
            Cell::toned(source.state.as_str(), tone),
            age(source).into(),
            members(source).into(),
            source.left_out.len().to_string().into(),
        ]);
    }
    let why = sources.iter().filter_map(|source| {
        Some(format!("{} of pool {}: {}\n", source.source, source.pool, source.error.as_ref()?))
    });
    table.render(style) + &why.collect::<String>()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds since an answer, not negative, shown whole"
)]
fn age(source: &Source) -> String {
    source.age.map_or_else(|| "-".to_owned(), |age| span(age as u64))
}

/// `5`, or `5 (2 going)`: two are no longer named and wait for others to take their place.
fn members(source: &Source) -> String {
    match source.lingering {
        0 => source.backends.to_string(),
        going => format!("{} ({going} going)", source.backends),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_line() {
        let source = Source {
            pool: "web".parse().unwrap(),
            source: "dns:web.example".to_owned(),
            kind: "dns".to_owned(),
            state: SourceStateWord::Failing,
            last_success: None,
            age: Some(75.4),
            backends: 5,
            lingering: 2,
            answers: 3,
            failures: 1,
            error: Some("SERVFAIL".to_owned()),
            left_out: vec!["224.0.0.1".to_owned()],
        };
        assert_eq!(
            table(&[source], Style::default()),
            "POOL  SOURCE           STATE      AGE     BACKENDS  LEFT OUT\n\
             web   dns:web.example  failing  1m15s  5 (2 going)         1\n\
             dns:web.example of pool web: SERVFAIL\n"
        );
        assert_eq!(table(&[], Style::default()), "");
    }
}
