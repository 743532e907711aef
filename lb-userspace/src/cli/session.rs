//! What every verb has at hand: the daemon, and how to speak with the person who called.
//!
//! In: the global options. Out: answers on stdout as asked for, messages and errors on stderr, a yes or no. Invariants: under
//! `-j` stdout holds answers of the API and stderr holds errors as its error object; nothing that destroys is done unasked.

use std::io::{self, BufRead, IsTerminal, Write};

use serde::Serialize;

use super::args::Arguments;
pub(super) use super::print::Style;
use super::print::{self, Format};
use crate::api::client::Client;
use crate::api::types::{Answer, ErrorAnswer};
use crate::api::{ApiError, ErrorCode};

/// One call of lbctl.
#[derive(Debug)]
pub(super) struct Session {
    /// The daemon.
    pub(super) client: Client,
    format: Format,
    quiet: bool,
}

impl Session {
    pub(super) fn new(arguments: &Arguments) -> Self {
        Self { client: Client::new(&arguments.socket), format: arguments.format(), quiet: arguments.quiet }
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    pub(super) fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    pub(super) fn style(&self) -> Style {
        Style::of_stdout(self.format == Format::Wide)
    }

    /// Shows an answer: as it is under `-j`, else as the text made of it.
    pub(super) fn show<T: Serialize>(
        &self,
        body: &T,
        text: impl FnOnce(&T, Style) -> String,
    ) -> Result<(), ApiError> {
        let written = match self.is_json() {
            true => print::json(&Answer::new(body)),
            false => print::stdout(&text(body, self.style())),
        };
        written.map_err(not_written)
    }

    /// Shows an answer as one line of JSON: for streams.
    pub(super) fn show_line<T: Serialize>(&self, body: T) -> Result<(), ApiError> {
        let line = serde_json::to_string(&Answer::new(body))
            .map_err(io::Error::other)
            .and_then(|line| print::stdout(&(line + "\n")));
        line.map_err(not_written)
    }

    /// Shows a text for people.
    pub(super) fn show_text(&self, text: &str) -> Result<(), ApiError> {
        print::stdout(text).map_err(not_written)
    }

    /// A message, unless none are wanted.
    pub(super) fn say(&self, message: &str) {
        if !self.quiet {
            print::stderr(message);
        }
    }

    /// Why nothing, or not all, was done.
    pub(super) fn complain(&self, error: &ApiError) {
        match self.is_json() {
            true => complain_in_json(error),
            false => print::stderr(&complaint(error)),
        }
    }

    /// Asks before something is destroyed. `what` follows "this": `removes service web`.
    ///
    /// # Errors
    /// Nobody is there to be asked ([`ErrorCode::Usage`]), or the answer is no.
    #[expect(clippy::unused_self, reason = "asking is the session's, like saying")]
    pub(super) fn confirm(&self, what: &str) -> Result<(), ApiError> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(ApiError::new(
                ErrorCode::Usage,
                format!("this {what}, and nobody is there to be asked"),
            )
            .hint("say --yes if it is meant"));
        }
        let mut answer = String::new();
        let asked = write!(io::stderr(), "This {what}. Go on? [y/N] ")
            .and_then(|()| io::stdin().lock().read_line(&mut answer));
        match (asked, answer.trim().to_ascii_lowercase().as_str()) {
            (Ok(_), "y" | "yes") => Ok(()),
            _ => Err(ApiError::new(ErrorCode::Declined, "nothing was done")),
        }
    }
}

/// The error object of the contract on stderr.
pub(super) fn complain_in_json(error: &ApiError) {
    let answer = Answer::new(ErrorAnswer { error: (*error.0).clone() });
    print::stderr(&serde_json::to_string_pretty(&answer).unwrap_or_else(|_| complaint(error)));
}

/// An error for people: place, message, remedy, and the single problems if there are several.
pub(super) fn complaint(error: &ApiError) -> String {
    let problems = error.0.problems.iter().map(|problem| format!("\n  {problem}"));
    format!("lbctl: {error}{}", problems.collect::<String>())
}

fn not_written(error: io::Error) -> ApiError {
    ApiError::new(ErrorCode::Internal, format!("cannot write to standard output ({error})"))
}
