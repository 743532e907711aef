//! `lbctl history`, `rollback`, `backup` and `restore`: what was in force, and having it again.
//!
//! In: revisions that the daemon keeps, files that it does not. Out: lists, one change. Invariant: a backup is written whole or not at
//! all, and a damaged one is refused before the daemon hears of it.

use std::io::Read;
use std::path::Path;

use super::Outcome;
use super::args::{ChangeArguments, HistoryCommand};
use super::change::{conditions, report};
use super::print::{self, Align, Cell, Table, Tone};
use super::session::{Session, Style};
use crate::api::types::{RestoreRequest, Revision, RevisionDetail, RevisionList};
use crate::api::{ApiError, ErrorCode};
use crate::backup::{Backup, Unwritten};

pub(super) async fn run(session: &Session, command: Option<HistoryCommand>) -> Outcome {
    match command {
        None => {
            let list = session.client.revisions().await?;
            session.show(&list, |RevisionList { revisions }, style| table(revisions, style))?;
        }
        Some(HistoryCommand::Show { revision, against }) => {
            let detail = session.client.revision(revision, against).await?;
            session.show(&detail, |detail, _| shown(detail))?;
        }
    }
    Ok(0)
}

pub(super) async fn rollback(session: &Session, revision: u64, how: &ChangeArguments) -> Outcome {
    let done = session.client.rollback(revision, &conditions(how)?).await?;
    report(session, &done)
}

pub(super) async fn backup(session: &Session, file: &Path, force: bool) -> Outcome {
    let to_stdout = file == Path::new("-");
    let taken = || {
        ApiError::new(ErrorCode::Invalid, format!("{} is there already", file.display()))
            .hint("name another file, or say --force to write over it")
    };
    if !to_stdout && !force && file.symlink_metadata().is_ok() {
        return Err(taken());
    }
    let backup = session.client.backup().await?;
    let cannot = |error: &dyn std::fmt::Display| {
        ApiError::new(ErrorCode::Internal, format!("cannot write {} ({error})", file.display()))
            .hint("check that its directory is there, has room and may be written to, or name another file")
    };
    let text = backup.text().map_err(|error| cannot(&error))?;
    if to_stdout {
        session.show_text(&text)?;
        return Ok(0);
    }
    match Backup::write(&text, file, force) {
        Ok(()) => {}
        Err(Unwritten::Taken) => return Err(taken()),
        Err(error @ Unwritten::Unsynced(_)) => session.say(&format!("warning: {}: {error}", file.display())),
        Err(error @ Unwritten::System(_)) => return Err(cannot(&error)),
    }
    let revision = backup.revision;
    match session.is_json() {
        true => session.show(&backup, |_, _| String::new())?,
        false => session.say(&format!("revision {revision} is in {}", file.display())),
    }
    Ok(0)
}

pub(super) async fn restore(session: &Session, file: &Path, how: &ChangeArguments) -> Outcome {
    let text = read(file).map_err(|error| {
        ApiError::new(ErrorCode::Usage, format!("cannot read {} ({error})", file.display()))
            .hint("name a file that lbctl backup has written")
    })?;
    let backup = String::from_utf8(text).map_err(|_| "it is no text".to_owned());
    let backup = backup.and_then(|text| Backup::read(&text)).map_err(|why| {
        ApiError::new(ErrorCode::Invalid, format!("{} cannot be used: {why}", file.display()))
            .hint("nothing has changed; use another backup, or see lbctl history for what the daemon keeps")
    })?;
    let done = session.client.restore(&RestoreRequest { backup, conditions: conditions(how)? }).await?;
    report(session, &done)
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    if file != Path::new("-") {
        return std::fs::read(file);
    }
    let mut text = Vec::new();
    std::io::stdin().lock().read_to_end(&mut text)?;
    Ok(text)
}

fn table(revisions: &[Revision], style: Style) -> String {
    use Align::{Left, Right, Text};
    let mut table =
        Table::new(&[("REVISION", Right), ("", Left), ("TIME", Left), ("WHO", Left), ("WHAT", Text)])
            .giving_way(&["WHO"]);
    for revision in revisions {
        let what = match (style.wide, revision.what.as_slice()) {
            (false, [first, rest @ ..]) if !rest.is_empty() => format!("{first} (and {} more)", rest.len()),
            (_, all) => all.join("; "),
        };
        table.row(vec![
            revision.revision.into(),
            if revision.current { Cell::toned("current", Tone::Good) } else { Cell::default() },
            revision.time.to_string().into(),
            revision.who.clone().into(),
            what.into(),
        ]);
    }
    table.render(style)
}

fn shown(detail: &RevisionDetail) -> String {
    let Revision { revision, time, who, what, current } = &detail.summary;
    let current = if *current { ", in force" } else { "" };
    let mut text = format!("revision {revision} of {time} by {who}{current}\n");
    text.extend(what.iter().map(|what| format!("  {what}\n")));
    if let Some(against) = detail.against {
        text.push_str(&match detail.changes.is_empty() {
            true => format!("the same as revision {against}\n"),
            false => format!("otherwise than in revision {against}:\n"),
        });
        text.extend(detail.changes.iter().map(|change| format!("  {change}\n")));
    }
    let plural = |count: usize, what: &str| {
        format!("{} {what}{}", print::grouped(count as u64), if count == 1 { "" } else { "s" })
    };
    let (file, cli) = (&detail.configuration, &detail.cli);
    let added: usize = cli.backends.values().map(std::collections::BTreeMap::len).sum();
    text.push_str(&format!(
        "the file: {}, {}; lbctl: {}, {}, {}; {}\n",
        plural(file.services.len(), "service"),
        plural(file.pools.len(), "pool"),
        plural(cli.services.len(), "service"),
        plural(cli.pools.len(), "pool"),
        plural(added, "backend"),
        plural(detail.overrides.len(), "override"),
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::CliObjects;
    use crate::moment::Millis;
    use crate::spec::Spec;

    fn revision(number: u64, what: &[&str]) -> Revision {
        let what = what.iter().map(|what| (*what).to_owned()).collect();
        Revision { revision: number, time: Millis(0), who: "uid 0".to_owned(), what, current: number == 3 }
    }

    #[test]
    fn a_list_names_the_current_one_and_what_each_did() {
        let text = table(&[revision(3, &["one", "two", "three"]), revision(2, &["four"])], Style::default());
        for part in ["3  current", "one (and 2 more)", "four", "uid 0"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn one_revision_says_what_is_otherwise() {
        let mut detail = RevisionDetail {
            summary: revision(3, &["backend web/10.0.0.1: draining"]),
            against: Some(2),
            changes: vec!["backend web/10.0.0.1: draining".to_owned()],
            configuration: Spec::default(),
            cli: CliObjects::default(),
            overrides: Vec::new(),
        };
        let text = shown(&detail);
        for part in
            ["revision 3 of 1970-", "by uid 0, in force", "otherwise than in revision 2:\n  backend web"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        detail.changes.clear();
        assert!(shown(&detail).contains("the same as revision 2"));
    }
}
