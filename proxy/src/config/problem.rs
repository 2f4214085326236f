//! What is wrong with a configuration, said so that it can be put right.
//!
//! Collects; never stops at the first. Invariant: a problem names the place it is at, and none
//! repeats a password.

use std::fmt;
use std::sync::Arc;

/// Whether a configuration can be used in spite of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// It cannot be used.
    Error,
    /// It can, but somebody should know.
    Warning,
}

/// One thing that is wrong, or that somebody should know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Whether the configuration can be used.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// What is wrong there, in one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    /// `file:line: message`, and the hint on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warning = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        write!(f, "{}: {warning}{}", self.place, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Where something was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The file as it was named to us, or the option of the command line.
    pub source: Arc<str>,
    /// The line, counted from 1; none if the whole source is meant.
    pub line: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.source),
            None => f.write_str(&self.source),
        }
    }
}

/// All problems of one configuration, in the order in which they were found.
#[derive(Debug, Default)]
pub struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    /// Notes something that makes the configuration unusable.
    pub fn error(&mut self, place: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Severity::Error, place, message.into(), hint.into());
    }

    /// Notes something that somebody should know.
    pub fn warn(&mut self, place: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Severity::Warning, place, message.into(), hint.into());
    }

    /// Whether the configuration is unusable.
    pub fn has_errors(&self) -> bool {
        self.list
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    }

    /// All of them, by file and line; those without a line come first.
    pub fn into_sorted(mut self) -> Vec<Problem> {
        self.list
            .sort_by(|a, b| (&a.place.source, a.place.line).cmp(&(&b.place.source, b.place.line)));
        self.list
    }

    fn push(&mut self, severity: Severity, place: Place, message: String, hint: String) {
        let hint = (!hint.is_empty()).then_some(hint);
        self.list.push(Problem {
            severity,
            place,
            message,
            hint,
        });
    }
}
